"""The chain rule through the whole of GPT-2: a loss, and its gradient for every parameter.

Frozen means not differentiated: with first_trained_block k > 0 the embeddings and the blocks
below k only run forward, by the plain kernels, and the gradient tree has {} in their places:
walking that tree beside the parameters', as optim does, meets what is trained and nothing else. A
head tied to wte is frozen with it; ln_f and an untied lm_head always train.

`config` is a checkpoint.config.Config: n_head, the activation and its derivative, eps and scales.
"""

import numpy as np

from picogpt.gradients import block_backward, block_forward, drop, dropout_mask, norm_backward
from picogpt.kernels import hidden_states, layer_norm, positions

NOT_SCORED = -100  # a target that no loss is taken of, as in torch
MAX_LOGITS = 2**25  # at most so many logits are held at once: 128 MB of float32
# what stack_backward has no use for
UNUSED = {"wte", "wpe", "scores", "scaled", "masked", "heads", "attn", "mlp", "y"}


# loss = -log softmax(l)_target = log sum_k exp(l_k) - l_target, so that
# dl_i = softmax(l)_i - 1[i = target] (softmax_cross_entropy_in_place, below).
# l = x w^T, so dx = dl w and dw = dl^T x; the mean divides all of it by n.
def cross_entropy(x, targets, w, n_scored=None, frozen=False):
    """Mean cross-entropy (nats) of the logits x @ w.T: (loss, dx, dw); dw is None if w is frozen.

    x `[n_tokens, n_embd]`, targets `[n_tokens]` (-100: not scored), w `[n_vocab, n_embd]`. The
    mean is over the scored tokens, or over n_scored where x is a part of a batch. The logits
    exist once: they become the probabilities and then their own gradient where they stand.
    """
    rows = np.flatnonzero(targets != NOT_SCORED)
    share = 1 / max(len(rows) if n_scored is None else n_scored, 1)
    loss, dx, dw = 0.0, np.zeros_like(x), None
    n_rows = max(1, MAX_LOGITS // len(w))
    for start in range(0, max(len(rows), 1), n_rows):  # once at least: dw is zeros, not None
        part = rows[start : start + n_rows]
        logits = x[part] @ w.T  # [n_rows, n_embd] @ [n_embd, n_vocab] -> [n_rows, n_vocab]
        loss += softmax_cross_entropy_in_place(logits, targets[part])
        dlogits = logits  # what they have become
        dx[part] = dlogits @ w * share  # [.., n_vocab] @ [n_vocab, n_embd] -> [n_rows, n_embd]
        if not frozen:
            product = dlogits.T @ (x[part] * share)  # [n_vocab, n_rows] @ [n_rows, n_embd]
            dw = product if dw is None else np.add(dw, product, out=dw)
    return loss * share, dx, dw


def softmax_cross_entropy_in_place(logits, targets, n_rows=16):
    """The summed loss (nats) of logits `[n, n_vocab]`, which it overwrites with their gradient.

    targets `[n]` are ids. The array holds softmax(logits) - 1[i = target] afterwards.
    """
    loss = 0.0
    for start in range(0, len(logits), n_rows):  # a few rows at a time stay in cache
        part = logits[start : start + n_rows]
        row = np.arange(len(part))
        target = targets[start : start + n_rows]
        part -= part.max(axis=-1, keepdims=True)
        at_target = part[row, target]
        np.exp(part, out=part)
        total = part.sum(axis=-1, keepdims=True)
        loss += float((np.log(total[:, 0]) - at_target).sum())
        part /= total
        part[row, target] -= 1  # softmax(l) - 1[i = target]
    return loss


# x_t = table[index_t]: a row of the table gets the gradients of all the places where it was used.
def embedding_backward(dx, index, dtable):
    """Add row t of dx `[n_tokens, n_embd]` to row index[t] of dtable `[n_rows, n_embd]`, in place.

    The tokens are sorted first, so that each row's gradients are neighbours and one call sums them.
    """
    order = np.argsort(index, kind="stable")
    rows, starts = np.unique(index[order], return_index=True)
    dtable[rows] += np.add.reduceat(dx[order], starts, axis=0)
    return dtable


def stack_forward(
    params, ids, config, hook, *, lengths=None, first_trained_block=0, hidden=None, dropout=0.0,
    rng=None,
):
    """`kernels.hidden_states`, in which `hook(name, array) -> array` sees every step.

    Ids `[n_tokens]` -> `[n_tokens, n_embd]`, which has not passed ln_f. The names are wte, wpe and,
    for each trained block, what `block_forward` calls x, q, ... as blocks.0.x, blocks.0.q, ...
    Frozen blocks run without the hook, or not at all where `hidden` `[n_tokens, n_embd]` says what
    enters the first trained one. Raises ValueError when a sequence is longer than n_ctx.
    """
    blocks = params["blocks"]
    first = first_trained_block
    if first == 0:
        where = positions(lengths, None, len(ids), config.n_ctx)  # [n_tokens]
        x = hook("wte", params["wte"][ids]) + hook("wpe", params["wpe"][where])
        x = drop(x, hook("embd_dropped", dropout_mask(x.shape, dropout, rng, x.dtype)))
    elif hidden is None:
        x = hidden_states(
            ids, params["wte"], params["wpe"], blocks[:first], lengths=lengths,
            **config.kernel_options,
        )  # [n_tokens] -> [n_tokens, n_embd]
    else:
        x = hidden
    for i in range(first, len(blocks)):

        def hook_block(name, array, prefix=f"blocks.{i}."):
            return hook(prefix + name, array)

        x = block_forward(
            x, **blocks[i], n_head=config.n_head, hook=hook_block, lengths=lengths,
            eps=config.layer_norm_epsilon, act=config.act, scale=config.scales[i],
            dropout=dropout, rng=rng,
        )  # [n_tokens, n_embd] -> [n_tokens, n_embd]
    return x


def keep_activations(activations):
    """A hook for `stack_forward` that keeps, in a dict, what `stack_backward` will need."""

    def hook(name, array):
        own_name = name.split(".")[2] if name.startswith("blocks.") else name
        if own_name not in UNUSED:
            activations[name] = array
        return array

    return hook


def take_block(activations, i):
    """Take what was kept of block i out of the dict: {name within the block: array}."""
    prefix = f"blocks.{i}."
    names = [name for name in activations if name.startswith(prefix)]
    return {name.removeprefix(prefix): activations.pop(name) for name in names}


def stack_backward(
    dx, activations, params, ids, config, *, lengths=None, first_trained_block=0, dhead=None
):
    """From dx `[n_tokens, n_embd]`, the gradient of the stack's output, the tree of gradients.

    It has {} for frozen blocks, and wte and wpe where first_trained_block is 0. `activations` is
    emptied block by block, so that memory falls as the gradients grow. dhead is the gradient that
    wte has as the head, where the two are tied: that of the embedding is added to it, in place.
    """
    blocks = params["blocks"]
    grads = {"blocks": [{} for _ in blocks]}
    for i in reversed(range(first_trained_block, len(blocks))):
        dx, grads["blocks"][i] = block_backward(
            dx, take_block(activations, i), **blocks[i], n_head=config.n_head, lengths=lengths,
            eps=config.layer_norm_epsilon, act_backward=config.act_backward,
            scale=config.scales[i],
        )  # fmt: skip
    if first_trained_block == 0:
        dx = drop(dx, activations["embd_dropped"])
        dwte = np.zeros_like(params["wte"]) if dhead is None else dhead
        grads["wte"] = embedding_backward(dx, ids, dwte)
        where = positions(lengths, None, len(dx), config.n_ctx)
        grads["wpe"] = embedding_backward(dx, where, np.zeros_like(params["wpe"]))
    return grads


def loss_and_gradients(
    params, ids, targets, config, *, lengths=None, first_trained_block=0, hidden=None,
    n_scored=None, dropout=0.0, rng=None,
):
    """Mean cross-entropy (nats) of targets after ids, and the tree of gradients.

    See `picogpt.loss_and_gradients`; `hidden` as in stack_forward, n_scored as in cross_entropy.
    """
    first = first_trained_block
    eps = config.layer_norm_epsilon
    activations = {}
    tied = "lm_head" not in params
    head = params["wte"] if tied else params["lm_head"]  # [n_vocab, n_embd]

    x = stack_forward(
        params, ids, config, keep_activations(activations), lengths=lengths,
        first_trained_block=first, hidden=hidden, dropout=dropout, rng=rng,
    )  # [n_tokens] -> [n_tokens, n_embd]
    y = layer_norm(x, **params["ln_f"], eps=eps)  # [n_tokens, n_embd], which the head reads
    frozen = tied and first > 0
    loss, dy, dhead = cross_entropy(y, targets, head, n_scored, frozen)

    dx, dln_f = norm_backward(dy, x, params["ln_f"], eps)
    grads = stack_backward(
        dx, activations, params, ids, config, lengths=lengths, first_trained_block=first,
        dhead=dhead if tied else None,
    )  # fmt: skip
    grads["ln_f"] = dln_f
    if not tied:
        grads["lm_head"] = dhead
    return loss, {name: grads.get(name, {}) for name in params}
