"""The activation functions that GPT-2 configs ask for, and the derivative of each.

Elementwise on arrays of any shape; `NAME_backward(dy, x)` gives the gradient of x from that of
the output. GPT-2's own, gelu, stands in kernels.py and gradients.py. The names at the end are those
of transformers' ACT2FN; the two that are missing, prelu and xielu, have weights of their own.
"""

import numpy as np

from picogpt.gradients import gelu_backward
from picogpt.kernels import gelu

# P in `erf` below, the lowest power first: a polynomial in t of degree 11, which was fitted to
# log(erfc(x) / t) + x^2 by least squares at Chebyshev nodes
ERFC_POLYNOMIAL = (
    -1.26551212, 0.999999934, 0.375021201, 0.0825703148, -0.0745414298, -0.234620261,
    0.338164453, -1.23022562, 2.40435585, -2.2091937, 0.993037052, -0.179055684,
)  # fmt: skip


def erf(x):
    """The error function, to 2e-8 before it is rounded to x's dtype; NumPy has none.

    erf(x) = 1 - erfc(x), and for x >= 0 erfc(x) = t exp(-x^2 + P(t)) with t = 1/(1 + x/2): the
    form of Press et al., Numerical Recipes, sec. 6.2, with a polynomial fitted for this project.
    """
    z = np.abs(x).astype(np.float64)
    t = 1 / (1 + z / 2)
    erfc = t * np.exp(np.polynomial.polynomial.polyval(t, ERFC_POLYNOMIAL) - z * z)
    return np.copysign(1 - erfc, x).astype(x.dtype)


def gelu_erf(x):
    """x times the chance that a standard normal lies below x. Hendrycks & Gimpel 2016, sec. 2."""
    return 0.5 * x * (1 + erf(x * 0.5**0.5))


def gelu_erf_backward(dy, x):
    """(x Phi(x))' = Phi(x) + x phi(x), the normal distribution and its density."""
    phi = np.exp(-0.5 * x * x) * (2 * np.pi) ** -0.5
    return dy * (0.5 * (1 + erf(x * 0.5**0.5)) + x * phi)


def gelu_10(x):
    """gelu, cut off at -10 and 10. Wu et al. 2020, "Integer Quantization"."""
    return np.clip(gelu_erf(x), -10, 10)


def gelu_10_backward(dy, x):
    """gelu's derivative where nothing is cut off, else 0; gelu itself never goes below -0.17."""
    return gelu_erf_backward(dy, x) * (gelu_erf(x) <= 10)


def quick_gelu(x):
    """x sigmoid(1.702 x), which is near gelu. Hendrycks & Gimpel 2016, sec. 2."""
    return x * sigmoid(1.702 * x)


def quick_gelu_backward(dy, x):
    """As silu's, with 1.702 from the chain rule: (x s)' = s + 1.702 x s (1 - s)."""
    s = sigmoid(1.702 * x)
    return dy * (s + 1.702 * x * s * (1 - s))


def relu(x):
    """max(0, x). Nair & Hinton 2010."""
    return np.maximum(x, 0)


def relu_backward(dy, x):
    """max(0, x)' is 1 where x > 0, else 0."""
    return dy * (x > 0)


def relu6(x):
    """relu, cut off at 6. Krizhevsky 2010, "Convolutional Deep Belief Networks on CIFAR-10"."""
    return np.clip(x, 0, 6)


def relu6_backward(dy, x):
    """1 where nothing is cut off, else 0."""
    return dy * ((x > 0) & (x < 6))


def relu2(x):
    """max(0, x)^2. So et al. 2021, "Primer"."""
    return np.maximum(x, 0) ** 2


def relu2_backward(dy, x):
    """(x^2)' = 2 x where x > 0, else 0."""
    return dy * 2 * np.maximum(x, 0)


def leaky_relu(x):
    """x where x > 0, else 0.01 x. Maas, Hannun & Ng 2013."""
    return np.where(x > 0, x, x * 0.01)


def leaky_relu_backward(dy, x):
    """1 where x > 0, else 0.01."""
    return np.where(x > 0, dy, dy * 0.01)


def sigmoid(x):
    """1 / (1 + exp(-x)), by way of tanh, which does not overflow."""
    return 0.5 * (1 + np.tanh(0.5 * x))


def sigmoid_backward(dy, x):
    """s' = s (1 - s)."""
    s = sigmoid(x)
    return dy * s * (1 - s)


def silu(x):
    """x sigmoid(x). Hendrycks & Gimpel 2016, sec. 2; later named swish."""
    return x * sigmoid(x)


def silu_backward(dy, x):
    """With s = sigmoid(x), s' = s (1 - s), so (x s)' = s + x s (1 - s)."""
    s = sigmoid(x)
    return dy * (s + x * s * (1 - s))


def hardswish(x):
    """x times a straight line from 0 at -3 to 1 at 3. Howard et al. 2019, sec. 5.2."""
    return x * np.clip(x + 3, 0, 6) / 6


def hardswish_backward(dy, x):
    """0 below -3, 1 above 3, and (x (x + 3) / 6)' = (2 x + 3) / 6 between."""
    return dy * np.where(np.abs(x) < 3, (2 * x + 3) / 6, x > 0)


def softplus(x):
    """log(1 + exp(x)), a relu without a corner. Dugas et al. 2000."""
    return np.logaddexp(x, 0)


def mish(x):
    """x tanh(softplus(x)). Misra 2019."""
    return x * np.tanh(softplus(x))


def mish_backward(dy, x):
    """With t = tanh(softplus(x)), t' = (1 - t^2) sigmoid(x), so (x t)' = t + x t'."""
    t = np.tanh(softplus(x))
    return dy * (t + x * (1 - t * t) * sigmoid(x))


def sqrt_softplus(x):
    """The square root of softplus."""
    return np.sqrt(softplus(x))


def sqrt_softplus_backward(dy, x):
    """softplus' = sigmoid, so its root has sigmoid / (2 root), which goes to 0 far below 0."""
    root = sqrt_softplus(x)
    return dy * sigmoid(x) / np.maximum(2 * root, np.finfo(x.dtype).tiny)


def tanh(x):
    """The hyperbolic tangent."""
    return np.tanh(x)


def tanh_backward(dy, x):
    """tanh' = 1 - tanh^2."""
    t = np.tanh(x)
    return dy * (1 - t * t)


LAPLACE_MEAN = 0.707107
LAPLACE_DEVIATION = 0.282095


def laplace(x):
    """The chance that a normal of this mean and deviation lies below x. Ma et al. 2022."""
    return 0.5 * (1 + erf((x - LAPLACE_MEAN) / (LAPLACE_DEVIATION * 2**0.5)))


def laplace_backward(dy, x):
    """The density of that normal distribution."""
    z = (x - LAPLACE_MEAN) / LAPLACE_DEVIATION
    return dy * np.exp(-0.5 * z * z) * (2 * np.pi) ** -0.5 / LAPLACE_DEVIATION


def identity(x):
    """x itself: the feed-forward layer is then one product of two matrices."""
    return x


def identity_backward(dy, x):  # noqa: ARG001 - as every derivative takes it
    """x' is 1."""
    return dy


# Hugging Face's name: (function, derivative)
ACTIVATIONS = {
    "gelu_new": (gelu, gelu_backward),
    "gelu_fast": (gelu, gelu_backward),
    "gelu_accurate": (gelu, gelu_backward),
    "gelu_pytorch_tanh": (gelu, gelu_backward),
    "gelu_python_tanh": (gelu, gelu_backward),
    "gelu": (gelu_erf, gelu_erf_backward),
    "gelu_python": (gelu_erf, gelu_erf_backward),
    "gelu_10": (gelu_10, gelu_10_backward),
    "quick_gelu": (quick_gelu, quick_gelu_backward),
    "relu": (relu, relu_backward),
    "relu6": (relu6, relu6_backward),
    "relu2": (relu2, relu2_backward),
    "leaky_relu": (leaky_relu, leaky_relu_backward),
    "sigmoid": (sigmoid, sigmoid_backward),
    "silu": (silu, silu_backward),
    "swish": (silu, silu_backward),
    "hardswish": (hardswish, hardswish_backward),
    "mish": (mish, mish_backward),
    "sqrtsoftplus": (sqrt_softplus, sqrt_softplus_backward),
    "tanh": (tanh, tanh_backward),
    "laplace": (laplace, laplace_backward),
    "linear": (identity, identity_backward),
}
