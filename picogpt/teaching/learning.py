"""One step of learning, seen from close by: loss, gradients, AdamW's step, and what they change.

The numbers are those of backprop.py and optim.py, at work on a copy of the parameters.
"""

import numpy as np
from tqdm import tqdm

from picogpt import kernels, optim
from picogpt.model import loss_and_gradients
from picogpt.optim import global_norm
from picogpt.tools.progress import hidden
from picogpt.tools.tree import tree_map

N_STEPS = 20
# a rate of pre-training: large enough that a single step shows, and that others are forgotten
LEARNING_RATE = 1e-3
WEIGHT_DECAY = 0.01  # optim.adamw's own
PARTS = ["ln_1", "attn.c_attn", "attn.c_proj", "ln_2", "mlp.c_fc", "mlp.c_proj"]


def learn(model, ids, other_ids):
    """What N_STEPS steps on one sentence do to it, and to another one, as JSON's dicts and lists.

    ids and other_ids: lists of at least two token ids. Only the first is trained on. The first step
    is told in full: gradients, and what AdamW makes of a few weights. Losses are in nats a token.
    """
    params = tree_map(np.copy, model.params)  # the model itself stays as it is
    model = model._replace(params=params)
    state, decays = optim.new_state(params), optim.decay_mask(params)
    losses = [token_losses(model, ids)]
    other_losses = [token_losses(model, other_ids)]
    step = {}
    for _ in tqdm(range(N_STEPS), "learning", leave=False, disable=hidden()):
        _, grads = loss_and_gradients(model, ids[:-1], ids[1:])
        if not step:  # the first is the one that is looked at
            step = {"norms": gradient_norms(grads), **choose_weights(model, ids, grads)}
        optim.adamw(params, grads, state, LEARNING_RATE, weight_decay=WEIGHT_DECAY, decays=decays)
        if "after" not in step:
            step["after"] = weights_after(step, params, state)
        losses.append(token_losses(model, ids))
        other_losses.append(token_losses(model, other_ids))
    return {
        "ids": ids,
        "other": other_ids,
        "rate": LEARNING_RATE,
        "decay": WEIGHT_DECAY,
        "step": step,
        "losses": [[round(float(loss), 5) for loss in row] for row in losses],
        "other_losses": [round(float(row.mean()), 5) for row in other_losses],
    }


def token_losses(model, ids):
    """-log of the probability that each true next token gets, in nats: `[n_tokens - 1]`."""
    options = model.config.kernel_options
    logits = kernels.gpt2(ids[:-1], **model.params, **options).astype(np.float64)
    logits -= logits.max(axis=-1, keepdims=True)
    log_total = np.log(np.exp(logits).sum(axis=-1))  # [n_tokens - 1]
    return log_total - logits[np.arange(len(ids) - 1), ids[1:]]


def gradient_norms(grads):
    """The gradient's norm for each of PARTS of each block, for what stands around, and for all."""
    blocks = []
    for block in grads["blocks"]:
        parts = {**block, **{f"attn.{k}": part for k, part in block["attn"].items()},
                 **{f"mlp.{k}": part for k, part in block["mlp"].items()}}  # fmt: skip
        blocks.append([global_norm(parts[name]) for name in PARTS])
    ends = {name: global_norm(part) for name, part in grads.items() if name != "blocks"}
    return {"parts": PARTS, "blocks": blocks, "ends": ends, "all": global_norm(grads)}


def choose_weights(model, ids, grads):
    """Five weights to look at, of the c_attn with the largest gradient; the page follows the first.

    It has that largest gradient, the others smaller and smaller ones. A dict: the block, [row,
    column] of each weight, their values and gradients, and the first one's gradient once more, by
    finite differences.
    """
    matrices = [block["attn"]["c_attn"]["w"] for block in grads["blocks"]]
    block = int(np.argmax([np.abs(dw).max() for dw in matrices]))
    dw = matrices[block]
    w = model.params["blocks"][block]["attn"]["c_attn"]["w"]
    order = np.argsort(-np.abs(dw), axis=None)  # the largest first
    chosen = order[[0, 1, len(order) // 10, len(order) // 2, 9 * len(order) // 10]]
    places = [[int(i) for i in np.unravel_index(place, dw.shape)] for place in chosen]
    return {
        "block": block,
        "places": places,
        "before": [float(w[row, column]) for row, column in places],
        "gradients": [float(dw[row, column]) for row, column in places],
        "checked": finite_difference(model, ids, block, *places[0]),
    }


def finite_difference(model, ids, block, row, column, h=1e-3):
    """(loss(w + h) - loss(w - h)) / 2h for one weight of c_attn, and the two losses: a dict.

    That matrix is float64 here, and with it all that comes after it: in float32 the difference of
    two losses so close would be rounding.
    """

    def loss(moved):
        changed = model.params["blocks"][block]["attn"]["c_attn"]["w"].astype(np.float64)
        changed[row, column] += moved
        c_attn = model.params["blocks"][block]["attn"]["c_attn"] | {"w": changed}
        blocks = list(model.params["blocks"])
        blocks[block] = blocks[block] | {"attn": blocks[block]["attn"] | {"c_attn": c_attn}}
        params = model.params | {"blocks": blocks}
        return float(token_losses(model._replace(params=params), ids).mean())

    up, down = loss(h), loss(-h)
    return {"h": h, "up": up, "down": down, "slope": (up - down) / (2 * h)}


def weights_after(step, params, state):
    """What AdamW made of the chosen weights: m, v and the new weight of each."""

    def of(tree):
        matrix = tree["blocks"][step["block"]]["attn"]["c_attn"]["w"]
        return [float(matrix[row, column]) for row, column in step["places"]]

    return {"m": of(state["m"]), "v": of(state["v"]), "w": of(params)}
