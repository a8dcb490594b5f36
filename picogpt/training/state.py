"""The file of a checkpoint: a tree of arrays and a few values, whole or not there at all.

What training puts into it is `Progress` in resumable.py.
"""

import json
import signal
import zlib
from contextlib import contextmanager, suppress

import numpy as np

from picogpt.tools.errors import CheckpointError
from picogpt.tools.files import write_arrays
from picogpt.tools.tree import tree_leaves, tree_map, tree_paths


def save_state(path, tree, meta):
    """Write a tree of arrays, and `meta`, what JSON can hold, to one safetensors file.

    What is not stored row by row is written as its transpose, NAME.T, and comes back as it was:
    safetensors would write the numbers as they lie in memory, under the wrong shape. A checksum of
    everything goes with it. Raises OutputError where the file can't be written.
    """
    arrays = {}

    def put(name, array):
        if not array.flags.c_contiguous:
            name, array = f"{name}.T", np.ascontiguousarray(array.T)  # as a rule no copy
        arrays[name] = array
        return name

    names = tree_map(put, tree_paths(tree), tree)
    if not arrays:  # safetensors before 0.4.3 can't read a file without any
        arrays["nothing"] = np.zeros(1, np.uint8)
    text = json.dumps([names, meta])
    sums = {"tree_crc32": checksum(text), "arrays_crc32": checksum(text, arrays)}
    write_arrays(path, arrays, {"tree": text} | sums)


def checksum(text, arrays=()):
    """A CRC-32, as text, of a text and of {name: array}: names, types, shapes and numbers."""
    crc = zlib.crc32(text.encode())
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        crc = zlib.crc32(f"{name} {array.dtype.str} {array.shape}".encode(), crc)
        crc = zlib.crc32(array.reshape(-1).view(np.uint8), crc)
    return str(crc)


def load_state(path):
    """Read back (tree, meta); raises CheckpointError where a single bit of the file is wrong."""
    names, meta, arrays = read_state(path, with_arrays=True)

    def take(name):
        return arrays[name].T if name.endswith(".T") else arrays[name]

    return tree_map(take, names), meta


def load_meta(path):
    """Read back the meta alone, however large the arrays; raises CheckpointError as load_state."""
    return read_state(path, with_arrays=False)[1]


def read_state(path, with_arrays):
    """What a file holds, as it was written: a tree of names, the meta, and {name: array}."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "numpy") as file:
            metadata = file.metadata()
            if metadata["tree_crc32"] != checksum(metadata["tree"]):
                raise ValueError("its checksum is wrong")
            names, meta = json.loads(metadata["tree"])
            found = file.keys() if with_arrays else []
            arrays = {name: file.get_tensor(name) for name in found}
        if with_arrays and metadata["arrays_crc32"] != checksum(metadata["tree"], arrays):
            raise ValueError("its checksum is wrong")
        return names, meta, arrays
    except (OSError, SafetensorError, KeyError, TypeError, ValueError, AttributeError) as error:
        said = f"{path} is damaged, or of version 1 ({error})"
        raise CheckpointError(f"{said}: delete it to start anew") from error


def same_shapes(tree, other):
    """Whether two trees have the same names and, at every leaf, arrays of one shape and type."""
    if tree_leaves(tree_paths(tree)) != tree_leaves(tree_paths(other)):
        return False
    pairs = zip(tree_leaves(tree), tree_leaves(other))
    return all((a.shape, a.dtype) == (b.shape, b.dtype) for a, b in pairs)


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
