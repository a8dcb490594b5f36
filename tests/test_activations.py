"""The activation functions against Python's math, and their derivatives against differences."""

import math

import numpy as np
import pytest

from picogpt.activations import ACTIVATIONS, erf

X = np.concatenate([np.linspace(-12, 12, 4801), [-1e4, -50.0, -0.0, 1e-30, 50.0, 1e4]])


def phi(x):
    return 0.5 * math.erfc(-x / math.sqrt(2))


def sigmoid(x):
    return 1 / (1 + math.exp(-x)) if x > -700 else 0.0


def softplus(x):
    return math.log1p(math.exp(x)) if x < 30 else x


def tanh_gelu(x):
    return 0.5 * x * (1 + math.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


EXACT = {
    "gelu": lambda x: x * phi(x),
    "gelu_python": lambda x: x * phi(x),
    "gelu_10": lambda x: min(x * phi(x), 10.0),
    "gelu_new": tanh_gelu,
    "gelu_fast": tanh_gelu,
    "gelu_accurate": tanh_gelu,
    "gelu_pytorch_tanh": tanh_gelu,
    "gelu_python_tanh": tanh_gelu,
    "quick_gelu": lambda x: x * sigmoid(1.702 * x),
    "relu": lambda x: max(0.0, x),
    "relu6": lambda x: min(max(0.0, x), 6.0),
    "relu2": lambda x: max(0.0, x) ** 2,
    "leaky_relu": lambda x: x if x > 0 else 0.01 * x,
    "sigmoid": sigmoid,
    "silu": lambda x: x * sigmoid(x),
    "swish": lambda x: x * sigmoid(x),
    "hardswish": lambda x: x * min(max(x + 3, 0), 6) / 6,
    "mish": lambda x: x * math.tanh(softplus(x)),
    "sqrtsoftplus": lambda x: math.sqrt(softplus(x)),
    "tanh": math.tanh,
    "laplace": lambda x: phi((x - 0.707107) / 0.282095),
    "linear": lambda x: x,
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
    x = np.linspace(-12, 12.01, 2000)
    for corner in (-3, 0, 3, 6):
        assert np.abs(x - corner).min() > 1e-3
    dy = np.random.default_rng(0).standard_normal(len(x))
    slope = (act(x + 1e-4) - act(x - 1e-4)) / 2e-4
    rounded = name in ("gelu", "gelu_python", "gelu_10", "laplace")  # erf is good to 2e-8
    assert np.abs(act_backward(dy, x) - dy * slope).max() < (1e-3 if rounded else 1e-7)
