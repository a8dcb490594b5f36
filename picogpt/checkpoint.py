"""Training that can be killed at any moment: a tree of arrays and a few values in one file."""

import json
import signal
from contextlib import contextmanager

from picogpt.errors import CheckpointError
from picogpt.files import written_beside
from picogpt.tree import tree_leaves, tree_paths


def save_state(path, tree, meta):
    """Write a tree of arrays, and `meta`, what JSON can hold, to one safetensors file.

    An array that is stored column by column is written as its transpose, NAME.T, and comes back
    as it was: a product of the same numbers in another order is rounded differently.
    """
    from safetensors.numpy import save_file

    arrays = {}
    for name, array in zip(tree_leaves(tree_paths(tree)), tree_leaves(tree), strict=True):
        by_rows = array.flags.c_contiguous
        arrays[name if by_rows else f"{name}.T"] = array if by_rows else array.T
    with written_beside(path) as partial:
        save_file(arrays, partial, {"meta": json.dumps([list(arrays), meta])})


def load_state(path):
    """Read back (tree, meta); a branch whose keys are 0, 1, ... is a list again.

    Raises CheckpointError where the file is damaged.
    """
    from safetensors import SafetensorError, safe_open

    tree = {}
    try:
        with safe_open(path, "numpy") as file:
            names, meta = json.loads(file.metadata()["meta"])  # the file has an order of its own
            for name in names:
                *branches, leaf = name.removesuffix(".T").split(".")
                branch = tree
                for key in branches:
                    branch = branch.setdefault(key, {})
                array = file.get_tensor(name)
                branch[leaf] = array.T if name.endswith(".T") else array
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path} is damaged ({error}): delete it to start anew") from error
    return _lists(tree), meta


def _lists(tree):
    if not isinstance(tree, dict):
        return tree
    if tree and all(key.isdigit() for key in tree):
        return [_lists(tree[str(i)]) for i in range(len(tree))]
    return {key: _lists(branch) for key, branch in tree.items()}


@contextmanager
def deferred_interrupt():
    """Let Ctrl-C wait for the end of a step: yields a list, empty until it is pressed.

    Pressed again, it interrupts at once. Outside the main thread, which gets no signals, nothing
    is deferred.
    """
    pressed = []

    def on_interrupt(number, frame):
        if pressed:
            signal.default_int_handler(number, frame)
        pressed.append(number)

    try:
        before = signal.signal(signal.SIGINT, on_interrupt)
    except ValueError:
        yield pressed
        return
    try:
        yield pressed
    finally:
        signal.signal(signal.SIGINT, before)
