"""The activation functions that GPT-2 configs ask for, and the derivative of each.

Elementwise on arrays of any shape; `NAME_backward(dy, x)` gives the gradient of x from that of
the output. GPT-2's own, gelu, stands in kernels.py and gradients.py.
"""

import numpy as np

from picogpt.gradients import gelu_backward
from picogpt.kernels import gelu

# P in erfc below: degree 11, least squares at Chebyshev nodes of log(erfc(x) / t) + x^2
ERFC_POLYNOMIAL = (
    -1.26551212, 0.999999934, 0.375021201, 0.0825703148, -0.0745414298, -0.234620261,
    0.338164453, -1.23022562, 2.40435585, -2.2091937, 0.993037052, -0.179055684,
)  # fmt: skip


def erf(x):
    """The error function to 2e-8; NumPy has none.

    erf(x) = 1 - erfc(x), and for x >= 0 erfc(x) = t exp(-x^2 + P(t)) with t = 1/(1 + x/2): the
    form of Press et al., Numerical Recipes, sec. 6.2, with a polynomial fitted for this project.
    """
    z = np.abs(x).astype(np.float64)
    t = 1 / (1 + z / 2)
    erfc = t * np.exp(np.polynomial.polynomial.polyval(t, ERFC_POLYNOMIAL) - z * z)
    return np.copysign(1 - erfc, x).astype(x.dtype)


def gelu_erf(x):
    """x times the chance that a standard normal lies below x. Hendrycks & Gimpel 2016, eq. 1."""
    return 0.5 * x * (1 + erf(x * 0.5**0.5))


def gelu_erf_backward(dy, x):
    """(x Phi(x))' = Phi(x) + x phi(x), the normal distribution and its density."""
    phi = np.exp(-0.5 * x * x) * (2 * np.pi) ** -0.5
    return dy * (0.5 * (1 + erf(x * 0.5**0.5)) + x * phi)


def relu(x):
    """max(0, x)."""
    return np.maximum(x, 0)


def relu_backward(dy, x):
    """max(0, x)' is 1 where x > 0, else 0."""
    return dy * (x > 0)


def sigmoid(x):
    """1 / (1 + exp(-x)), by way of tanh, which does not overflow."""
    return 0.5 * (1 + np.tanh(0.5 * x))


def silu(x):
    """x sigmoid(x). Hendrycks & Gimpel 2016, sec. 2."""
    return x * sigmoid(x)


def silu_backward(dy, x):
    """With s = sigmoid(x), s' = s (1 - s), so (x s)' = s + x s (1 - s)."""
    s = sigmoid(x)
    return dy * (s + x * s * (1 - s))


def tanh(x):
    """The hyperbolic tangent."""
    return np.tanh(x)


def tanh_backward(dy, x):
    """tanh' = 1 - tanh^2."""
    t = np.tanh(x)
    return dy * (1 - t * t)


# Hugging Face's name: (function, derivative)
ACTIVATIONS = {
    "gelu_new": (gelu, gelu_backward),
    "gelu_pytorch_tanh": (gelu, gelu_backward),
    "gelu": (gelu_erf, gelu_erf_backward),
    "relu": (relu, relu_backward),
    "silu": (silu, silu_backward),
    "swish": (silu, silu_backward),
    "tanh": (tanh, tanh_backward),
}
