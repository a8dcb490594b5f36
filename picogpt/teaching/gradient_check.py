"""A gradient check to call by oneself: a derivative beside finite differences.

    from picogpt.gradients import softmax_backward
    from picogpt.kernels import softmax
    from picogpt.teaching.gradient_check import gradient_check

    gradient_check(softmax, lambda dy, x: softmax_backward(dy, softmax(x)), [[0.1, 2.0, -1.0]])
"""

import numpy as np

STEP = 1e-6  # small enough for the slope, large enough for float64's 16 digits


def gradient_check(forward, backward, *inputs, names=None):
    """Print, for each input, how far its gradient is from finite differences; give back the worst.

    `forward(*inputs) -> y` and `backward(dy, *inputs) -> gradients`, one for each input or for the
    first few, alone or in a tuple. The loss is sum(dy * y) with a dy drawn at random, so that its
    gradient with respect to y is dy. Central differences: an error of 1e-7 is right, 1e-2 wrong. An
    error is a share of the largest slope. `names` are what the inputs are called in the output.
    Raises ValueError where a gradient hasn't the shape of its input.
    """
    inputs = [np.array(x, np.float64) for x in inputs]
    dy = np.random.default_rng(0).standard_normal(np.shape(forward(*inputs)))
    gradients = backward(dy, *inputs)
    gradients = gradients if isinstance(gradients, tuple | list) else [gradients]
    worst = 0.0
    for i, gradient in enumerate(gradients):
        name = names[i] if names else f"input {i}"
        slope = finite_differences(forward, dy, inputs, i)
        if np.shape(gradient) != slope.shape:
            raise ValueError(
                f"the gradient of {name} has shape {list(np.shape(gradient))}, "
                f"{name} itself {list(slope.shape)}"
            )
        off = np.abs(gradient - slope) / max(np.abs(slope).max(), 1e-12)
        place = np.unravel_index(int(np.argmax(off)), off.shape)
        at = [int(index) for index in place]
        print(f"{name} {list(slope.shape)}: worst at {at}: {gradient[place]:.6g}, "
              f"finite difference {slope[place]:.6g}, error {off[place]:.1e}")  # fmt: skip
        worst = max(worst, float(off.max()))
    return worst


def finite_differences(forward, dy, inputs, i):
    """The slope of sum(dy * forward(*inputs)) along every number of input i, in its shape."""
    slope = np.empty_like(inputs[i])
    for place in np.ndindex(slope.shape):
        losses = []
        for step in (STEP, -STEP):
            moved = [x.copy() for x in inputs]
            moved[i][place] += step
            losses.append(float(np.sum(dy * forward(*moved))))
        slope[place] = (losses[0] - losses[1]) / (2 * STEP)
    return slope
