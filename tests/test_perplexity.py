"""Perplexity: which window scores which token, streams and files, the command."""

import math
import warnings

import pytest
from models import small_folder, small_model

from picogpt.kernels import softmax
from picogpt.model import logits
from picogpt.perplexity import main
from picogpt.tasks.metrics import perplexity_of, text_loss, windows
from picogpt.tools.cli import call

TEXT = "the other one is in the stone tower.\r\n\r\n한국 – and then there were none\n" * 4


def plain_loss(model, ids):
    """The rule as it is told, one token at a time: the window that scores it, and its history."""
    n, stride = model.config.n_ctx, model.config.n_ctx // 2
    loss = 0.0
    for t in range(1, len(ids)):
        start = 0 if t < n else (t - n) // stride * stride + stride
        scores = logits(model, ids[start:t], last_only=True)[0]
        loss -= math.log(softmax(scores.astype(float))[ids[t]])
    return loss


@pytest.mark.parametrize("n_ctx", [2, 7, 32, 1000])
def test_every_token_is_scored_once_with_the_history_it_should_have(n_ctx):
    model = small_model(n_ctx=n_ctx)
    ids = [model.encoder.end_of_text, *model.encoder.encode(TEXT)]
    loss, n_tokens = text_loss(model, [TEXT])
    assert n_tokens == len(ids) - 1
    assert loss == pytest.approx(plain_loss(model, ids), rel=1e-5)


@pytest.mark.parametrize("n", [1, 2, 31, 32, 33, 48, 49, 64, 100])
def test_windows_overlap_by_half_and_cover_every_id_once(n):
    ids = list(range(n))
    for chunk in (1, 5, 1000):
        found = list(windows((ids[i : i + chunk] for i in range(0, n, chunk)), 32))
        assert sum((window[-new:] for window, new in found), []) == ids
        assert all(len(window) == 32 for window, _ in found[:-1])
        assert all(len(window) - new >= 16 for window, new in found[1:])


def test_the_perplexity_of_a_huge_loss_is_infinite_without_a_warning():
    assert perplexity_of(6.0, 2) == pytest.approx(math.exp(3))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert perplexity_of(1e4, 2) == math.inf


def test_the_command_prints_both_figures(tmp_path, capsys):
    folder = small_folder(tmp_path / "model")
    file = tmp_path / "text.txt"
    file.write_bytes(b"\xef\xbb\xbf" + TEXT.encode())
    assert call(main, [str(file), "--model_size", str(folder)]) == 0
    out = capsys.readouterr().out
    loss, n_tokens = text_loss(small_model(), [TEXT])  # without the byte-order mark
    n_bytes = len(TEXT.encode())
    assert f"{n_tokens:,} tokens, {n_bytes:,} bytes" in out and "by model" in out
    assert f"perplexity per token {math.exp(loss / n_tokens):.4f}\n" in out
    assert f"bits per byte {loss / math.log(2) / n_bytes:.4f}\n" in out


def test_the_end_of_a_text_is_one_token_unless_it_is_to_be_read_as_text(tmp_path, capsys):
    folder = small_folder(tmp_path / "model")
    file = tmp_path / "text.txt"
    file.write_text("in the end<|endoftext|>in the stone", encoding="utf-8")
    model = small_model()
    n_text = len(model.encoder.encode("in the end") + model.encoder.encode("in the stone"))
    n_mark = len(model.encoder.encode("<|endoftext|>"))
    for flags, n in (([], 1), (["--no_special_tokens"], n_mark)):
        assert call(main, [str(file), "--model_size", str(folder), *flags]) == 0
        assert f"{n_text + n} tokens, 35 bytes" in capsys.readouterr().out


def test_a_model_that_no_text_begins_for_is_told(tmp_path, capsys):
    file = tmp_path / "text.txt"
    file.write_text("the")
    folder = small_folder(tmp_path / "model", n_vocab=260, bos_token_id=None, eos_token_id=None)
    assert call(main, [str(file), "--model_size", str(folder)]) == 1
    assert "model has no <|endoftext|>, which stands before a text" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (None, "is no file"),
        (b"", "is empty"),
        (b"\xef\xbb\xbf", "is empty"),
        (b"so \xff", "UTF-8"),
    ],
)
def test_files_that_cannot_be_read_are_one_sentence(tmp_path, capsys, data, told):
    file = tmp_path / "text.txt"
    if data is not None:
        file.write_bytes(data)
    folder = small_folder(tmp_path / "model")
    assert call(main, [str(file), "--model_size", str(folder)]) == 1
    error = capsys.readouterr().err
    assert told in error and error.count("\n") == 1
