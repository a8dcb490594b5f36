"""AdamW, Muon, the learning-rate schedules and gradient clipping, over trees of arrays."""

import math

import numpy as np

from picogpt.tools.tree import tree_leaves, tree_map, tree_paths

CHUNK = 2**14  # numbers of an array that are updated at a time, so that temporaries stay in cache


def new_state(params):
    """AdamW's memory before the first step: both moments 0, in the tree's shape."""
    return {
        "step": 0,
        "m": tree_map(np.zeros_like, params),  # running mean of the gradient
        "v": tree_map(np.zeros_like, params),  # running mean of its square
    }


def decay_mask(params):
    """True where weight decay applies: matrices and embeddings, not biases or layer norms."""
    return tree_map(lambda w: w.ndim >= 2, params)


def adamw(
    params, grads, state, lr, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01, decays=None
):
    """One step of AdamW; params and state are updated in place. Loshchilov & Hutter 2019, alg. 2.

    As a rule a weight moves by lr at most, against its mean gradient m, whatever the gradient's
    size, because m is divided by the root of the mean square v. Both means start at 0 and are
    corrected for it. Decay shrinks the weights by themselves, apart from the gradient. The order
    is the paper's and torch's: decay takes the old weight, eps is added to the corrected root; as
    in torch, lr multiplies the decay. (Stanford's CS 224N decays after the update.)

    lr is one number; `decays` is a tree of bools (None: decay everything); what grads lacks, or
    has {} for, stays as it is.

    At the first step the corrected m / sqrt(v) is the gradient's sign: 2 becomes
    2 (1 - 0.1 x 0.01) - 0.1.

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
    update_each(update, grads, *trees, *([] if decays is None else [decays]))


def update_each(update, grads, *trees, deal=map):
    """Call update(grad, ...) for every leaf of grads and those at the same place in the trees."""
    leaves = []
    tree_map(lambda *arrays: leaves.append(arrays), grads, *trees)
    list(deal(lambda arrays: update(*arrays), leaves))


def split_for_muon(grads):
    """Two trees, with {} for what the other has: the blocks' matrices, and the rest for AdamW."""

    def is_for_muon(path):
        return path.startswith("blocks.") and path.endswith(".w")

    paths = tree_paths(grads)
    matrices = tree_map(lambda path, g: g if is_for_muon(path) else {}, paths, grads)
    others = tree_map(lambda path, g: {} if is_for_muon(path) else g, paths, grads)
    return matrices, others


def muon(params, grads, state, lr, momentum=0.95, weight_decay=0.01, deal=map):
    """One step of Muon for matrices; params and the running mean state["m"] change in place.

    A matrix's gradient is mostly a few directions, and so is AdamW's step. Muon's is equally long
    in every direction: it takes the mean gradient U S V^T (Nesterov's: what the mean would be after
    one more step with this gradient) and puts nearly 1 in the place of all singular values S.
    c_attn is three matrices, those of q, k and v. Jordan et al. 2024, "Muon: An optimizer for
    hidden layers in neural networks"; the decay, and the factor 0.2 sqrt(longer side), which makes
    the step as large as AdamW's at the same lr: Liu et al. 2025, "Muon is scalable for LLM
    training", eq. 4. Equals torch.optim.Muon(adjust_lr_fn="match_rms_adamw"), which rounds to
    bfloat16.

    What grads has {} for stays as it is. `deal` is map, or the map of a pool of threads: Muon
    computes, which threads share out; AdamW waits for memory, so it has none.
    """

    def update(grad, weight, mean, path):
        mean += (1 - momentum) * (grad - mean)
        ahead = grad + momentum * (mean - grad)
        n_parts = 3 if path.endswith("c_attn.w") else 1
        for g, w in zip(np.split(ahead, n_parts, axis=1), np.split(weight, n_parts, axis=1)):
            w *= 1 - lr * weight_decay
            w -= lr * 0.2 * max(g.shape) ** 0.5 * orthogonalised(g)

    update_each(update, grads, params, state["m"], tree_paths(params), deal=deal)


def orthogonalised(g, n_steps=5):
    """g `[n_rows, n_columns]` = U S V^T with numbers from about 0.7 to 1.2 in the place of S.

    With x = U S V^T, (x x^T) x = U S^3 V^T: an odd polynomial of the matrix is that polynomial of
    each singular value, and leaves U and V. a s + b s^3 + c s^5, five times over, drives all that
    is not near 0 towards 1: a
    Newton-Schulz iteration, whose factors were chosen to be fast rather than exact. Jordan et al.
    2024.
    """
    a, b, c = 3.4445, -4.7750, 2.0315
    tall = len(g) > len(g.T)
    x = np.ascontiguousarray(g.T if tall else g)  # the short side first: smaller products
    x = x / (np.linalg.norm(x) + 1e-7)  # no singular value is above 1 now
    for _ in range(n_steps):
        square = x @ x.T  # [n_rows, n_rows]; NumPy computes half of it, for it is symmetric
        x = a * x + (b * square + c * (square @ square.T)) @ x
    return x.T if tall else x


def chunks(*arrays):
    """CHUNK numbers, at the same places of every array, at a time; all but the first are views.

    The first may be a copy, to be read only. Raises ValueError where another is not stored in one
    piece in the order of the last.
    """
    if not arrays[-1].flags.c_contiguous:  # stored column by column: see checkpoint/weights.py
        arrays = [a.T for a in arrays]
    if not all(a.flags.c_contiguous for a in arrays[1:]):
        raise ValueError("parameters and moments must be contiguous arrays")
    flat = [a.reshape(-1) for a in arrays]
    for i in range(0, flat[0].size, CHUNK):
        yield [a[i : i + CHUNK] for a in flat]


def learning_rate(step, peak, n_steps, warmup=0, final=0.1, decay_share=None):
    """The rate for step 0, 1, ...: up in a line, then half a cosine down to final * peak.

    It rises for `warmup` steps. With decay_share it then stays at its peak and falls in a line, in
    the last decay_share of the steps: until then nothing depends on n_steps, and a run can be made
    longer or shorter on its way. Cosine: Loshchilov & Hutter 2017 (SGDR), eq. 5; warm-up: Goyal et
    al. 2017, sec. 2.2; a plateau and a fall: Hägele et al. 2024, "Scaling laws and compute-optimal
    training beyond fixed training durations".
    """
    if step < warmup:
        return peak * (step + 1) / warmup
    if decay_share is not None:
        left = (n_steps - step) / max(decay_share * n_steps, 1)
        return peak * (final + (1 - final) * min(left, 1.0))
    done = min((step - warmup) / max(n_steps - warmup, 1), 1.0)
    return peak * (final + (1 - final) * 0.5 * (1 + math.cos(math.pi * done)))


def global_norm(grads):
    """The length of all gradients as one long vector.

    A chunk is summed in float32, the chunks' sums in float64.
    """
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


def accumulate(total, grads):
    """total + grads, in place where there is a total already; None starts one."""
    if total is None:
        return grads
    tree_map(lambda t, g: np.add(t, g, out=t), total, grads)
    return total
