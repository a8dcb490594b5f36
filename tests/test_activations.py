"""The activation functions against Python's math, and their derivatives against differences."""

import math

import numpy as np
import pytest

from picogpt.activations import ACTIVATIONS, erf

X = np.concatenate([np.linspace(-12, 12, 4801), [-1e4, -50.0, -0.0, 1e-30, 50.0, 1e4]])


def inner(x):
    return math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)


EXACT = {
    "gelu": lambda x: x * 0.5 * math.erfc(-x / math.sqrt(2)),
    "gelu_new": lambda x: 0.5 * x * (1 + math.tanh(inner(x))),
    "gelu_pytorch_tanh": lambda x: 0.5 * x * (1 + math.tanh(inner(x))),
    "relu": lambda x: max(0.0, x),
    "silu": lambda x: x / (1 + math.exp(-x)) if x > -700 else 0.0,
    "swish": lambda x: x / (1 + math.exp(-x)) if x > -700 else 0.0,
    "tanh": math.tanh,
}


def test_erf_to_1e_7():
    exact = np.array([math.erf(x) for x in X])
    assert np.abs(erf(X) - exact).max() < 1e-7
    x = X.astype(np.float32)
    exact = np.array([math.erf(v) for v in x.tolist()])
    assert erf(x).dtype == np.float32 and np.abs(erf(x) - exact).max() < 1e-7
    ends = erf(np.array([-np.inf, np.inf, np.nan]))
    assert np.array_equal(ends, [-1, 1, np.nan], equal_nan=True)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_each_activation_is_its_formula(name):
    act, exact = ACTIVATIONS[name][0], np.array([EXACT[name](x) for x in X])
    assert np.all(np.abs(act(X) - exact) <= 1e-7 * np.maximum(1, np.abs(exact)))
    y = act(X.astype(np.float32))
    assert y.dtype == np.float32
    assert np.all(np.abs(y - exact) <= 1e-6 * np.maximum(1, np.abs(exact)))
    some = X[np.abs(X) < 100].astype(np.float16)
    y = act(some)
    exact = [EXACT[name](x) for x in some.astype(float)]
    assert y.dtype == np.float16 and np.allclose(y, exact, rtol=5e-3, atol=1e-2)


@pytest.mark.parametrize("name", ACTIVATIONS)
@pytest.mark.parametrize("shape", [(), (0,), (1,), (3, 1, 5)])
def test_each_activation_takes_any_shape_and_writes_to_nothing(name, shape):
    x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    x.flags.writeable = False
    for y in (ACTIVATIONS[name][0](x), ACTIVATIONS[name][1](x, x)):
        assert y.shape == shape and y.dtype == np.float32


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_each_derivative_is_the_slope_of_its_function(name):
    act, act_backward = ACTIVATIONS[name]
    x = np.linspace(-6, 6, 1000)  # 0, where relu has a corner, is not among them
    dy = np.random.default_rng(0).standard_normal(len(x))
    slope = (act(x + 1e-4) - act(x - 1e-4)) / 2e-4
    assert np.abs(act_backward(dy, x) - dy * slope).max() < (1e-3 if name == "gelu" else 1e-7)
