"""GPT-2 on one page, as a lecture and Jay Mody's picoGPT have it: start here.

Every formula is written as it stands in the papers: one sequence, no cache, everything computed
again for every token. `python -m picogpt.reference "prompt"` writes on with it. kernels.py has the
same functions for batches and with a cache, and the tests hold its numbers against these.

Signatures and the idea are picoGPT's (Jay Mody, "GPT in 60 Lines of NumPy", 2023); the model is
Radford et al., "Language Models are Unsupervised Multitask Learners", 2019. `params` is the nested
dict of a model's arrays: picogpt.load("tiny").params. For GPT-2 as it was published: gelu by tanh,
eps 1e-5, wte as the output matrix too.
"""

import numpy as np


def gelu(x):
    """Smooth gate between 0 and x, elementwise. Hendrycks & Gimpel 2016, sec. 2."""
    return 0.5 * x * (1 + np.tanh((2 / np.pi) ** 0.5 * (x + 0.044715 * x**3)))


def softmax(x):
    """Scores [..., n] -> weights [..., n] that are positive and sum to 1."""
    exp_x = np.exp(x - np.max(x, axis=-1, keepdims=True))  # less the largest: no overflow
    return exp_x / np.sum(exp_x, axis=-1, keepdims=True)


def layer_norm(x, g, b, eps=1e-5):
    """Every row to mean 0 and variance 1, times g, plus b. Ba, Kiros & Hinton 2016, eq. 4."""
    mean = np.mean(x, axis=-1, keepdims=True)
    variance = np.var(x, axis=-1, keepdims=True)
    x = (x - mean) / np.sqrt(variance + eps)  # [n_seq, n_embd]
    return g * x + b  # [n_seq, n_embd]


def linear(x, w, b):
    """Matrix product and bias."""
    return x @ w + b  # [n_seq, n_in] @ [n_in, n_out] + [n_out] -> [n_seq, n_out]


def ffn(x, c_fc, c_proj):
    """Feed-forward network: think about every token by itself. Vaswani et al. 2017, sec. 3.3."""
    a = gelu(linear(x, **c_fc))  # [n_seq, n_embd] -> [n_seq, 4*n_embd]
    return linear(a, **c_proj)  # [n_seq, 4*n_embd] -> [n_seq, n_embd]


def attention(q, k, v, mask):
    """For every query: the values, weighted by how well their keys fit. Vaswani 2017, eq. 1."""
    scores = q @ k.T / q.shape[-1] ** 0.5  # [n_q, d] @ [d, n_k] -> [n_q, n_k]
    return softmax(scores + mask) @ v  # [n_q, n_k] @ [n_k, d] -> [n_q, d]


def mha(x, c_attn, c_proj, n_head):
    """Multi-head causal self-attention: look at the tokens so far. Vaswani 2017, sec. 3.2.2."""
    x = linear(x, **c_attn)  # [n_seq, n_embd] -> [n_seq, 3*n_embd]
    qkv = np.split(x, 3, axis=-1)  # [n_seq, 3*n_embd] -> 3 of [n_seq, n_embd]
    q, k, v = [np.split(part, n_head, axis=-1) for part in qkv]  # n_head of [n_seq, d] each
    causal_mask = (1 - np.tri(len(x), dtype=x.dtype)) * -1e10  # [n_seq, n_seq]: hides the future
    heads = [attention(q[i], k[i], v[i], causal_mask) for i in range(n_head)]
    return linear(np.hstack(heads), **c_proj)  # n_head of [n_seq, d] -> [n_seq, n_embd]


def transformer_block(x, mlp, attn, ln_1, ln_2, n_head):
    """One layer: each part adds to what it was given. Radford et al. 2019, sec. 2.3."""
    x = x + mha(layer_norm(x, **ln_1), **attn, n_head=n_head)  # [n_seq, n_embd]
    return x + ffn(layer_norm(x, **ln_2), **mlp)  # [n_seq, n_embd]


def gpt2(inputs, wte, wpe, blocks, ln_f, n_head):
    """Token ids [n_seq] -> logits [n_seq, n_vocab]: row i rates what may follow token i."""
    x = wte[inputs] + wpe[range(len(inputs))]  # [n_seq] -> [n_seq, n_embd]
    for block in blocks:
        x = transformer_block(x, **block, n_head=n_head)  # [n_seq, n_embd] -> [n_seq, n_embd]
    return layer_norm(x, **ln_f) @ wte.T  # [n_seq, n_embd] -> [n_seq, n_vocab]


def generate(inputs, params, n_head, n_tokens_to_generate):
    """Write on from the ids, always the likeliest token: the list of the new ids."""
    inputs = list(inputs)
    for _ in range(n_tokens_to_generate):
        logits = gpt2(inputs, **params, n_head=n_head)  # [n_seq, n_vocab]
        inputs.append(int(np.argmax(logits[-1])))  # what follows the last token
    return inputs[-n_tokens_to_generate:] if n_tokens_to_generate else []


def main(prompt: str, *, n_tokens_to_generate: int = 40, model_size: str | None = None):
    """Continue a prompt with the formulas of this page, greedily; gpt2.py does it fast.

    Args:
        prompt: the text to continue.
        n_tokens_to_generate: how many tokens to write.
        model_size: 124M, 355M, 774M, 1558M, tiny, a folder or a hub id; without it 124M, or tiny.
    """
    import sys  # here, so that the page above needs numpy and nothing else
    import time

    from picogpt import kernels
    from picogpt.generation import prompt_ids
    from picogpt.model import load
    from picogpt.tools.cli import at_least
    from picogpt.tools.errors import CheckpointError, TextError

    at_least(0, n_tokens_to_generate=n_tokens_to_generate)
    model = load(model_size, needs_text=True)
    config = model.config
    as_published = (
        config.act is kernels.gelu
        and config.layer_norm_epsilon == 1e-5
        and config.scale_attn_weights
        and not config.scale_attn_by_inverse_layer_idx
        and "lm_head" not in model.params
    )
    if not as_published:
        raise CheckpointError(f"{model.name} is not as GPT-2 was published: gpt2.py can run it")
    ids = prompt_ids(model, prompt)
    if len(ids) + n_tokens_to_generate > config.n_ctx:
        raise TextError(f"prompt and continuation are more than the model's {config.n_ctx} tokens")
    start = time.perf_counter()
    new_ids = generate(ids, model.params, config.n_head, n_tokens_to_generate)
    seconds = time.perf_counter() - start
    print(model.encoder.decode(new_ids))
    speed = len(new_ids) / max(seconds, 1e-9)
    print(f"{speed:.1f} tokens a second; gpt2.py is the fast one", file=sys.stderr)


if __name__ == "__main__":
    from picogpt.tools.cli import run

    run(main)
