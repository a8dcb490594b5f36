"""AdamW, clipping and the schedule beside torch's and transformers' own."""

import numpy as np
import pytest
from models import random_params, small_config
from oracles import oracle

from picogpt import optim
from picogpt.tools.tree import tree_leaves, tree_map

torch = oracle("torch")

CONFIG = small_config(tie_word_embeddings=False, n_layer=1)
OPTIONS = [
    {},
    {"betas": (0.8, 0.99), "eps": 1e-3, "weight_decay": 0.2},
    {"eps": 1e-2, "weight_decay": 0.5},  # those of the three steps that ../test_optim.py pins
]


def to_torch(tree):
    return [torch.nn.Parameter(torch.tensor(a)) for a in tree_leaves(tree)]


@pytest.mark.parametrize("dtype, tolerance", [(np.float64, 1e-13), (np.float32, 2e-5)])
@pytest.mark.parametrize("options", OPTIONS)
def test_a_hundred_steps(dtype, tolerance, options):
    params = random_params(CONFIG, dtype=dtype)
    state, theirs = optim.new_state(params), to_torch(params)
    optimizer = torch.optim.AdamW(theirs, lr=1e-2, **options)
    for step in range(100):
        rate = 1e-2 / (1 + step % 3)
        grads = tree_map(
            lambda g, size=10.0 ** -(step % 5): g * dtype(size),
            random_params(CONFIG, seed=step, dtype=dtype),
        )
        optim.adamw(params, grads, state, rate, **options)
        for parameter, g in zip(theirs, tree_leaves(grads), strict=True):
            parameter.grad = torch.tensor(g)
        optimizer.param_groups[0]["lr"] = rate
        optimizer.step()
    for ours, parameter in zip(tree_leaves(params), theirs):
        assert ours.dtype == dtype
        assert np.abs(ours - parameter.detach().numpy()).max() < tolerance
    moments = zip(tree_leaves(state["m"]), tree_leaves(state["v"]), theirs)
    for m, v, parameter in moments:
        kept = optimizer.state[parameter]
        np.testing.assert_allclose(m, kept["exp_avg"].numpy(), rtol=1e-3, atol=1e-6)
        np.testing.assert_allclose(v, kept["exp_avg_sq"].numpy(), rtol=1e-4, atol=1e-9)


def test_muon_is_torchs():
    rng = np.random.default_rng(0)
    params = {"blocks": [{"w": rng.standard_normal((16, 24), np.float32)}]}
    start, (theirs,) = params["blocks"][0]["w"].copy(), to_torch(params)
    optimizer = torch.optim.Muon([theirs], lr=0.02, adjust_lr_fn="match_rms_adamw")
    state = optim.new_state(params)
    for _ in range(5):
        grads = {"blocks": [{"w": rng.standard_normal((16, 24), np.float32)}]}
        optim.muon(params, grads, state, 0.02, weight_decay=0.1)
        theirs.grad = torch.tensor(grads["blocks"][0]["w"])
        optimizer.step()
    ours, theirs = (w - start for w in (params["blocks"][0]["w"], theirs.detach().numpy()))
    assert np.abs(ours - theirs).max() < 0.02 * np.abs(theirs).max()  # torch rounds to bfloat16


@pytest.mark.parametrize("max_norm", [1e-3, 1.0, 14.0, 1e3])
def test_clipping(max_norm):
    grads = random_params(CONFIG)
    theirs = to_torch(grads)
    for parameter in theirs:
        parameter.grad = parameter.detach().clone()
    expected = torch.nn.utils.clip_grad_norm_(theirs, max_norm).item()
    assert optim.clip(grads, max_norm) == pytest.approx(expected, rel=1e-6)
    for g, parameter in zip(tree_leaves(grads), theirs):
        np.testing.assert_allclose(g, parameter.grad.numpy(), rtol=1e-5)


def test_the_cosine_is_transformers():
    transformers = oracle("transformers")
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.3)
    schedule = transformers.get_cosine_schedule_with_warmup(optimizer, 5, 40)
    theirs = []
    for _ in range(40):
        theirs.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    ours = [optim.learning_rate(step, 0.3, 40, warmup=5, final=0.0) for step in range(40)]
    assert ours[5:] == pytest.approx(theirs[5:])
    assert ours[:5] == pytest.approx(theirs[1:6])  # theirs begins with a step of rate 0
