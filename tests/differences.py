"""Gradients by central differences, which need nothing but the function itself."""

import numpy as np


def slopes(loss, x, h=1e-5):
    """d loss() / dx, entry by entry; x (float64) is changed in place and put back."""
    dx = np.empty_like(x)
    for i in np.ndindex(x.shape):
        dx[i] = slope_at(loss, x, i, h)
    return dx


def slope_at(loss, x, i, h=1e-5):
    """d loss() / dx[i]; x[i] (float64) is changed in place and put back."""
    here = x[i]
    x[i] = here + h
    above = loss()
    x[i] = here - h
    below = loss()
    x[i] = here
    return (above - below) / (2 * h)


def relative_error(found, wanted):
    """The length of the difference over the length of what is wanted."""
    assert np.shape(found) == np.shape(wanted)
    return np.linalg.norm(found - wanted) / np.linalg.norm(wanted)
