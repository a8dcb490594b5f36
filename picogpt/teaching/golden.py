"""What is right and what usual mistakes give: the numbers that an exercise is checked by.

A mistake of mistakes.json is a few replacements in the source of the right function. Its outcome
is kept as fingerprints, so that a student's folder can tell mistakes without holding solutions.
"""

import copy
import json
import traceback
from inspect import getsource
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

import numpy as np

from picogpt import reference
from picogpt.checkpoint.config import Config
from picogpt.teaching.exercise_calls import MAY_CHANGE, calls_of
from picogpt.tools.tree import tree_leaves, tree_paths

HIDDEN = -1e4  # scores from here down hide a token as well as -inf does; float16's own is -32752


class GoldenCall(NamedTuple):
    """One call of a function: its arguments, what is right, and what mistakes give."""

    given: dict  # by position
    options: dict  # by keyword
    right: dict  # {path: array}
    mistakes: dict  # {hint: [fingerprints or, where the mistake doesn't show, None; ...]}


def golden(module, name, usual, lang="en", pairs=True):
    """The calls that a function is checked by, a list of GoldenCalls.

    `usual` is the function's entry of mistakes.json, `lang` ("en" or "ko") the language of its
    hints. With `pairs`, two usual mistakes at once are known as well.
    """
    wrongs = mistaken_functions(module, name, usual, lang, pairs)
    calls = []
    for given, options in calls_of(module)[name]:
        right = outcome(getattr(module, name), given, options)
        mistakes = {}
        for hint, functions in wrongs.items():
            found = [outcome(function, given, options) for function in functions]
            shown = [not takes_no(options, one) and not same(one, right) for one in found]
            mistakes[hint] = [
                fingerprints(one) if is_shown else None for one, is_shown in zip(found, shown)
            ]
        calls.append(GoldenCall(given, options, right, mistakes))
    return calls


def ways(module, name, mistake):
    """The ways to make a mistake, as (module, source, replacements): those that fit its source.

    A kernel's mistakes may be made in its source or in that of reference.py's function.
    """
    homes = [module] if module is reference or not hasattr(reference, name) else [module, reference]
    wrong = mistake["wrong"]
    for swaps in wrong if isinstance(wrong, list) else [wrong]:
        for home in homes:
            source = getsource(getattr(home, name))
            if fits(source, swaps):
                yield home, source, swaps


def mistaken_functions(module, name, usual, lang, pairs=True):
    """{hint: [function, ...]} for every usual mistake, and then for every two of them at once."""
    singles = [(mistake[lang], *way) for mistake in usual for way in ways(module, name, mistake)]
    functions = {}
    for hint, home, source, swaps in singles:
        functions.setdefault(hint, []).append(defined(home, name, replaced(source, swaps)))
    if not pairs:
        return functions
    plainest = {(hint, home): (source, swaps) for hint, home, source, swaps in singles[::-1]}
    twos = combinations(list(plainest.items())[::-1], 2)  # of each mistake, its first way
    for ((hint, home), (source, swaps)), ((hint_2, home_2), (_, swaps_2)) in twos:
        once = replaced(source, swaps)
        if home is home_2 and fits(once, swaps_2):
            both = defined(home, name, replaced(once, swaps_2))
            if both is not None:
                functions.setdefault(f"{hint}\n{hint_2}", []).append(both)
    return functions


def fits(source, swaps):
    """Whether every replacement finds its text, after those before it."""
    for before, after in swaps.items():
        if before not in source:
            return False
        source = source.replace(before, after)
    return True


def replaced(source, swaps):
    """The source with every replacement made."""
    for before, after in swaps.items():
        source = source.replace(before, after)
    return source


def defined(module, name, source):
    """The function that a source defines, beside the others of its module; None if it's no code."""
    namespace = dict(vars(module))
    try:
        exec(source, namespace)
    except SyntaxError:  # of two mistakes at once
        return None
    return namespace[name]


def mistaken(module, name, before, after):
    """The named function with one piece of its source replaced."""
    return defined(module, name, replaced(getsource(getattr(module, name)), {before: after}))


def by_path(tree):
    """The numbers of a tree, {path: array}; what is None is left out."""
    pairs = zip(tree_leaves(tree_paths(tree)), tree_leaves(tree))
    return {path: np.asarray(leaf) for path, leaf in pairs if leaf is not None}


def outcome(function, given, options=None):
    """What a call gives back, under "result", and what it makes of its arguments: {path: array}.

    An error is an outcome as well, under "raises"; "your code here" (NotImplementedError) is none.
    """
    before = by_path(plain(given | (options or {})))
    given, options = copy.deepcopy((given, dict(options or {})))
    try:
        with np.errstate(all="ignore"):
            result = by_path({"result": plain(function(*given.values(), **options))})
    except NotImplementedError:
        raise
    except (Exception, SystemExit) as error:
        return {"raises": np.asarray(f"{type(error).__name__}: {error}\n{line_of(error)}")}
    after = by_path(plain(given | options))
    for name in MAY_CHANGE.get(getattr(function, "__name__", ""), []):
        after.pop(name, None)
    changed = {
        path: array for path, array in after.items()
        if path not in before or not np.array_equal(array, before[path])
    }  # fmt: skip
    return result | changed


def line_of(error):
    """Where in the function under test an error came up: its file and line, or nothing."""
    frames = traceback.extract_tb(error.__traceback__)[1:]  # the first is the call in `outcome`
    files = [(Path(frame.filename).name, frame.lineno) for frame in frames]
    return "{}, line {}".format(*files[-1]) if files else ""


def plain(value):
    """A tree of arrays for `by_path`: lists and tuples of numbers as arrays."""
    if isinstance(value, dict):
        return {str(key): plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        flat = all(isinstance(part, int | float | np.number) for part in value)
        return np.asarray(value) if flat else [plain(part) for part in value]
    return None if callable(value) or isinstance(value, Config) else value


def takes_no(options, found):
    """Whether a function stopped at a keyword that it doesn't have."""
    return bool(options) and "unexpected keyword" in str(found.get("raises", ""))


def same(found, wanted):
    """Whether two outcomes agree in every path and shape and, nearly, in every number."""
    return found.keys() == wanted.keys() and all(
        alike(found[path], array) for path, array in wanted.items()
    )


def alike(found, wanted):
    """Whether two arrays have one shape and nearly the same numbers; what hides, hides alike."""
    if found.shape != wanted.shape or found.dtype.kind not in "biuf":
        return found.shape == wanted.shape and found.tolist() == wanted.tolist()
    if wanted.dtype.kind not in "biuf" or other_dtype(found, wanted):
        return False
    return np.allclose(hide(found), hide(wanted), rtol=1e-6, atol=1e-10, equal_nan=True)


def other_dtype(found, wanted):
    """Whether a dtype other than NumPy's own float64 is due, and another was given."""
    return wanted.dtype.kind == "f" and found.dtype != wanted.dtype != np.float64


def hide(array):
    """The array in float64, with -inf for everything at or below HIDDEN."""
    array = np.asarray(array, np.float64)
    return np.where(array <= HIDDEN, -np.inf, array)


def fingerprints(found):
    """A few numbers for each array of an outcome, that no other outcome is likely to have."""
    return {path: fingerprint(array) for path, array in found.items()}


def fingerprint(array):
    """[shape, weighted sum of the numbers, sum of their sizes, weighted sum of what isn't finite].

    Of an array of text: [shape, its first line].
    """
    if array.dtype.kind not in "biuf":
        return [list(array.shape), str(array).partition("\n")[0]]  # an error's place may differ
    flat = hide(array).ravel()
    weights = np.sin(1 + np.arange(flat.size))  # no two alike, so that the order counts
    finite = np.where(np.isfinite(flat), flat, 0.0)
    odd = np.where(np.isnan(flat), 3.0, np.sign(flat)) * ~np.isfinite(flat)
    return [list(array.shape), weights @ finite, np.abs(finite).sum(), weights @ odd]


def matches(found, wanted):
    """Whether two outcomes have the same fingerprints."""
    if found.keys() != wanted.keys():
        return False
    for path, (shape, *sums) in found.items():
        shape_2, *sums_2 = wanted[path]
        if list(shape) != list(shape_2) or len(sums) != len(sums_2):
            return False
        if isinstance(sums[0], str):
            if sums != sums_2:
                return False
        elif not np.allclose(sums, sums_2, rtol=1e-6, atol=1e-6 * sums[1] + 1e-10):
            return False
    return True


def load_mistakes():
    """The usual mistakes of every function, {function: [{wrong, en, ko}, ...]}."""
    path = Path(__file__).parent.parent / "mistakes.json"
    return json.loads(path.read_text(encoding="utf-8"))
