"""AdamW, the learning-rate schedule and gradient clipping, over trees of arrays."""

import math

import numpy as np

from picogpt.tools.tree import tree_leaves, tree_map

CHUNK = 2**14  # numbers of an array that are updated at a time, so that temporaries stay in cache


def new_state(params):
    """AdamW's memory before the first step: both moments 0, in the tree's shape."""
    return {
        "step": 0,
        "m": tree_map(np.zeros_like, params),  # running mean of the gradient
        "v": tree_map(np.zeros_like, params),  # running mean of its square
    }


def decay_mask(params, embeddings=True):
    """True where weight decay applies: matrices, not biases or layer norms; embeddings as asked."""
    mask = tree_map(lambda w: w.ndim >= 2, params)
    return mask | {name: embeddings for name in ("wte", "wpe") if name in params}


def adamw(params, grads, state, lr, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01, decays=None):
    """One step of AdamW; params and state are updated in place. Loshchilov & Hutter 2019, alg. 2.

    As a rule a weight moves by lr at most, against its mean gradient m, whatever the gradient's
    size, because m is divided by the root of the mean square v. Both means start at 0 and are
    corrected for it. Decay shrinks the weights by themselves, apart from the gradient. The order
    is the paper's and torch's: decay takes the old weight, eps is added to the corrected root; as
    in torch, lr multiplies the decay. (Stanford's CS 224N decays after the update.)

    lr is one number; `decays` is a tree of bools (None: decay everything); what grads lacks, or
    has {} for, stays as it is. At the first step the corrected m / sqrt(v) is the gradient's sign:
    2 becomes 2 (1 - 0.1 x 0.01) - 0.1.

    >>> params, grads = {"w": np.array([2.0])}, {"w": np.array([0.5])}
    >>> adamw(params, grads, new_state(params), lr=0.1)
    >>> params["w"].round(6)
    array([1.898])
    """
    state["step"] += 1
    beta_m, beta_v = betas
    correct_m, correct_v = 1 - beta_m ** state["step"], 1 - beta_v ** state["step"]

    def update(grad, weight, mean, square, decay=True):
        for g, w, m, v in chunks(grad, weight, mean, square):
            m += (1 - beta_m) * (g - m)
            v += (1 - beta_v) * (g * g - v)
            if decay and weight_decay:
                w *= 1 - lr * weight_decay
            w -= lr / correct_m * m / (np.sqrt(v / correct_v) + eps)

    trees = [params, state["m"], state["v"]]
    tree_map(update, grads, *trees, *([] if decays is None else [decays]))


def chunks(*arrays):
    """The same few numbers of every array at a time, as views that can be written to."""
    if not arrays[-1].flags.c_contiguous:  # stored column by column: see checkpoint/weights.py
        arrays = [a.T for a in arrays]
    if not all(a.flags.c_contiguous for a in arrays[1:]):
        raise ValueError("parameters and moments must be contiguous arrays")
    flat = [a.reshape(-1) for a in arrays]
    for i in range(0, flat[0].size, CHUNK):
        yield [a[i : i + CHUNK] for a in flat]


def learning_rate(step, peak, n_steps, warmup=0, final=0.1):
    """The rate for step 0, 1, ...: up in a line, then half a cosine down to final * peak.

    Loshchilov & Hutter 2017 (SGDR), eq. 5; warm-up: Goyal et al. 2017, sec. 2.2.
    """
    if step < warmup:
        return peak * (step + 1) / warmup
    done = min((step - warmup) / max(n_steps - warmup, 1), 1.0)
    return peak * (final + (1 - final) * 0.5 * (1 + math.cos(math.pi * done)))


def global_norm(grads):
    """The length of all gradients as one long vector; float32 sums a chunk, float64 the chunks."""
    leaves = tree_leaves(grads)
    return math.sqrt(sum(float(np.vdot(part, part)) for g in leaves for (part,) in chunks(g)))


def clip(grads, max_norm):
    """Scale gradients in place to a global norm of at most max_norm; give back the norm before.

    Pascanu, Mikolov & Bengio 2013, alg. 1.
    """
    norm = global_norm(grads)
    if norm > max_norm:
        scale = max_norm / (norm + 1e-6)  # as torch has it
        for g in tree_leaves(grads):
            g *= scale
    return norm


def accumulate(total, grads, weight=1.0):
    """total + weight * grads, in place where there is a total already; None starts one."""
    if weight != 1.0:
        grads = tree_map(lambda g: g * weight, grads)
    if total is None:
        return grads
    tree_map(lambda t, g: np.add(t, g, out=t), total, grads)
    return total
