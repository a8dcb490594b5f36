"""int8: a matrix of whole numbers from -127 to 127, and one scale for each of its columns.

Writing a token reads every weight once, so both the memory that a model takes and the time of a
token go by how many bytes a weight has. float32 has four. Trained weights don't need them: those of
a column are spread about 0, and what counts is their sum over hundreds of products, in which small
errors to either side cancel out. One byte offers 255 values, evenly spaced; they are laid so that
the column's largest weight, in absolute value ("absmax"), becomes 127 or -127:

    s_j = max_i |w_ij| / 127        q_ij = round(w_ij / s_j)        w_ij is nearly q_ij s_j

Rounding errs by half a step at most: |w_ij - q_ij s_j| <= s_j / 2. A scale for each column, which
is an output of the layer, keeps one output's large weights from making the steps coarse for all;
and it costs nothing, because it can be multiplied when the sum is done:

    y_j = sum_i x_i (q_ij s_j) + b_j = s_j (sum_i x_i q_ij) + b_j

`kernels.linear` computes that. The activations x stay float32: a few of theirs are far larger than
all others, and steps wide enough for those would leave nothing of the rest. wte and wpe stay
float32, too: every block works with what they give. An `lm_head` apart from wte becomes int8.

Dettmers et al. 2022, "LLM.int8()", sec. 2.1 and 3 (absmax, a scale for each row or column, and the
large activations); there, these activations are multiplied apart and the rest in int8.
"""

import numpy as np

from picogpt.tools.errors import UsageError
from picogpt.tools.tree import tree_leaves


def quantize(w):
    """A matrix `[n_in, n_out]` as int8 `[n_in, n_out]` and a float32 scale `[n_out]` per column.

    Columns lie one after the other in memory. A column of zeros has the scale 0.

    >>> q, s = quantize(np.array([[0.5, 10.0], [-1.27, 2.54], [0.02, 0.0]]))
    >>> q
    array([[  50,  127],
           [-127,   32],
           [   2,    0]], dtype=int8)
    >>> (q * s).round(3)
    array([[ 0.5 , 10.  ],
           [-1.27,  2.52],
           [ 0.02,  0.  ]], dtype=float32)
    """
    columns = w.T  # [n_out, n_in]
    q = np.empty(columns.shape, np.int8)
    s = np.empty(len(columns), np.float32)
    n = max(1, 2**16 // len(w))  # columns at a time: a large matrix's temporaries stay in cache
    with np.errstate(all="ignore"):  # the scale is NaN or infinite then: `generate` tells of it
        for start in range(0, len(columns), n):
            some = slice(start, start + n)
            largest = np.abs(columns[some]).max(axis=1)
            s[some] = largest / 127
            steps = columns[some] * (127 / np.where(largest > 0, largest, 1))[:, None]
            q[some] = np.rint(steps)
    return q.T, s


def dequantize(q, s):
    """The matrix that is meant, as float32 `[n_in, n_out]`, in q's order in memory."""
    return q * s


def quantize_layer(w, b):
    """A linear layer {w, b} as {w: int8, s: scale, b}."""
    q, s = quantize(w)
    return {"w": q, "s": s, "b": b}


def dequantize_layer(w, b, s=None):
    """The way back, to {w, b}; a layer that has no scale stays as it is."""
    return {"w": w if s is None else dequantize(w, s), "b": b}


def quantize_tree(tree, read=None):
    """A tree of parameters with every {w, b} in it as {w: int8, s: scale, b}.

    With `read` the tree's leaves are names, say, and read(leaf) is the array: one layer after the
    other is read and quantized, and no more than one of them is in memory as float32.
    """
    if read is None:
        return map_layers(quantize_layer, tree)
    return map_layers(lambda w, b: quantize_layer(read(w), read(b)), tree, read)


def dequantize_tree(tree):
    """The way back: a tree of parameters with every {w: int8, s: scale, b} in it as {w, b}."""
    return map_layers(dequantize_layer, tree)


def map_layers(f, tree, leaf=lambda array: array):
    """The tree with f(**layer) in the place of each linear layer, leaf(x) in that of all else.

    A linear layer is a dict that has a matrix w.
    """
    if isinstance(tree, list):
        return [map_layers(f, branch, leaf) for branch in tree]
    if not isinstance(tree, dict):
        return leaf(tree)
    if "w" in tree:
        return f(**tree)
    return {name: map_layers(f, branch, leaf) for name, branch in tree.items()}


def quantize_head(lm_head):
    """An output matrix `[n_vocab, n_embd]` as what `kernels.linear` takes: {w, s, b}, b is 0."""
    return quantize_tree({"w": lm_head.T, "b": np.zeros(len(lm_head), np.float32)})


def refuse_int8(params, verb="trained", reason="a step of training is smaller than int8's steps"):
    """Raise UsageError where weights are int8: the model can't be `verb` then, for this reason."""
    if any(np.asarray(w).dtype == np.int8 for w in tree_leaves(params)):
        raise UsageError(f"a model in int8 can't be {verb}: {reason}; load it without int8")
