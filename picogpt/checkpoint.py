"""Training that can be killed at any moment: a tree of arrays and a few values in one file."""

import json
import os
from pathlib import Path

from picogpt.errors import CheckpointError
from picogpt.tree import tree_leaves, tree_paths


def write_beside(path, write):
    """Let `write(partial path)` make a file beside `path`, then rename it into place.

    Who reads `path` sees the old file or the new one, never a part: kill -9 and a full disk
    included.
    """
    path = Path(path)
    partial = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        write(partial)
        with partial.open("rb+") as file:
            os.fsync(file.fileno())
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def save_state(path, tree, meta):
    """Write a tree of arrays, and `meta`, what JSON can hold, to one safetensors file."""
    from safetensors.numpy import save_file

    arrays = dict(zip(tree_leaves(tree_paths(tree)), tree_leaves(tree), strict=True))
    write_beside(path, lambda part: save_file(arrays, part, {"meta": json.dumps(meta)}))


def load_state(path):
    """Read back (tree, meta); a branch whose keys are 0, 1, ... is a list again.

    Raises CheckpointError where the file is damaged.
    """
    from safetensors import SafetensorError, safe_open

    tree = {}
    try:
        with safe_open(path, "numpy") as file:
            meta = json.loads(file.metadata()["meta"])
            for name in file.keys():  # noqa: SIM118 - it is no dict
                *branches, leaf = name.split(".")
                branch = tree
                for key in branches:
                    branch = branch.setdefault(key, {})
                branch[leaf] = file.get_tensor(name)
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path} is damaged ({error}): delete it to start anew") from error
    return _lists(tree), meta


def _lists(tree):
    if not isinstance(tree, dict):
        return tree
    if tree and all(key.isdigit() for key in tree):
        return [_lists(tree[str(i)]) for i in range(len(tree))]
    return {key: _lists(branch) for key, branch in tree.items()}
