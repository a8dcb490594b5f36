"""The chain rule through the whole of GPT-2: a loss, and its gradient for every parameter.

Frozen means not differentiated: with first_trained_block k > 0 the embeddings and the blocks
below k only run forward, by the plain kernels, and the gradient tree has {} in their places:
walking that tree beside the parameters', as optim does, meets what is trained and nothing else. A
head tied to wte is frozen with it; ln_f and an untied lm_head always train.
"""

import numpy as np

from picogpt.gradients import (
    block_backward,
    block_forward,
    drop,
    dropout_mask,
    gelu_backward,
    norm_backward,
)  # fmt: skip
from picogpt.kernels import gelu, hidden_states, layer_norm, positions

NOT_SCORED = -100  # a target that no loss is taken of, as in torch
N_LOGITS = 2**25  # at most so many logits are held at once: 128 MB of float32
UNUSED = {"scores", "scaled", "masked", "heads", "attn", "mlp", "y"}  # by the way back


# loss = -log softmax(l)_target = log sum_k exp(l_k) - l_target, so that
# dl_i = softmax(l)_i - 1[i = target] (softmax_cross_entropy, below).
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
    n_rows = max(1, N_LOGITS // len(w))
    for start in range(0, max(len(rows), 1), n_rows):  # once even if no row is scored
        part = rows[start : start + n_rows]
        logits = x[part] @ w.T  # [n_rows, n_embd] @ [n_embd, n_vocab] -> [n_rows, n_vocab]
        loss += softmax_cross_entropy(logits, targets[part])
        dlogits = logits  # what they have become
        dx[part] = dlogits @ w * share  # [.., n_vocab] @ [n_vocab, n_embd] -> [n_rows, n_embd]
        if not frozen:
            product = dlogits.T @ (x[part] * share)  # [n_vocab, n_rows] @ [n_rows, n_embd]
            dw = product if dw is None else np.add(dw, product, out=dw)
    return loss * share, dx, dw


def softmax_cross_entropy(logits, targets, n_rows=16):
    """The summed loss of logits `[n, n_vocab]`, which are turned into their own gradient."""
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

    The tokens are sorted first, so that each row's gradients can be summed in one piece.
    """
    order = np.argsort(index, kind="stable")
    rows, starts = np.unique(index[order], return_index=True)
    dtable[rows] += np.add.reduceat(dx[order], starts, axis=0)
    return dtable


def stack_forward(
    params, ids, n_head, *, lengths=None, first_trained_block=0, hidden=None, eps=1e-5, act=gelu,
    scale=None, dropout=0.0, rng=None,
):
    """Ids `[n_tokens]` -> what the head reads `[n_tokens, n_embd]`, and all that was seen.

    `hidden` `[n_tokens, n_embd]`, where given, is what enters the first trained block, kept from
    an earlier pass: the frozen blocks need not run again.
    """
    first, blocks = first_trained_block, params["blocks"]
    seen = {"blocks": [{} for _ in blocks], "ids": ids, "embd_dropped": 1.0}
    options = {"lengths": lengths, "eps": eps, "act": act}
    if hidden is None:
        hidden = hidden_states(
            ids, params["wte"], params["wpe"], blocks[:first], n_head, scale=scale, **options
        )
    x = hidden
    if first == 0 and dropout:
        seen["embd_dropped"] = dropout_mask(x.shape, dropout, rng, x.dtype)
        x = x * seen["embd_dropped"]
    for i in range(first, len(blocks)):

        def note(name, array, memory=seen["blocks"][i]):
            if name.partition(".")[0] not in UNUSED:
                memory[name] = array
            return array

        x = block_forward(
            x, **blocks[i], n_head=n_head, note=note, dropout=dropout, rng=rng,
            scale=None if scale is None else scale[i], **options,
        )  # fmt: skip
    seen["x"] = x
    return layer_norm(x, **params["ln_f"], eps=eps), seen


def stack_backward(
    dx, seen, params, n_head, *, lengths=None, first_trained_block=0, eps=1e-5,
    act_backward=gelu_backward, scale=None, dhead=None,
):
    """From the gradient of what the head reads: the gradients of all that is trained below it.

    `seen` is emptied on the way, so that memory falls as the gradients grow. dhead is the gradient
    of a head tied to wte, which wte's own is added to, in place.
    """
    blocks = params["blocks"]
    grads = {"blocks": [{} for _ in blocks]}
    dx, grads["ln_f"] = norm_backward(dx, seen["x"], params["ln_f"], eps)
    for i in reversed(range(first_trained_block, len(blocks))):
        dx, grads["blocks"][i] = block_backward(
            dx, seen["blocks"].pop(), **blocks[i], n_head=n_head, lengths=lengths, eps=eps,
            act_backward=act_backward, scale=None if scale is None else scale[i],
        )  # fmt: skip
    if first_trained_block == 0:
        dx = drop(dx, seen["embd_dropped"])
        dwte = np.zeros_like(params["wte"]) if dhead is None else dhead
        grads["wte"] = embedding_backward(dx, seen["ids"], dwte)
        where = positions(lengths, None, len(dx))
        grads["wpe"] = embedding_backward(dx, where, np.zeros_like(params["wpe"]))
    return grads


def loss_and_gradients(
    params, ids, targets, n_head, *, lengths=None, first_trained_block=0, hidden=None,
    n_scored=None, eps=1e-5, act=gelu, act_backward=gelu_backward, scale=None, dropout=0.0,
    rng=None,
):
    """Mean cross-entropy (nats) of targets after ids, and the tree of gradients.

    See `picogpt.loss_and_gradients`; `hidden` as in stack_forward, n_scored as in cross_entropy.
    """
    options = {"lengths": lengths, "first_trained_block": first_trained_block, "eps": eps}
    x, seen = stack_forward(
        params, ids, n_head, hidden=hidden, act=act, scale=scale, dropout=dropout, rng=rng,
        **options,
    )  # fmt: skip
    tied = "lm_head" not in params
    head, frozen = params["wte" if tied else "lm_head"], tied and first_trained_block > 0
    loss, dx, dhead = cross_entropy(x, targets, head, n_scored, frozen)
    grads = stack_backward(
        dx, seen, params, n_head, act_backward=act_backward, scale=scale,
        dhead=dhead if tied else None, **options,
    )  # fmt: skip
    if not tied:
        grads["lm_head"] = dhead
    return loss, {name: grads.get(name, {}) for name in params}
