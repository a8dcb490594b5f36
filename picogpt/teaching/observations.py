"""What can be seen in wrong numbers, whatever the mistake was: swapped, transposed, off by 2.

These speak where no mistake of mistakes.json fits. Each looks at one wrong output beside the right
one and gives a sentence or None; the first that sees something is heard.
"""

import re

import numpy as np

from picogpt.teaching.exercise_calls import OUTPUTS
from picogpt.teaching.golden import alike, by_path, hide, plain
from picogpt.teaching.words import say


def observe(name, found, call, lang):
    """Sentences about what a call gave, the most telling first; none where nothing is seen."""
    if "raises" in found:
        return about_error(str(found["raises"]), call, lang)
    if said := about_structure(name, found, call, lang):
        return [said]
    wrong = [path for path, a in call.right.items() if not alike(found[path], a)]
    if said := about_swaps(name, found, call.right, wrong, lang):
        return [said]
    said = []
    for path in wrong:
        label = label_of(name, path, lang)
        sentence = about_array(label, found[path], call.right[path], call, lang)
        said += [sentence] if sentence else []
    if len(wrong) == 1 < len(call.right):
        said.append(say(lang, "one output", label_of(name, wrong[0], lang)))
    return said


def label_of(name, path, lang):
    """What an output is called: dx for the first of linear_backward's, "the result" for one."""
    first, _, rest = path.partition(".")
    if first != "result":
        return path
    if not rest:
        return say(lang, "result")
    i, _, inside = rest.partition(".")
    names = OUTPUTS.get(name)
    if names and i.isdigit() and int(i) < len(names):
        return f"{names[int(i)]}.{inside}".rstrip(".")
    return f"{say(lang, 'result')}.{rest}"


def about_error(error, call, lang):
    """A call that stopped: a keyword that is not taken yet, a tree taken for flat, or the error."""
    message, _, line = error.partition("\n")
    keyword = re.search(r"unexpected keyword argument '(\w+)'", message)
    if keyword and not line:  # of the function itself: inside it, the error has a line
        return [say(lang, "keyword", keyword[1])]
    error = say(lang, "error", error.replace("\n", ", "))
    missing = re.search(r"(\w+)\(\) missing \d+ required .* arguments?: (.*)", message)
    if missing and {*re.findall(r"'(\w+)'", missing[2])} <= keys_in(call.given):
        return [say(lang, "spread", missing[1], missing[2]), error]
    grads = call.given.get("grads", {})
    if any(isinstance(branch, dict | list) for branch in grads.values()):
        return [say(lang, "flat"), error]
    return [error]


def keys_in(tree):
    """The keys of the dicts that stand in a dict, at every depth."""
    inner = [branch for branch in tree.values() if isinstance(branch, dict)]
    return set().union(*inner, *map(keys_in, inner))


def about_structure(name, found, call, lang):
    """Results that are missing, too many, no array, or arguments that change and should not."""
    results = {path for path in found if path.startswith("result")}
    due = {path for path in call.right if path.startswith("result")}
    for path in sorted(found.keys() - call.right.keys() - results):
        return say(lang, "changes", path.partition(".")[0])
    if results and not due:
        return say(lang, "gives back")
    if due and not results:
        return say(lang, "nothing")
    for path in sorted(call.right.keys() - found.keys() - due):
        return say(lang, "in place", path)
    if due == {"result"} and results != due:
        return say(lang, "list")
    return about_parts(name, results, due, lang)


def about_parts(name, results, due, lang):
    """A tuple of too many or too few things, a list in an array's place, other keys of a dict."""
    n_found, n_due = (
        len({path.split(".")[1] for path in paths if "." in path}) for paths in (results, due)
    )
    names = OUTPUTS.get(name)
    if names and n_found != n_due:
        return say(lang, "how many", n_found or 1, n_due, ", ".join(names))
    missing, unasked = sorted(due - results), sorted(results - due)
    for path in missing:
        if f"{path}.0" in unasked:
            return say(lang, "lists", label_of(name, path, lang))
    if not names and unasked and all(path.split(".")[1].isdigit() for path in unasked):
        return say(lang, "list")  # where a dict is due
    missing, unasked = (some_labels(name, paths, lang) for paths in (missing, unasked))
    if missing and unasked:
        return say(lang, "in place of", unasked, missing)
    if missing or unasked:
        return say(lang, "lacks" if missing else "too much", missing or unasked)
    return None


def some_labels(name, paths, lang):
    """The first few of several outputs by name: those of a dict by its keys."""
    labels = [label_of(name, path, lang) for path in paths[:4]]
    if name not in OUTPUTS:
        labels = [path.partition(".")[2] or path for path in paths[:4]]
    return ", ".join(labels + ["..."] * (len(paths) > 4))


def about_swaps(name, found, right, wrong, lang):
    """Two outputs that stand in each other's places."""
    for i, one in enumerate(wrong):
        for other in wrong[i + 1 :]:
            if alike(found[one], right[other]) and alike(found[other], right[one]):
                labels = (label_of(name, path, lang) for path in (one, other))
                return say(lang, "swapped", *labels)
    return None


def about_array(label, found, wanted, call, lang):
    """What is wrong with one output; None where nothing simple is seen."""
    if found.dtype.kind not in "biuf" or wanted.dtype.kind not in "biuf":
        return None
    if found.shape != wanted.shape:
        return about_shape(label, found, wanted, lang)
    found, wanted = hide(found), hide(wanted)
    for kind, odd in (("nan", np.isnan), ("inf", np.isinf)):
        places = np.argwhere(odd(found) & ~odd(wanted))
        if len(places) and np.isneginf(wanted).any() and np.isneginf(found[tuple(places[0])]):
            return say(lang, "hidden", label, places[0].tolist())
        if len(places):
            return say(lang, kind, label, places[0].tolist())
    if found.ndim >= 2 and near(found, turned(wanted)):
        return say(lang, "transposed", label)
    whole = np.isfinite(wanted).all()
    for look in (about_factor, about_arguments, about_offset) if whole else ():
        if said := look(label, found, wanted, call, lang):
            return said
    if found.size > 1 and near(np.sort(found, None), np.sort(wanted, None)):
        return say(lang, "order", label)
    return about_places(label, found, wanted, lang)


def near(found, wanted):
    """Whether two arrays have the same shape and nearly the same numbers."""
    return found.shape == wanted.shape and np.allclose(found, wanted, rtol=1e-6, atol=1e-9)


def turned(array):
    """The array with its last two axes swapped."""
    return array.swapaxes(-1, -2)


def about_shape(label, found, wanted, lang):
    """A wrong shape: transposed, an axis too many, a sum or a mean that is missing."""
    if wanted.ndim >= 2 and near(found, turned(wanted)):
        return say(lang, "transposed", label)
    if near(found.squeeze(), wanted.squeeze()):
        return say(lang, "axis", label)
    for axis in range(found.ndim if found.size else 0):
        for kind, f in (("not summed", np.sum), ("not averaged", np.mean)):
            if near(f(found, axis=axis).squeeze(), wanted.squeeze()):
                return say(lang, kind, label, axis)
    return say(lang, "shape only", label, list(found.shape), list(wanted.shape))


def about_factor(label, found, wanted, call, lang):  # noqa: ARG001 - as its neighbours
    """Everything, or every row or column, is the right number times something."""
    with np.errstate(all="ignore"):
        ratio = np.where(np.abs(wanted) > 1e-12, found / wanted, np.nan)
    if np.isnan(ratio).all() or not near(found[wanted == 0], wanted[wanted == 0]):
        return None
    if found.ndim and (~found.any(axis=-1) & wanted.any(axis=-1)).any():
        return None  # rows of zeros tell no factor
    if constant(ratio):
        factor = np.nanmedian(ratio)
        if np.isclose(factor, -1):
            return say(lang, "sign", label)
        return say(lang, "factor", label, f"{factor:.4g}")
    lines = constant_lines(ratio)
    return say(lang, f"factor {lines}", label) if lines else None


def about_offset(label, found, wanted, call, lang):  # noqa: ARG001 - as its neighbours
    """Everything, or every row or column, is the right number plus something."""
    off = found - wanted
    if constant(off) and found.size > 1:
        return say(lang, "offset", label, f"{np.median(off):.4g}")
    lines = constant_lines(off)
    return say(lang, f"offset {lines}", label) if lines else None


def constant(array, axis=None):
    """Whether numbers are nearly the same along an axis; nan stands for any number."""
    with np.errstate(all="ignore"):  # fmin and fmax pass over nan, and warn of nothing
        low, high = np.fmin.reduce(array, axis=axis), np.fmax.reduce(array, axis=axis)
        size = np.fmax.reduce(np.abs(array), axis=None)
    return bool(np.all(~(high - low > 1e-6 * size + 1e-12)))


def constant_lines(array):
    """"row" where each row of a matrix is constant by itself, else "column", else None.

    Rows or columns of two numbers are not looked at: that they are alike would tell nothing.
    """
    if array.ndim >= 2 and array.shape[-1] > 2 and constant(array, axis=-1):
        return "row"
    if array.ndim >= 2 and array.shape[-2] > 2 and constant(array, axis=-2):
        return "column"
    return None


def about_arguments(label, found, wanted, call, lang):
    """The result is an argument, or lacks one, or has one too many."""
    for path, leaf in by_path(plain(call.given)).items():
        if leaf.dtype.kind not in "biuf" or not leaf.size or leaf.ndim == 0:
            continue
        if near(found, leaf):
            return say(lang, "is argument", label, path)
        if leaf.shape in (found.shape, found.shape[-1:]):
            leaf = np.broadcast_to(leaf, found.shape)
            if near(found + leaf, wanted):
                return say(lang, "without", label, path)
            if near(found - leaf, wanted):
                return say(lang, "twice", label, path)
    return None


def about_places(label, found, wanted, lang):
    """Some rows are right, or all numbers nearly."""
    close = np.isclose(found, wanted, rtol=1e-6, atol=1e-9, equal_nan=True)
    if found.ndim >= 2:
        rows = close.all(axis=tuple(i for i in range(found.ndim) if i != found.ndim - 2))
        if rows.any() and not rows.all():
            first = int(np.argmin(rows))
            if first == 1 and not rows[1:].any():
                return say(lang, "first row", label)
            if rows[-1] and not rows[:-1].any():
                return say(lang, "last row", label)
            if first:
                return say(lang, "later rows", label, first)
    finite = np.isfinite(wanted) & np.isfinite(found)
    size = max(np.abs(wanted[finite]).max(initial=0), 1e-30)
    error = np.abs(found[finite] - wanted[finite]).max(initial=0) / size
    if 0 < error < 2e-3:
        return say(lang, "nearly", label, int(-np.log10(error)))
    if (found == np.rint(found)).all() and not (wanted == np.rint(wanted)).all():
        return say(lang, "integers", label)
    return None
