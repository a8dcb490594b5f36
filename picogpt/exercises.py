"""The source with bodies to fill in, and a test for each: python -m picogpt.exercises FOLDER.

FOLDER gets a copy of this package, cut from the source as it stands, in which the functions of one
part say "your code here". The test of each holds golden numbers, and those of the mistakes in
mistakes.json: whoever makes one is told which. Filled in, the copy is a GPT-2 of one's own.
"""

import ast
import copy
import json
import shutil
from inspect import getsource
from pathlib import Path
from typing import Literal

import numpy as np

from picogpt import generation, gradients, kernels, optim
from picogpt.cli import run
from picogpt.errors import UsageError
from picogpt.tree import tree_leaves

PARTS = {"kernels": kernels, "gradients": gradients, "optimizer": optim, "sampling": generation}
TEST = '''"""Is {name} right? Run this with: pytest test_{name}.py"""

from numpy import array, inf, nan  # noqa: F401

from picogpt.exercises import check
from picogpt.{module} import {name}

ARGUMENTS = {arguments!r}
RIGHT = {right!r}
MISTAKES = {mistakes!r}


def test_{name}():
    check({name}, ARGUMENTS, RIGHT, MISTAKES)
'''


def arguments():
    """What each function is called with, {function: arguments}: small, and always the same."""
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
    eight = np.array([0.3, 1.2, -0.5, 0.9, 0.1, -1.0, 0.6, 0.0])
    seen = {}
    gradients.block_forward(x, **block, n_head=2, note=lambda name, a: seen.setdefault(name, a))
    small = 1e-4 * r(2, 2)
    state = {"step": 1, "m": {"w": small / 2}, "v": {"w": small**2 / 2}}
    return {
        "gelu": {"x": x},
        "softmax": {"x": np.vstack([x, x[:1] + 1000])},
        "layer_norm": {"x": 0.01 * x, **norm},
        "linear": {"x": x, "w": r(4, 4), "b": r(4)},
        "ffn": {"x": x, **mlp},
        "attention": {"q": q, "k": k, "v": v, "mask": mask},
        "causal_mask": {"n_q": 2, "n_k": 3, "dtype": "float64"},
        "split_heads": {"x": x, "n_head": 2},
        "merge_heads": {"x": q},
        "mha": {"x": x, **attn, "n_head": 2},
        "transformer_block": {"x": x, **block, "n_head": 2},
        "hidden_states": {"inputs": np.array([4, 0, 2]), **stack},
        "gpt2": {"inputs": np.array([4, 0, 2]), **stack, "ln_f": norm},
        "gelu_backward": {"dy": r(3, 4), "x": x},
        "softmax_backward": {"dy": r(2, 3, 3), "y": weights},
        "layer_norm_backward": {"dy": r(3, 4), "x": x, "g": norm["g"]},
        "linear_backward": {"dy": r(3, 2), "x": x, "w": r(4, 2)},
        "attention_backward": {"dy": r(2, 3, 2), "q": q, "k": k, "v": v, "weights": weights},
        "block_backward": {"dy": r(3, 4), "seen": seen, **block, "n_head": 2},
        "adamw": {"params": {"w": r(2, 2)}, "grads": {"w": small}, "state": state, "lr": 0.1},
        "learning_rate": {"step": 2, "peak": 0.1, "n_steps": 10, "warmup": 4},
        "global_norm": {"grads": {"a": x, "b": [r(4)]}},
        "clip": {"grads": {"a": x, "b": [r(4)]}, "max_norm": 1.0},
        "keep_top_k": {"scores": r(6), "k": 3},
        "keep_top_p": {"scores": r(6), "p": 0.7},
        "distribution": {"scores": eight, "temperature": 0.5, "top_k": 3, "top_p": 0.83},
    }  # fmt: skip


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


def outcome(function, arguments):
    """All numbers that a call gives back or changes in its arguments, as a list of arrays."""
    given = copy.deepcopy(arguments)
    with np.errstate(all="ignore"):
        result = function(**given)
    numbers = tree_leaves([list(result) if isinstance(result, tuple) else result])
    pairs = zip(tree_leaves(given), tree_leaves(arguments))
    numbers += [after for after, before in pairs if not np.array_equal(after, before)]
    return [np.asarray(number) for number in numbers if number is not None]


def same(found, wanted):
    """Whether two outcomes agree in every shape and, nearly, in every number."""
    return [a.shape for a in found] == [b.shape for b in wanted] and all(
        np.allclose(a, b, rtol=1e-6, atol=1e-10, equal_nan=True) for a, b in zip(found, wanted)
    )


def check(function, arguments, right, mistakes):
    """Raise AssertionError, with a hint where the mistake is known, unless a call gives `right`."""
    found = outcome(function, arguments)
    hints = [hint for hint, wrong in mistakes.items() if same(found, wrong)]
    if not same(found, right):
        why = hints[0] if hints else f"it gives\n{found}\ninstead of\n{right}"
        raise AssertionError(f"{function.__name__}: {why}")


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
    file = folder / "picogpt" / Path(module.__file__).name
    source = file.read_text(encoding="utf-8")
    functions = {name: args for name, args in arguments().items() if f"\ndef {name}(" in source}
    file.write_text(blank(source, functions), encoding="utf-8")
    (folder / "pytest.ini").write_text("[pytest]\npythonpath = .\n", encoding="utf-8")
    usual = json.loads((package / "mistakes.json").read_text(encoding="utf-8"))
    for name, given in functions.items():
        mistakes = {hint: mistaken(module, name, *change) for *change, hint in usual[name]}
        golden = {
            "arguments": given, "right": outcome(getattr(module, name), given),
            "mistakes": {hint: outcome(wrong, given) for hint, wrong in mistakes.items()},
        }  # fmt: skip
        with np.printoptions(precision=17, threshold=10**6):
            test = TEST.format(name=name, module=file.stem, **golden)
        (folder / f"test_{name}.py").write_text(test, encoding="utf-8")
    print(f"{file} has {len(functions)} functions to fill in.")
    print(f"Run pytest in {folder}: a test that fails says what its mistake looks like.")


if __name__ == "__main__":
    run(main)
