"""The derivative of each formula, in the order of kernels.py, and the chain rule through a block.

`NAME_backward(dy, ...)` takes the gradient of the loss with respect to NAME's output and what the
forward pass computed, and gives the gradients with respect to NAME's inputs. dx is short for
dloss/dx and has x's shape; 1[i = j] is 1 where i = j and else 0. ffn and mha have no function of
their own here: `block_backward` chains those of the formulas that they are made of.

There is no tape: `block_forward` hands every activation to a hook, `hook(name, array) -> array`,
and `block_backward` picks those it needs from a dict in which the hook has kept them.
"""

import numpy as np

from picogpt.kernels import (
    causal_mask,
    few_rows,
    gelu,
    layer_norm,
    linear,
    merge_heads,
    softmax,
    split_by_lengths,
    split_heads,
)  # fmt: skip


# gelu(x) = x/2 (1 + t) with t = tanh(u), u = c (x + 0.044715 x^3).
# Product rule and tanh' = 1 - t^2: gelu'(x) = (1 + t)/2 + x/2 (1 - t^2) u'(x).
def gelu_backward(dy, x):
    """Elementwise, any shape: dy times gelu'(x)."""
    c = (2 / np.pi) ** 0.5
    t = np.tanh(c * (x + 0.044715 * x * x * x))
    return dy * (0.5 * (1 + t) + 0.5 * x * (1 - t * t) * c * (1 + 3 * 0.044715 * x * x))


# y_i = exp(x_i) / sum_k exp(x_k), so ∂y_i/∂x_j = y_i (1[i = j] - y_j), and
# dx_j = sum_i dy_i y_i (1[i = j] - y_j) = y_j (dy_j - sum_i dy_i y_i).
def softmax_backward(dy, y):
    """From the softmax's output y `[..., n]`: the gradient of its scores `[..., n]`."""
    return y * (dy - (dy * y).sum(axis=-1, keepdims=True))


# y = g z + b, z = (x - mean) / s, s = sqrt(variance + eps). Every x_j moves its own z_j, and all of
# them through the mean (∂mean/∂x_j = 1/n) and through s: ∂variance/∂x_j = 2 (x_j - mean) / n, so
# ∂s/∂x_j = z_j / n. ∂z_i/∂x_j = (1[i = j] - 1/n - z_i z_j / n) / s; with dz_i = g_i dy_i,
# dx_j = sum_i dz_i ∂z_i/∂x_j = (dz_j - mean(dz) - z_j mean(dz z)) / s.
# g and b are the same for every token t: dg_i = sum_t dy_ti z_ti, db_i = sum_t dy_ti.
def layer_norm_backward(dy, x, g, eps=1e-5):
    """dy, x `[n_tokens, n_embd]` -> dx `[n_tokens, n_embd]`, dg and db `[n_embd]`."""
    centred = x - x.mean(axis=-1, keepdims=True)
    s = np.sqrt((centred * centred).mean(axis=-1, keepdims=True) + eps)  # [n_tokens, 1]
    z = centred / s
    dz = dy * g
    dx = (dz - dz.mean(axis=-1, keepdims=True) - z * (dz * z).mean(axis=-1, keepdims=True)) / s
    return dx, (dy * z).sum(axis=0), dy.sum(axis=0)


# y_tj = sum_i x_ti w_ij + b_j: so dx_ti = sum_j dy_tj w_ij, dw_ij = sum_t x_ti dy_tj,
# db_j = sum_t dy_tj. Each is a product again; the shapes leave only one way to write it.
def linear_backward(dy, x, w):
    """dy `[n_tokens, n_out]`, x `[n_tokens, n_in]` -> dx like x, dw like w, db `[n_out]`."""
    # dw is x.T @ dy, in the order in which w lies in memory: see checkpoint/weights.py
    dw = np.matmul(x.T, dy, out=np.empty_like(w))
    return dy @ w.T, dw, dy.sum(axis=0)


# y = weights v, a product of two variables: dv = weights^T dy and dweights = dy v^T.
# weights = softmax(scale s + mask): the mask is a constant and drops out, and ds is what softmax's
# derivative makes of dweights, times scale. s = q k^T is a product again: dq = ds k, dk = ds^T q.
def attention_backward(dy, q, k, v, weights, *, scale=None, dropped=1.0):
    """dy, q, k, v `[..., n, d]`, weights `[..., n, n]` -> dq, dk, dv.

    `dropped` is what dropout multiplied the weights by; `scale` None is 1/sqrt(d).
    """
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    dv = drop(weights, dropped).swapaxes(-1, -2) @ dy  # [.., n, n] @ [.., n, d] -> [.., n, d]
    dweights = drop(dy @ v.swapaxes(-1, -2), dropped)  # [.., n, d] @ [.., d, n] -> [.., n, n]
    dscores = softmax_backward(dweights, weights) * scale  # [.., n, n]
    return dscores @ k, dscores.swapaxes(-1, -2) @ q, dv


def dropout_mask(shape, p, rng, dtype):
    """0 with probability p, else 1 / (1 - p), so that the mean stays; 1.0 where p is 0.

    Srivastava et al. 2014. rng is a numpy Generator.
    """
    if not p:
        return 1.0
    return (rng.random(shape, np.float32) >= p).astype(dtype) / (1 - float(p))


def drop(x, mask):
    """x times a dropout_mask, on the way forward or back; no dropout, a mask of 1.0, is free."""
    return x * mask if np.ndim(mask) else x


def attention_forward(q, k, v, scale, hook, dropped):
    """`kernels.attention` of one whole sequence, step by step, every step handed to the hook.

    q, k, v `[n_head, n, d]` -> `[n_head, n, d]`; `scale` and `dropped` as in attention_backward.
    """
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    scores = hook("scores", q @ k.swapaxes(-1, -2))  # [n_head, n, d] @ [.., d, n] -> [.., n, n]
    scaled = hook("scaled", scores * scale)
    masked = hook("masked", scaled + causal_mask(q.shape[1], k.shape[1], q.dtype))
    weights = hook("weights", softmax(masked))
    return hook("heads", drop(weights, dropped) @ v)  # [.., n, n] @ [.., n, d] -> [n_head, n, d]


def block_forward(
    x, mlp, attn, ln_1, ln_2, n_head, hook, *, lengths=None, eps=1e-5, act=gelu, scale=None,
    dropout=0.0, rng=None,
):
    """`kernels.transformer_block`, in which `hook(name, array) -> array` sees every step.

    `[n_tokens, n_embd] -> [n_tokens, n_embd]`. The names are, in order: x, ln_1, c_attn, q, k, v,
    weights_dropped, scores, scaled, masked, weights, heads, joined, attn, attn_dropped, x_mid,
    ln_2, c_fc, act, mlp, mlp_dropped, y. NAME_dropped is the mask with which dropout multiplies
    NAME: 1.0 without dropout. Attention works on one sequence at a time, and what it computes for
    the second and later ones of a batch is numbered: weights, weights.1, weights.2, ...
    """

    def drop_some(name, array):
        mask = dropout_mask(array.shape, dropout, rng, array.dtype)
        return drop(hook(name, array), hook(f"{name}_dropped", mask))

    x = hook("x", x)
    a = hook("ln_1", layer_norm(x, **ln_1, eps=eps))
    qkv = hook("c_attn", linear(a, **attn["c_attn"]))  # [n_tokens, n_embd] -> [.., 3*n_embd]
    joined = np.empty_like(x)
    for i, rows in enumerate(split_by_lengths(lengths, len(x))):

        def hook_sequence(name, array, number=f".{i}" if i else ""):
            return hook(name + number, array)

        q, k, v = (split_heads(part, n_head) for part in np.split(qkv[rows], 3, axis=-1))
        q, k, v = hook_sequence("q", q), hook_sequence("k", k), hook_sequence("v", v)
        mask = dropout_mask((n_head, len(q[0]), len(q[0])), dropout, rng, x.dtype)
        hook_sequence("weights_dropped", mask)
        heads = attention_forward(q, k, v, scale, hook_sequence, mask)  # [n_head, n, d]
        joined[rows] = merge_heads(heads)  # [n_head, n, d] -> [n, n_embd]
    joined = hook("joined", joined)  # [n_tokens, n_embd]
    x = hook("x_mid", x + drop_some("attn", linear(joined, **attn["c_proj"])))
    a = hook("ln_2", layer_norm(x, **ln_2, eps=eps))
    h = hook("c_fc", linear(a, **mlp["c_fc"]))  # [n_tokens, n_embd] -> [n_tokens, 4*n_embd]
    h = hook("act", few_rows(act, h))
    return hook("y", x + drop_some("mlp", linear(h, **mlp["c_proj"])))


def block_backward(
    dy, activations, mlp, attn, ln_1, ln_2, n_head, *, lengths=None, eps=1e-5,
    act_backward=gelu_backward, scale=None,
):
    """From a block's dy and the activations of its forward pass: dx and its parameters' gradients.

    dy and dx are `[n_tokens, n_embd]`; activations is {name: array} as block_forward names them.
    Read block_forward from its last line to its first. A residual connection, y = x + f(x), sends
    dy both ways: dx = dy + what comes back through f.
    """
    # in the order of the parameters
    grads = {"ln_1": {}, "attn": {"c_attn": {}}, "ln_2": {}, "mlp": {"c_fc": {}}}

    # feed-forward: y = x_mid + c_proj(act(c_fc(ln_2(x_mid))))
    dmlp = drop(dy, activations["mlp_dropped"])
    dh, grads["mlp"]["c_proj"] = dense_backward(dmlp, activations["act"], mlp["c_proj"])
    dh = few_rows(act_backward, dh, activations["c_fc"])
    da, grads["mlp"]["c_fc"] = dense_backward(dh, activations["ln_2"], mlp["c_fc"])
    dx, grads["ln_2"] = norm_backward(da, activations["x_mid"], ln_2, eps)
    # from here on the gradient of x_mid
    dy = dy + dx

    # attention: x_mid = x + c_proj(attention of each head(c_attn(ln_1(x))))
    dattn = drop(dy, activations["attn_dropped"])
    djoined, grads["attn"]["c_proj"] = dense_backward(dattn, activations["joined"], attn["c_proj"])
    dqkv = np.empty_like(activations["c_attn"])  # [n_tokens, 3*n_embd]
    for i, rows in enumerate(split_by_lengths(lengths, len(dy))):
        number = f".{i}" if i else ""
        q, k, v, weights = (activations[name + number] for name in ("q", "k", "v", "weights"))
        dropped = activations["weights_dropped" + number]
        dheads = split_heads(djoined[rows], n_head)  # [n, n_embd] -> [n_head, n, d]
        dq, dk, dv = attention_backward(dheads, q, k, v, weights, scale=scale, dropped=dropped)
        thirds = [merge_heads(dq), merge_heads(dk), merge_heads(dv)]  # [n, n_embd] each
        np.concatenate(thirds, axis=-1, out=dqkv[rows])
    da, grads["attn"]["c_attn"] = dense_backward(dqkv, activations["ln_1"], attn["c_attn"])
    dx, grads["ln_1"] = norm_backward(da, activations["x"], ln_1, eps)
    return dy + dx, grads


def dense_backward(dy, x, dense):
    """linear_backward for parameters {w, b}: dx and {w: dw, b: db}."""
    dx, dw, db = linear_backward(dy, x, dense["w"])
    return dx, {"w": dw, "b": db}


def norm_backward(dy, x, norm, eps):
    """layer_norm_backward for parameters {g, b}: dx and {g: dg, b: db}."""
    dx, dg, db = layer_norm_backward(dy, x, norm["g"], eps)
    return dx, {"g": dg, "b": db}
