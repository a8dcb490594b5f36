"""Is a student's function right? If not: the hint for its mistake, and where the numbers part."""

import numpy as np

from picogpt.teaching.golden import alike, fingerprints, hide, matches, outcome, same
from picogpt.teaching.observations import label_of, observe
from picogpt.teaching.words import say

STILL_BLANK = " is still to be filled in"  # folder.py writes it into every body that is left out


def check(function, calls, lang="en", name=None):
    """Raise AssertionError, with a hint where the mistake is known, unless all calls go right.

    `calls` are those of `golden`; `name` is what the exercise is called, where the function that
    stands for it has another name, as a lambda has. Raises NotImplementedError where a body is
    still blank.
    """
    __tracebackhide__ = True  # pytest then shows the message and not this file
    name = name or function.__name__
    try:
        found = [outcome(function, call.given, call.options) for call in calls]
    except NotImplementedError as error:
        missing, is_ours, _ = str(error).partition(STILL_BLANK)
        key = "needs" if is_ours and missing != name else "blank"  # others are the student's own
        raise NotImplementedError(say(lang, key, name, missing)) from None
    wrong = [i for i, call in enumerate(calls) if not same(found[i], call.right)]
    if not wrong:
        return
    first = wrong[0]
    hints = known_mistakes(found, calls, wrong, lang)
    if not hints:
        hints = known_by_output(found[first], calls[first])
    if not hints:
        hints = observe(name, found[first], calls[first], lang)
    head, *more = hints[0].split("\n") + hints[1:3] if hints else [say(lang, "gives")]
    where = describe(name, found[first], calls, first, lang)
    raise AssertionError("\n".join([f"{name}: {head}", *more, *where]))


def check_with_needs(function, calls_of, lang="en", name=None, callers=()):
    """Check a function; where it is wrong, name the first of those it calls that is wrong as well.

    `calls_of(name)` are the golden calls of a function, or None for one that is no exercise;
    `name` is as in `check`, `callers` are the names of those that have led here. Raises what
    `check` raises.
    """
    __tracebackhide__ = True
    name = name or function.__name__
    callers = (*callers, name)
    try:
        check(function, calls_of(name), lang, name)
    except AssertionError as error:
        code = getattr(function, "__code__", None)  # np.vectorize makes an object without one
        for needed in sorted(names_in(code) - {*callers}) if code else ():
            other = function.__globals__.get(needed)
            if callable(other) and calls_of(needed) is not None:
                check_with_needs(other, calls_of, lang, needed, callers)
        if len(callers) > 1:
            raise AssertionError(f"{say(lang, 'first', callers[0], name)}\n{error}") from None
        raise


def names_in(code):
    """The names that a function's code looks up, in its comprehensions and lambdas too."""
    inner = [names_in(part) for part in code.co_consts if hasattr(part, "co_names")]
    return set(code.co_names).union(*inner)


def known_mistakes(found, calls, wrong, lang):
    """The hint whose mistake explains most of the calls that went wrong, in a list; or none.

    A call that gave something else than the mistake would give there counts against it; where as
    much speaks against it as for it, the hint is given as a guess.
    """
    marks = [fingerprints(outcome) for outcome in found]
    explained = {}  # {(hint, which of its ways): for each call where it shows, does it explain it?}
    for i, call in enumerate(calls):
        for hint, ways in call.mistakes.items():
            for way, wanted in enumerate(ways):
                if wanted is not None:
                    explains = i in wrong and matches(marks[i], wanted)
                    if "raises" in found[i] and not explains:
                        continue  # an error says little about what else is wrong
                    explained.setdefault((hint, way), []).append(explains)
    # calls that it explains, less those that it should explain and doesn't
    scores = {way: 2 * sum(fits) - len(fits) for way, fits in explained.items() if any(fits)}
    if not scores:
        return []
    best = max(scores, key=scores.get)
    return [best[0] if scores[best] > 0 else say(lang, "guess", best[0])]


def known_by_output(found, call):
    """For each wrong output by itself, a hint whose mistake gives it: so several are told at once.

    An empty list where one of them is not known.
    """
    hints = []
    for path, wanted in call.right.items():
        if path not in found:
            return []
        if alike(found[path], wanted):
            continue
        mark = fingerprints({path: found[path]})
        known = [
            hint for hint, ways in call.mistakes.items() if "\n" not in hint
            and any(way and path in way and matches(mark, {path: way[path]}) for way in ways)
        ]  # fmt: skip
        if not known:
            return []
        hints += known[:1]
    return list(dict.fromkeys(hints))


def describe(name, found, calls, i, lang):
    """Lines that say which call failed and, of the first outputs that are wrong, how they are."""
    call = calls[i]
    said = [f"{argument} {shown(value)}" for argument, value in call.given.items()]
    said += [f"{option}={shown(value)}" for option, value in call.options.items()]
    lines = [say(lang, "call", i + 1, len(calls), f"{name}({', '.join(said)})")]
    if "raises" in found:
        return lines
    right = []
    for path, wanted in call.right.items():
        label = label_of(name, path, lang)
        if path not in found:
            lines.append(say(lang, "missing", label, list(wanted.shape)))
        elif alike(found[path], wanted):
            right.append(label)
        else:
            lines.append(difference(label, found[path], wanted, lang))
    extra = found.keys() - call.right.keys()
    lines += [say(lang, "unasked", label_of(name, path, lang)) for path in sorted(extra)]
    # a tree of gradients has many outputs: the first few lines are enough to begin with
    return lines[:8] + ([say(lang, "right", ", ".join(right))] if right else [])


def difference(label, found, wanted, lang):
    """One line about one output: its shape, how many numbers differ, and the first that does."""
    if found.dtype.kind not in "biuf":
        return say(lang, "other", label, repr(found.tolist()), repr(wanted.tolist()))
    if found.shape != wanted.shape:
        return say(lang, "shape", label, list(found.shape), list(wanted.shape))
    if wanted.ndim == 0:
        return say(lang, "other", label, number(found), number(wanted))
    bad = ~np.isclose(hide(found), hide(wanted), rtol=1e-6, atol=1e-10, equal_nan=True)
    if not bad.any():
        return say(lang, "dtype", label, found.dtype, wanted.dtype)
    place = tuple(int(i) for i in np.argwhere(bad)[0])
    return say(
        lang, "numbers", label, list(found.shape), int(bad.sum()), bad.size, list(place),
        number(found[place]), number(wanted[place]),
    )  # fmt: skip


def number(value):
    """A number as people read it, six digits long."""
    return f"{float(value):.6g}" if np.asarray(value).dtype.kind == "f" else str(value)


def shown(value):
    """An argument in a few characters: its shape, itself if it is short, or its type."""
    if isinstance(value, np.ndarray):
        return str(list(value.shape)).replace(", ", "x") if value.ndim else number(value)
    if isinstance(value, dict):
        keys = [str(key) for key in list(value)[:3]]
        if len(value) > 3:
            keys.append("...")
        return "{" + ", ".join(keys) + "}"
    if callable(value):
        return value.__name__
    text = repr(value)
    return text if len(text) < 40 else f"<{type(value).__name__}>"

