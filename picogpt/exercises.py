"""The source with bodies to fill in, and a test for each: python -m picogpt.exercises FOLDER.

FOLDER gets a copy of this package, cut from the source as it stands, in which the functions of one
part say "your code here". The test of each holds golden numbers, and those of the mistakes in
mistakes.json: whoever makes one is told which. Filled in, the copy is a GPT-2 of one's own.
"""

import ast
import copy
import json
import shutil
from functools import cache
from inspect import getsource
from pathlib import Path
from typing import Literal

import numpy as np

from picogpt import generation, gradients, kernels, optim
from picogpt.checkpoint.hub import TINY_FOLDERS, is_complete
from picogpt.tools.cli import run
from picogpt.tools.errors import UsageError
from picogpt.tools.tree import tree_leaves, tree_paths

PARTS = {"kernels": kernels, "gradients": gradients, "optimizer": optim, "sampling": generation}
TEST = '''"""Is {name} right? Run this with: pytest test_{name}.py"""

from numpy import array, inf, nan  # noqa: F401

from picogpt.exercises import check
from picogpt.{module} import {name}

CALLS = {calls!r}  # each: the arguments, what is right, what usual mistakes give


def test_{name}():
    check({name}, CALLS)
'''


@cache
def arguments():
    """What each function is called with, {function: [arguments, ...]}: small, always the same.

    The first call is the plain one, the others are those that batches and writing on need.
    """
    rng = np.random.default_rng(5)

    def r(*shape):
        return rng.standard_normal(shape).round(2)

    x, q, k, v = r(3, 4), r(2, 3, 2), r(2, 3, 2), r(2, 3, 2)
    mask = kernels.causal_mask(3, 3, np.float64)
    weights = kernels.softmax(q @ k.swapaxes(1, 2) * 2**-0.5 + mask)
    mlp = {"c_fc": {"w": r(4, 8), "b": r(8)}, "c_proj": {"w": r(8, 4), "b": r(4)}}
    attn = {"c_attn": {"w": r(4, 12), "b": r(12)}, "c_proj": {"w": r(4, 4), "b": r(4)}}
    norm = {"g": r(4), "b": r(4)}
    block = {"mlp": mlp, "attn": attn, "ln_1": norm, "ln_2": norm}
    stack = {"wte": r(5, 4), "wpe": r(6, 4), "blocks": [block], "n_head": 2}
    cache = {"k": r(2, 6, 2), "v": r(2, 6, 2), "length": 2}  # of two tokens so far
    other = copy.deepcopy(cache)
    scores = np.array([0.3, 1.2, -0.5, 0.9, 0.1, -1.0, 0.6, 0.0])
    two = {"lengths": [1, 2], "scale": 0.3}

    def back(**options):
        seen = {}
        keep = {**block, "n_head": 2, **options}
        gradients.block_forward(x, **keep, hook=lambda name, a: seen.setdefault(name, a))
        return {"dy": dy, "activations": seen, **keep}

    dy, dheads = r(3, 4), r(2, 3, 2)
    small = 1e-4 * r(2, 2)
    state = {"step": 1, "m": {"w": small / 2}, "v": {"w": small**2 / 2}}
    rates = {"peak": 0.1, "n_steps": 10, "warmup": 4}
    grads = {"a": x, "b": [r(4)]}
    mixed, ran = {"x": x, **attn, "n_head": 2}, {"x": x, **block, "n_head": 2}
    written = {"inputs": np.array([4, 0, 2]), **stack}
    attended = {"dy": dheads, "q": q, "k": k, "v": v, "weights": weights}
    drawn = {"scores": scores, "temperature": 0.5, "top_k": 3, "top_p": 0.83}
    return {
        "gelu": [{"x": x}],
        "softmax": [{"x": np.vstack([x, x[:1] + 1000])}],
        "layer_norm": [{"x": 0.01 * x, **norm}],
        "linear": [{"x": x, "w": r(4, 4), "b": r(4)}],
        "ffn": [{"x": x, **mlp}],
        "attention": [
            {"q": q, "k": k, "v": v, "mask": mask},
            {"q": q[:, :1], "k": k, "v": v, "mask": 0.0, "scale": 0.3},
        ],
        "causal_mask": [{"n_q": 2, "n_k": 4, "dtype": "float64"}],
        "split_heads": [{"x": x, "n_head": 2}],
        "merge_heads": [{"x": q}],
        "mha": [mixed, mixed | two, mixed | {"caches": [cache]}],
        "transformer_block": [ran, ran | two],
        "hidden_states": [written, written | {"lengths": [1, 2], "caches": [[cache], [other]]}],
        "gpt2": [
            written | {"ln_f": norm},
            written | {"ln_f": norm, "lengths": [1, 2], "last_only": True, "lm_head": r(5, 4)},
        ],
        "gelu_backward": [{"dy": dy, "x": x}],
        "softmax_backward": [{"dy": r(2, 3, 3), "y": weights}],
        "layer_norm_backward": [{"dy": dy, "x": x, "g": norm["g"]}],
        "linear_backward": [{"dy": r(3, 2), "x": x, "w": r(4, 2)}],
        "attention_backward": [attended, attended | {"scale": 0.3}],
        "block_backward": [back(), back(**two)],
        "adamw": [{"params": {"w": r(2, 2)}, "grads": {"w": small}, "state": state, "lr": 0.1}],
        "learning_rate": [{"step": step, **rates} for step in (2, 4, 6, 10)],
        "global_norm": [{"grads": grads}],
        "clip": [{"grads": grads, "max_norm": 1.0}, {"grads": grads, "max_norm": 100.0}],
        "keep_top_k": [{"scores": scores, "k": 3}],
        "keep_top_p": [{"scores": scores, "p": 0.7}],
        "distribution": [drawn, drawn | {"temperature": 0}, drawn | {"top_k": 0, "top_p": 1.0}],
    }


def blank(source, names):
    """The source with the bodies of the named functions left out; docstrings stay."""
    lines = source.splitlines(keepends=True)
    for node in reversed(ast.parse(source).body):
        if isinstance(node, ast.FunctionDef) and node.name in names:
            todo = '    raise NotImplementedError("your code here")\n'
            lines[node.body[0].end_lineno : node.end_lineno] = [todo]
    return "".join(lines)


def mistaken(module, name, right, wrong):
    """The named function with one piece of its source replaced by a mistake."""
    namespace = dict(vars(module))
    exec(getsource(getattr(module, name)).replace(right, wrong), namespace)
    return namespace[name]


def by_path(tree):
    """The numbers of a tree, {path: array}; what is None is left out."""
    pairs = zip(tree_leaves(tree_paths(tree)), tree_leaves(tree))
    return {path: np.asarray(leaf) for path, leaf in pairs if leaf is not None}


def outcome(function, arguments):
    """What a call gives back, under "result", and what it makes of arguments: {path: array}."""
    given = copy.deepcopy(arguments)
    with np.errstate(all="ignore"):
        result = function(**given)
    before = by_path(arguments)
    changed = {path: a for path, a in by_path(given).items() if not np.array_equal(a, before[path])}
    return by_path({"result": list(result) if isinstance(result, tuple) else result}) | changed


def same(found, wanted):
    """Whether two outcomes agree in every path and shape and, nearly, in every number."""
    return found.keys() == wanted.keys() and all(
        found[path].shape == a.shape
        and np.allclose(found[path], a, rtol=1e-6, atol=1e-10, equal_nan=True)
        for path, a in wanted.items()
    )


def check(function, calls):
    """Raise AssertionError, with a hint where the mistake is known, unless all calls go right."""
    for arguments, right, mistakes in calls:
        found = outcome(function, arguments)
        if same(found, right):
            continue
        hints = [hint for hint, wrong in mistakes.items() if same(found, wrong)]
        for name in sorted({path.partition(".")[0] for path in found.keys() - right.keys()}):
            if name != "result":
                hints.append(f"it changes {name}, which should stay as it is")
            elif not any(path.startswith("result") for path in right):
                hints.append("it gives something back, and should only change its arguments")
        why = hints[0] if hints else f"it gives\n{found}\ninstead of\n{right}"
        raise AssertionError(f"{function.__name__}: {why}")


def golden(module, name, usual):
    """The calls of a function's test: (arguments, right outcome, {hint: outcome}) of each."""
    functions = {hint: mistaken(module, name, *change) for *change, hint in usual}
    calls = []
    for given in arguments()[name]:
        right = outcome(getattr(module, name), given)
        wrong = {hint: outcome(function, given) for hint, function in functions.items()}
        wrong = {hint: found for hint, found in wrong.items() if not same(found, right)}
        calls.append((given, right, wrong))
    return calls


def main(
    folder: Path, *, part: Literal["kernels", "gradients", "optimizer", "sampling"] = "kernels"
):
    """Write exercises into a new folder: fill in the bodies, and run pytest there.

    Args:
        folder: where to write.
        part: which functions to leave out.
    """
    if folder.exists():
        raise UsageError(f"{folder} is there already: name a new folder")
    module, package = PARTS[part], Path(__file__).parent
    unneeded = shutil.ignore_patterns("__pycache__", "tiny", "samples")
    shutil.copytree(package, folder / "picogpt", ignore=unneeded)
    for tiny in filter(is_complete, TINY_FOLDERS):
        shutil.copytree(tiny, folder / "weights" / "tiny", dirs_exist_ok=True)
    file = folder / "picogpt" / Path(module.__file__).name
    source = file.read_text(encoding="utf-8")
    functions = [name for name in arguments() if f"\ndef {name}(" in source]
    file.write_text(blank(source, functions), encoding="utf-8")
    (folder / "pytest.ini").write_text("[pytest]\npythonpath = .\n", encoding="utf-8")
    usual = json.loads((package / "mistakes.json").read_text(encoding="utf-8"))
    for name in functions:
        with np.printoptions(precision=17, threshold=10**6):
            calls = golden(module, name, usual[name])
            test = TEST.format(name=name, module=file.stem, calls=calls)
        (folder / f"test_{name}.py").write_text(test, encoding="utf-8")
    print(f"{file} has {len(functions)} functions to fill in.")
    print(f"Run pytest in {folder}: a test that fails says what its mistake looks like.")


if __name__ == "__main__":
    run(main)
