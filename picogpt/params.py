"""Hugging Face safetensors <-> the parameter dict that the kernels take.

{wte, wpe, blocks: [{ln_1: {g, b}, attn: {c_attn: {w, b}, c_proj: {w, b}}, ln_2: {g, b},
mlp: {c_fc: {w, b}, c_proj: {w, b}}}], ln_f: {g, b}}, matrices [in, out] as Hugging Face keeps
GPT-2's; `lm_head` [n_vocab, n_embd] only where a checkpoint unties it.

A safetensors file is 8 bytes that give the length of a JSON header, the header (name -> dtype,
shape, place), and the numbers (github.com/huggingface/safetensors, "Format").
"""

import json
import math
import os
from pathlib import Path

import numpy as np

from picogpt.errors import CheckpointError
from picogpt.tree import tree_leaves, tree_map

DTYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2"}  # NumPy has no bfloat16
WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"


def checkpoint_tree(config):
    """The parameter dict of a config with (Hugging Face's name, shape) at every leaf."""
    n, inner = config.n_embd, config.d_inner

    def norm(name):
        return {"g": (f"{name}.weight", (n,)), "b": (f"{name}.bias", (n,))}

    def dense(name, n_in, n_out):
        return {"w": (f"{name}.weight", (n_in, n_out)), "b": (f"{name}.bias", (n_out,))}

    def block(h):
        return {
            "ln_1": norm(f"{h}.ln_1"),
            "attn": {
                "c_attn": dense(f"{h}.attn.c_attn", n, 3 * n),
                "c_proj": dense(f"{h}.attn.c_proj", n, n),
            },
            "ln_2": norm(f"{h}.ln_2"),
            "mlp": {
                "c_fc": dense(f"{h}.mlp.c_fc", n, inner),
                "c_proj": dense(f"{h}.mlp.c_proj", inner, n),
            },
        }

    tree = {
        "wte": ("wte.weight", (config.n_vocab, n)),
        "wpe": ("wpe.weight", (config.n_ctx, n)),
        "blocks": [block(f"h.{i}") for i in range(config.n_layer)],
        "ln_f": norm("ln_f"),
    }
    if not config.tie_word_embeddings:
        tree["lm_head"] = ("lm_head.weight", (config.n_vocab, n))
    return tree


def load_params(folder, config):
    """Read a model folder's weights as float32 into the parameter dict.

    Aligned float32 data are memory-mapped, copy on write; others are read once into aligned
    memory. Raises CheckpointError, which names the file or tensor that is missing or wrong.
    """
    tensors = {}
    for path in weight_files(Path(folder)):
        for name, array in read_safetensors(path).items():
            tensors[name.removeprefix("transformer.")] = array

    def take(leaf):
        name, shape = leaf
        if name not in tensors:
            raise CheckpointError(f"{folder}: the weights hold no tensor {name}")
        if tensors[name].shape != shape:
            raise CheckpointError(
                f"{folder}: tensor {name} is {list(tensors[name].shape)}, "
                f"config.json asks for {list(shape)}"
            )
        return as_float32(tensors[name])

    return tree_map(take, checkpoint_tree(config))


def weight_files(folder):
    """The folder's weights file or shards; raises CheckpointError where there is none to read."""
    if (folder / WEIGHTS).is_file():
        return [folder / WEIGHTS]
    if (folder / INDEX).is_file():
        try:
            index = json.loads((folder / INDEX).read_text(encoding="utf-8"))
            names = sorted(set(index["weight_map"].values()))
            if any(Path(name).name != name or "\\" in name for name in names):
                raise ValueError("a shard lies outside the folder")
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as e:
            raise CheckpointError(f"{folder / INDEX} is damaged: {e!r}") from None
        for name in names:
            if not (folder / name).is_file():
                raise CheckpointError(f"{folder} lacks the shard {name}, which its index names")
        return [folder / name for name in names]
    if any(folder.glob("pytorch_model*.bin")):
        raise CheckpointError(
            f"{folder} holds only a pickle (pytorch_model.bin), which is never opened here because "
            'it can run code: convert it with transformers, GPT2LMHeadModel.from_pretrained("'
            f'{folder.as_posix()}").save_pretrained("NEW_FOLDER")'
        )
    raise CheckpointError(f"{folder} holds no {WEIGHTS}: is it a GPT-2 model folder?")


def read_safetensors(path):
    """Every float tensor of a file by its name, in the file's own type (bfloat16 as uint16).

    Raises CheckpointError where the file is cut off or damaged.
    """
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            n_header = int.from_bytes(file.read(8), "little")
            if size < 8 or n_header > size - 8:
                raise ValueError("it is shorter than its header says")
            header = json.loads(file.read(n_header))
            header.pop("__metadata__", None)
            start = 8 + n_header
            data = map_or_read(path, file, start, header)
            return {
                name: tensor_at(data, name, entry)
                for name, entry in header.items()
                if entry["dtype"] in DTYPES
            }
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as e:
        raise CheckpointError(f"{path} is cut off or damaged ({e}): fetch it again") from None


def map_or_read(path, file, start, header):
    """The bytes from `start` on: mapped copy on write where every number in them is aligned.

    Otherwise read into fresh memory, which is aligned: NumPy computes at a third of its speed
    on numbers that straddle their natural places, as in the hub's own GPT-2 file.
    """
    widths = {name: np.dtype(code).itemsize for name, code in DTYPES.items()}
    places = [(e["data_offsets"][0], widths.get(e["dtype"], 1)) for e in header.values()]
    if all((start + offset) % width == 0 for offset, width in places):
        return np.memmap(path, mode="c")[start:].view(np.ndarray)
    data = np.empty(os.fstat(file.fileno()).st_size - start, np.uint8)
    file.seek(start)
    if file.readinto(data) != len(data):
        raise ValueError("it ended while it was read")
    return data


def tensor_at(data, name, entry):
    """One tensor as a view of the file's bytes; ValueError where its place and shape disagree."""
    begin, end = entry["data_offsets"]
    dtype = np.dtype(DTYPES[entry["dtype"]])
    n_bytes = math.prod(entry["shape"]) * dtype.itemsize
    if not (0 <= begin <= end <= len(data) and end - begin == n_bytes):
        raise ValueError(f"tensor {name} lies outside the file or has another size than its shape")
    if begin % dtype.itemsize:  # aligned start, yet not this tensor
        return np.frombuffer(data[begin:end].tobytes(), dtype).reshape(entry["shape"]).copy()
    return data[begin:end].view(dtype).reshape(entry["shape"])


def as_float32(array):
    """Widen float16 and bfloat16 (uint16) exactly; float32 stays as it is, float64 is rounded."""
    if array.dtype == np.uint16:  # bfloat16 is the upper half of a float32
        return (array.astype(np.uint32) << 16).view(np.float32)
    return array.astype(np.float32, copy=False)


def save_params(params, config, folder, dtype=np.float32):
    """Write model.safetensors under the names that GPT2LMHeadModel gives them."""
    from safetensors.numpy import save_file

    tensors = {}
    leaves = zip(tree_leaves(checkpoint_tree(config)), tree_leaves(params), strict=True)
    for (name, shape), array in leaves:
        if array.shape != shape:
            raise CheckpointError(f"{name} is {list(array.shape)}, the config asks for {list(shape)}")
        prefix = "" if name.startswith("lm_head") else "transformer."
        tensors[prefix + name] = np.ascontiguousarray(array, dtype)
    path = Path(folder) / WEIGHTS
    partial = path.with_name(path.name + ".part")
    save_file(tensors, partial, metadata={"format": "pt"})
    os.replace(partial, path)
