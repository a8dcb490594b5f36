"""The two pages that are exercises as well, tokens.py and training.py, and the gradient check."""

import numpy as np
import pytest
from models import random_params, small_config

from picogpt import backprop, gradients, kernels
from picogpt.teaching import tokens, training
from picogpt.teaching.gradient_check import gradient_check
from picogpt.tokenizer.encoder import SYMBOL_OF_BYTE, Encoder

TEXT = "low lower lowest, so slow: 안녕 안녕 aaaa aaaaa. The the theme they're in, in 2024\n\n  x"


def test_encode_and_decode_are_the_tokenizers():
    """The same merges, in both numberings, cut a text into the same bytes."""
    merges = tokens.learn_merges(TEXT, 40)
    symbol = {id: to_symbols_of(bytes([id])) for id in range(256)}
    for (left, right), new in merges.items():
        symbol[new] = symbol[left] + symbol[right]
    encoder = Encoder.from_merges([f"{symbol[a]} {symbol[b]}" for a, b in merges])
    for text in (TEXT, "thelowest 안 녕", "", " "):
        ids = tokens.encode(text, merges)
        theirs = [encoder.decode_bytes([id]) for id in encoder.encode(text)]
        assert [symbol[id] for id in ids] == [to_symbols_of(token) for token in theirs]
        assert tokens.decode(ids, merges) == text


def to_symbols_of(data):
    """Bytes as GPT-2's visible symbols."""
    return "".join(SYMBOL_OF_BYTE[byte] for byte in data)


def test_cross_entropy_is_the_engines():
    rng = np.random.default_rng(0)
    x, head, targets = rng.normal(size=(5, 4)), rng.normal(size=(7, 4)), np.array([1, 0, 6, 3, 3])
    loss, dlogits = training.cross_entropy(x @ head.T, targets)
    wanted, dx, dw = backprop.cross_entropy(x, targets, head)
    assert loss == pytest.approx(wanted)
    np.testing.assert_allclose(dlogits @ head, dx, atol=1e-12)
    np.testing.assert_allclose(dlogits.T @ x, dw, atol=1e-12)


def test_train_learns_a_text_by_heart():
    config = small_config(n_layer=1)
    params = random_params(config, std=0.02)
    ids = np.arange(60) % 7
    losses = training.train(params, ids, np.arange(80).reshape(40, 2) % 40, 8, config, peak=0.02)
    assert len(losses) == 40 and losses[-1] < 0.2 * losses[0]


def test_gradient_check_tells_right_from_wrong(capsys):
    x, w, b = np.ones((2, 3)), np.arange(6.0).reshape(3, 2), np.zeros(2)
    names = ["x", "w", "b"]

    def right(dy, x, w, b):  # noqa: ARG001
        return gradients.linear_backward(dy, x, w)

    def wrong(dy, x, w, b):  # noqa: ARG001
        dx, dw, db = gradients.linear_backward(dy, x, w)
        return dx, dw, db / 2

    assert gradient_check(kernels.linear, right, x, w, b, names=names) < 1e-7
    assert gradient_check(kernels.linear, wrong, x, w, b, names=names) == pytest.approx(0.5)
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.startswith("b [2]: worst at [") and "error 5.0e-01" in last
    assert gradient_check(kernels.gelu, gradients.gelu_backward, [0.5, -1.0, 2.0]) < 1e-7
    with pytest.raises(ValueError, match="the gradient of w has shape"):
        gradient_check(kernels.linear, lambda *given: (right(*given)[0], np.ones(2)), x, w, b,
                       names=names)  # fmt: skip
