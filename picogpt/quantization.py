"""int8: a matrix of whole numbers from -127 to 127, and one scale for each of its columns.

Writing a token reads every weight once, so both the memory that a model takes and the time of a
token go by how many bytes a weight has. float32 has four. Trained weights don't need them: those of
a column are spread about 0, and what counts is their sum over hundreds of products, in which small
errors to either side cancel out. One byte has 255 steps to offer; they are laid so that the
column's largest weight, in absolute value ("absmax"), becomes 127 or -127:

    s_j = max_i |w_ij| / 127        q_ij = round(w_ij / s_j)        w_ij is nearly q_ij s_j

Rounding errs by half a step at most: |w_ij - q_ij s_j| <= s_j / 2. A scale for each column, which
is an output of the layer, keeps one output's large weights from making the steps coarse for all;
and it costs nothing, because it can be multiplied when the sum is done:

    y_j = sum_i x_i (q_ij s_j) + b_j = s_j (sum_i x_i q_ij) + b_j

`kernels.linear` computes that. The activations x stay float32: a few of theirs are far larger than
all others, and steps wide enough for those would leave nothing of the rest. So do wte, of which a
token reads one row, and which makes the logits, and wpe.

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
    with np.errstate(all="ignore"):  # NaN and infinity give such a scale: `generate` tells of them
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


def quantized(tree):
    """A tree of parameters with every {w, b} in it as {w: int8, s: scale, b}."""
    if isinstance(tree, list):
        return [quantized(branch) for branch in tree]
    if not isinstance(tree, dict):
        return tree
    if "w" in tree:
        w, s = quantize(tree["w"])
        return {"w": w, "s": s, "b": tree["b"]}
    return {name: quantized(branch) for name, branch in tree.items()}


def quantized_head(lm_head):
    """An output matrix `[n_vocab, n_embd]` as what `kernels.linear` takes: {w, s, b}, b is 0."""
    w, s = quantize(lm_head.T)
    return {"w": w, "s": s, "b": np.zeros(len(s), np.float32)}


def dequantized(tree):
    """The way back: a tree of parameters with every {w: int8, s: scale, b} in it as {w, b}."""
    if isinstance(tree, list):
        return [dequantized(branch) for branch in tree]
    if not isinstance(tree, dict):
        return tree
    if "s" in tree:
        return {"w": dequantize(tree["w"], tree["s"]), "b": tree["b"]}
    return {name: dequantized(branch) for name, branch in tree.items()}


def refuse_int8(tree, what="trained: the steps between its weights are larger than training's"):
    """Raise UsageError where an array of a tree of parameters is int8: such a model can't be so."""
    if any(np.asarray(w).dtype == np.int8 for w in tree_leaves(tree)):
        raise UsageError(f"a model in int8 can't be {what}; load it without int8")
