"""Small random models for the tests, and folders of them written by the project's own `save`."""

import json
from pathlib import Path

import numpy as np

from picogpt.checkpoint.config import Config
from picogpt.checkpoint.weights import checkpoint_tree
from picogpt.model import Model, save
from picogpt.tokenizer.encoder import Encoder
from picogpt.tools.tree import tree_map

MERGES = ["Ġ t", "h e", "Ġt he", "i n", "Ġ a", "e r", "o n", "Ġ s", "r e", "a t"]


def small_encoder():
    """256 bytes, ten merges and <|endoftext|>, which is id 266."""
    return Encoder.from_merges(MERGES)


def small_config(**changes):
    """Two layers of three heads of 8, 32 positions, the vocabulary of `small_encoder`."""
    small = {"n_vocab": 267, "n_ctx": 32, "n_embd": 24, "n_head": 3, "n_layer": 2}
    ends = {"bos_token_id": 266, "eos_token_id": 266}
    return Config(**{**small, **ends, **changes})


def random_params(config, seed=0, dtype=np.float32, std=0.2):
    """Parameters drawn so wide that no token, position or head is like another."""
    rng = np.random.default_rng(seed)

    def draw(leaf):
        name, shape = leaf
        mean = 1.0 if "ln_" in name and name.endswith("weight") else 0.0
        return (mean + std * rng.standard_normal(shape)).astype(dtype)

    return tree_map(draw, checkpoint_tree(config))


def small_model(seed=0, generation=None, **changes):
    """A random model; `changes` go to its config."""
    config = small_config(**changes)
    return Model(random_params(config, seed), config, small_encoder(), generation or {})


def small_folder(folder, seed=0, generation=None, **changes):
    """Write `small_model` to a folder, and give the folder back."""
    save(small_model(seed, generation, **changes), folder)
    return folder


def write_safetensors(path, tensors, header=None):
    """Write {name: (dtype code, shape, bytes)} in this order, under the true header or another."""
    entries, end = {}, 0
    for name, (code, shape, data) in tensors.items():
        place = [end, end := end + len(data)]
        entries[name] = {"dtype": code, "shape": list(shape), "data_offsets": place}
    header = json.dumps(entries).encode() if header is None else header
    body = b"".join(data for _, _, data in tensors.values())
    Path(path).write_bytes(len(header).to_bytes(8, "little") + header + body)


def misalign(folder):
    """Give a folder's weights the hub's own GPT-2 file's flaw: data at 3 past a multiple of 4."""
    path = Path(folder) / "model.safetensors"
    raw = path.read_bytes()
    end = 8 + int.from_bytes(raw[:8], "little")
    header = raw[8:end].rstrip()
    header += b" " * ((3 - 8 - len(header)) % 4)
    path.write_bytes(len(header).to_bytes(8, "little") + header + raw[end:])
    return folder
