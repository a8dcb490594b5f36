"""Every derivative against central differences in float64; the remembering pass against kernels."""

import numpy as np
import pytest
from differences import relative_error, slopes
from models import random_params, small_config

from picogpt import gradients, kernels
from picogpt.activations import ACTIVATIONS
from picogpt.gradients import block_backward, block_forward, drop, dropout_mask
from picogpt.tools.tree import tree_leaves, tree_map, tree_paths

CONFIG = small_config(n_embd=6, n_head=3, n_inner=5, n_layer=1)
LENGTHS = [3, 1, 2]


def draw(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


def check(function, inputs, dy, found):
    """Compare the gradient of sum(dy * function(**inputs)) for each input with the one found."""
    for name, dx in found.items():
        wanted = slopes(lambda: (dy * function(**inputs)).sum(), inputs[name])
        assert relative_error(dx, wanted) <= 1e-6, name


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations(name):
    act, act_backward = ACTIVATIONS[name]
    x, dy = 2 * draw(2, 5, 7)
    check(act, {"x": x}, dy, {"x": act_backward(dy, x)})


def test_softmax():
    x, dy = draw(2, 2, 3, 5)
    check(kernels.softmax, {"x": x}, dy, {"x": gradients.softmax_backward(dy, kernels.softmax(x))})


@pytest.mark.parametrize("eps", [1e-5, 0.3])
def test_layer_norm(eps):
    x, dy = 3 + 2 * draw(2, 4, 7)
    g, b = draw(2, 7, seed=1)
    dx, dg, db = gradients.layer_norm_backward(dy, x, g, eps)
    inputs = {"x": x, "g": g, "b": b}
    check(lambda **i: kernels.layer_norm(**i, eps=eps), inputs, dy, {"x": dx, "g": dg, "b": db})


def test_layer_norms_default_eps_is_the_kernels():
    x, dy = 1e-3 * draw(2, 4, 7)  # so small that eps decides
    dx, _, _ = gradients.layer_norm_backward(dy, x, np.ones(7))
    check(lambda x: kernels.layer_norm(x, 1.0, 0.0), {"x": x}, dy, {"x": dx})


def test_linear():
    x, w, b, dy = draw(4, 3), draw(3, 5, seed=1), draw(5, seed=2), draw(4, 5, seed=3)
    dx, dw, db = gradients.linear_backward(dy, x, w)
    check(kernels.linear, {"x": x, "w": w, "b": b}, dy, {"x": dx, "w": dw, "b": db})


def test_the_gradient_of_a_matrix_stored_by_columns_is_stored_so_too():
    x, w, dy = draw(4, 3), draw(3, 5, seed=1), draw(4, 5, seed=3)
    for stored in (w, np.asfortranarray(w)):
        _, dw, _ = gradients.linear_backward(dy, x, stored)
        assert dw.flags.c_contiguous == stored.flags.c_contiguous
        np.testing.assert_allclose(dw, x.T @ dy, rtol=1e-12)


@pytest.mark.parametrize("n_q", [5, 2])
@pytest.mark.parametrize("scale", [None, 0.7])
@pytest.mark.parametrize("dropout", [0.0, 0.4])
def test_attention(n_q, scale, dropout):
    q, dy = draw(2, 2, n_q, 3)
    k, v = draw(2, 2, 5, 3, seed=1)
    mask = kernels.causal_mask(n_q, 5, q.dtype)
    dropped = dropout_mask((2, n_q, 5), dropout, np.random.default_rng(2), q.dtype)

    def weights(q, k):
        scores = q @ k.swapaxes(-1, -2) * (3**-0.5 if scale is None else scale)
        return kernels.softmax(scores + mask)

    parts = gradients.attention_backward(
        dy, q, k, v, weights(q, k), scale=scale, dropped=dropped
    )
    inputs, found = {"q": q, "k": k, "v": v}, dict(zip("qkv", parts))
    check(lambda q, k, v: weights(q, k) * dropped @ v, inputs, dy, found)
    if not dropout:
        check(lambda **i: kernels.attention(**i, mask=mask, scale=scale), inputs, dy, found)


BLOCKS = {
    "as GPT-2": {},
    "ragged": {"lengths": LENGTHS},
    "ragged, with dropout": {"lengths": LENGTHS, "dropout": 0.3},
    "all options": {"scale": 1.5, "eps": 0.2, "act": "silu", "lengths": [2, 4], "dropout": 0.1},
    "one token": {"lengths": [1] * 6},
}


@pytest.mark.parametrize("options", BLOCKS.values(), ids=BLOCKS)
def test_block(options):
    options = dict(options)
    act, act_backward = ACTIVATIONS[options.pop("act", "gelu_new")]
    dropout = options.pop("dropout", 0.0)
    params = random_params(CONFIG, dtype=np.float64, std=0.5)["blocks"][0]
    x, dy = draw(2, sum(LENGTHS), CONFIG.n_embd)

    def run(x, seen):
        return block_forward(
            x, **params, n_head=3, hook=lambda name, array: seen.setdefault(name, array), act=act,
            dropout=dropout, rng=np.random.default_rng(5), **options,
        )  # fmt: skip

    seen = {}
    run(x, seen)
    dx, grads = block_backward(
        dy, seen, **params, n_head=3, act_backward=act_backward, **options
    )
    leaves = zip(tree_leaves(tree_paths(params)), tree_leaves(params), strict=True)
    inputs, found = {"x": x, **dict(leaves)}, {"x": dx}
    found |= zip(tree_leaves(tree_paths(grads)), tree_leaves(grads))
    assert set(found) == set(inputs)
    if len(options.get("lengths", [6])) == 6:  # a token that only sees itself looks there anyway
        columns = found["attn.c_attn.w"].reshape(6, 3, 6)
        assert np.abs(columns[:, :2]).max() < 1e-12
    # all queries move along with the keys' bias: softmax takes that away again
    assert np.abs(found["attn.c_attn.b"][6:12]).max() < 1e-12
    check(lambda **_: run(x, {}), inputs, dy, found)


@pytest.mark.parametrize("options", [{}, {"lengths": LENGTHS, "scale": 1.5, "eps": 0.2}])
def test_the_pass_that_remembers_is_the_kernels(options):
    params = random_params(CONFIG)["blocks"][0]
    x, names = draw(6, CONFIG.n_embd).astype(np.float32), []
    tree_map(lambda a: a.setflags(write=False), [x, params])

    def note(name, array):
        names.append(name)
        return array

    y = block_forward(x, **params, n_head=3, hook=note, **options)
    expected = kernels.transformer_block(x, **params, n_head=3, **options)
    assert y.dtype == np.float32 and np.abs(y - expected).max() < 1e-5
    assert len(names) == len(set(names))
    n_sequences = len(options.get("lengths", [6]))
    assert sum(name.partition(".")[0] == "weights" for name in names) == n_sequences


def test_backward_keeps_float32():
    params = random_params(CONFIG)["blocks"][0]
    x, dy = draw(2, 6, CONFIG.n_embd).astype(np.float32)
    seen, rng = {}, np.random.default_rng(0)
    block_forward(x, **params, n_head=3, hook=seen.setdefault, dropout=0.2, rng=rng)
    dx, grads = block_backward(dy, seen, **params, n_head=3)
    assert {a.dtype for a in tree_leaves([dx, grads, list(seen.values())])} == {x.dtype}


def test_dropout_keeps_the_mean_and_drops_the_share():
    mask = dropout_mask((400, 500), np.float64(0.3), np.random.default_rng(0), np.float32)
    assert mask.dtype == np.float32
    assert set(np.unique(mask)) == {np.float32(0), np.float32(1) / np.float32(0.7)}
    assert abs(mask.mean() - 1) < 0.01
    assert abs((mask == 0).mean() - 0.3) < 0.005
    again = dropout_mask((400, 500), 0.3, np.random.default_rng(0), np.float32)
    other = dropout_mask((400, 500), 0.3, np.random.default_rng(1), np.float32)
    assert np.array_equal(mask, again) and not np.array_equal(mask, other)


def test_no_dropout_needs_no_generator_and_makes_no_copy():
    x = draw(3, 4)
    mask = dropout_mask(x.shape, 0.0, None, x.dtype)
    assert mask == 1.0 and drop(x, mask) is x
    assert np.array_equal(drop(x, np.full(x.shape, 2.0)), 2 * x)


def test_the_attention_weights_the_feed_forward_and_the_residuals_are_dropped():
    params, rng = random_params(CONFIG)["blocks"][0], np.random.default_rng(0)
    x, seen = draw(6, CONFIG.n_embd).astype(np.float32), {}
    options = {"lengths": LENGTHS, "dropout": 0.5, "rng": rng}
    block_forward(x, **params, n_head=3, hook=seen.setdefault, **options)
    assert {name: mask.shape for name, mask in seen.items() if "_dropped" in name} == {
        "weights_dropped": (3, 3, 3),
        "weights_dropped.1": (3, 1, 1),
        "weights_dropped.2": (3, 2, 2),
        "attn_dropped": (6, 6),
        "mlp_dropped": (6, 6),
    }
    assert np.allclose(seen["x_mid"], x + seen["attn"] * seen["attn_dropped"])
    assert np.allclose(seen["y"], seen["x_mid"] + seen["mlp"] * seen["mlp_dropped"])
    heads = seen["weights.2"] * seen["weights_dropped.2"] @ seen["v.2"]
    assert np.allclose(seen["heads.2"], heads)
