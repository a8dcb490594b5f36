"""Training that can be killed at any moment: a tree of arrays and a few values in one file."""

import json
import signal
from contextlib import contextmanager, suppress

import numpy as np

from picogpt.tools.errors import CheckpointError
from picogpt.tools.files import write_arrays
from picogpt.tools.tree import tree_map, tree_paths


def save_state(path, tree, meta):
    """Write a tree of arrays, and `meta`, what JSON can hold, to one safetensors file.

    What is not stored row by row is written as its transpose, NAME.T, and comes back as it was:
    safetensors would write the numbers as they lie in memory, under the wrong shape.
    """
    arrays = {}

    def put(name, array):
        if not array.flags.c_contiguous:
            name, array = f"{name}.T", np.ascontiguousarray(array.T)  # as a rule no copy
        arrays[name] = array
        return name

    names = tree_map(put, tree_paths(tree), tree)
    write_arrays(path, arrays, {"tree": json.dumps([names, meta])})


def load_state(path):
    """Read back (tree, meta); raises CheckpointError where the file is damaged."""
    from safetensors import SafetensorError, safe_open

    def take(name):
        array = file.get_tensor(name)
        return array.T if name.endswith(".T") else array

    try:
        with safe_open(path, "numpy") as file:
            names, meta = json.loads(file.metadata()["tree"])
            return tree_map(take, names), meta
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path} is damaged ({error}): delete it to start anew") from error


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

    before = signal.getsignal(signal.SIGINT)
    with suppress(ValueError):  # outside the main thread
        if before != signal.SIG_IGN:
            signal.signal(signal.SIGINT, on_interrupt)
    try:
        yield pressed
    finally:
        with suppress(ValueError):
            signal.signal(signal.SIGINT, before)
