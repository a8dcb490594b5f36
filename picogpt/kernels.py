"""GPT-2's forward pass as the engine runs it: reference.py's formulas for batches, with a cache.

Activations are `[n_tokens, n_embd]` throughout. A batch is sequences laid end to end in one such
array, and `lengths=[5, 3, 7]` says where to cut; without it there is one sequence. Positions,
attention and the picking of last tokens look at it; all else takes each row by itself. With
`caches`, sequence i goes on where it stopped; they are the only thing that a kernel writes to.
`deal(f, jobs)` is [f(job) for job in jobs], where no job needs another: on one core (`in_turn`, the
default) or on several (tools/cores.py).

Formulas come first, each before the one that calls it, from gelu to gpt2. What batches, the cache
and speed need stands together at the end.

Signatures are those of picoGPT (Jay Mody, "GPT in 60 Lines of NumPy", 2023); the model is
Radford et al., "Language Models are Unsupervised Multitask Learners", 2019.
"""

import numpy as np


def gelu(x):
    """Smooth gate: x times (nearly) the chance that a standard normal lies below x.

    The tanh approximation that GPT-2 uses; elementwise, any shape. Hendrycks & Gimpel 2016, sec. 2.
    """
    return 0.5 * x * (1 + np.tanh((2 / np.pi) ** 0.5 * (x + 0.044715 * x * x * x)))


def softmax(x):
    """Turn scores `[..., n]` into weights `[..., n]` that are positive and sum to 1.

    Subtracting the largest score changes nothing but keeps exp from overflowing.
    """
    exp_x = np.exp(x - x.max(axis=-1, keepdims=True))
    return exp_x / exp_x.sum(axis=-1, keepdims=True)


def layer_norm(x, g, b, eps=1e-5):
    """Give every row of x mean 0 and variance 1, then stretch by g and shift by b.

    `[n_tokens, n_embd] -> [n_tokens, n_embd]`, g and b `[n_embd]`. Ba, Kiros & Hinton 2016, eq. 4.
    """
    n = x.shape[-1]  # sum / n is x.mean, which takes twice as long on a single token
    x = x - x.sum(axis=-1, keepdims=True) / n
    variance = (x * x).sum(axis=-1, keepdims=True) / n
    return g * (x / np.sqrt(variance + eps)) + b


def in_turn(f, jobs):
    """One job after the other, on one core: [f(job) for job in jobs]."""
    return [f(job) for job in jobs]


def linear(x, w, b, *, s=None, deal=in_turn):
    """Matrix product and bias: `[n_tokens, n_in], [n_in, n_out], [n_out] -> [n_tokens, n_out]`.

    With s `[n_out]`, w is int8 and the matrix that is meant is w * s: see quantization.py.
    """
    if s is not None:
        y = int8_product(x, w, deal=deal)
        y *= s  # x @ (w * s) is (x @ w) * s: a column of w has one scale
    elif len(x) <= 64 and w.flags.f_contiguous:  # by columns: see checkpoint/weights.py
        y = (w.T @ x.T).T  # the same product; for so few rows up to 1.5 times as fast
    else:
        y = x @ w
    y += b  # in place: at this size a second array would cost more than the sum
    return y


def ffn(x, c_fc, c_proj, *, act=gelu, deal=in_turn):
    """Every token by itself: widen, activate, narrow: `[n_tokens, n_embd] -> [n_tokens, n_embd]`.

    Vaswani et al. 2017, sec. 3.3, with `act` (gelu) in the place of max(0, .).
    """
    h = linear(x, **c_fc, deal=deal)  # [n_tokens, n_embd] -> [n_tokens, 4*n_embd]
    h = few_rows(act, h, deal=deal)  # [n_tokens, 4*n_embd]
    return linear(h, **c_proj, deal=deal)  # [n_tokens, 4*n_embd] -> [n_tokens, n_embd]


def attention(q, k, v, mask, *, scale=None):
    """Every query's average of the values, weighted by how well their keys match the query.

    q `[..., n_q, d]`, k and v `[..., n_k, d]`, mask `[n_q, n_k]` -> `[..., n_q, d]`; the mask is
    added to the scores: 0 where a query may look, -1e10 where it may not. `scale` is a number, None
    is 1/sqrt(d). Vaswani et al. 2017, eq. 1.

    The example of the lecture that the exercises follow (teaching/README.md): what "mouse" finds in
    three values, its scores made to be log 0.5, log 0.3 and log 0.2. There is no mask; in GPT-2
    "mouse" could not look at the "computer" after it.

    >>> mouse, computer, wireless = [1, 0], [0, 1], [1, 1]
    >>> k, v = np.log([[0.5], [0.3], [0.2]]), np.array([mouse, computer, wireless])
    >>> attention(np.ones((1, 1)), k, v, mask=0).round(2)  # 0.5 mouse + 0.3 computer + 0.2 wireless
    array([[0.7, 0.5]])
    """
    if scale is None:
        scale = q.shape[-1] ** -0.5
    return softmax(q @ k.swapaxes(-1, -2) * scale + mask) @ v


def causal_mask(n_q, n_k, dtype):
    """0 where the newest n_q of n_k tokens may look, -1e10 on the future: `[n_q, n_k]`.

    The lecture's slide prints weights where scores would stand; their logarithms are such scores.

    >>> slide = [[1, 9, 9], [0.4, 0.6, 9], [0.2, 0.3, 0.5]]  # whatever stood where the 9s are
    >>> softmax(np.log(slide) + causal_mask(3, 3, float)).round(2)
    array([[1. , 0. , 0. ],
           [0.4, 0.6, 0. ],
           [0.2, 0.3, 0.5]])
    """
    hidden = max(-1e10, float(np.finfo(dtype).min) / 2)  # float16 ends at -65504; half: room to add
    return (1 - np.tri(n_q, n_k, n_k - n_q, dtype=dtype)) * hidden


def split_heads(x, n_head):
    """`[n_tokens, n_embd] -> [n_head, n_tokens, n_embd/n_head]`: each head gets its own columns."""
    return x.reshape(len(x), n_head, -1).swapaxes(0, 1)


def merge_heads(x):
    """`[n_head, n_tokens, d] -> [n_tokens, n_head*d]`: the way back."""
    return x.swapaxes(0, 1).reshape(x.shape[1], -1)


def mha(
    x, c_attn, c_proj, n_head, *, lengths=None, caches=None, scale=None, last_only=False, n_rows=64,
    deal=in_turn,
):
    """Multi-head causal self-attention: `[n_tokens, n_embd] -> [n_tokens, n_embd]`.

    Each head attends in its own n_embd/n_head columns, within each sequence, to the present and
    the past. `caches` `[n_sequences]` has, for each sequence, the dict of this block (`new_cache`);
    `scale` is a number. Queries go n_rows at a time: their scores stay in the processor's cache,
    and most of what the mask would hide is never computed. With last_only, only the last token of
    each sequence asks: `[n_sequences, n_embd]`. Vaswani et al. 2017, sec. 3.2.2.
    """
    # project to queries, keys and values, and give each head its columns
    qkv = linear(x, **c_attn, deal=deal)  # [n_tokens, n_embd] -> [n_tokens, 3*n_embd]
    thirds = qkv.reshape(len(x), 3, -1).swapaxes(0, 1)  # [3, n_tokens, n_embd]
    q, k, v = (split_heads(third, n_head) for third in thirds)  # [n_head, n_tokens, d] each

    jobs = []
    for i, rows in enumerate(split_by_lengths(lengths, len(x))):
        # put the past before the sequence's own keys and values
        keys, values = k[:, rows], v[:, rows]  # [n_head, n_new, d]
        if caches is not None:
            keys, values = extend_cache(caches[i], keys, values)  # [n_head, n_past + n_new, d]
        n_past = keys.shape[1] - (rows.stop - rows.start)

        # a few queries at a time, and what they may look at: no further than the last of them
        first_query = rows.stop - 1 if last_only else rows.start
        for start in range(first_query, rows.stop, n_rows):
            stop = min(start + n_rows, rows.stop)
            n_k = n_past + stop - rows.start
            jobs.append((q[:, start:stop], keys[:, :n_k], values[:, :n_k]))

    def attend(job):
        queries, keys, values = job
        n_q, n_k = queries.shape[1], keys.shape[1]
        # a single query is its sequence's newest so far: nothing to hide
        mask = causal_mask(n_q, n_k, qkv.dtype) if n_q > 1 else 0.0
        heads = attention(queries, keys, values, mask, scale=scale)
        return merge_heads(heads)  # [n_head, n_rows, d] -> [n_rows, n_embd]

    # join what the heads found, and project back into the residual stream
    y = np.concatenate(deal(attend, jobs))  # [n_tokens or n_sequences, n_embd]
    return linear(y, **c_proj, deal=deal)  # [.., n_embd] -> [.., n_embd]


def transformer_block(
    x, mlp, attn, ln_1, ln_2, n_head, *, lengths=None, caches=None, eps=1e-5, act=gelu, scale=None,
    last_only=False, deal=in_turn,
):
    """One layer: look at other tokens, then think about each: `[n_tokens, n_embd]` in and out.

    Layer norm comes before each part ("pre-norm") and each part's result is added to what
    it was given (residual connection). `caches` and `scale` are those of this block, as in `mha`.
    With last_only, only the last token of each sequence comes out. Radford et al. 2019, sec. 2.3.
    """
    a = mha(
        layer_norm(x, **ln_1, eps=eps), **attn, n_head=n_head, lengths=lengths, caches=caches,
        scale=scale, last_only=last_only, deal=deal,
    )  # [n_tokens, n_embd] -> [n_tokens or n_sequences, n_embd]
    if last_only:
        x = x[last_rows(lengths, len(x))]  # [n_tokens, n_embd] -> [n_sequences, n_embd]
    x = x + a
    return x + ffn(layer_norm(x, **ln_2, eps=eps), **mlp, act=act, deal=deal)  # [.., n_embd]


def hidden_states(
    inputs, wte, wpe, blocks, n_head, *, lengths=None, caches=None, eps=1e-5, act=gelu, scale=None,
    last_only=False, deal=in_turn,
):
    """Embed the tokens and run them through the blocks: ids `[n_tokens]` -> `[n_tokens, n_embd]`.

    What comes out has not passed ln_f. `caches` is `[n_sequences][n_layer]`, `scale` a list of one
    number for each block. With last_only, the last block gives the last token of each sequence
    alone: `[n_sequences, n_embd]`. Raises ValueError when a sequence is longer than wpe, when
    lengths don't add up, and for more or fewer caches than sequences.

    "I love deep learning" as the lecture has it, with sinusoids (Vaswani et al. 2017, sec. 3.5) for
    wpe; GPT-2 learns its wpe instead: the rows then are whatever serves the prediction best. (The
    lecture's slide cuts digits off where these are rounded: 2.79, 2.30, 2.69 and 2.59.)

    >>> wte = np.array([[1.2, 1.3, 1.4, 1.9], [1.3, 1.4, 1.5, 1.8],
    ...                 [1.4, 1.5, 1.6, 1.7], [1.5, 1.6, 1.6, 1.6]])
    >>> angle = np.outer(range(4), [1, 0.01])  # position / 10000^(2i / d_model), d_model = 4
    >>> wpe = np.stack([np.sin(angle), np.cos(angle)], axis=-1).reshape(4, 4)
    >>> hidden_states([0, 1, 2, 3], wte, wpe, blocks=[], n_head=1).round(2)
    array([[1.2 , 2.3 , 1.4 , 2.9 ],
           [2.14, 1.94, 1.51, 2.8 ],
           [2.31, 1.08, 1.62, 2.7 ],
           [1.64, 0.61, 1.63, 2.6 ]])
    """
    where = positions(lengths, caches, len(inputs), n_ctx=len(wpe))  # [n_tokens]
    x = wte[inputs] + wpe[where]  # [n_tokens] -> [n_tokens, n_embd]
    for i, block in enumerate(blocks):
        x = transformer_block(
            x, **block, n_head=n_head, lengths=lengths, eps=eps, act=act,
            caches=None if caches is None else [cache[i] for cache in caches],
            scale=None if scale is None else scale[i],
            last_only=last_only and i == len(blocks) - 1, deal=deal,
        )  # [n_tokens, n_embd] -> [n_tokens, n_embd]
    if last_only and not blocks:
        x = x[last_rows(lengths, len(x))]
    return x


def gpt2(
    inputs, wte, wpe, blocks, ln_f, n_head, *, lengths=None, caches=None, eps=1e-5, act=gelu,
    scale=None, lm_head=None, last_only=False, deal=in_turn,
):
    """Logits for what follows every token: ids `[n_tokens]` -> logits `[n_tokens, n_vocab]`.

    With last_only, for what follows each sequence: `[n_sequences, n_vocab]`. `caches` is
    `[n_sequences][n_layer]`, from `new_cache`; `scale` None or a list, one number for each block;
    `lm_head` `[n_vocab, n_embd]` None is wte, the tied output; in int8 it is what `linear` takes.
    Raises ValueError as `hidden_states` does. Radford et al. 2019; tied output: Press & Wolf 2017.
    """
    x = hidden_states(
        inputs, wte, wpe, blocks, n_head, lengths=lengths, caches=caches, eps=eps, act=act,
        scale=scale, last_only=last_only, deal=deal,
    )  # [n_tokens] -> [n_tokens, n_embd], or [n_sequences, n_embd]
    x = layer_norm(x, **ln_f, eps=eps)
    if isinstance(lm_head, dict):
        return linear(x, **lm_head, deal=deal)  # [.., n_embd] -> [.., n_vocab]
    return x @ (wte if lm_head is None else lm_head).T  # [.., n_embd] -> [.., n_vocab]


# What batches, the cache and speed need


def split_by_lengths(lengths, n_tokens):
    """The slices that `lengths` cuts n_tokens rows into; None is one sequence.

    Raises ValueError where the lengths don't add up.
    """
    if lengths is None:
        return [slice(0, n_tokens)]
    slices, start = [], 0
    for n in map(int, lengths):  # sums of NumPy's small numbers would run over
        slices.append(slice(start, start + n))
        start += n
    if not slices or start != n_tokens or min(lengths) < 1:
        raise ValueError(f"lengths {list(lengths)} must be positive and add up to {n_tokens}")
    return slices


def last_rows(lengths, n_tokens):
    """Where the last token of each sequence stands: a list `[n_sequences]`."""
    return [rows.stop - 1 for rows in split_by_lengths(lengths, n_tokens)]


def positions(lengths, caches, n_tokens, n_ctx):
    """Where in its sequence every token stands `[n_tokens]`; a cached sequence goes on counting.

    Raises ValueError where there are more or fewer caches than sequences, and for a position that
    is not below n_ctx.
    """
    slices = split_by_lengths(lengths, n_tokens)
    pasts = [0] * len(slices) if caches is None else [cache[0]["length"] for cache in caches]
    if len(pasts) != len(slices):
        raise ValueError(f"{len(slices)} sequences but {len(pasts)} caches")
    steps = [np.arange(past, past + rows.stop - rows.start) for past, rows in zip(pasts, slices)]
    where = np.concatenate(steps)
    if where.max() >= n_ctx:
        raise ValueError(f"position {where.max()} is past the {n_ctx} that the model has")
    return where


def new_cache(n_layer, n_head, n_ctx, d_head, dtype=np.float32):
    """An empty cache for one sequence: a list `[n_layer]` of a dict for each block.

    Its k and v `[n_head, n_ctx, d_head]` have room for n_ctx tokens, of which `length` are filled.
    """
    shape = (n_head, n_ctx, d_head)
    return [
        {"k": np.empty(shape, dtype), "v": np.empty(shape, dtype), "length": 0}
        for _ in range(n_layer)
    ]


def extend_cache(cache, k, v):
    """Write k, v `[n_head, n_new, d]` behind what one sequence's cache of one block holds.

    Gives back all keys and values so far, `[n_head, length, d]` each. Raises ValueError when they
    don't fit.
    """
    start, end = cache["length"], cache["length"] + k.shape[1]
    if end > cache["k"].shape[1]:
        raise ValueError(f"{end} tokens are more than the cache's {cache['k'].shape[1]} positions")
    cache["k"][:, start:end] = k
    cache["v"][:, start:end] = v
    cache["length"] = end
    return cache["k"][:, :end], cache["v"][:, :end]


def few_rows(f, x, *others, n_rows=64, deal=in_turn):
    """f(x), a few rows at a time, so that temporaries stay in the processor's cache.

    f makes of each row, and of those at its place in the others, a row as long as x's. On
    `[512, 3072]` gelu takes a third of the time.
    """
    if len(x) <= n_rows:
        return f(x, *others)
    y = np.empty_like(x)

    def fill(start):
        rows = slice(start, start + n_rows)
        y[rows] = f(x[rows], *(other[rows] for other in others))

    deal(fill, range(0, len(x), n_rows))
    return y


def int8_product(x, w, *, n_numbers=2**17, deal=in_turn):
    """x @ w for an int8 w `[n_in, n_out]`, a few columns at a time: `[n_tokens, n_out]`.

    NumPy's BLAS multiplies floats alone, so each number of w must become one. Widened as a whole, w
    would go to memory as floats and come back. A few columns at a time, which lie one after the
    other, stay in the processor's cache: only the bytes come from memory.
    """
    y = np.empty((len(x), w.shape[1]), x.dtype)
    n_columns = max(1, n_numbers // len(w))

    def fill(start):
        columns = slice(start, start + n_columns)
        y[:, columns] = (w[:, columns].T.astype(x.dtype) @ x.T).T

    deal(fill, range(0, w.shape[1], n_columns))
    return y
