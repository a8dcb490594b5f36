"""What the page shows of a text: the numbers of one `picogpt.trace`, chosen and packed.

To keep a page small, numbers are written in base 64, two to four signs each.
"""

import re

import numpy as np

from picogpt.gradients import attention_backward, layer_norm_backward
from picogpt.kernels import layer_norm, merge_heads, softmax, split_heads
from picogpt.model import output_matrix
from picogpt.quantization import dequantize_tree

SIGNS = np.frombuffer(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/", "u1")
N_SHOWN = 16  # components of a vector that are shown
VECTORS = ["x", "ln_1", "q", "k", "v", "heads", "joined", "attn", "x_mid", "ln_2", "c_fc", "act",
           "mlp", "y"]  # fmt: skip
# of a block's activations, what the way back through it reads
BACKWARD = ["x", "q", "k", "v", "weights", "joined", "x_mid", "c_fc"]


def pack(x, n_signs):
    """Numbers of any shape as whole steps above the lowest, in base 64: [signs, lowest, step].

    Each has n_signs signs: 64^n_signs different numbers can be told apart.
    """
    low = x.min()
    step = (x.max() - low) / (64**n_signs - 1) or 1
    steps = np.rint((x.reshape(-1, 1) - low) / step).astype(int)
    return [SIGNS[steps >> 6 * np.arange(n_signs)[::-1] & 63].tobytes().decode(), low, step]


def record(model, text, ids, activations):
    """What the page shows of one text: the trace, cut to what fits and packed."""

    def vector(name):  # of every token: the first components, and the norm
        x = activations[name]
        return [pack(x[..., :N_SHOWN], 3), pack(np.linalg.norm(x, axis=-1), 4)]

    n_layer = model.config.n_layer
    blocks = [{name: vector(f"blocks.{i}.{name}") for name in VECTORS} for i in range(n_layer)]
    for i, block in enumerate(blocks):
        heads = activations[f"blocks.{i}.scores"]  # [n_head, n_tokens, n_tokens]
        block["scores"] = [pack(head, 3 if len(ids) <= 64 else 2) for head in heads]
    last = pack(activations["logits"][-1, : model.encoder.n_vocab], 4)
    lens = logit_lens(model, np.stack([x[-1] for x in residual_stream(activations)]))
    ends = {name: vector(name) for name in ("wte", "wpe", "ln_f")}
    return {
        "text": text,
        "ids": ids,
        **ends,
        "blocks": blocks,
        "logits": last,
        "lens": lens,
        "predictions": predictions(activations["logits"][:, : model.encoder.n_vocab], ids),
    }


def predictions(logits, ids):
    """How each true next token was foretold: for all tokens but the last, a row.

    logits are `[n_tokens, n_vocab]`, ids `[n_tokens]`. A row is the true token's probability, its
    rank (1 is the likeliest), the likeliest token and that one's probability.
    """
    p = softmax(logits[:-1].astype(np.float64))  # [n_tokens - 1, n_vocab]
    rows = []
    for row, true in zip(p, ids[1:]):
        best = int(row.argmax())
        rows.append([float(row[true]), int(1 + (row > row[true]).sum()), best, float(row[best])])
    return rows


def head_effects(model, activations, best):
    """What silencing a head would do to the loss of the token `best`, last in line, to first order.

    `[n_layer][n_head]` nats: how much log p of that token would fall. A factor before a head's
    output, now 1, has the slope sum(output * gradient of the output); taking the head out is a step
    of -1 along it. Michel, Levy & Neubig 2019, "Are Sixteen Heads Really Better than One?", sec.
    4.1. The gradient goes back through the activations alone, as in `block_backward`; no weight's
    own gradient is needed, and those would take most of the time.
    """
    config, params = model.config, model.params
    dlogits = softmax(activations["logits"][-1])  # [n_vocab]
    dlogits[best] -= 1
    dln_f = np.zeros_like(activations["ln_f"])  # [n_tokens, n_embd]
    dln_f[-1] = dlogits @ output_matrix(params)
    eps = config.layer_norm_epsilon
    last = f"blocks.{config.n_layer - 1}.y"
    dy, _, _ = layer_norm_backward(dln_f, activations[last], params["ln_f"]["g"], eps)
    effects = []
    for i in reversed(range(config.n_layer)):
        of_block = {name: activations[f"blocks.{i}.{name}"] for name in BACKWARD}
        scale = config.scales[i]
        dy, djoined = back_through_block(dy, of_block, params["blocks"][i], config, scale)
        by_head = split_heads(djoined * of_block["joined"], config.n_head)  # [n_head, n_tokens, d]
        effects.insert(0, (-by_head.sum(axis=(1, 2))).astype(float).round(5).tolist())
    return effects


def back_through_block(dy, activations, block, config, scale):
    """From a block's dy: dx, and the gradient of its heads' outputs, both `[n_tokens, n_embd]`.

    `gradients.block_backward` less the gradients of the weights.
    """
    eps = config.layer_norm_epsilon
    mlp, attn = dequantize_tree(block["mlp"]), dequantize_tree(block["attn"])
    dh = config.act_backward(dy @ mlp["c_proj"]["w"].T, activations["c_fc"])  # [n_tokens, d_inner]
    da = dh @ mlp["c_fc"]["w"].T
    dy = dy + layer_norm_backward(da, activations["x_mid"], block["ln_2"]["g"], eps)[0]
    djoined = dy @ attn["c_proj"]["w"].T
    qkv = [activations[name] for name in ("q", "k", "v")]
    dheads = split_heads(djoined, config.n_head)  # [n_head, n_tokens, d]
    dqkv = attention_backward(dheads, *qkv, activations["weights"], scale=scale)
    da = np.hstack([merge_heads(part) for part in dqkv]) @ attn["c_attn"]["w"].T
    return dy + layer_norm_backward(da, activations["x"], block["ln_1"]["g"], eps)[0], djoined


def residual_stream(activations):
    """What enters the first block and what each hands on: n_layer + 1 of `[n_tokens, n_embd]`."""
    embeddings = activations["wte"] + activations["wpe"]
    return [embeddings, *(activations[name] for name in activations if name.endswith(".y"))]


def logit_lens(model, x):
    """What would come next if the model ended here: `[n_layer + 1, n_embd]` -> a row for each.

    A row is the five likeliest tokens as (id, probability), then probability and rank of the token
    that the whole model puts first. The idea: nostalgebraist 2020, "interpreting GPT".
    """
    x = layer_norm(x, **model.params["ln_f"], eps=model.config.layer_norm_epsilon)
    logits = x @ output_matrix(model.params).T  # [n_layer + 1, n_vocab]
    rows = softmax(logits[:, : model.encoder.n_vocab].astype(np.float64))
    first = rows[-1].argmax()
    return [
        [*([id, p[id]] for id in np.argsort(-p)[:5]), [p[first], 1 + (p > p[first]).sum()]]
        for p in rows
    ]


def shared_words(encoder, ids, activations):
    """Each word of both texts, where it stands, and its cosine at every depth of the model.

    ids and activations are pairs, of the two texts. A list of dicts: those first whose last token
    is the same in both texts, and among these the longest first.
    """
    places = [last_tokens(encoder, part) for part in ids]
    found = []
    for word in sorted(places[0].keys() & places[1].keys(), key=lambda word: (-len(word), word)):
        at = [place[word] for place in places]
        vectors = [[x[i] for x in residual_stream(one)] for i, one in zip(at, activations)]
        same = ids[0][at[0]] == ids[1][at[1]]  # "The" and " the" are two tokens
        cosines = list(map(cosine, *vectors))
        found.append({"word": word, "at": at, "same": same, "cosines": cosines})
    return sorted(found, key=lambda one: not one["same"])


def last_tokens(encoder, ids):
    """{word: index of its last token, which has seen the others}, where it comes last in the text.

    A byte that is no UTF-8, as of half a character put at the end by hand, parts two words.
    """
    # such a byte is a character of its own here (a surrogate) that becomes the byte again, so that
    # places in the text and in the bytes fit together
    text = encoder.decode_bytes(ids).decode("utf-8", "surrogateescape")
    ends = np.cumsum([len(encoder.decode_bytes([id])) for id in ids])  # of each token, in bytes
    found = {}
    for word in re.finditer(r"\w+", text):
        n_bytes = len(text[: word.end()].encode("utf-8", "surrogateescape"))
        found[word[0].casefold()] = ends.searchsorted(n_bytes)
    return found


def cosine(a, b):
    """a.b / (|a||b|): 1 where two vectors point the same way, 0 where at a right angle.

    >>> q, k = np.array([3, 4]), np.array([4, 3])  # both of length 5
    >>> int(q @ k), float(cosine(q, k))  # q.k = |q||k| cos: 24 = 5 x 5 x 0.96
    (24, 0.96)
    """
    return a @ b / (np.linalg.norm(a) * np.linalg.norm(b))
