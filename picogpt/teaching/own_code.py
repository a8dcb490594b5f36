"""A student's own functions at work, where the package would run its own.

In a folder of the parts lecture and kernels, what `picogpt.trace` and the page show of a block
comes from the student's functions (`block_forward`), and in one of the lecture's part the kernels
are its reference.py (`by_reference`).
"""

import inspect

import numpy as np

from picogpt import kernels, reference


def by_reference(name, arguments):
    """Call reference.py's function in the place of a kernel; `arguments` are the kernel's, by name.

    Raises NotImplementedError for what the lecture's functions can't do: batches, caches, int8.
    """
    if len(arguments.get("lengths") or [0]) > 1 or arguments.get("caches") is not None:
        raise NotImplementedError(
            "batches and caches are another part of the exercises, kernels: "
            "python -m picogpt.reference writes on without them"
        )
    if arguments.get("s") is not None or isinstance(arguments.get("lm_head"), dict):
        raise NotImplementedError("the lecture's functions take no int8: leave out --int8")
    parameters = inspect.signature(getattr(kernels, name)).parameters.values()
    given = [arguments[p.name] for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD]
    function = getattr(reference, name)
    if name == "attention" and np.ndim(given[0]) == 3:  # the lecture has one head at a time
        *qkv, mask = given
        return np.stack([function(q, k, v, mask) for q, k, v in zip(*qkv)])
    y = function(*given)
    return y[-1:] if arguments.get("last_only") else y


def block_forward(
    x, mlp, attn, ln_1, ln_2, n_head, hook, *, lengths=None, eps=1e-5, act=kernels.gelu,
    scale=None, dropout=0.0, rng=None,
):
    """`gradients.block_forward` from the functions of this folder's kernels.py.

    What a function computes inside itself can't be seen from outside: scores, scaled and masked are
    by the formula, weights by softmax; heads come from attention, attn from mha, mlp from ffn and y
    from transformer_block. Where the hook changes a value on its way, what lies behind it is put
    together step by step. Raises NotImplementedError for batches and dropout.
    """
    if len(lengths or [0]) > 1 or dropout or rng is not None:
        raise NotImplementedError("this folder's block_forward takes one sequence, no dropout")
    changed = []  # the names of values that the hook has changed

    def noted(name, array):
        after = hook(name, array)
        if after is not array and not np.array_equal(after, array):
            changed.append(name)
        return after

    def own_or(n_changed, own, by_steps):
        """What the student's function gives, unless a value inside it was changed meanwhile."""
        return own() if len(changed) == n_changed else by_steps()

    x_in = x = noted("x", x)
    at_block = len(changed)
    a = noted("ln_1", kernels.layer_norm(x, **ln_1, eps=eps))
    attended = noted("attn", attention_part(a, attn, n_head, scale, noted, changed, own_or))
    hook("attn_dropped", 1.0)
    x = noted("x_mid", x + attended)
    a = noted("ln_2", kernels.layer_norm(x, **ln_2, eps=eps))
    thought = noted("mlp", ffn_part(a, mlp, act, noted, changed, own_or))
    hook("mlp_dropped", 1.0)
    options = {"eps": eps, "act": act, "scale": scale}
    return noted("y", own_or(
        at_block,
        lambda: kernels.transformer_block(x_in, mlp, attn, ln_1, ln_2, n_head, **options),
        lambda: x + thought,
    ))  # fmt: skip


def attention_part(a, attn, n_head, scale, hook, changed, own_or):
    """What attention adds to the residual stream, step by step: `[n_tokens, n_embd]`."""
    at_mha = len(changed)
    qkv = hook("c_attn", kernels.linear(a, **attn["c_attn"]))  # [n_tokens, 3*n_embd]
    q, k, v = (kernels.split_heads(part, n_head) for part in np.split(qkv, 3, axis=-1))
    q, k, v = hook("q", q), hook("k", k), hook("v", v)  # [n_head, n_tokens, d] each
    hook("weights_dropped", 1.0)
    at_attention = len(changed)
    scores = hook("scores", q @ k.swapaxes(-1, -2))  # [n_head, n_tokens, n_tokens]
    scaled = hook("scaled", scores * (q.shape[-1] ** -0.5 if scale is None else scale))
    mask = kernels.causal_mask(len(a), len(a), a.dtype)
    masked = hook("masked", scaled + mask)
    weights = hook("weights", kernels.softmax(masked))
    heads = hook("heads", own_or(
        at_attention,
        lambda: kernels.attention(q, k, v, mask, scale=scale),
        lambda: weights @ v,
    ))  # fmt: skip
    joined = hook("joined", kernels.merge_heads(heads))  # [n_tokens, n_embd]
    return own_or(
        at_mha,
        lambda: kernels.mha(a, **attn, n_head=n_head, scale=scale),
        lambda: kernels.linear(joined, **attn["c_proj"]),
    )


def ffn_part(a, mlp, act, hook, changed, own_or):
    """What the feed-forward part adds to the residual stream: `[n_tokens, n_embd]`."""
    at_ffn = len(changed)
    h = hook("c_fc", kernels.linear(a, **mlp["c_fc"]))  # [n_tokens, 4*n_embd]
    h = hook("act", act(h))
    return own_or(
        at_ffn,
        lambda: kernels.ffn(a, **mlp, act=act),
        lambda: kernels.linear(h, **mlp["c_proj"]),
    )
