"""int8: the rounding, the one kernel that widens it, and that every path gives the same numbers."""

import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from models import small_config, small_encoder, small_folder, small_model
from test_drafting import Guesser, pieces_of

import gpt2
import picogpt
from picogpt import (
    bench,
    explain,
    generation,
    kernels,
    model,
    perplexity,
    probe,
    reference,
    sonnet,
    train,
)
from picogpt.checkpoint.config import load_config
from picogpt.checkpoint.weights import checkpoint_tree, load_params
from picogpt.quantization import dequantize, dequantize_tree, quantize, quantize_head, quantize_tree
from picogpt.tools.cli import call
from picogpt.tools.cores import blas_threads, deal_to_cores
from picogpt.tools.errors import CheckpointError, UsageError
from picogpt.tools.tree import tree_leaves, tree_map
from picogpt.training.resumable import Progress

ROOT = Path(__file__).parents[1]
IDS = np.random.default_rng(1).integers(0, 267, 30)
TEXT = "The other one is in the tower. " * 3


def draw(*shape, seed=2, dtype=np.float32):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def in_int8(**changes):
    """A random model in int8, and the float32 model that it means."""
    plain = small_model(generation={"eos_token_id": None}, **changes)
    params = plain.params | {"blocks": quantize_tree(plain.params["blocks"])}
    if "lm_head" in params:
        params["lm_head"] = quantize_head(params["lm_head"])
    meant = params | {"blocks": dequantize_tree(params["blocks"])}
    if "lm_head" in params:
        meant["lm_head"] = dequantize(params["lm_head"]["w"], params["lm_head"]["s"]).T
    return plain._replace(params=params), plain._replace(params=meant)


@pytest.fixture(params=[True, False], ids=["tied", "untied"])
def models(request):
    return in_int8(tie_word_embeddings=request.param)


@pytest.fixture
def dealt_out(monkeypatch):
    """Small matrices in many jobs, on as many cores as there are."""
    many_jobs = partial(kernels.int8_product, n_numbers=100)
    monkeypatch.setattr(kernels, "int8_product", many_jobs)
    monkeypatch.setattr(model, "WORTH_DEALING", 0)


@pytest.mark.parametrize("order", "CF")
def test_rounding_errs_by_half_a_step_at_most(order):
    w = np.asarray(draw(300, 400) * np.geomspace(1e-4, 1e4, 400, dtype=np.float32), order=order)
    q, s = quantize(w)
    assert (q.dtype, s.dtype, q.shape, s.shape) == (np.int8, np.float32, (300, 400), (400,))
    assert q.flags.f_contiguous
    assert (np.abs(q).max(axis=0) == 127).all()
    error = np.abs(w.astype(float) - q * s.astype(float))
    assert (error <= s * 0.5001).all()
    assert error.max() > 0.4 * s.max()  # of so many numbers some lie between two steps


def test_a_column_of_zeros_stays_so_and_what_is_not_finite_is_told():
    w = draw(5, 3)
    w[:, 1] = 0
    q, s = quantize(w)
    assert not q[:, 1].any() and s[1] == 0
    params = small_model().params
    params["blocks"][0]["mlp"]["c_fc"]["w"][3, 4] = np.nan
    broken = small_model()._replace(params=params | {"blocks": quantize_tree(params["blocks"])})
    with pytest.raises(CheckpointError, match="NaN"):
        list(picogpt.generate(broken, "the", 2))


@pytest.mark.parametrize("dtype, tolerance", [("f4", 1e-5), ("f8", 1e-12)])
@pytest.mark.parametrize("n_rows", [1, 8, 70])
@pytest.mark.parametrize("n_numbers", [1, 100, 2**17])
def test_linear_in_int8_is_linear_of_what_is_meant(n_rows, n_numbers, dtype, tolerance):
    (w, s), b, x = quantize(draw(24, 37)), draw(37), draw(n_rows, 24, dtype=dtype)
    x.flags.writeable = False
    expected = x @ (w * s.astype(dtype)) + b
    y = kernels.linear(x, w, b.astype(dtype), s=s)
    assert y.dtype == dtype and np.abs(y - expected).max() < tolerance
    y = kernels.int8_product(x, w, n_numbers=n_numbers) * s + b
    assert np.abs(y - expected).max() < tolerance


@pytest.mark.parametrize("n_rows", [1, 8, 70])
def test_two_cores_give_the_bits_of_one(n_rows):
    x, (w, _) = draw(n_rows, 64), quantize(draw(64, 300))
    both = kernels.int8_product(x, w, n_numbers=1000, deal=deal_to_cores)
    with blas_threads(1):
        assert np.array_equal(both, kernels.int8_product(x, w, n_numbers=1000))


@pytest.mark.usefixtures("dealt_out")
def test_logits_batched_cached_and_dealt_out_are_those_of_what_is_meant(models):
    small, meant = models
    expected = [picogpt.logits(meant, ids) for ids in (IDS, IDS[:7])]
    assert np.abs(picogpt.logits(small, IDS) - expected[0]).max() < 1e-4
    both = picogpt.logits(small, [*IDS, *IDS[:7]], [30, 7])
    assert np.abs(both - np.concatenate(expected)).max() < 1e-4
    caches = picogpt.new_caches(small.config)
    parts = [picogpt.logits(small, part, caches=caches) for part in np.split(IDS, [10, 11, 20])]
    assert np.abs(np.concatenate(parts) - expected[0]).max() < 1e-4
    last = picogpt.logits(small, IDS, last_only=True)
    assert np.abs(last - expected[0][-1:]).max() < 1e-4


@pytest.mark.usefixtures("dealt_out")
@pytest.mark.parametrize("options", [{}, {"temperature": 1.0, "seed": 3}], ids=str)
def test_drafts_change_nothing(monkeypatch, models, options):
    small, _ = models
    prompts = ["the rain in", "a"]
    expected = pieces_of(small, prompts, 25, draft=False, **options)
    ids = [small.encoder.encode(prompt) for prompt in prompts]
    texts = picogpt.generate_batch(small, ids, 25, draft=False, **options)
    written = [start + text for start, text in zip(ids, texts, strict=True)]
    guesser = Guesser(written, np.random.default_rng(0), small.encoder.n_vocab)
    monkeypatch.setattr(generation, "Drafter", lambda: guesser)
    assert pieces_of(small, prompts, 25, **options) == expected
    assert max(n_right for _, n_right in guesser.verdicts) > 2


@pytest.mark.parametrize("changes", [{}, {"tie_word_embeddings": False}, {"n_inner": 10}])
def test_load_gives_the_blocks_in_int8_and_the_embeddings_in_float32(tmp_path, changes):
    small_folder(tmp_path, **changes)
    plain, small = picogpt.load(tmp_path), picogpt.load(tmp_path, int8=True)
    assert small.int8 and not plain.int8
    expected = plain.params | {"blocks": quantize_tree(plain.params["blocks"])}
    if "lm_head" in expected:
        expected["lm_head"] = quantize_head(expected["lm_head"])
    same = tree_map(np.array_equal, expected, small.params)
    assert all(tree_leaves(same))
    for name, dense in (("c_fc", small.params["blocks"][1]["mlp"]["c_fc"]),
                        ("c_attn", small.params["blocks"][0]["attn"]["c_attn"])):  # fmt: skip
        assert list(dense) == ["w", "s", "b"], name
        assert [dense[key].dtype for key in "wsb"] == [np.int8, np.float32, np.float32]
        assert dense["w"].flags.f_contiguous
    assert {small.params[name].dtype for name in ("wte", "wpe")} == {np.dtype(np.float32)}
    assert " in int8: " in repr(small) and "2 blocks" in repr(small)
    assert repr(small).replace(" in int8", "") == repr(plain)
    assert small.n_params == sum(w.size for w in tree_leaves(plain.params))


def test_a_quantised_model_loaded_again_is_the_same(tmp_path):
    small_folder(tmp_path)
    config = load_config(tmp_path)
    once = load_params(tmp_path, config, int8=True)
    params = once | {"blocks": dequantize_tree(once["blocks"])}
    picogpt.save(small_model()._replace(params=params), tmp_path)
    again = load_params(tmp_path, config, int8=True)
    whole = tree_map(lambda a, b: np.array_equal(a, b) or a.dtype == np.float32, once, again)
    assert all(tree_leaves(whole))


PEAK = """
from picogpt.model import load

def peak():  # MB; getrusage would tell of the process that started this one
    status = open("/proc/self/status").read()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1000

before = peak()
model = load(FOLDER, int8=INT8)
print(peak() - before)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak is told by Linux")
def test_the_float32_model_is_never_in_memory_as_a_whole(tmp_path):
    config = small_config(n_embd=512, n_head=8, n_layer=3)
    params = tree_map(lambda leaf: np.zeros(leaf[1], np.float32), checkpoint_tree(config))
    picogpt.save(picogpt.Model(params, config, small_encoder()), tmp_path)
    megabytes = (tmp_path / "model.safetensors").stat().st_size / 1e6

    def peak(int8):
        code = f"FOLDER, INT8 = {str(tmp_path)!r}, {int8}\n" + PEAK
        words = [sys.executable, "-c", code]
        done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True)
        return float(done.stdout)

    assert peak(int8=False) > 0.8 * megabytes
    assert peak(int8=True) < 0.5 * megabytes  # a quarter, and one matrix, a ninth, as it was


def test_trace_is_what_logits_sees(models):
    small, meant = models
    seen, expected = picogpt.trace(small, IDS), picogpt.trace(meant, IDS)
    assert list(seen) == list(expected)
    assert all(np.abs(seen[name] - expected[name]).max() < 1e-3 for name in seen)


def test_explain_shows_int8_weights_and_refuses_to_train_them():
    small, meant = in_int8()
    assert "mouse" in picogpt.explain("a mouse", model=small).html
    with pytest.raises(UsageError, match="int8 can't be trained"):
        picogpt.explain("a mouse", model=small, learn=True)


def test_training_and_saving_refuse_int8(tmp_path):
    small, _ = in_int8()
    with pytest.raises(UsageError, match="can't be trained.*load it without int8"):
        picogpt.loss_and_gradients(small, IDS[:-1], IDS[1:])
    with pytest.raises(UsageError, match="can't be trained.*load it without int8"):
        Progress({"blocks": small.params["blocks"]})
    with pytest.raises(UsageError, match="can't be saved.*load it without int8"):
        picogpt.save(small, tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_the_lectures_page_takes_no_int8():
    small, meant = in_int8()
    reference.gpt2(IDS, **meant.params, n_head=3)
    with pytest.raises(TypeError, match="'s'"):
        reference.gpt2(IDS, **small.params, n_head=3)


def test_the_commands_take_the_flag_or_refuse_it_in_a_sentence(tmp_path, capsys):
    folder, text = str(small_folder(tmp_path / "model")), tmp_path / "text.txt"
    text.write_text(TEXT, encoding="utf-8")
    flags = ["--int8", "--model_size", folder]
    runs = [
        (gpt2.main, ["the", "--n_tokens_to_generate", "3", *flags]),
        (perplexity.main, [str(text), *flags]),
        (bench.main, ["--rounds", "1", *flags]),
        (explain.main, ["a mouse", "--out", str(tmp_path / "page.html"), *flags]),
    ]
    for command, words in runs:
        assert call(command, words) == 0, words
        assert capsys.readouterr().err == ""
    refused = [
        (explain.main, ["a mouse", "--learn", *flags]),
        (probe.main, ["sst", "--mode", "full", *flags]),
        (reference.main, ["the", *flags]),
        (sonnet.main, flags),
        (train.main, ["--data", str(text), "--out", str(tmp_path / "out"), *flags]),
    ]
    for command, words in refused:
        assert call(command, words) == 2, words
        said = capsys.readouterr()
        assert said.out == "" and said.err.count("\n") == 1 and "int8" in said.err
    assert not (tmp_path / "out").exists()
