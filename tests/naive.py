"""GPT-2 as the lecture writes it: a list of heads, one head after the other, no cache, no batch.

Nothing here is shared with picogpt: it is what the tests hold picogpt's numbers against, and what
the benchmarks hold its speed against. Parameters are picogpt's own, as they are. Idea: Jay Mody,
"GPT in 60 Lines of NumPy", 2023. For the original GPT-2 only: tanh-gelu, eps 1e-5, tied output.
"""

import math

import numpy as np


def gelu(x):
    return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def softmax(x):
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def layer_norm(x, g, b):
    mean = x.mean(axis=-1, keepdims=True)
    variance = x.var(axis=-1, keepdims=True)
    return g * (x - mean) / np.sqrt(variance + 1e-5) + b


def linear(x, w, b):
    return x @ w + b


def ffn(x, c_fc, c_proj):
    return linear(gelu(linear(x, **c_fc)), **c_proj)


def attention(q, k, v, mask):  # [n_q, d], [n_k, d], [n_k, d], [n_q, n_k] -> [n_q, d]
    return softmax(q @ k.T / math.sqrt(q.shape[-1]) + mask) @ v


def mha(x, c_attn, c_proj, n_head):  # [n_seq, n_embd] -> [n_seq, n_embd]
    q, k, v = np.split(linear(x, **c_attn), 3, axis=-1)
    q_heads, k_heads, v_heads = (np.split(part, n_head, axis=-1) for part in (q, k, v))
    mask = (1 - np.tri(len(x), dtype=x.dtype)) * -1e10
    heads = [attention(q, k, v, mask) for q, k, v in zip(q_heads, k_heads, v_heads)]
    return linear(np.hstack(heads), **c_proj)


def transformer_block(x, mlp, attn, ln_1, ln_2, n_head):  # [n_seq, n_embd] -> [n_seq, n_embd]
    x = x + mha(layer_norm(x, **ln_1), **attn, n_head=n_head)
    return x + ffn(layer_norm(x, **ln_2), **mlp)


def gpt2(inputs, wte, wpe, blocks, ln_f, n_head):  # [n_seq] -> [n_seq, n_vocab]
    x = wte[inputs] + wpe[range(len(inputs))]
    for block in blocks:
        x = transformer_block(x, **block, n_head=n_head)
    return layer_norm(x, **ln_f) @ wte.T


def generate(inputs, params, n_head, n_tokens):
    """Greedy: run everything again for every token."""
    inputs = list(inputs)
    for _ in range(n_tokens):
        logits = gpt2(inputs, **params, n_head=n_head)
        inputs.append(int(np.argmax(logits[-1])))
    return inputs[-n_tokens:]
