"""The lecture's own example: a word in two sentences, the head that looks where the lecture does.

Beside it what GPT-2 lacks and translation needs: attention from one sentence to another.
"""

import re

import numpy as np

from picogpt.kernels import layer_norm
from picogpt.quantization import dequantize_tree
from picogpt.reference import attention, linear, softmax

SENTENCES = (
    "I prefer a wireless mouse for my computer",
    "This morning, there was a tiny mouse under my bed",
)
WORD, TELLING = "mouse", ("wireless", "tiny")  # what tells which mouse it is


def places_of(encoder, ids, word):
    """The indices of the tokens that write `word` where it first comes; ids are of a whole text."""
    text = encoder.decode(ids)
    ends = np.cumsum([len(encoder.decode_bytes([id])) for id in ids])  # of each token, in bytes
    found = re.search(rf"\b{word}\b", text)
    first, last = (len(text[:i].encode()) for i in (found.start() + 1, found.end()))
    return list(range(ends.searchsorted(first), ends.searchsorted(last) + 1))


def lecture_places(encoder, ids):
    """For each sentence: the place of `mouse`, and the places of the word that tells which it is.

    A place is the index of a token; `mouse` has that of its last, which has seen the others.
    """
    return [
        {"word": places_of(encoder, part, WORD)[-1], "telling": places_of(encoder, part, telling)}
        for part, telling in zip(ids, TELLING)
    ]


def lecture_head(model, places, activations):
    """[block, head] in which `mouse` looks most at `wireless` and `tiny`, and how much.

    That is the weight on the word's tokens together, the mean of both sentences, from 0 to 1.
    """
    config = model.config
    total = 0.0
    for place, arrays in zip(places, activations):
        weights = np.stack([arrays[f"blocks.{i}.weights"] for i in range(config.n_layer)])
        total += weights[:, :, place["word"], place["telling"]].sum(axis=-1) / 2
    block, head = np.unravel_index(total.argmax(), total.shape)  # of [n_layer, n_head]
    return [int(block), int(head)], float(total.max())


def cross_attention(x, other, query, key, value):
    """Every token of x looks at the tokens of another sentence: what an encoder-decoder adds.

    x `[n_x, n_embd]`, other `[n_other, n_embd]`, each of the three {w `[n_embd, d]`, b `[d]`} ->
    `[n_x, d]`. Queries come of one sentence, keys and values of the other. Vaswani et al. 2017,
    sec. 3.2.3.
    """
    q = linear(x, **query)  # [n_x, n_embd] -> [n_x, d]
    k = linear(other, **key)  # [n_other, n_embd] -> [n_other, d]
    v = linear(other, **value)  # [n_other, n_embd] -> [n_other, d]
    no_mask = np.zeros((len(q), len(k)))  # the other sentence is there as a whole
    return attention(q, k, v, no_mask)  # [n_x, n_other] @ [n_other, d] -> [n_x, d]


def cross_example(model, activations, block, head):
    """One head's cross-attention from the first sentence to the second, as a dict of lists.

    "weights" are `[n_first, n_second]`, "norms" `[n_first]`, of what each token is given. GPT-2 has
    not learned to look at another sentence: this shows how it is done, not what for.
    """
    params = model.params["blocks"][block]
    config = model.config
    x, other = (
        layer_norm(arrays[f"blocks.{block}.x"], **params["ln_1"], eps=config.layer_norm_epsilon)
        for arrays in activations
    )
    c_attn = dequantize_tree(params["attn"]["c_attn"])
    w, b = (np.split(c_attn[name], 3, axis=-1) for name in ("w", "b"))
    d = config.n_embd // config.n_head
    columns = slice(head * d, (head + 1) * d)
    parts = [{"w": w[i][:, columns], "b": b[i][columns]} for i in range(3)]  # query, key, value
    q, k = linear(x, **parts[0]), linear(other, **parts[1])
    # once more by hand, for `attention` keeps its weights to itself
    weights = softmax(q @ k.T / q.shape[-1] ** 0.5)
    given = cross_attention(x, other, *parts)
    return {
        "weights": weights.round(5).tolist(),
        "norms": np.linalg.norm(given, axis=-1).round(5).tolist(),
    }
