"""A model folder, there and back; `logits`; and logits that transformers computed (golden)."""

import copy
import importlib
import inspect
import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from models import misalign, small_encoder, small_folder, small_model

import picogpt
from picogpt.checkpoint.config import load_config
from picogpt.checkpoint.weights import load_params
from picogpt.tools.cli import call
from picogpt.tools.errors import CheckpointError, TextError, UnsupportedTokenizerError, UsageError
from picogpt.tools.tree import tree_leaves, tree_map

GOLDEN = Path(__file__).parent / "golden" / "forward"
FILES = {"config.json", "model.safetensors", "vocab.json", "merges.txt", "tokenizer_config.json"}


def assert_same(model, expected, convert=lambda array: array):
    for a, b in zip(tree_leaves(model.params), tree_leaves(expected.params), strict=True):
        assert a.dtype == np.float32 and np.array_equal(a, convert(b))
    assert model.config == expected.config and model.generation == expected.generation
    assert model.encoder.vocab == expected.encoder.vocab
    assert model.encoder.merges == expected.encoder.merges


@pytest.mark.parametrize("changes", [{}, {"tie_word_embeddings": False, "n_inner": 10}])
@pytest.mark.parametrize("generation", [{}, {"do_sample": True, "eos_token_id": [266, 3]}])
def test_what_save_writes_load_reads(tmp_path, changes, generation):
    model = small_model(generation=generation, **changes)
    folder = tmp_path / "not yet" / "there"
    picogpt.save(model, folder)
    files = FILES | ({"generation_config.json"} if generation else set())
    assert {path.name for path in folder.iterdir()} == files
    assert len({path.stat().st_mode for path in folder.iterdir()}) == 1  # all can be shared alike
    assert_same(picogpt.load(folder), model)
    assert_same(picogpt.load(str(folder)), model)
    picogpt.save(model, folder, dtype=np.float16)
    assert_same(picogpt.load(folder), model, lambda a: a.astype(np.float16).astype(np.float32))


def test_save_over_another_models_folder_leaves_nothing_of_it(tmp_path):
    small_folder(tmp_path, generation={"do_sample": True})
    (tmp_path / "tokenizer.json").write_text("{}", encoding="utf-8")
    model = small_model(seed=1)
    picogpt.save(model, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == FILES
    assert_same(picogpt.load(tmp_path), model)


def test_save_over_the_folder_that_a_model_is_mapped_from(tmp_path):
    model = picogpt.load(small_folder(tmp_path))
    before = picogpt.logits(model, [1, 2, 3])
    for dtype in (np.float32, np.float16):
        picogpt.save(model, tmp_path, dtype)
        assert np.array_equal(picogpt.logits(model, [1, 2, 3]), before)
    assert np.abs(picogpt.logits(picogpt.load(tmp_path), [1, 2, 3]) - before).max() < 0.05


def test_save_puts_whole_files_in_the_place_of_old_ones(tmp_path):
    small_folder(tmp_path / "model", generation={"do_sample": True})
    (tmp_path / "old").mkdir()
    old = {}
    for path in (tmp_path / "model").iterdir():  # a second name for the same file
        os.link(path, tmp_path / "old" / path.name)
        old[path.name] = path.read_bytes()
    picogpt.save(small_model(seed=1, n_ctx=16, generation={"top_k": 5}), tmp_path / "model")
    assert len(old) == 6
    for path in (tmp_path / "old").iterdir():  # written to, it would show under both
        assert path.read_bytes() == old[path.name]


def test_save_that_fails_leaves_the_old_file_and_no_part(tmp_path):
    model = picogpt.load(small_folder(tmp_path, generation={"top_k": 5}))
    with pytest.raises(TypeError):
        picogpt.save(model._replace(generation={"top_k": object()}), tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == FILES | {"generation_config.json"}
    assert_same(picogpt.load(tmp_path), model)


@pytest.mark.parametrize("dtype", [np.int8, "int32", bool, np.complex64, "bfloat16", "x", object()])
def test_save_refuses_types_in_which_the_weights_would_be_lost(tmp_path, dtype):
    with pytest.raises(UsageError, match="dtype must be np.float16, np.float32 or np.float64, not"):
        picogpt.save(small_model(), tmp_path / "new", dtype)
    assert not (tmp_path / "new").exists()


def test_save_never_takes_an_empty_name_for_the_current_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match="folder must be a folder's name, not ''"):
        picogpt.save(small_model(), "")
    assert list(tmp_path.iterdir()) == []
    if os.name == "posix":
        picogpt.save(small_model(), "~no such user/x")  # no home: a name like any other
        assert (tmp_path / "~no such user" / "x" / "config.json").is_file()


def test_a_head_unlike_wte_unties_the_config(tmp_path):
    model = small_model(tie_word_embeddings=False)
    picogpt.save(model, tmp_path)
    values = json.loads((tmp_path / "config.json").read_bytes())
    text = json.dumps(values | {"tie_word_embeddings": True})
    (tmp_path / "config.json").write_text(text, encoding="utf-8")
    loaded = picogpt.load(tmp_path)
    assert_same(loaded, model)
    picogpt.save(loaded, tmp_path)
    assert_same(picogpt.load(tmp_path), model)


def test_save_goes_by_the_head_that_is_there(tmp_path):
    untied, tied = small_model(tie_word_embeddings=False), small_model()
    for model, other in ((untied, tied), (tied, untied)):
        picogpt.save(model._replace(config=other.config), tmp_path)
        assert_same(picogpt.load(tmp_path), model)


def test_a_vocabulary_padded_past_the_tokenizers_is_fine(tmp_path):
    model = picogpt.load(small_folder(tmp_path / "padded", n_vocab=304))
    assert picogpt.logits(model, [303]).shape == (1, 304)


def test_ids_that_only_the_tokenizer_knows_are_refused_where_they_come_up(tmp_path):
    folder = small_folder(tmp_path)
    encoder, path = small_encoder(), tmp_path / "tokenizer_config.json"
    said = json.loads(path.read_text())
    said["added_tokens_decoder"] |= {"267": {"content": "[PAD]", "special": True}}
    said["added_tokens_decoder"] |= {"268": {"content": "<new>"}}
    path.write_text(json.dumps(said | {"pad_token": "[PAD]"}))
    model = picogpt.load(folder)
    assert "".join(picogpt.generate(model, "the [PAD]", 3, temperature=9.0, top_k=0, seed=0))
    assert model.encoder.encode("the [PAD]") == encoder.encode("the [PAD]")
    with pytest.raises(TextError, match=r"holds '\[PAD\]', token 267, and .* last token is 266"):
        picogpt.generate(model, "the [PAD]", special_tokens=True)
    with pytest.raises(TextError, match="holds '<new>', token 268"):
        picogpt.generate(model, "a <new> one")
    picogpt.save(model, tmp_path / "saved")
    assert picogpt.load(tmp_path / "saved").encoder.added == model.encoder.added
    assert picogpt.load(tmp_path / "saved").encoder.roles["pad_token"] == "[PAD]"
    small_folder(tmp_path / "none", n_vocab=266)  # even <|endoftext|> is beyond
    model = picogpt.load(tmp_path / "none")
    assert model.encoder.end_of_text is None
    with pytest.raises(TextError, match="the prompt is empty"):
        picogpt.generate(model, "")


def without_tokenizer(folder, files):
    """A folder whose tokenizer's files are replaced by others, {name: text}."""
    small_folder(folder)
    for name in ("vocab.json", "merges.txt", "tokenizer_config.json"):
        (folder / name).unlink()
    for name, text in files.items():
        (folder / name).write_text(text)
    return folder


LETTERS = {"type": "WordLevel", "vocab": {"M": 0, "K": 1}, "unk_token": "M"}
NO_TOKENIZERS = {
    "nothing": ({}, "has no vocab.json"),
    "letters": ({"vocab.json": '{"M": 0, "K": 1}'}, "has no merges.txt"),
    "pieces": ({"spiece.model": "..."}, "has no vocab.json"),
    "words": ({"vocab.txt": "M\nK\n"}, "has no vocab.json"),
    "WordLevel": (
        {"tokenizer.json": json.dumps({"model": LETTERS, "pre_tokenizer": None})},
        "tokenizer.json is no byte-level BPE like GPT-2's: its model is WordLevel",
    ),
}


@pytest.mark.parametrize("kind", NO_TOKENIZERS)
def test_a_model_without_a_tokenizer_like_gpt2s_works_with_ids(tmp_path, kind):
    files, reason = NO_TOKENIZERS[kind]
    folder = without_tokenizer(tmp_path / "proteins", files)
    model = picogpt.load(folder)
    whole = small_model()
    assert model.encoder is None
    np.testing.assert_array_equal(picogpt.logits(model, [5, 6]), picogpt.logits(whole, [5, 6]))
    assert picogpt.trace(model, [5, 6])["logits"].shape == (2, 267)
    assert picogpt.loss_and_gradients(model, [5, 6], [6, 7])[0] > 0
    expected = list(picogpt.generate(whole, [5, 6], 8))
    assert list(picogpt.generate(model, [5, 6], 8)) == expected
    for attempt in (
        lambda: picogpt.generate(model, "MK"),
        lambda: picogpt.generate_batch(model, [[1], "MK"]),
        lambda: picogpt.load(folder, needs_text=True),
    ):
        with pytest.raises(UnsupportedTokenizerError, match=reason):
            attempt()
    no_folder = model._replace(folder=None)
    with pytest.raises(UnsupportedTokenizerError, match="proteins has no tokenizer: it takes"):
        picogpt.generate(no_folder, "MK")
    picogpt.save(model, folder)  # over itself: its tokenizer's files stay
    assert {path.name for path in folder.iterdir()} >= {*files}
    small_folder(tmp_path / "another")
    picogpt.save(model, tmp_path / "another")
    assert picogpt.load(tmp_path / "another").encoder is None  # not the other model's


@pytest.mark.parametrize("module", ["gpt2", "picogpt.perplexity", "picogpt.probe",
                                    "picogpt.sonnet", "picogpt.train", "picogpt.explain"])
def test_commands_that_need_text_say_so_before_the_weights_are_read(tmp_path, capsys, module):
    folder = without_tokenizer(tmp_path / "proteins", {"spiece.model": "..."})
    (folder / "model.safetensors").write_bytes(b"not even weights")
    (tmp_path / "text.txt").write_text("MKV " * 400)
    text, out = str(tmp_path / "text.txt"), str(tmp_path / "out")
    words = {
        "gpt2": ["MK"], "picogpt.perplexity": [text], "picogpt.probe": ["sst"],
        "picogpt.sonnet": [], "picogpt.train": ["--data", text, "--out", out],
        "picogpt.explain": ["MK", "--out", f"{out}.html"],
    }[module]  # fmt: skip
    command = importlib.import_module(module).main
    assert call(command, [*words, "--model_size", str(folder)]) == 1
    said = capsys.readouterr().err
    assert "has no vocab.json" in said and "the model takes ids" in said
    assert said.count("\n") == 1


@pytest.mark.parametrize("text", ["", "{", "[]", "5"])
def test_a_damaged_generation_config_is_refused(tmp_path, text):
    small_folder(tmp_path)
    (tmp_path / "generation_config.json").write_text(text, encoding="utf-8")
    with pytest.raises(CheckpointError, match="generation_config.json"):
        picogpt.load(tmp_path)


def test_logits_of_lists_and_arrays_with_lengths_and_caches(tmp_path):
    model = picogpt.load(misalign(small_folder(tmp_path)))
    ids = [5, 266, 0, 17, 40, 40]
    whole = picogpt.logits(model, ids)
    assert whole.shape == (6, 267) and whole.dtype == np.float32
    for kind in (np.uint8, np.int32, np.int64, np.uint64):
        some = np.minimum(ids, 255)
        assert np.array_equal(picogpt.logits(model, some.astype(kind)), picogpt.logits(model, some))
    parts = [picogpt.logits(model, ids[:2]), picogpt.logits(model, ids[2:])]
    batched = picogpt.logits(model, ids, lengths=[2, 4])
    assert np.abs(batched - np.concatenate(parts)).max() < 1e-5
    last = picogpt.logits(model, ids, lengths=(2, 4), last_only=True)
    assert np.abs(last - batched[[1, 5]]).max() < 1e-5
    long = small_model(n_ctx=200)
    some = picogpt.logits(long, [5] * 227, np.array([127, 100], np.int8))  # 227 is none
    assert np.array_equal(some, picogpt.logits(long, [5] * 227, [127, 100]))
    caches = picogpt.new_caches(model.config, 2)
    picogpt.logits(model, ids[:3], [1, 2], caches)
    last = picogpt.logits(model, ids[3:], [1, 2], caches, True)
    expected = picogpt.logits(model, [ids[i] for i in (0, 3, 1, 2, 4, 5)], [2, 4], last_only=True)
    assert last.shape == (2, 267) and np.abs(last - expected).max() < 1e-5


def test_logits_of_a_model_in_another_precision():
    model = small_model()
    for dtype, tolerance in ((np.float16, 0.05), (np.float64, 1e-5)):
        params = tree_map(lambda array, to=dtype: array.astype(to), model.params)
        other = picogpt.logits(model._replace(params=params), [1, 2, 3])
        assert np.abs(other - picogpt.logits(model, [1, 2, 3])).max() < tolerance


@pytest.mark.parametrize(
    "ids, message",
    [
        ([], "at least one"),
        ([[1, 2]], "flat list"),
        ([[1, 2], [3]], "flat list"),
        (5, "flat list"),
        ([1.5], "whole number"),
        ([True], "whole number"),
        ("12", "whole number"),
        (["12"], "whole number"),
        ([None], "whole number"),
        ([10**30], "whole number"),
        ([0, -1], "between 0 and 266"),
        ([267], "between 0 and 266"),
    ],
)
def test_ids_that_are_none_are_refused(ids, message):
    with pytest.raises(TextError, match=message):
        picogpt.logits(small_model(), ids)


def test_more_tokens_than_positions_are_refused():
    model = small_model()
    assert picogpt.logits(model, [0] * 32).shape == (32, 267)
    with pytest.raises(ValueError, match="position 32 is past the 32 that the model has"):
        picogpt.logits(model, [0] * 33)


def test_importing_picogpt_imports_nothing_heavy():
    code = "import sys, picogpt; print(*sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    late = {"tqdm", "requests", "fire", "safetensors", "torch", "transformers", "urllib3", "ssl"}
    assert "numpy" in out.stdout.split() and not late & set(out.stdout.split())


@pytest.mark.parametrize("folder", sorted(GOLDEN.iterdir()), ids=lambda folder: folder.name)
def test_logits_are_transformers(folder):
    """Folders written by transformers, and what its GPT2LMHeadModel makes of ids.npy."""
    config = load_config(folder)
    model = picogpt.Model(load_params(folder, config), config, small_encoder())
    ids, expected = np.load(folder / "ids.npy"), np.load(folder / "logits.npy")
    assert np.abs(picogpt.logits(model, ids) - expected).max() < 2e-5
    caches = picogpt.new_caches(config)
    steps = [picogpt.logits(model, ids[i : i + 1], caches=caches) for i in range(len(ids))]
    assert np.abs(np.concatenate(steps) - expected).max() < 2e-5


def test_an_older_checkpoints_generation_config_stands_in_its_config(tmp_path):
    folder = small_folder(tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    config |= {"do_sample": True, "temperature": 0.5, "top_k": 5}
    (folder / "config.json").write_text(json.dumps(config))
    settings = {"do_sample": True, "temperature": 0.5, "top_k": 5}
    end = config["eos_token_id"]
    assert picogpt.load(folder).generation == settings | {"eos_token_id": end}
    (folder / "generation_config.json").write_text("{}")  # it takes the place of all that
    assert picogpt.load(folder).generation == {"eos_token_id": None}


def test_save_knows_the_home_directory(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    picogpt.save(small_model(), "~/model")
    assert (tmp_path / "model" / "model.safetensors").exists()


@pytest.mark.parametrize("tied", [True, False])
def test_last_logits_are_the_last_of_all(tied):
    model = small_model(tie_word_embeddings=tied, scale_attn_by_inverse_layer_idx=True)
    rng = np.random.default_rng(0)
    lengths, caches = [5, 1, 3], picogpt.new_caches(model.config, 3)
    others = picogpt.new_caches(model.config, 3)
    for _ in range(2):  # from the start, then from the caches
        ids = rng.integers(0, model.config.n_vocab, 9)
        last = picogpt.logits(model, ids, lengths, caches, last_only=True)
        rows = picogpt.logits(model, ids, lengths, others)
        np.testing.assert_allclose(last, rows[[4, 5, 8]], atol=1e-5)
        for one, other in zip(sum(caches, []), sum(others, [])):
            assert one["length"] == other["length"]
            for name in "kv":
                written = [cache[name][:, : one["length"]] for cache in (one, other)]
                np.testing.assert_allclose(*written, atol=1e-5)
    with pytest.raises(ValueError, match="add up to 9"):
        picogpt.logits(model, ids, [5, 5], caches, last_only=True)
    with pytest.raises(ValueError, match="3 sequences but 2 caches"):
        picogpt.logits(model, ids, lengths, caches[:2], last_only=True)


def test_every_public_function_says_what_it_takes_and_gives():
    functions = {name: getattr(picogpt, name) for name in picogpt.__all__}
    functions = {name: f for name, f in functions.items() if inspect.isfunction(f)}
    assert functions.keys() >= {"load", "save", "logits", "loss_and_gradients", "trace", "generate"}
    for name, function in functions.items():
        signature = inspect.signature(function)
        kinds = [parameter.annotation for parameter in signature.parameters.values()]
        assert inspect.Signature.empty not in [*kinds, signature.return_annotation], name
        assert inspect.getdoc(function)


@pytest.mark.parametrize("copied", [lambda x: pickle.loads(pickle.dumps(x)), copy.deepcopy])
def test_a_model_can_be_taken_to_another_process(copied):
    model = small_model()
    model.encoder.fit_to(266)
    there = copied(model)
    assert_same(there, model)
    assert there.encoder.n_usable == 266
    assert there.encoder._cached_ids.__wrapped__.__self__ is there.encoder
    texts = [picogpt.generate_batch(one, ["in the"], 9) for one in (there, model)]
    assert texts[0] == texts[1]


def test_a_model_shows_itself_in_a_line():
    shown = repr(small_model())
    assert "this model" in shown and "2 blocks of 24" in shown and len(shown) < 120


def test_long_inputs_are_dealt_out_to_cores_and_short_ones_are_not(monkeypatch):
    dealt = []

    def deal(f, jobs):
        dealt.append(len(jobs))
        return [f(job) for job in jobs]

    monkeypatch.setattr("picogpt.model.deal_to_cores", deal)
    monkeypatch.setattr("picogpt.model.WORTH_DEALING", 24 * 100)
    model = small_model(n_ctx=200)
    rows = picogpt.logits(model, [5] * 99)
    assert not dealt
    longer = picogpt.logits(model, [5] * 100)
    assert dealt
    np.testing.assert_allclose(longer[:-1], rows, atol=1e-4)
