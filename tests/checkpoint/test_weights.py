"""Reading and writing safetensors: what must load, bit by bit, and what must be refused."""

import json
import math
import mmap
import os
import pickle
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from models import misalign, random_params, small_config, small_folder, write_safetensors
from safetensors.numpy import load_file, save_file
from systems import WINDOWS_RULES

from picogpt.checkpoint.weights import (
    as_float32,
    checkpoint_tree,
    load_params,
    open_safetensors,
    read_columns,
    save_params,
)
from picogpt.tools.errors import CheckpointError
from picogpt.tools.tree import tree_leaves

CONFIG = small_config()
PARAMS = random_params(CONFIG)
NAMES = [name for name, _ in tree_leaves(checkpoint_tree(CONFIG))]


def tensors_of(params=PARAMS, config=CONFIG):
    """{Hugging Face's name without prefix: array}."""
    names = [name for name, _ in tree_leaves(checkpoint_tree(config))]
    return dict(zip(names, tree_leaves(params), strict=True))


def encoded(tensors, code="F32"):
    """The same for write_safetensors, as float32 or as bfloat16."""
    if code == "BF16":
        halves = {name: (a.view(np.uint32) >> 16).astype("<u2") for name, a in tensors.items()}
        return {name: (code, a.shape, a.tobytes()) for name, a in halves.items()}
    return {name: (code, a.shape, a.tobytes()) for name, a in tensors.items()}


def assert_same(params, expected=PARAMS):
    for name, array, wanted in zip(NAMES, tree_leaves(params), tree_leaves(expected), strict=True):
        assert array.dtype == np.float32, name
        assert array.flags.aligned and array.flags.writeable, name
        assert array.flags.c_contiguous or array.flags.f_contiguous, name
        assert np.array_equal(array, wanted), name


def is_mapped(array):
    while isinstance(array, np.ndarray):
        array = array.base
    return isinstance(array, mmap.mmap)


def refused(folder, message, config=CONFIG):
    with pytest.raises(CheckpointError, match=message) as caught:
        load_params(folder, config)
    assert "\n" not in str(caught.value) and str(folder) in str(caught.value)


def test_what_save_writes_is_read_back_memory_mapped(tmp_path):
    save_params(PARAMS, CONFIG, tmp_path)
    params = load_params(tmp_path, CONFIG)
    assert_same(params)
    assert all(is_mapped(array) for array in tree_leaves(params))
    assert [path.name for path in tmp_path.iterdir()] == ["model.safetensors"]


def test_writing_to_a_mapped_array_does_not_change_the_file(tmp_path):
    save_params(PARAMS, CONFIG, tmp_path)
    params = load_params(tmp_path, CONFIG)
    for array in tree_leaves(params):
        array += 1
    assert params["wte"][0, 0] == PARAMS["wte"][0, 0] + 1
    assert_same(load_params(tmp_path, CONFIG))


@pytest.mark.parametrize("kind", ["aligned", "misaligned", "float16"])
def test_the_blocks_large_matrices_are_laid_out_by_columns(tmp_path, kind, monkeypatch):
    save_params(PARAMS, CONFIG, tmp_path, np.float16 if kind == "float16" else np.float32)
    if kind == "misaligned":
        misalign(tmp_path)
    usual = load_params(tmp_path, CONFIG)
    monkeypatch.setattr("picogpt.checkpoint.weights.LARGE", 24 * 72)  # c_attn and mlp are as large
    params = load_params(tmp_path, CONFIG)
    assert_same(params, tree_leaves(usual))
    for block in params["blocks"]:
        for dense in (block["attn"]["c_attn"], block["mlp"]["c_fc"], block["mlp"]["c_proj"]):
            w = dense.pop("w")
            assert w.flags.f_contiguous and w.flags.aligned and not is_mapped(w)
    assert all(a.flags.c_contiguous for a in tree_leaves(params))  # all the others
    assert all(is_mapped(a) for a in tree_leaves(params)) == (kind == "aligned")


@pytest.mark.parametrize("n_rows", [1, 7, 16, 50])
def test_reading_by_columns_gives_the_same_matrix(tmp_path, n_rows):
    w = np.random.default_rng(0).standard_normal((33, 5), np.float32)
    (tmp_path / "file").write_bytes(b"abc" + w.tobytes() + b"defg")
    read = read_columns(tmp_path / "file", 3, np.dtype("<f4"), w.shape, n_rows)
    assert np.array_equal(read, w) and read.flags.f_contiguous


@pytest.mark.parametrize("prefix", ["", "transformer."])
def test_names_with_and_without_prefix_beside_old_buffers(tmp_path, prefix):
    tensors = {prefix + name: array for name, array in tensors_of().items()}
    tensors[prefix + "h.0.attn.bias"] = np.tri(32, dtype=np.float32)[None, None]
    tensors[prefix + "h.1.attn.bias"] = np.tri(32, dtype=np.uint8)[None, None]
    tensors[prefix + "h.0.attn.masked_bias"] = np.array(-1e4, np.float32)
    tensors[prefix + "h.1.attn.masked_bias"] = np.array(0, np.int64)
    save_file(tensors, tmp_path / "model.safetensors")
    assert_same(load_params(tmp_path, CONFIG))


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_other_types_become_float32(tmp_path, dtype):
    tensors = {name: array.astype(dtype) for name, array in tensors_of().items()}
    save_file(tensors, tmp_path / "model.safetensors")
    expected = [array.astype(dtype).astype(np.float32) for array in tensors_of().values()]
    assert_same(load_params(tmp_path, CONFIG), expected)


@pytest.mark.filterwarnings("error")
def test_what_float32_cannot_hold_becomes_infinity(tmp_path):
    tensors = {name: array.astype(np.float64) for name, array in tensors_of().items()}
    tensors["ln_f.bias"][0] = 1e300
    save_file(tensors, tmp_path / "model.safetensors")
    assert load_params(tmp_path, CONFIG)["ln_f"]["b"][0] == np.inf


def test_bfloat16_is_widened_exactly(tmp_path):
    tensors = tensors_of()
    tensors["ln_f.bias"] = np.array([0.0, -0.0, np.inf, -3.0, 65536.0, 1e38] * 4, np.float32)
    cut = [(array.view(np.uint32) & 0xFFFF0000).view(np.float32) for array in tensors.values()]
    write_safetensors(tmp_path / "model.safetensors", encoded(tensors, "BF16"))
    assert_same(load_params(tmp_path, CONFIG), cut)


def test_each_tensor_can_have_a_type_of_its_own(tmp_path):
    tensors = {}
    for i, (name, array) in enumerate(tensors_of().items()):
        small = np.round(array * 16) / 16  # exact in every type
        codes = [("F16", np.float16), ("F64", np.float64), ("F32", np.float32)]
        code, dtype = codes[i % 3]
        data = small.astype(dtype).tobytes()
        tensors[name] = (code, array.shape, data) if i % 4 else encoded({name: small}, "BF16")[name]
    write_safetensors(tmp_path / "model.safetensors", tensors)
    expected = [np.round(array * 16) / 16 for array in tree_leaves(PARAMS)]
    assert_same(load_params(tmp_path, CONFIG), expected)


def test_a_header_of_odd_length_as_the_hubs_own(tmp_path):
    save_params(PARAMS, CONFIG, tmp_path)
    misalign(tmp_path)
    n_header = int.from_bytes((tmp_path / "model.safetensors").read_bytes()[:8], "little")
    assert (8 + n_header) % 4 == 3
    params = load_params(tmp_path, CONFIG)
    assert_same(params)
    assert not any(is_mapped(array) for array in tree_leaves(params))


def test_only_what_is_unaligned_within_a_file_is_copied(tmp_path):
    data = encoded(tensors_of())
    first = {name: data.pop(name) for name in ("wte.weight", "h.0.mlp.c_fc.weight")}
    tensors = {**first, "h.0.attn.bias": ("BOOL", (1,), b"\1"), **data}
    path = tmp_path / "model.safetensors"
    write_safetensors(path, tensors)
    raw = path.read_bytes()
    end = 8 + int.from_bytes(raw[:8], "little")
    header = raw[8:end] + b" " * (-end % 8)
    path.write_bytes(len(header).to_bytes(8, "little") + header + raw[end:])
    params = load_params(tmp_path, CONFIG)
    assert_same(params)
    mapped = {name for name, a in zip(NAMES, tree_leaves(params)) if is_mapped(a)}
    assert mapped == first.keys()


@pytest.mark.parametrize("kind", ["aligned", "misaligned", "float16"])
def test_loading_takes_no_more_memory_than_the_weights(tmp_path, kind):
    config = small_config(n_embd=120, n_layer=8)
    dtype = np.float16 if kind == "float16" else np.float32
    save_params(random_params(config), config, tmp_path, dtype)
    if kind == "misaligned":
        misalign(tmp_path)
    tracemalloc.start()
    params = load_params(tmp_path, config)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    size = sum(array.nbytes for array in tree_leaves(params))
    assert peak < (0.05 if kind == "aligned" else 1.1) * size


def shard(folder, index=None):
    """The small model in three shards, with an index as save_pretrained writes it."""
    names, weight_map = list(tensors_of()), {}
    for i in range(3):
        file = f"model-{i + 1:05}-of-00003.safetensors"
        part = {f"transformer.{name}": tensors_of()[name] for name in names[i::3]}
        save_file(part, folder / file)
        weight_map |= dict.fromkeys(part, file)
    index = {"metadata": {"total_size": 1}, "weight_map": weight_map} if index is None else index
    (folder / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")


def test_shards_with_an_index(tmp_path):
    shard(tmp_path)
    assert_same(load_params(tmp_path, CONFIG))
    (tmp_path / "model-00002-of-00003.safetensors").unlink()
    refused(tmp_path, "lacks the shard model-00002-of-00003.safetensors, which its index names")


@pytest.mark.parametrize(
    "index, message",
    [
        ({}, "index.json has no weight_map"),
        ([], "index.json is no JSON object"),
        ({"weight_map": []}, "index.json has no weight_map"),
        ({"weight_map": {"wte.weight": 5}}, "lacks the shard 5"),
        ({"weight_map": {"wte.weight": "../here.safetensors"}}, "lacks the shard ../here.saf"),
        ({"weight_map": {"wte.weight": "a\\b"}}, r"lacks the shard a\\b"),
        ({"weight_map": {"wte.weight": "a\x1b[31m"}}, r"lacks the shard a\\x1b\[31m, which is no"),
    ],
)
def test_a_damaged_index_is_refused(tmp_path, index, message):
    (tmp_path / "here.safetensors").touch()
    (tmp_path / "inner").mkdir()
    shard(tmp_path / "inner", index)
    refused(tmp_path / "inner", message)


def head(seed=5):
    return np.random.default_rng(seed).standard_normal(PARAMS["wte"].shape).astype(np.float32)


def test_an_untied_head(tmp_path):
    config = small_config(tie_word_embeddings=False)
    save_params({**PARAMS, "lm_head": head()}, config, tmp_path)
    names = load_file(tmp_path / "model.safetensors").keys()
    assert names == {"lm_head.weight", *(f"transformer.{name}" for name in NAMES)}
    params = load_params(tmp_path, config)
    assert np.array_equal(params.pop("lm_head"), head())
    assert_same(params)
    del params  # Windows replaces no file that is mapped
    save_params(PARAMS, CONFIG, tmp_path)
    refused(tmp_path, "the weights hold no float tensor lm_head.weight", config)


def test_a_tied_head_that_the_file_repeats_is_dropped(tmp_path):
    tensors = tensors_of() | {"lm_head.weight": PARAMS["wte"]}
    save_file(tensors, tmp_path / "model.safetensors")
    assert_same(load_params(tmp_path, CONFIG))


def test_a_tied_head_under_its_own_name_alone_is_wte(tmp_path):
    tensors = tensors_of()
    tensors["lm_head.weight"] = tensors.pop("wte.weight")
    save_file(tensors, tmp_path / "model.safetensors")
    assert_same(load_params(tmp_path, CONFIG))


def test_a_head_unlike_wte_stays_whatever_the_config_says(tmp_path):
    save_file(tensors_of() | {"lm_head.weight": head()}, tmp_path / "model.safetensors")
    assert np.array_equal(load_params(tmp_path, CONFIG)["lm_head"], head())


@pytest.mark.parametrize("name", ["wte.weight", "h.1.attn.c_attn.bias", "ln_f.weight"])
def test_a_missing_or_misshapen_tensor_is_named(tmp_path, name):
    tensors = tensors_of()
    array = tensors.pop(name)
    save_file(tensors, tmp_path / "model.safetensors")
    refused(tmp_path, f"hold no float tensor {name}$")
    save_file(tensors | {name: array.astype(np.int32)}, tmp_path / "model.safetensors")
    refused(tmp_path, f"hold no float tensor {name}$")
    save_file(tensors | {name: array[..., 1:].copy()}, tmp_path / "model.safetensors")
    refused(tmp_path, rf"tensor {name} is \[.*\], config.json asks for \[.*\]$")
    save_file(tensors | {name: array[None]}, tmp_path / "model.safetensors")
    refused(tmp_path, rf"tensor {name} is \[1, .*\], config.json asks for \[.*\]$")


def test_fewer_layers_than_the_config_says_are_refused(tmp_path):
    save_params(PARAMS, CONFIG, tmp_path)
    message = "have 2 blocks, config.json's n_layer is 3: fetch both again"
    refused(tmp_path, message, small_config(n_layer=3))


def test_a_million_layers_are_refused_before_anything_is_built(tmp_path):
    save_params(PARAMS, CONFIG, tmp_path)
    tracemalloc.start()
    refused(tmp_path, "n_layer is 1000000: fetch both again", small_config(n_layer=10**6))
    assert tracemalloc.get_traced_memory()[1] < 2**20
    tracemalloc.stop()


def entry(**changes):
    good = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
    return {"wte.weight": {**good, **changes}}


BAD_HEADERS = [
    b"",
    b"{",
    b"\xff\xfe{}",
    b"[]",
    b"5",
    b"null",
    b'{"wte.weight": 5}',
    b'{"wte.weight": []}',
    b'{"wte.weight": {}}',
    b"[" * 100_000,
    json.dumps(entry(dtype=["F32"])).encode(),
] + [
    json.dumps(entry(**changes)).encode()
    for changes in (
        {"data_offsets": [8, 0]},
        {"data_offsets": [-8, 8], "shape": [4]},
        {"data_offsets": [-8, 0]},
        {"data_offsets": [0, 800], "shape": [200]},
        {"data_offsets": [0, 4]},
        {"data_offsets": [0]},
        {"data_offsets": "08"},
        {"data_offsets": [0.0, 8]},
        {"data_offsets": [0, 8.0]},
        {"data_offsets": [None, 8]},
        {"data_offsets": [0, 10**30], "shape": [10**30]},
        {"shape": [3]},
        {"shape": [-1, -2]},
        {"shape": [-2]},
        {"shape": ["2"]},
        {"shape": [2.0]},
        {"shape": None},
        {"shape": 2},
        {"shape": "2"},
        {"dtype": "F64"},
        {"dtype": "F16"},
    )
]


@pytest.mark.parametrize("header", BAD_HEADERS, ids=lambda header: header[:90].decode("latin-1"))
def test_a_corrupt_header_is_refused(tmp_path, header):
    path = tmp_path / "model.safetensors"
    write_safetensors(path, {"wte.weight": ("F32", (2,), bytes(8))}, header)
    refused(tmp_path, "model.safetensors is cut off or damaged .*: fetch it again")


@pytest.mark.parametrize(
    "places, message",
    [
        (((0, 8), (0, 8)), "overlap, or leave a gap, at byte 0"),
        (((0, 8), (4, 12)), "overlap, or leave a gap, at byte 4"),
        (((8, 16), (4, 12)), "overlap, or leave a gap, at byte 4"),
        (((0, 8), (12, 20)), "overlap, or leave a gap, at byte 12"),
        (((4, 12), (12, 20)), "overlap, or leave a gap, at byte 4"),
        (((8, 16), (0, 8)), None),
        (((0, 8), (8, 16)), None),
    ],
)
def test_each_byte_belongs_to_one_tensor(tmp_path, places, message):
    path = tmp_path / "model.safetensors"
    entries = {
        name: {"dtype": "F32", "shape": [2], "data_offsets": place}
        for name, place in zip("ab", places)
    }
    size = max(end for _, end in places)
    data = {"all": ("F32", (size // 4,), np.arange(size // 4, dtype="<f4").tobytes())}
    write_safetensors(path, data, json.dumps(entries).encode())
    if message:
        refused(tmp_path, message)
    else:
        read = {name: read().tolist() for name, (_, read) in open_safetensors(path).items()}
        assert read == {name: [begin / 4, begin / 4 + 1] for name, (begin, _) in zip("ab", places)}


def test_a_name_that_comes_twice_is_refused(tmp_path):
    path = tmp_path / "model.safetensors"
    twice = json.dumps(entry())[:-1] + ", " + json.dumps(entry(data_offsets=[8, 16]))[1:]
    write_safetensors(path, {"both": ("F32", (4,), bytes(16))}, twice.encode())
    refused(tmp_path, "its header has a name twice")
    tensors = tensors_of()
    save_file(tensors | {"transformer.wpe.weight": tensors["wpe.weight"] + 1}, path)
    refused(tmp_path, "tensor wpe.weight comes twice")


def test_a_tensor_of_two_shards_is_refused(tmp_path):
    shard(tmp_path)
    path = tmp_path / "model-00002-of-00003.safetensors"
    others = load_file(tmp_path / "model-00001-of-00003.safetensors")
    save_file(load_file(path) | dict(list(others.items())[:1]), path)
    refused(tmp_path, "model-00002-of-00003.safetensors: tensor .* comes twice")


@pytest.mark.parametrize("order", "<>")
def test_numbers_are_right_on_machines_of_either_byte_order(order):
    numbers = np.array([1, -2.5, 3e38, 0], np.float32)
    for dtype in ("f8", "f4"):
        wide = as_float32(numbers.astype(order + dtype))
        assert wide.dtype.isnative and np.array_equal(wide, numbers)
    bfloat16 = (numbers.view(np.uint32) >> 16).astype(np.uint16)
    expected = (numbers.view(np.uint32) & 0xFFFF0000).view(np.float32)
    assert np.array_equal(as_float32(bfloat16.astype(order + "u2")), expected)


@pytest.mark.parametrize("n_bytes", [0, 1, 7, 8, 9])
@pytest.mark.parametrize("byte", [b"\xff", b"\0", b"v"])
def test_a_file_that_is_no_safetensors_is_refused(tmp_path, n_bytes, byte):
    (tmp_path / "model.safetensors").write_bytes(byte * n_bytes)
    refused(tmp_path, "model.safetensors is cut off or damaged .*: fetch it again")


def test_a_header_of_ten_megabytes_is_refused(tmp_path):
    path = tmp_path / "model.safetensors"
    write_safetensors(path, {}, b"{}" + b" " * 10**7)
    refused(tmp_path, "its header is too long")


def test_a_pointer_of_git_lfs_is_refused(tmp_path):
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:248dfc39\nsize 548105171\n"
    (tmp_path / "model.safetensors").write_text(pointer, encoding="utf-8")
    refused(tmp_path, "shorter than its header says")


def test_a_cut_off_file_is_refused_wherever_it_ends(tmp_path):
    save_params(PARAMS, CONFIG, tmp_path)
    path = tmp_path / "model.safetensors"
    raw = path.read_bytes()
    for n_bytes in [*np.random.default_rng(0).integers(0, len(raw), 100), len(raw) - 1]:
        path.write_bytes(raw[:n_bytes])
        refused(tmp_path, "cut off or damaged")
    path.write_bytes(raw + b"\0")
    refused(tmp_path, "more or fewer than its header says")


def test_a_header_with_a_wrong_byte_is_refused_or_read_and_never_breaks(tmp_path):
    config = small_config(n_layer=1)
    save_params(random_params(config), config, tmp_path)
    path = tmp_path / "model.safetensors"
    raw, n_refused = path.read_bytes(), 0
    n_header = int.from_bytes(raw[:8], "little")
    rng = np.random.default_rng(0)
    for place in rng.integers(0, 8 + n_header, 150):
        damaged = bytearray(raw)
        damaged[place] = rng.integers(256)
        path.write_bytes(damaged)
        try:
            load_params(tmp_path, config)
        except CheckpointError:
            n_refused += 1
    assert n_refused > 100


class Trap:
    """What unpickles to a folder made: a pickle can run any code."""

    def __init__(self, folder):
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (self.folder,)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "pytorch_model-00001-of-00002.bin"])
def test_a_pickle_is_refused_with_the_way_out_and_never_opened(tmp_path, name):
    sprung = tmp_path / "sprung"
    (tmp_path / name).write_bytes(pickle.dumps(Trap(str(sprung))))
    refused(tmp_path, "only a pickle .* convert it with transformers, .*save_pretrained")
    assert not sprung.exists()
    pickle.loads((tmp_path / name).read_bytes())
    assert sprung.exists()  # it was a trap indeed


def test_a_folder_without_weights_is_refused(tmp_path):
    refused(tmp_path, "holds no model.safetensors: is it a GPT-2 model folder?")
    (tmp_path / "model.safetensors").mkdir()
    refused(tmp_path, "holds no model.safetensors: is it a GPT-2 model folder?")


def test_save_float16_halves_the_file(tmp_path):
    save_params(PARAMS, CONFIG, tmp_path, np.float16)
    expected = [array.astype(np.float16).astype(np.float32) for array in tree_leaves(PARAMS)]
    assert_same(load_params(tmp_path, CONFIG), expected)
    n_numbers = sum(math.prod(array.shape) for array in tree_leaves(PARAMS))
    assert (tmp_path / "model.safetensors").stat().st_size < 2 * n_numbers + 10_000


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"blocks": PARAMS["blocks"][:1]}, "lacks the array blocks.1.attn.c_attn.b, .* is 2"),
        ({"blocks": PARAMS["blocks"] * 2}, "has an array blocks.2.attn.c_attn.b, .* n_layer is 2"),
        ({"wpe": {}}, "lacks the array wpe"),
        ({"more": PARAMS["wpe"]}, "has an array more"),
    ],
)
def test_save_refuses_more_or_fewer_arrays_than_the_config_says(tmp_path, changes, said):
    with pytest.raises(CheckpointError, match=said):
        save_params(PARAMS | changes, CONFIG, tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.filterwarnings("error")
def test_save_refuses_numbers_that_the_type_cannot_hold(tmp_path):
    save_params(PARAMS, CONFIG, tmp_path)
    params = {**PARAMS, "wpe": PARAMS["wpe"] + np.float32(70_000)}
    with pytest.raises(CheckpointError, match="wpe.weight has numbers that are too large for floa"):
        save_params(params, CONFIG, tmp_path, np.float16)
    assert_same(load_params(tmp_path, CONFIG))
    infinite = {**PARAMS, "wpe": np.full_like(PARAMS["wpe"], np.inf)}  # as it is, whatever the type
    save_params(infinite, CONFIG, tmp_path, np.float16)
    assert np.isposinf(load_params(tmp_path, CONFIG)["wpe"]).all()


def test_save_of_arrays_in_any_layout(tmp_path):
    params = {**PARAMS, "wte": np.asfortranarray(PARAMS["wte"]), "wpe": PARAMS["wpe"].astype("f8")}
    save_params(params, CONFIG, tmp_path)
    assert_same(load_params(tmp_path, CONFIG))


@pytest.mark.skipif(WINDOWS_RULES, reason="Windows needs `save`, which reads them into memory")
def test_save_over_the_file_that_the_parameters_are_mapped_from(tmp_path):
    small_folder(tmp_path)
    params = load_params(tmp_path, CONFIG)
    params["ln_f"]["g"] += 1
    expected = [array.copy() for array in tree_leaves(params)]
    save_params(params, CONFIG, tmp_path)
    assert_same(params, expected)
    assert_same(load_params(tmp_path, CONFIG), expected)


def test_save_refuses_what_does_not_fit_the_config_and_leaves_the_old_file(tmp_path):
    save_params(PARAMS, CONFIG, tmp_path)
    with pytest.raises(CheckpointError, match=r"wpe.weight is \[31, 24\], the config asks for"):
        save_params({**PARAMS, "wpe": PARAMS["wpe"][1:]}, CONFIG, tmp_path)
    assert_same(load_params(tmp_path, CONFIG))
    assert [path.name for path in Path(tmp_path).iterdir()] == ["model.safetensors"]
