"""What a failed exercise says: the hint for a usual mistake, and where the numbers part."""
# ruff: noqa: ARG001, ARG005 - students, too, leave arguments unused

import inspect
import math
import re
import sys
from collections import Counter
from functools import cache, partial
from pathlib import Path

import numpy as np
import pytest

from picogpt import generation, gradients, kernels, optim, reference
from picogpt.gradients import softmax_backward
from picogpt.kernels import gelu, softmax
from picogpt.teaching import tokens, training
from picogpt.teaching.check import check, check_with_needs
from picogpt.teaching.exercise_parts import PARTS
from picogpt.teaching.golden import defined, golden, load_mistakes, replaced, same, ways
from picogpt.teaching.golden_files import check_golden, from_json, load_golden, save_golden, to_json
from picogpt.tools.tree import tree_map

MISTAKES = load_mistakes()
FUNCTIONS = [(part, name) for part in PARTS.values() for name in part.minutes]
SLIDES = Path(__file__).resolve().parents[3] / "shared" / "lecture" / "slides-ko.txt"


@cache
def calls_of(module, name, lang="en"):
    return golden(module, name, MISTAKES[name], lang)


@cache
def single_calls(module, name):
    return golden(module, name, MISTAKES[name], pairs=False)


def said_of(function, module, lang="en"):
    """The message for a function that a student wrote."""
    name = function.__name__
    with pytest.raises(AssertionError) as error:
        check(function, calls_of(module, name, lang), lang)
    return str(error.value)


@pytest.mark.parametrize(("part", "name"), FUNCTIONS, ids=lambda x: getattr(x, "name", x))
def test_a_usual_mistake_gets_its_hint_and_the_right_body_passes(part, name):
    module = part.load()
    calls = single_calls(module, name)
    check(getattr(module, name), calls)
    for mistake in MISTAKES[name]:
        for home, source, swaps in ways(module, name, mistake):
            with pytest.raises(AssertionError) as error:
                check(defined(home, name, replaced(source, swaps)), calls)
            assert str(error.value).splitlines()[0] == f"{name}: {mistake['en']}", swaps


def test_every_way_to_make_a_mistake_fits_a_source():
    """A function that was rewritten has another text: its mistakes must be written for it."""
    modules = {}
    for part, name in FUNCTIONS:
        modules.setdefault(name, []).append(part.load())
    assert modules.keys() == MISTAKES.keys()
    for name, mistakes in MISTAKES.items():
        for mistake in mistakes:
            wrong = mistake["wrong"]
            for swaps in wrong if isinstance(wrong, list) else [wrong]:
                fits = [way for module in modules[name]
                        for way in ways(module, name, {"wrong": swaps})]  # fmt: skip
                assert fits, f"{name}: the source has no {list(swaps)} any more"


def test_every_mistake_has_one_hint_in_each_language():
    for name, mistakes in MISTAKES.items():
        for lang in ("en", "ko"):
            hints = [mistake[lang] for mistake in mistakes]
            assert len(set(hints)) == len(hints), name
        assert all(re.search("[가-힣]", mistake["ko"]) for mistake in mistakes), name
        assert not any(re.search("[가-힣]", mistake["en"]) for mistake in mistakes), name


def test_every_call_is_needed():
    for part, name in FUNCTIONS:
        calls = single_calls(part.load(), name)
        for i, call in enumerate(calls):
            shows = any(way for found in call.mistakes.values() for way in found)
            assert shows, f"{part.name}: no mistake shows in {name}'s call {i}"


# What students type, in their own words: none of it is made from our source


def typed_layer_norm(x, g, b, eps=1e-5):
    return g * (x - x.mean(-1, keepdims=True)) / (x.std(-1, ddof=1, keepdims=True) + eps) + b


def typed_gelu(x):
    return 0.5 * x * (1 + np.vectorize(math.erf)(x / 2**0.5))


def typed_gelu_without_root(x):
    return x / 2 * (1 + np.tanh(2 / np.pi * (x + 0.044715 * np.power(x, 3))))


def typed_softmax(x):
    e = np.exp(x - x.max())
    return e / e.sum(axis=0)


def typed_attention(q, k, v, mask):
    return softmax(np.matmul(q, k.T) / math.sqrt(len(q)) + mask) @ v


def typed_attention_multiplied(q, k, v, mask):
    allowed = np.where(mask == 0, 1, 0)
    return softmax(q @ k.T / np.sqrt(q.shape[1]) * allowed) @ v


def typed_mha(x, c_attn, c_proj, n_head):
    n, width = x.shape
    qkv = (x @ c_attn["w"] + c_attn["b"]).reshape(n, n_head, 3, width // n_head)
    hide = np.triu(np.full((n, n), -np.inf), 1)
    heads = [reference.attention(qkv[:, h, 0], qkv[:, h, 1], qkv[:, h, 2], hide)
             for h in range(n_head)]  # fmt: skip
    return np.concatenate(heads, axis=1) @ c_proj["w"] + c_proj["b"]


def typed_transformer_block(x, mlp, attn, ln_1, ln_2, n_head):
    x = reference.layer_norm(x + reference.mha(x, **attn, n_head=n_head), **ln_1)
    return reference.layer_norm(x + reference.ffn(x, **mlp), **ln_2)


def typed_gelu_backward(dy, x):
    t = np.tanh((2 / np.pi) ** 0.5 * (x + 0.044715 * x**3))
    return dy * x / 2 * (1 - t**2) * (2 / np.pi) ** 0.5 * (1 + 0.134145 * x**2)


def typed_layer_norm_backward(dy, x, g, eps=1e-5):
    mean, s = x.mean(-1, keepdims=True), np.sqrt(x.var(-1, keepdims=True) + eps)
    z, n = (x - mean) / s, x.shape[-1]
    dz = g * dy
    dx = dz - dz.sum(-1, keepdims=True) / n - z * (z * dz).sum(-1, keepdims=True) / n
    return dx, np.sum(dy * z, 0), np.sum(dy, 0)


def typed_layer_norm_backward_means(dy, x, g, eps=1e-5):
    dx, dg, db = gradients.layer_norm_backward(dy, x, g, eps)
    return dx, dg / len(x), db / len(x)


def typed_layer_norm_backward_dz(dy, x, g, eps=1e-5):
    dx, dg, db = gradients.layer_norm_backward(dy, x, g, eps)
    return dx, dg * g, db


def typed_linear_backward(dy, x, w):
    return np.einsum("to,io->ti", dy, w), np.einsum("to,ti->oi", dy, x), np.einsum("to->o", dy)


def back(dy, q, k, v, weights, scale, dropped, wrong):
    turn = lambda a: np.swapaxes(a, -1, -2)  # noqa: E731
    ds = softmax_backward(dy @ turn(v) * dropped, weights)
    ds = ds * (q.shape[-1] ** -0.5 if scale is None else scale)
    w = weights * dropped
    dq, dk, dv = ds @ k, turn(ds) @ q, turn(w) @ dy
    dropped_lost = (dq, dk, turn(weights) @ dy)
    return {"dv": (dq, dk, w @ dy), "dk": (dq, ds @ q, dv), "swap": (dk, dq, dv),
            "dropped": dropped_lost}[wrong]  # fmt: skip


def typed_attention_backward(dy, q, k, v, weights, *, scale=None, dropped=1.0):
    return back(dy, q, k, v, weights, scale, dropped, "dv")


def typed_attention_backward_dk(dy, q, k, v, weights, *, scale=None, dropped=1.0):
    return back(dy, q, k, v, weights, scale, dropped, "dk")


def typed_attention_backward_swap(dy, q, k, v, weights, *, scale=None, dropped=1.0):
    return back(dy, q, k, v, weights, scale, dropped, "swap")


def typed_attention_backward_dropped(dy, q, k, v, weights, *, scale=None, dropped=1.0):
    return back(dy, q, k, v, weights, scale, dropped, "dropped")


def adam(params, grads, state, lr, betas, eps, weight_decay, step):
    state["step"] += 1
    b1, b2 = betas
    t = state["step"]

    def update(g, w, m, v):
        m[...] = b1 * m + (1 - b1) * g
        v[...] = b2 * v + (1 - b2) * g**2
        w -= lr * weight_decay * w
        w -= step(m, v, t)

    tree_map(update, grads, params, state["m"], state["v"])


def typed_adamw(
    params, grads, state, lr, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01, decays=None
):
    b1, b2 = betas

    def step(m, v, t):
        return lr * np.sqrt(1 - b2**t) / (1 - b1**t) * m / (np.sqrt(v) + eps)

    adam(params, grads, state, lr, betas, eps, weight_decay, step)


def typed_adamw_betas(
    params, grads, state, lr, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01, decays=None
):
    b2, b1 = betas

    def step(m, v, t):
        return lr * m / (1 - b1**t) / (np.sqrt(v / (1 - b2**t)) + eps)

    adam(params, grads, state, lr, (b1, b2), eps, weight_decay, step)


def typed_adamw_flat(
    params, grads, state, lr, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01, decays=None
):
    state["step"] += 1
    for key in params:
        m, v, g, t = state["m"][key], state["v"][key], grads[key], state["step"]
        m[...] = betas[0] * m + (1 - betas[0]) * g
        v[...] = betas[1] * v + (1 - betas[1]) * g * g
        params[key] -= lr * weight_decay * params[key]
        params[key] -= lr * m / (1 - betas[0] ** t) / (np.sqrt(v / (1 - betas[1] ** t)) + eps)


def typed_distribution(scores, temperature=1.0, top_k=0, top_p=1.0):
    if temperature == 0:
        return np.eye(len(scores))[scores.argmax()]
    if top_k:
        scores = generation.keep_top_k(scores, top_k)
    if top_p < 1:
        scores = generation.keep_top_p(scores, top_p)
    return softmax(scores / temperature)


def typed_keep_top_k(scores, k):
    best = np.sort(scores)[-k]
    return np.where(scores >= best, scores, -np.inf)


def typed_keep_top_k_ties(scores, k):
    kept = np.full(len(scores), -np.inf)
    best = np.argsort(scores)[-k:]
    kept[best] = scores[best]
    return kept


def typed_ffn(x, c_fc, c_proj, *, act=gelu):
    return gelu(x @ c_fc["w"] + c_fc["b"]) @ c_proj["w"] + c_proj["b"]


def typed_encode(text, merges):
    ids = list(text.encode())
    for pair, new in merges.items():
        ids = tokens.join(ids, pair, new)
    return ids


def typed_encode_by_count(text, merges):
    ids = []
    for pre_token in tokens.PRE_TOKENS.findall(text):
        word = list(pre_token.encode())
        while counts := Counter(pair for pair in zip(word, word[1:]) if pair in merges):
            pair = counts.most_common(1)[0][0]
            word = tokens.join(word, pair, merges[pair])
        ids += word
    return ids


def typed_layer_norm_backward_g(dy, x, g, eps=1e-5):
    s = np.sqrt(x.var(-1, keepdims=True) + eps)
    z = (x - x.mean(-1, keepdims=True)) / s
    dx = dy - np.mean(dy, 1)[:, None] - z * np.mean(dy * z, 1)[:, None]
    return g / s * dx, np.einsum("td,td->d", dy, z), dy.sum(0)


def typed_gpt2(inputs, wte, wpe, blocks, ln_f, n_head):
    x = wte[inputs] + wpe[: len(inputs)]
    for _ in range(len(blocks)):
        x = reference.transformer_block(x, **blocks[0], n_head=n_head)
    return reference.layer_norm(x, **ln_f) @ wte.T


def typed_ffn_turned(x, c_fc, c_proj):
    a = gelu(x @ c_proj["w"] + c_proj["b"])
    return a @ c_fc["w"] + c_fc["b"]


def typed_batch_at(ids, starts, n_ctx):
    inputs = np.array([ids[s : s + n_ctx] for s in starts])
    return inputs, np.concatenate([inputs[:, 1:], inputs[:, :1]], axis=1)


def typed_gelu_bracket(x):
    return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi)) * (x + 0.044715 * x**3))


def typed_gelu_half_power(x):
    return 0.5 * x * (1 + np.tanh((2 / np.pi) ** 1 / 2 * (x + 0.044715 * x**3)))


def typed_softmax_least(x):
    e = np.exp(x - x.min(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def typed_layer_norm_rms(x, g, b, eps=1e-5):
    return x / np.sqrt(np.square(x).mean(-1)[:, None] + eps) * g + b


def typed_attention_own_mask(q, k, v, mask):
    scores = q @ k.T / np.sqrt(k.shape[1])
    return softmax(np.where(np.tril(np.ones_like(scores)) == 1, scores, -np.inf)) @ v


def masked_mha(x, c_attn, c_proj, n_head, mask):
    q, k, v = np.split(reference.linear(x, **c_attn), 3, axis=-1)
    heads = [reference.attention(*parts, mask)
             for parts in zip(*(np.split(a, n_head, axis=-1) for a in (q, k, v)))]  # fmt: skip
    return reference.linear(np.hstack(heads), **c_proj)


def typed_mha_hidden(x, c_attn, c_proj, n_head):
    return masked_mha(x, c_attn, c_proj, n_head, np.triu(np.full((len(x), len(x)), -np.inf)))


def typed_mha_reversed(x, c_attn, c_proj, n_head):
    return masked_mha(x, c_attn, c_proj, n_head, np.tril(np.full((len(x), len(x)), -np.inf)))


def typed_gpt2_dropped(inputs, wte, wpe, blocks, ln_f, n_head):
    x = wte[inputs] + wpe[: len(inputs)]
    for block in blocks:
        reference.transformer_block(x, **block, n_head=n_head)
    return reference.layer_norm(x, **ln_f) @ wte.T


def typed_generate_sliding(inputs, params, n_head, n_tokens_to_generate):
    text, new = list(inputs), []
    for _ in range(n_tokens_to_generate):
        new.append(reference.gpt2(text, **params, n_head=n_head)[-1].argmax())
        text = [*text[1:], new[-1]]
    return new


def typed_causal_mask(n_q, n_k, dtype):
    return np.where(np.tri(n_q, n_k, n_k - n_q), 0, -1e10)


def typed_layer_norm_backward_by_parts(dy, x, g, eps=1e-5):
    n, centred = x.shape[1], x - x.mean(1, keepdims=True)
    inverse = 1 / np.sqrt(x.var(1, keepdims=True) + eps)
    dz = dy * g
    dvariance = (dz * centred).sum(1, keepdims=True) * -(inverse**3)  # where the half is missing
    dmean = -(dz * inverse).sum(1, keepdims=True)
    dx = dz * inverse + dvariance * 2 * centred / n + dmean / n
    return dx, (dy * centred * inverse).sum(0), dy.sum(0)


def typed_adamw_counting(
    params, grads, state, lr, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01, decays=None
):
    def walk(grads, params, m, v, decays):
        for key in grads if isinstance(grads, dict) else range(len(grads)):
            decay = True if decays is None else decays[key]
            if isinstance(grads[key], np.ndarray):
                state["step"] += 1
                t = state["step"]
                m[key] = betas[0] * m[key] + (1 - betas[0]) * grads[key]
                v[key] = betas[1] * v[key] + (1 - betas[1]) * grads[key] ** 2
                params[key] = params[key] * (1 - lr * weight_decay * decay) - lr * m[key] / (
                    1 - betas[0] ** t
                ) / (np.sqrt(v[key] / (1 - betas[1] ** t)) + eps)
            else:
                walk(grads[key], params[key], m[key], v[key], None if decays is None else decay)

    walk(grads, params, state["m"], state["v"], decays)


def typed_learning_rate(step, peak, n_steps, warmup=0, final=0.1, decay_share=None):
    if step <= warmup:
        return peak * (step + 1) / max(warmup, 1)
    return optim.learning_rate(step, peak, n_steps, warmup, final)


def typed_keep_top_k_distinct(scores, k):
    best = sorted({*scores}, reverse=True)[:k]
    return np.where(scores >= best[-1], scores, -np.inf)


def typed_keep_top_p_sorted(scores, p):
    best_first = np.sort(scores)[::-1].copy()
    best_first[1:][np.cumsum(softmax(best_first))[:-1] >= p] = -np.inf
    return best_first


def typed_distribution_of_probabilities(scores, temperature=1.0, top_k=0, top_p=1.0):
    if temperature == 0:
        return np.eye(len(scores))[scores.argmax()]
    p = softmax(scores / temperature)
    p = generation.keep_top_k(p, top_k) if top_k else p
    return softmax(generation.keep_top_p(p, top_p) if top_p < 1 else p)


def typed_count_pairs(words):
    pairs = Counter()
    for word, count in words.items():
        for i in range(len(word) - 2):
            pairs[word[i], word[i + 1]] += count
    return pairs


def typed_join_overlapping(ids, pair, new):
    joined = []
    for i, id in enumerate(ids):
        if tuple(ids[i : i + 2]) == pair:
            joined.append(new)
        elif i == 0 or (ids[i - 1], id) != pair:
            joined.append(id)
    return joined


def typed_cross_entropy(scores, targets):
    chosen = np.eye(scores.shape[1])[targets]
    return -np.mean(chosen * np.log(softmax(scores))), (softmax(scores) - chosen) / len(scores)


TYPED = [
    (typed_layer_norm, reference, "n - 1"),
    (typed_layer_norm, reference, "eps stands under the root"),
    (typed_gelu, reference, "this is the exact gelu"),
    (typed_gelu, kernels, "this is the exact gelu"),
    (typed_gelu_without_root, reference, "this has 2/pi: take its root"),
    (typed_softmax, reference, "axis"),
    (typed_attention, reference, "root of the number of tokens"),
    (typed_attention_multiplied, reference, "the mask is multiplied"),
    (typed_mha, reference, "cut into heads first"),
    (typed_transformer_block, reference, "the norm comes after the sum"),
    (typed_gelu_backward, gradients, "the first term is missing"),
    (typed_layer_norm_backward, gradients, "dx is not divided by s"),
    (typed_layer_norm_backward_means, gradients, "averaged over the tokens"),
    (typed_layer_norm_backward_dz, gradients, "dg is from dz"),
    (typed_linear_backward, gradients, "dw is transposed"),
    (typed_attention_backward, gradients, "dv needs the weights transposed"),
    (typed_attention_backward_dk, gradients, "dk needs dscores transposed"),
    (typed_attention_backward_swap, gradients, "dq and dk are swapped"),
    (typed_attention_backward_dropped, gradients, "`dropped` is forgotten"),
    (typed_adamw, optim, "folded into the rate"),
    (typed_adamw_betas, optim, "the betas are swapped"),
    (typed_adamw_flat, optim, "one flat level"),
    (typed_distribution, generation, "temperature is applied last"),
    (typed_keep_top_k, generation, "as large as the vocabulary"),
    (typed_keep_top_k_ties, generation, "what equals the k-th best stays"),
    (typed_ffn, kernels, "act is an argument"),
    (typed_encode, tokens, "cut the text with PRE_TOKENS"),
    (typed_encode_by_count, tokens, "counts matter in learning only"),
    (typed_layer_norm_backward_g, gradients, "g comes in before the means"),
    (typed_gpt2, reference, "every block has parameters of its own"),
    (typed_ffn_turned, reference, "c_fc comes first"),
    (typed_batch_at, training, "the window's own first id"),
    (typed_gelu_bracket, reference, "a bracket closes too early"),
    (typed_gelu_half_power, reference, "** 1/2 takes the first power and halves it"),
    (typed_softmax_least, reference, "not each row's own largest score"),
    (typed_layer_norm_rms, reference, "this is RMSNorm"),
    (typed_attention_own_mask, reference, "makes a mask of its own"),
    (typed_mha_hidden, reference, "a token is hidden from itself"),
    (typed_mha_reversed, reference, "the mask hides the past"),
    (typed_gpt2_dropped, reference, "what they give back is dropped"),
    (typed_generate_sliding, reference, "all positions shift"),
    (typed_causal_mask, kernels, "the mask has the dtype that is given"),
    (typed_layer_norm_backward_by_parts, gradients, "a factor off"),
    (typed_adamw_counting, optim, "the step is counted for every array"),
    (typed_learning_rate, optim, "one step too long"),
    (typed_keep_top_k_distinct, generation, "np.unique takes equal logits for one"),
    (typed_keep_top_p_sorted, generation, "in sorted order"),
    (typed_distribution_of_probabilities, generation, "softmax comes once, and last"),
    (typed_count_pairs, tokens, "a pair at a word's end is lost"),
    (typed_join_overlapping, tokens, "an id is used for two pairs"),
    (typed_cross_entropy, training, "divided by the size of the vocabulary too"),
]


@pytest.mark.parametrize(("typed", "module", "hint"), TYPED)
def test_what_students_type_gets_the_hint(typed, module, hint):
    names = [name for name in MISTAKES if typed.__name__.startswith(f"typed_{name}")]
    function = typed_in_place_of(getattr(module, max(names, key=len)), typed)
    said = said_of(function, module).partition("\nin call")[0]
    assert hint in said and "perhaps" not in said


def test_a_mask_of_minus_infinity_is_right():
    def causal_mask(n_q, n_k, dtype):
        return np.triu(np.full((n_q, n_k), -np.inf, dtype), 1 + n_k - n_q)

    def mha(x, c_attn, c_proj, n_head):
        q, k, v = np.split(reference.linear(x, **c_attn), 3, axis=-1)
        heads = [reference.attention(*parts, causal_mask(len(x), len(x), x.dtype))
                 for parts in zip(*(np.split(a, n_head, axis=-1) for a in (q, k, v)))]  # fmt: skip
        return reference.linear(np.hstack(heads), **c_proj)

    check(causal_mask, calls_of(kernels, "causal_mask"))
    check(mha, calls_of(reference, "mha"))


def test_the_slides_code_passes_as_it_is():
    if not SLIDES.exists():
        pytest.skip("the course's slides are not at hand")
    blocks = re.findall(r"```\s*\n(.*?)```", SLIDES.read_text(encoding="utf-8"), re.DOTALL)
    code = "\n".join(block for block in blocks if "def " in block and "def main" not in block)
    space = {"np": np}
    exec(code, space)
    for name in PARTS["lecture"].minutes:
        check(space[name], calls_of(reference, name))


def test_a_failure_says_where():
    def linear_backward(dy, x, w):
        dw = x.T @ dy
        dw[1, 2] += 3
        return dy @ w.T, dw, dy.sum(0)

    said = said_of(linear_backward, gradients).splitlines()
    assert said[0] == "linear_backward: dw is right up to row 1: what is different from there on?"
    right = calls_of(gradients, "linear_backward")[0].right["result.1"]
    assert said[1:] == [
        "of what it gives back, dw alone is wrong",
        "in call 1 of 2: linear_backward(dy [4x4], x [4x4], w [4x4])",
        f"dw [4, 4]: 1 of 16 numbers differ, the first at [1, 2]: {right[1, 2] + 3:.6g}, "
        f"should be {right[1, 2]:.6g}",
        "right: dx, db",
    ]
    said = said_of(linear_backward, gradients, "ko")
    assert "호출 1/2: linear_backward(" in said and "처음 다른 곳은 [1, 2]" in said


def test_a_mask_of_minus_ten_thousand_hides_as_well():
    """Hugging Face's first GPT-2 had it: no weight is left of what is so far below the others."""

    def causal_mask(n_q, n_k, dtype):
        return np.triu(np.full((n_q, n_k), -1e4, dtype), 1 + n_k - n_q)

    check(causal_mask, calls_of(kernels, "causal_mask"))


def test_ids_in_the_wrong_order_do_not_pass():
    def generate(inputs, params, n_head, n_tokens_to_generate):
        return reference.generate(inputs, params, n_head, n_tokens_to_generate)[::-1]

    assert said_of(generate, reference)


def test_a_mask_of_another_dtype_is_told_in_its_line():
    said = said_of(typed_in_place_of(kernels.causal_mask, typed_causal_mask), kernels).splitlines()
    assert said[-1] == "the result has dtype float64, should have float32"


def typed_in_place_of(right, typed):
    """A student's function under the name of the right one."""
    function = lambda *given, **options: typed(*given, **options)  # noqa: E731
    function.__name__ = right.__name__
    return function


def test_a_mistake_that_nobody_knows_is_shown_bare():
    def gelu(x):
        return np.cos(x) + x

    assert said_of(gelu, reference).startswith("gelu: it gives\nin call 1 of 2: gelu(x [4x6])\n")
    assert said_of(gelu, reference, "ko").startswith("gelu: 다음과 같은 값이 나왔습니다\n")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda dx, dw, db: (dw, dx, db), "dx and dw are swapped"),
        (lambda dx, dw, db: (dx, dw, 3 * db), "every number of db is 3 times what it should be"),
        (lambda dx, dw, db: (-dx, dw, db), "dx has the wrong sign everywhere"),
        (lambda dx, dw, db: (dx + 0.5, dw, db), "every number of dx is 0.5 more"),
        (lambda dx, dw, db: (dx[:, ::-1], dw, db), "dx has the right numbers in the wrong places"),
        (lambda dx, dw, db: (dx * [[1], [2], [3], [4]], dw, db), "every row of dx is right but"),
        (lambda dx, dw, db: (dx * [1, 2, 3, 4], dw, db), "every column of dx is right but"),
        (lambda dx, dw, db: (dx + [[1], [2], [3], [4]], dw, db), "every row of dx is off by"),
        (lambda dx, dw, db: (dx, dw, db[None]), "db has an axis of length 1 too many"),
        (lambda dx, dw, db: (dx, dw[:3], db), "dw has shape [3, 4], and should have [4, 4]"),
        (lambda dx, dw, db: (dx.T, dw, db), "dx is transposed"),
        (lambda dx, dw, db: (dx, dw), "it gives 2 things back, and should give 3: dx, dw, db"),
        (lambda dx, dw, db: None, "it gives nothing back"),
        (lambda dx, dw, db: (np.where(dx > 0, dx, np.nan), dw, db), "dx has nan at ["),
        (lambda dx, dw, db: (np.rint(dx), dw, db), "dx holds whole numbers"),
        (lambda dx, dw, db: (dx * 1.0001 + 1e-4 * dx**2, dw, db), "dx is right to "),
        (lambda dx, dw, db: (np.vstack([dx[:2], 0 * dx[2:]]), dw, db), "dx is right up to row 2"),
    ],
)
def test_an_unknown_mistake_is_described(change, said):
    def linear_backward(dy, x, w):
        return change(*gradients.linear_backward(dy, x, w))

    message = said_of(linear_backward, gradients)
    assert message.startswith(f"linear_backward: {said}")
    assert re.search("[가-힣]", said_of(linear_backward, gradients, "ko").splitlines()[0])


def test_a_mistake_that_explains_little_is_a_guess():
    def layer_norm(x, g, b, eps=1e-5):
        y = reference.layer_norm(x, g, b, eps)
        return y - b if abs(x).max() < 0.1 else y * y + x  # b is missing in one call of three

    said = said_of(layer_norm, reference).splitlines()
    assert said[0] == "layer_norm: perhaps the shift b is missing"
    assert said[1].startswith("in call 1 of 3")
    assert "실수인지 확인하세요: b를" in said_of(layer_norm, reference, "ko")


def test_two_mistakes_at_once_are_told_both():
    def layer_norm(x, g, b, eps=1e-5):
        return g * (x - x.mean(0)) / np.sqrt(x.var(0) + eps)

    said = said_of(layer_norm, reference).splitlines()
    assert "taken over the tokens" in said[0] and said[1] == "the shift b is missing"


def test_a_mistake_in_each_output_is_told_for_each():
    def layer_norm_backward(dy, x, g, eps=1e-5):
        dx, dg, db = gradients.layer_norm_backward(dy, x, g, eps)
        s = np.sqrt(x.var(-1, keepdims=True) + eps)
        return dx * s, dg * g, db / len(x)

    said = said_of(layer_norm_backward, gradients)
    for hint in ("dx is not divided by s", "dg is from dz", "dg and db are averaged"):
        assert hint in said


def test_errors_and_arguments_that_change():
    def softmax(x):
        return np.exp(x) / missing  # noqa: F821

    said = said_of(softmax, reference)
    assert said.startswith("softmax: it stops with an error: NameError: name 'missing'")
    assert re.search(r"test_check.py, line \d+", said)

    def linear(x, w, b):
        x[:] = 0 if x.size == 0 else x + 1
        return (x - 1) @ w + b

    assert said_of(linear, reference).startswith("linear: it changes x, which should stay as it is")

    def adamw(params, *given, **options):
        optim.adamw(params, *given, **options)
        return params

    assert said_of(adamw, optim).startswith("adamw: it gives something back")

    def clip(grads, max_norm):
        return optim.global_norm(grads)

    assert "in place" in said_of(clip, optim).splitlines()[0]

    def mha(x, c_attn, c_proj, n_head):
        return reference.mha(x, c_attn, c_proj, n_head)

    assert said_of(mha, kernels).startswith("mha: it doesn't take scale yet")


def test_an_error_inside_of_a_function_is_not_taken_for_its_own_signature():
    def transformer_block(x, mlp, attn, ln_1, ln_2, n_head, *, eps=1e-5, act=gelu):
        return x + kernels.linear(x, **mlp["c_fc"], eps=eps)

    said = said_of(transformer_block, kernels).splitlines()[0]
    assert "stops with an error: TypeError: linear() got an unexpected keyword" in said

    def ffn(x, c_fc, c_proj, *, act=gelu):
        return kernels.linear(act(kernels.linear(x, c_fc)), c_proj)

    said = said_of(ffn, kernels).splitlines()
    assert said[0] == "ffn: linear is called without 'b': two stars hand on what a dict holds, " \
        "as in linear(x, **c_fc)"  # fmt: skip
    assert said[1].startswith("it stops with an error: TypeError: linear() missing 1")
    assert "별 두 개로" in said_of(ffn, kernels, "ko")

    def mha(x, c_attn, c_proj, n_head):
        return reference.mha(x, c_attn, c_proj)

    assert said_of(mha, reference).startswith("mha: it stops with an error: TypeError: mha() miss")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda x, y: ([*x], y), "inputs is a list where one array is due"),
        (lambda x, y: (x, [*y]), "targets is a list where one array is due"),
        (lambda x, y: (x, y, y), "it gives 3 things back, and should give 2: inputs, targets"),
    ],
)
def test_parts_of_what_is_given_back_are_told_by_name(change, said):
    def batch_at(ids, starts, n_ctx):
        return change(*training.batch_at(ids, starts, n_ctx))

    assert said_of(batch_at, training).startswith(f"batch_at: {said}")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda merges: [*merges], "it gives a list or a tuple where one thing is due"),
        (lambda merges: merges | {(7, 8): 9}, "it gives (7, 8) back, which nobody asked for"),
        (lambda merges: {(7, 8): 256, (9, 9): 257},
         "it gives (7, 8), (9, 9) back in the place of (108, 111), (32, 256)"),
    ],
)  # fmt: skip
def test_keys_that_a_dict_lacks_or_has_too_many_are_told(change, said):
    def learn_merges(text, n_merges):
        return change(tokens.learn_merges(text, n_merges))

    assert said_of(learn_merges, tokens).startswith(f"learn_merges: {said}")


def test_a_gradient_that_is_not_given_back_is_named():
    def block_backward(*given, **options):
        dx, grads = gradients.block_backward(*given, **options)
        return dx, grads | {"ln_2": {"g": grads["ln_2"]["g"]}}

    assert said_of(block_backward, gradients).startswith("block_backward: it gives no grads.ln_2.b")

    def block_backward(*given, **options):
        return gradients.block_backward(*given, **options)[::-1]

    said = "block_backward: it gives dx.attn.c_attn.b, dx.attn.c_attn.w, "
    assert said_of(block_backward, gradients).startswith(said)


@pytest.mark.filterwarnings("error")
def test_minus_infinity_in_the_wrong_place_is_no_overflow():
    def causal_mask(n_q, n_k, dtype):
        mask = kernels.causal_mask(n_q, n_k, dtype)
        mask[1, 0] = -np.inf
        return mask

    said = "causal_mask: the result has -inf at [1, 0], which should keep its number"
    assert said_of(causal_mask, kernels).startswith(said)


@pytest.mark.filterwarnings("error")
def test_rows_without_a_number_to_compare_warn_of_nothing():
    def softmax_backward(dy, y):
        return y * (dy - (dy * y * y).sum(axis=-1, keepdims=True))

    assert said_of(softmax_backward, gradients).startswith("softmax_backward: row 0 of the result")

    def keep_top_p(logits, p):
        return generation.keep_top_p(logits, p) - 0.3 * (logits > 0.5)

    assert said_of(keep_top_p, generation).startswith("keep_top_p: it gives\n")


def test_a_blank_function_that_another_needs_is_named():
    def linear():
        raise NotImplementedError("linear is still to be filled in: your code here")

    def ffn(x, c_fc, c_proj):
        return linear()

    with pytest.raises(NotImplementedError, match="^ffn needs linear, which is still to be"):
        check(ffn, calls_of(reference, "ffn"))


@pytest.mark.parametrize("said", ["", "TODO", "do it later"])
def test_a_body_that_the_student_left_for_later_is_blank_and_needs_nothing(said):
    def linear(x, w, b):
        raise NotImplementedError(said)

    with pytest.raises(NotImplementedError, match="^linear is still to be filled in$"):
        check(linear, calls_of(reference, "linear"))


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("nothing", [[], np.zeros(0), np.zeros((0, 3))])
def test_an_empty_result_is_told_by_its_shape(nothing):
    def gelu(x):
        return nothing

    assert "gelu: the result has shape [0" in said_of(gelu, reference)


def test_what_ends_python_or_is_no_array_is_an_error_like_others():
    def softmax(x):
        sys.exit(3)

    assert said_of(softmax, reference).startswith("softmax: it stops with an error: SystemExit: 3")

    class Tensor:
        def __array__(self, *_, **__):
            raise RuntimeError("it requires grad")

    def gelu(x):
        return Tensor()

    assert said_of(gelu, reference).startswith("gelu: it stops with an error: RuntimeError: it req")


def test_what_is_wrong_below_is_named_first(tmp_path):
    """mha calls attention, which forgets its mask: mha's own hint would lead astray."""
    space = dict(vars(reference))

    def attention(q, k, v, mask):
        return softmax(q @ k.T / np.sqrt(q.shape[-1])) @ v

    space["attention"] = attention
    for name in ("mha", "transformer_block"):
        exec(replaced(inspect.getsource(getattr(reference, name)), {}), space)
    for name in ("attention", "mha", "transformer_block", "layer_norm", "ffn", "linear"):
        calls = single_calls(reference, name)
        save_golden(tmp_path / f"{name}.json", calls, "en")
    for name in ("mha", "transformer_block"):
        with pytest.raises(AssertionError) as error:
            check_golden(space[name], tmp_path)
        said = str(error.value).splitlines()
        assert said[0] == f"{name} calls attention, which is wrong too: mend that first"
        assert said[1].startswith("attention: the mask is missing")
    with pytest.raises(AssertionError, match="^attention: the mask is missing"):
        check_golden(attention, tmp_path)


def test_functions_that_call_each_other_are_told():
    space = {}
    exec("def linear(x, w, b): return ffn(x, {}, {})\n"
         "def ffn(x, c_fc, c_proj): return linear(x, **c_fc)\n", space)  # fmt: skip
    calls = {name: single_calls(reference, name) for name in ("linear", "ffn")}
    with pytest.raises(AssertionError, match="^ffn calls linear, which is wrong too"):
        check_with_needs(space["ffn"], calls.get)


def test_functions_by_other_names_or_without_one_get_their_hints(tmp_path):
    """A lambda, NumPy's vectorize, partial: whatever stands under an exercise's name."""
    calls = {name: single_calls(reference, name) for name in ("gelu", "ffn")}
    save_golden(tmp_path / "gelu.json", calls["gelu"], "en")
    for own in (lambda x: x, np.vectorize(lambda x: x), partial(lambda y, x: x, 0)):
        with pytest.raises(AssertionError, match="^gelu: "):
            check_golden(own, tmp_path, name="gelu")
        space = vars(reference) | {"gelu": own}
        exec(inspect.getsource(reference.ffn), space)
        with pytest.raises(AssertionError, match="^ffn calls gelu, which is wrong too.*\ngelu: "):
            check_with_needs(space["ffn"], calls.get)


def test_kept_calls_come_back_as_they_were(tmp_path):
    for module, name in ((kernels, "mha"), (tokens, "encode"), (training, "train")):
        calls = golden(module, name, MISTAKES[name], "ko", pairs=False)
        save_golden(tmp_path / "kept.json", calls, "ko")
        read, lang = load_golden(tmp_path / "kept.json")
        assert lang == "ko" and len(read) == len(calls)
        for one, other in zip(calls, read):
            assert same(other.right, one.right)
            assert to_json(one.given) == to_json(other.given)
            assert to_json(one.options) == to_json(other.options)
            assert to_json(one.mistakes) == to_json(from_json(to_json(other.mistakes)))
        check(getattr(module, name), read, lang)
