"""What each function of the exercises is called with: small numbers, always the same.

Sizes differ wherever a mistake could hide behind two that are alike: 4 tokens, 2 heads of 3, n_embd
6. The first call of a function is its plainest; the later ones ask for what is easily forgotten.
"""

import copy
from functools import cache
from typing import NamedTuple

import numpy as np

from picogpt import gradients, kernels
from picogpt.checkpoint.config import Config
from picogpt.teaching.exercise_parts import part_of
from picogpt.tools.tree import tree_map

N, N_HEAD, N_EMBD, D, N_VOCAB = 4, 2, 6, 3, 7

# what a tuple gives back, by name
OUTPUTS = {
    "layer_norm_backward": ["dx", "dg", "db"],
    "linear_backward": ["dx", "dw", "db"],
    "attention_backward": ["dq", "dk", "dv"],
    "block_backward": ["dx", "grads"],
    "batch_at": ["inputs", "targets"],
    "cross_entropy": ["loss", "dlogits"],
}
MAY_CHANGE = {"generate": ["inputs"]}  # the lecture's code appends to the list it is given


class Call(NamedTuple):
    """Arguments by position, under the names of the signature, and by keyword."""

    given: dict
    options: dict = {}


@cache
def calls_of(module):
    """{function: [Call, ...]} of the part whose functions stand in a module."""
    makers = {
        "lecture": lecture, "kernels": for_kernels, "gradients": for_gradients,
        "optimizer": for_optimizer, "sampling": for_sampling, "tokens": for_tokens,
        "training": for_training,
    }  # fmt: skip
    return makers[part_of(module).name]()


def numbers():
    """A function that draws arrays of a shape, the same ones every time, of two decimals."""
    rng = np.random.default_rng(5)
    return lambda *shape: rng.standard_normal(shape).round(2)


def a_block(r):
    """The parameters of one block, no two alike."""
    width = 8
    mlp = {"c_fc": {"w": r(N_EMBD, width), "b": r(width)},
           "c_proj": {"w": r(width, N_EMBD), "b": r(N_EMBD)}}  # fmt: skip
    attn = {"c_attn": {"w": r(N_EMBD, 3 * N_EMBD), "b": r(3 * N_EMBD)},
            "c_proj": {"w": r(N_EMBD, N_EMBD), "b": r(N_EMBD)}}  # fmt: skip
    ln_1, ln_2 = ({"g": r(N_EMBD), "b": r(N_EMBD)} for _ in range(2))
    return {"mlp": mlp, "attn": attn, "ln_1": ln_1, "ln_2": ln_2}


def a_stack(r):
    """The parameters of a small GPT-2: two blocks, eight positions."""
    ln_f = {"g": r(N_EMBD), "b": r(N_EMBD)}
    return {"wte": r(N_VOCAB, N_EMBD), "wpe": r(8, N_EMBD), "blocks": [a_block(r), a_block(r)],
            "ln_f": ln_f}  # fmt: skip


def lecture():
    """Calls with the lecture's own signatures."""
    return formulas() | layers()


def formulas():
    """Calls of the formulas that stand by themselves."""
    r = numbers()
    x, q, k, v = r(N, N_EMBD), r(N, D), r(N, D), r(N, D)
    norm = {"g": r(N_EMBD), "b": r(N_EMBD)}
    hidden = np.triu(np.full((N, N), -1e10), 1)
    return {
        "gelu": [Call({"x": x}), Call({"x": np.array([-30.0, 0.0, 30.0])})],
        "softmax": [
            Call({"x": r(N, N)}),
            Call({"x": r(N, N_EMBD) + 1000 * np.arange(N)[:, None]}),
            Call({"x": r(N)}),
            Call({"x": np.array([[0.5, -1e10, 1.5], [1000.0, 0.0, 999.0]])}),  # one is masked
        ],
        "layer_norm": [
            Call({"x": x, **norm}),
            Call({"x": 0.005 * x, **norm}),
            Call({"x": x, **norm}, {"eps": 0.5}),
        ],
        "linear": [
            Call({"x": r(N, N), "w": r(N, N), "b": r(N)}),
            Call({"x": x, "w": r(N_EMBD, 5), "b": r(5)}),
        ],
        "attention": [
            Call({"q": q, "k": k, "v": v, "mask": hidden}),
            Call({"q": q[:2], "k": k, "v": r(N, 5), "mask": np.zeros((2, N))}),
        ],
    }


def layers():
    """Calls of what is put together from the formulas."""
    r = numbers()
    x, block, stack = r(N, N_EMBD), a_block(r), a_stack(r)
    written = {"params": stack | {"wte": r(23, N_EMBD)}, "n_head": N_HEAD}
    return {
        "ffn": [Call({"x": x, **block["mlp"]})],
        "mha": [
            Call({"x": x, **block["attn"], "n_head": N_HEAD}),
            Call({"x": x[:1], **block["attn"], "n_head": 3}),
        ],
        "transformer_block": [Call({"x": x, **block, "n_head": N_HEAD})],
        "gpt2": [
            Call({"inputs": [3, 0, 6, 2], **stack, "n_head": N_HEAD}),
            Call({"inputs": [1, 1], **stack, "n_head": N_HEAD}),
        ],
        "generate": [
            Call({"inputs": [1, 2, 3], **written, "n_tokens_to_generate": 4}),
            Call({"inputs": [6, 12], **written, "n_tokens_to_generate": 1}),
        ],
    }


def for_kernels():
    """Calls with lengths, caches and the other keywords; first as the lecture calls them."""
    calls = lecture()
    del calls["generate"]
    for name, more in (kernel_formulas() | kernel_layers()).items():
        calls[name] = calls.get(name, []) + more
    return calls


def kernel_formulas():
    """What attention is called with for several heads, and the functions around it."""
    r = numbers()
    x, q, k, v = r(N, N_EMBD), r(N_HEAD, N, D), r(N_HEAD, N, D), r(N_HEAD, N, D)
    mask = kernels.causal_mask(N, N, np.float64)
    return {
        "ffn": [Call({"x": x, **a_block(r)["mlp"]}, {"act": np.tanh})],
        "attention": [
            Call({"q": q, "k": k, "v": v, "mask": mask}),
            Call({"q": q[:, :1], "k": k, "v": v, "mask": 0.0}, {"scale": 0.3}),
        ],
        "causal_mask": [
            Call({"n_q": 4, "n_k": 4, "dtype": "float32"}),
            Call({"n_q": 2, "n_k": 4, "dtype": "float64"}),
            Call({"n_q": 2, "n_k": 2, "dtype": "float16"}),
        ],
        "split_heads": [Call({"x": x, "n_head": N_HEAD})],
        "merge_heads": [Call({"x": q})],
    }


def kernel_layers():
    """What mha, a block and the stack are called with for batches and for writing on."""
    r = numbers()
    x, block, stack = r(N, N_EMBD), a_block(r), a_stack(r)
    cache = {"k": r(N_HEAD, 8, D), "v": r(N_HEAD, 8, D), "length": 2}  # of two tokens so far
    caches = [[copy.deepcopy(cache) for _ in stack["blocks"]] for _ in range(2)]
    mixed = {"x": x, **block["attn"], "n_head": N_HEAD}
    ran = {"x": x, **block, "n_head": N_HEAD}
    written = {"inputs": np.array([3, 0, 6, 2]), **stack, "n_head": N_HEAD}
    hidden = {name: a for name, a in written.items() if name != "ln_f"}
    lengths = {"lengths": [1, 3]}
    other = {"eps": 0.5, "act": np.tanh}
    return {
        "mha": [
            Call(mixed, {"scale": 0.3}),
            Call(mixed, lengths),
            Call(mixed, {"caches": [cache]}),
            Call(mixed, lengths | {"caches": [cache, copy.deepcopy(cache) | {"length": 1}]}),
            Call(mixed, lengths | {"last_only": True}),
        ],
        "transformer_block": [
            Call(ran, other),
            Call(ran, lengths),
            Call(ran, {"caches": [cache], "scale": 0.3}),
            Call(ran, lengths | {"last_only": True}),
        ],
        "hidden_states": [
            Call(hidden),
            Call(hidden, lengths),
            Call(hidden, lengths | {"caches": caches}),
            Call(hidden, other | {"scale": [0.3, 0.6]}),
            Call(hidden, lengths | {"last_only": True}),
        ],
        "gpt2": [
            Call(written, lengths | {"caches": caches}),
            Call(written, lengths | {"last_only": True, "lm_head": r(N_VOCAB, N_EMBD)}),
            Call(written, other | {"scale": [0.3, 0.6]}),
        ],
    }


def for_gradients():
    """Calls of the derivatives: what the forward pass saw is computed by the kernels."""
    r = numbers()
    x, dy, g = r(N, N_EMBD), r(N, N_EMBD), r(N_EMBD)
    q, k, v, dheads = (r(N_HEAD, N, D) for _ in range(4))
    weights = kernels.softmax(q @ k.swapaxes(1, 2) * D**-0.5 + kernels.causal_mask(N, N, float))
    dropped = (r(N_HEAD, N, N) > -0.5) / 0.7
    attended = {"dy": dheads, "q": q, "k": k, "v": v, "weights": weights}
    block = a_block(r) | {"n_head": N_HEAD}
    return {
        "gelu_backward": [Call({"dy": dy, "x": x})],
        "softmax_backward": [
            Call({"dy": r(N, N), "y": weights[0]}),
            Call({"dy": r(N_HEAD, N, N), "y": weights}),
        ],
        "layer_norm_backward": [
            Call({"dy": dy, "x": x, "g": g}),
            Call({"dy": dy, "x": 0.005 * x, "g": g}),
            Call({"dy": dy, "x": x, "g": g}, {"eps": 0.5}),
        ],
        "linear_backward": [
            Call({"dy": r(N, N), "x": r(N, N), "w": r(N, N)}),
            Call({"dy": r(N, 5), "x": x, "w": r(N_EMBD, 5)}),
        ],
        "attention_backward": [
            Call({name: a[0] for name, a in attended.items()}),
            Call(attended),
            Call(attended, {"scale": 0.3}),
            Call(attended, {"dropped": dropped}),
        ],
        "block_backward": block_calls(x, dy, block, r),
    }


def block_calls(x, dy, block, r):
    """Calls of block_backward: plain, with its options, and with dropout."""

    def back(**options):
        return block_call(x, dy, block, options)

    return [
        back(),
        back(lengths=[1, 3]),
        back(scale=0.3, eps=0.5),
        back(act_backward=cos_backward),
        dropped_block(back(), r),
    ]


def block_call(x, dy, block, options):
    """The call of block_backward after a forward pass with these options."""
    activations = {}
    act = {"act": np.sin} if "act_backward" in options else {}
    ahead = {name: a for name, a in options.items() if name != "act_backward"}
    gradients.block_forward(
        x, **block, **ahead, **act, hook=lambda name, a: activations.setdefault(name, a)
    )
    return Call({"dy": dy, "activations": activations, **block}, options)


def cos_backward(dy, x):
    """The derivative of sin, an activation that no model has."""
    return dy * np.cos(x)


def dropped_block(call, r):
    """The call of block_backward, as if dropout had been at work in the forward pass."""
    masks = {
        "weights_dropped": (r(N_HEAD, N, N) > -0.5) / 0.7,
        "attn_dropped": (r(N, N_EMBD) > -0.5) / 0.7,
        "mlp_dropped": (r(N, N_EMBD) > -0.5) / 0.7,
    }
    return Call(call.given | {"activations": call.given["activations"] | masks}, call.options)


def for_optimizer():
    """Calls of AdamW with small moments, so that eps shows, and of what stands around it."""
    r = numbers()
    small = 1e-4 * r(2, 3)
    state = {"step": 1, "m": {"w": small / 2}, "v": {"w": small**2 / 2}}
    flat = {"params": {"w": r(2, 3)}, "grads": {"w": small}, "state": state, "lr": 0.1}

    def tree(scale=1.0):
        return {"wte": scale * r(3, 2), "blocks": [{"ln_1": {"g": scale * r(2)}}, {"b": r(2)}]}

    params, m, v = tree(), tree(), tree()
    v = tree_map(np.square, v)
    nested = {"params": params, "grads": tree(), "state": {"step": 4, "m": m, "v": v}, "lr": 0.1}
    decays = {"wte": True, "blocks": [{"ln_1": {"g": False}}, {"b": False}]}
    frozen = nested["grads"] | {"blocks": [{}, nested["grads"]["blocks"][1]]}
    rates = {"peak": 0.1, "n_steps": 11}
    grads = {"a": r(4, 6), "b": [r(4), {"c": r(2)}]}
    return {
        "adamw": [
            Call(flat),
            Call(nested),
            Call(nested, {"betas": (0.8, 0.95), "eps": 0.01, "weight_decay": 0.1}),
            Call(nested, {"decays": decays, "weight_decay": 0.1}),
            Call(nested | {"grads": frozen}),
        ],
        "learning_rate": [
            *(Call({"step": step, **rates, "warmup": 4}) for step in (2, 4, 6, 11, 13)),
            Call({"step": 3, **rates}),
            Call({"step": 6, **rates, "warmup": 4}, {"final": 0.5}),
        ],
        "global_norm": [Call({"grads": {"w": r(4, 6)}}), Call({"grads": grads})],
        "clip": [
            Call({"grads": grads, "max_norm": 2.0}),
            Call({"grads": grads, "max_norm": 100.0}),
        ],
    }


def for_sampling():
    """Calls that filter eight logits, of which some are equal."""
    r = numbers()
    logits = np.array([0.3, 1.2, -0.5, 0.9, 0.1, -1.0, 0.6, 0.0])
    ties = np.array([0.5, 2.0, 0.5, 2.0, 0.5, -1.0])
    filtered = np.where(logits > 0.2, logits, -np.inf)
    warm = {"temperature": 0.5, "top_k": 3, "top_p": 0.83}
    return {
        "keep_top_k": [
            Call({"logits": logits, "k": 3}),
            Call({"logits": ties, "k": 3}),
            Call({"logits": logits, "k": 20}),
            Call({"logits": -3 - np.abs(r(5)), "k": 2}),
        ],
        "keep_top_p": [
            Call({"logits": logits, "p": 0.7}),
            Call({"logits": logits, "p": 0.01}),
            Call({"logits": logits - 1000, "p": 0.9}),
            Call({"logits": filtered, "p": 0.9}),
        ],
        "distribution": [
            Call({"logits": logits}, {"temperature": 0.5}),
            Call({"logits": logits}, warm),
            Call({"logits": logits}, {"temperature": 0}),
            Call({"logits": logits}, {"top_k": 3}),
            Call({"logits": logits}, {"top_p": 0.7}),
            Call({"logits": logits}, {"temperature": 2.0, "top_p": 0.7}),
            Call({"logits": 1000 * logits}),
        ],
    }


def for_tokens():
    """Calls on a text with repetitions, ties, letters of several bytes and halves of them."""
    text = "low lower lowest, so slow: 안녕 안녕 aaaa aaaaa. low lower"
    merges = {(108, 111): 256, (256, 119): 257, (32, 257): 258, (101, 114): 259, (97, 97): 260,
              (111, 119): 261, (260, 260): 262}  # fmt: skip
    # in "dacbe" the leftmost pair, the lowest pair and the one learned first lead apart
    by_rank = {(98, 101): 256, (100, 97): 257, (97, 99): 258, (99, 98): 259}
    # and in "xababc" the leftmost, the one that comes most often and the one learned first
    by_count = {(98, 99): 256, (97, 98): 257, (120, 97): 258}
    return {
        "count_pairs": [
            Call({"words": {(1, 2, 1, 2): 3, (2, 1): 1}}),
            Call({"words": {(7,): 9, (5, 5, 5): 4}}),
        ],
        "join": [
            Call({"ids": [1, 2, 3, 1, 2], "pair": (1, 2), "new": 256}),
            Call({"ids": [1, 1, 1], "pair": (1, 1), "new": 256}),
            Call({"ids": [2, 1], "pair": (1, 2), "new": 256}),
        ],
        "learn_merges": [
            Call({"text": "low low lot", "n_merges": 2}),
            Call({"text": text, "n_merges": 9}),
            Call({"text": "ab cd ab cd", "n_merges": 20}),
            Call({"text": "", "n_merges": 3}),
            Call({"text": "a a a a a", "n_merges": 3}),
        ],
        "encode": [
            Call({"text": "low low", "merges": merges}),
            Call({"text": text, "merges": merges}),
            Call({"text": "l ow", "merges": {(108, 32): 256, (32, 111): 257}}),
            Call({"text": "dacbe", "merges": by_rank}),
            Call({"text": "xababc", "merges": by_count}),
        ],
        "decode": [
            Call({"ids": [257, 32, 258, 259], "merges": merges}),
            Call({"ids": [*"안녕".encode()], "merges": {}}),
            Call({"ids": [104, 236, 149, 105], "merges": {}}),
            Call({"ids": [], "merges": merges}),
        ],
    }


def for_training():
    """Calls on a model of two blocks and a text of thirty ids."""
    r = numbers()
    params = a_stack(r)
    config = Config(N_VOCAB, 8, N_EMBD, N_HEAD, 2, n_inner=8)
    ids = (np.arange(30) ** 2 + np.arange(30) // 4) % N_VOCAB
    state = {"step": 0, **{name: tree_map(np.zeros_like, params) for name in "mv"}}
    starts = np.array([[0, 9], [17, 3], [5, 20], [11, 1]])
    stepped = {"params": params, "state": state, "inputs": ids[:8].reshape(2, 4)}
    stepped |= {"targets": ids[1:9].reshape(2, 4), "config": config, "lr": 0.01}
    trained = {"params": params, "ids": ids, "starts": starts, "n_ctx": 4, "config": config}
    many = np.resize(starts, (10, 2))
    return {
        "batch_at": [Call({"ids": ids, "starts": starts[0], "n_ctx": 4}),
                     Call({"ids": ids, "starts": [17, 3, 6], "n_ctx": 5})],
        "cross_entropy": [
            Call({"logits": r(N, N_VOCAB), "targets": np.array([3, 0, 6, 2])}),
            Call({"logits": 1000 + r(N, N_VOCAB), "targets": np.array([1, 1, 5, 4])}),
        ],
        "train_step": [Call(stepped)],
        "train": [Call(trained | {"peak": 0.01}), Call(trained | {"starts": many, "peak": 0.01})],
    }  # fmt: skip

