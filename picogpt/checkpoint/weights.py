"""Hugging Face safetensors <-> the parameter dict that the kernels take.

{wte, wpe, blocks: [{ln_1: {g, b}, attn: {c_attn: {w, b}, c_proj: {w, b}}, ln_2: {g, b},
mlp: {c_fc: {w, b}, c_proj: {w, b}}}], ln_f: {g, b}}, matrices [in, out] as Hugging Face keeps
GPT-2's; `lm_head` [n_vocab, n_embd] only where a checkpoint unties it. Only their order in memory
differs: a block's large matrices lie there column by column, because one row times such a matrix
takes two thirds of the time at best (tests/benchmarks/layout.py), and writing a token is little
else. NumPy knows (`w.flags`), and every formula is right for either order; kernels.linear,
gradients.linear_backward and optim.chunks look at it for speed. Only `w.reshape(-1)` then is a
copy, `w.ravel("K")` is not.

A safetensors file is 8 bytes that give the length of a JSON header, the header (name -> dtype,
shape, place), and the numbers (github.com/huggingface/safetensors, "Format"). The package of that
name writes such files for this project. Reading is done by hand: the package's NumPy side knows no
bfloat16, maps no file into memory, and can't lay a matrix out in columns while it is read: done
afterwards, that would need each large matrix twice.
"""

import json
import math
import os
from dataclasses import replace
from mmap import mmap
from pathlib import Path

import numpy as np

from picogpt.quantization import quantize_head, quantize_tree
from picogpt.tools.errors import CheckpointError, UsageError
from picogpt.tools.files import read_json, unreadable, write_arrays
from picogpt.tools.tree import tree_leaves, tree_map, tree_paths

DTYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2"}  # NumPy has no bfloat16
WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
LARGE = 2**19  # numbers in a matrix that is worth laying out anew: a smaller one stays in cache
LONGEST_HEADER = 10**7  # bytes: enough for a GPT-2 of 7,000 blocks


def checkpoint_tree(config):
    """The parameter dict of a config with (Hugging Face's name, shape) at every leaf."""
    n, inner = config.n_embd, config.d_inner

    def dense(n_in, n_out):
        return {"w": (n_in, n_out), "b": (n_out,)}

    norm = {"g": (n,), "b": (n,)}
    attn = {"c_attn": dense(n, 3 * n), "c_proj": dense(n, n)}
    mlp = {"c_fc": dense(n, inner), "c_proj": dense(inner, n)}
    shapes = {
        "wte": (config.n_vocab, n),
        "wpe": (config.n_ctx, n),
        "blocks": [{"ln_1": norm, "attn": attn, "ln_2": norm, "mlp": mlp}] * config.n_layer,
        "ln_f": norm,
    }
    if not config.tie_word_embeddings:
        shapes["lm_head"] = (config.n_vocab, n)

    def leaf(path, shape):  # blocks.0.ln_1.g is Hugging Face's h.0.ln_1.weight
        name = path.replace("blocks", "h").removesuffix(".g").removesuffix(".w").removesuffix(".b")
        return f"{name}.{'bias' if path.endswith('.b') else 'weight'}", shape

    return tree_map(leaf, tree_paths(shapes), shapes)


def largest_file(config):
    """The most bytes that a file of weights may have.

    That is every number as float64, the mask `[n_ctx, n_ctx]` that old checkpoints keep for each
    block, and the longest header.
    """
    one_block = checkpoint_tree(replace(config, n_layer=1, tie_word_embeddings=False))
    block = sum(math.prod(shape) for _, shape in tree_leaves(one_block["blocks"]))
    rest = sum(math.prod(shape) for _, shape in tree_leaves(one_block)) - block
    return 8 * (config.n_layer * (block + config.n_ctx**2) + rest) + LONGEST_HEADER


def load_params(folder, config, int8=False):
    """Read a model folder's weights as float32 into the parameter dict.

    With int8 the blocks' matrices, and an `lm_head`, become what quantization.py says, each when
    it is read: of the float32 model no more than one block's matrix is in memory at a time.

    Aligned float32 data are memory-mapped, copy on write; others, and the large matrices that are
    laid out anew, are read once into memory of their own. There is an `lm_head` where the config
    unties it, or where the file has one that is not wte, whatever the config says: transformers
    goes by that, too. Raises CheckpointError, which names the file or tensor that is missing or
    wrong.
    """
    tensors = find_tensors(Path(folder))
    check_blocks(folder, tensors, config)

    def take(leaf):
        name, shape = leaf
        if name not in tensors:
            raise CheckpointError(f"{folder}: the weights hold no float tensor {name}")
        found, read = tensors[name]
        if found != shape:
            raise CheckpointError(
                f"{folder}: tensor {name} is {list(found)}, config.json asks for {list(shape)}"
            )
        is_matrix = name.startswith("h.") and len(shape) == 2
        return read(columns=is_matrix and (int8 or math.prod(shape) >= LARGE))

    def take_all(tree):
        return tree_map(take, tree)

    tied = config.tie_word_embeddings
    if tied and "lm_head.weight" in tensors:
        tensors.setdefault("wte.weight", tensors["lm_head.weight"])  # a file may have either name
        config = replace(config, tie_word_embeddings=False)
    tree = checkpoint_tree(config)
    blocks = quantize_tree(tree["blocks"], read=take) if int8 else take_all(tree["blocks"])
    params = {name: blocks if name == "blocks" else take_all(tree[name]) for name in tree}
    if tied and "lm_head" in params and np.array_equal(params["wte"], params["lm_head"]):
        del params["lm_head"]
    if int8 and "lm_head" in params:
        params["lm_head"] = quantize_head(params["lm_head"])
    return params


def find_tensors(folder):
    """What a model folder holds, {name without "transformer.": (shape, function that reads it)}.

    Raises CheckpointError where two tensors have one name: which of them is meant?
    """
    tensors = {}
    for path in weight_files(folder):
        for name, tensor in open_safetensors(path).items():
            name = name.removeprefix("transformer.")
            if name in tensors:
                raise CheckpointError(f"{path}: tensor {name} comes twice: fetch the model again")
            tensors[name] = tensor
    return tensors


def check_blocks(folder, tensors, config):
    """Raise CheckpointError for the first tensor of a block that is missing.

    This comes before a tree is built: a damaged n_layer may ask for a million blocks.
    """
    one_block = checkpoint_tree(replace(config, n_layer=1))["blocks"][0]
    names = [name.removeprefix("h.0.") for name, _ in tree_leaves(one_block)]
    for i in range(config.n_layer):
        missing = [f"h.{i}.{name}" for name in names if f"h.{i}.{name}" not in tensors]
        if len(missing) == len(names):
            raise CheckpointError(
                f"{folder}: the weights have {i} blocks, config.json's n_layer is "
                f"{config.n_layer}: fetch both again"
            )
        if missing:
            raise CheckpointError(f"{folder}: the weights hold no float tensor {missing[0]}")


def weight_files(folder):
    """The folder's weights file or shards; raises CheckpointError where there is none to read."""
    if (folder / WEIGHTS).is_file():
        return [folder / WEIGHTS]
    if (folder / INDEX).is_file():
        names = shard_names(folder / INDEX)
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


def shard_names(index):
    """The files that an index names; raises CheckpointError where it is damaged or names a path."""
    weight_map = read_json(index).get("weight_map")
    if not isinstance(weight_map, dict):
        raise CheckpointError(f"{index} has no weight_map: get it again")
    names = sorted({str(name) for name in weight_map.values()})
    for name in names:
        if any(sign in name for sign in "/\\:") or not name.isprintable():
            raise CheckpointError(f"{index.parent} lacks the shard {name}, which is no file's name")
    return names


def open_safetensors(path):
    """What a file holds: {name: (shape, function that reads it as float32)}, float tensors only.

    Raises CheckpointError where the file is cut off or damaged.
    """
    try:
        with path.open("rb") as file:
            header, start = read_header(file)
            data = np.memmap(file, mode="c").view(np.ndarray)
        floats = {name: entry for name, entry in header.items() if entry["dtype"] in DTYPES}
        return {name: find_tensor(path, data, start, floats[name]) for name in floats}
    except OSError as error:
        raise unreadable(path, error) from None
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as e:
        raise CheckpointError(f"{path} is cut off or damaged ({e}): fetch it again") from None


def read_header(file):
    """The header of an open file, {name: entry}, and at which byte the numbers begin.

    Raises ValueError where it is too long, has a name twice, or doesn't give each byte behind it to
    one tensor.
    """
    size = os.fstat(file.fileno()).st_size
    n_header = int.from_bytes(file.read(8), "little")
    if n_header > size - 8:
        raise ValueError("it is shorter than its header says")
    if n_header > LONGEST_HEADER:
        raise ValueError("its header is too long")
    header = json.loads(file.read(n_header), object_pairs_hook=unique_names)
    header.pop("__metadata__", None)
    end = 0
    for begin, next_end in sorted(entry["data_offsets"] for entry in header.values()):
        if begin != end:
            raise ValueError(f"two tensors overlap, or leave a gap, at byte {begin} of its numbers")
        end = next_end
    if end != size - 8 - n_header:
        raise ValueError("its numbers are more or fewer than its header says")
    return header, 8 + n_header


def unique_names(pairs):
    """The dict of a JSON object's (name, value) pairs; ValueError where a name comes twice."""
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("its header has a name twice")
    return found


def find_tensor(path, data, start, entry):
    """One tensor of the file `path`, whose bytes are `data`: (shape, function that reads it).

    read(columns=True) lays a matrix out column by column.
    Raises ValueError where its place and its shape disagree.
    """
    begin, end = entry["data_offsets"]
    shape = tuple(entry["shape"])
    dtype = np.dtype(DTYPES[entry["dtype"]])
    whole = all(type(n) is int and n >= 0 for n in (begin, end, *shape))
    if not whole or end - begin != math.prod(shape) * dtype.itemsize:
        raise ValueError(f"place {begin} to {end} of a tensor doesn't match its shape {shape}")
    begin, end = start + begin, start + end

    def read(columns=False):
        if columns:
            return read_columns(path, begin, dtype, shape)
        if entry["dtype"] == "F32" and dtype.isnative and begin % dtype.itemsize == 0:
            return data[begin:end].view(dtype).reshape(shape)
        # NumPy computes at a third of its speed on numbers that are not aligned,
        # as those in the hub's own GPT-2 file do, whose header is 14,283 bytes long
        array = np.fromfile(path, dtype, math.prod(shape), offset=begin).reshape(shape)
        return as_float32(array)

    return shape, read


def read_columns(path, begin, dtype, shape, n_rows=16):
    """The matrix at a place in a file, as float32 whose columns lie one after the other in memory.

    The file has it row by row; n_rows at a time stay in cache on their way, which is three times as
    fast as turning the whole.
    """
    w = np.empty(shape, np.float32, order="F")
    with path.open("rb") as file:
        file.seek(begin)
        for i in range(0, len(w), n_rows):
            rows = w[i : i + n_rows]
            rows[:] = as_float32(np.fromfile(file, dtype, rows.size).reshape(rows.shape))
    return w


def as_float32(array):
    """Widen float16 and bfloat16 (uint16) exactly; float32 stays as it is, float64 is rounded.

    Whatever the byte order of the array is, that of the result is the machine's.
    """
    if array.dtype.kind == "u":  # bfloat16 is the upper half of a float32
        return (array.astype(np.uint32) << 16).view(np.float32)
    with np.errstate(over="ignore"):  # what float32 can't hold becomes infinity
        return array.astype(np.float32, copy=False)


def into_memory(params):
    """Copy every array that is mapped from a file, in its place in the dict: the file is let go."""
    for key, value in params.items() if isinstance(params, dict) else enumerate(params):
        if isinstance(value, (dict, list)):
            into_memory(value)
        elif is_mapped(value):
            params[key] = np.array(value, order="K")


def is_mapped(array):
    """Whether an array's numbers lie in a file that is mapped into memory."""
    while isinstance(array, np.ndarray):
        array = array.base
    return isinstance(array, mmap)


def check_saved_dtype(dtype):
    """Raise UsageError for a type in which weights would be lost, or that can't be read again."""
    try:
        fits = np.dtype(dtype) in (np.float16, np.float32, np.float64)
    except TypeError:
        fits = False
    if not fits:
        raise UsageError(f"dtype must be np.float16, np.float32 or np.float64, not {dtype!r}")


def save_params(params, config, folder, dtype=np.float32):
    """Write model.safetensors under the names that GPT2LMHeadModel gives them.

    Raises CheckpointError where an array is missing, is none of the config's or has another shape
    than it says, and for a number that the dtype can't hold: float16 ends at 65504.
    """
    shapes = checkpoint_tree(config)
    found, wanted = (set(tree_leaves(tree_paths(tree))) for tree in (params, shapes))
    if found != wanted:
        path = min(found ^ wanted)
        said = "has an array" if path in found else "lacks the array"
        layers = f"the config's n_layer is {config.n_layer}"
        raise CheckpointError(f"the model {said} {path}, unlike its config ({layers})")
    tensors = {}

    def put(leaf, array):
        name, shape = leaf
        if array.shape != shape:
            raise CheckpointError(
                f"{name} is {list(array.shape)}, the config asks for {list(shape)}"
            )
        prefix = "" if name.startswith("lm_head") else "transformer."
        try:
            with np.errstate(over="raise"):
                tensors[prefix + name] = np.ascontiguousarray(array, dtype)
        except FloatingPointError:
            said = f"{name} has numbers that are too large for {np.dtype(dtype)}"
            raise CheckpointError(f"{said}: save it as float32") from None

    tree_map(put, shapes, params)
    write_arrays(Path(folder) / WEIGHTS, tensors, {"format": "pt"})
