"""The kernels against the lecture's own way (reference.py), plain loops, and themselves."""

import copy
import math
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from models import random_params, small_config

from picogpt import kernels, reference
from picogpt.tools.tree import tree_leaves, tree_map

CONFIG = small_config(n_ctx=200)
PARAMS = random_params(CONFIG)
BLOCK = PARAMS["blocks"][0]
N_HEAD = CONFIG.n_head
IDS = np.random.default_rng(1).integers(0, CONFIG.n_vocab, 150)


# as checkpoint/weights.py stores large matrices: column by column
BY_COLUMNS = PARAMS | {"blocks": tree_map(np.asfortranarray, PARAMS["blocks"])}
in_both_orders = pytest.mark.parametrize("params", [PARAMS, BY_COLUMNS], ids=["rows", "columns"])


def draw(*shape, seed=2, dtype=np.float32):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def gpt2(ids, params=PARAMS, **options):
    return kernels.gpt2(ids, **params, n_head=N_HEAD, **options)


def caches_for(n_sequences=1, dtype=np.float32):
    d_head = CONFIG.n_embd // N_HEAD
    return [
        kernels.new_cache(CONFIG.n_layer, N_HEAD, CONFIG.n_ctx, d_head, dtype)
        for _ in range(n_sequences)
    ]


def calls(dtype):
    """Every kernel with picoGPT's positional arguments: [(name, arguments)]."""
    block, params = (tree_map(lambda a: a.astype(dtype), tree) for tree in (BLOCK, PARAMS))
    mlp, attn, ln_1, ln_2 = (block[name] for name in ("mlp", "attn", "ln_1", "ln_2"))
    x = draw(70, CONFIG.n_embd, dtype=dtype)
    q, k, v = draw(3, 5, 8, dtype=dtype)
    mask = kernels.causal_mask(5, 5, dtype)
    model = [params[name] for name in ("wte", "wpe", "blocks", "ln_f")]
    return [
        ("gelu", [x]),
        ("softmax", [x]),
        ("layer_norm", [x, ln_1["g"], ln_1["b"]]),
        ("linear", [x, attn["c_proj"]["w"], attn["c_proj"]["b"]]),
        ("ffn", [x, mlp["c_fc"], mlp["c_proj"]]),
        ("attention", [q, k, v, mask]),
        ("mha", [x, attn["c_attn"], attn["c_proj"], N_HEAD]),
        ("transformer_block", [x, mlp, attn, ln_1, ln_2, N_HEAD]),
        ("gpt2", [IDS.tolist(), *model, N_HEAD]),
    ]


def freeze(value):
    """Make every array in an argument read-only, so that whoever writes to it raises."""
    for array in tree_leaves(value):
        if isinstance(array, np.ndarray):
            array.flags.writeable = False


@pytest.mark.parametrize("name, args", [pytest.param(*call, id=call[0]) for call in calls("f4")])
def test_each_kernel_is_the_lectures_and_writes_to_nothing(name, args):
    expected = getattr(reference, name)(*args)
    freeze(args)
    assert np.abs(getattr(kernels, name)(*args) - expected).max() < 1e-5


@pytest.mark.parametrize("name, args", [pytest.param(*call, id=call[0]) for call in calls("f8")])
def test_each_kernel_in_double_precision_is_the_lectures_to_1e_12(name, args):
    y = getattr(kernels, name)(*args)
    assert np.abs(y - getattr(reference, name)(*args)).max() < 1e-12


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("dtype, tolerance", [("f2", 0.02), ("f4", 1e-5), ("f8", 1e-12)])
def test_each_kernel_keeps_the_type_it_is_given(dtype, tolerance):
    for (name, args), (_, exact) in zip(calls(dtype), calls("f8"), strict=True):
        y, expected = getattr(kernels, name)(*args), getattr(kernels, name)(*exact)
        assert y.dtype == dtype, name
        assert np.abs(y - expected).max() < tolerance * max(1, np.abs(expected).max()), name


def test_kernels_of_whole_numbers_give_fractions():
    x = np.arange(48).reshape(2, 24) % 5
    assert np.allclose(kernels.softmax(x), kernels.softmax(x.astype(float)))
    got = kernels.mha(x, **BLOCK["attn"], n_head=N_HEAD)
    assert np.allclose(got, kernels.mha(x.astype("f4"), **BLOCK["attn"], n_head=N_HEAD), atol=1e-5)


def test_gelu_by_the_formula():
    for x in (-30.0, -3.0, -0.5, 0.0, 0.5, 3.0, 30.0):
        inner = math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)
        assert kernels.gelu(np.array([x]))[0] == pytest.approx(x / 2 * (1 + math.tanh(inner)))


@pytest.mark.filterwarnings("error")
def test_softmax_of_huge_scores_does_not_overflow():
    y = kernels.softmax(np.array([[1e4, 1e4, -1e10], [-1e30, 0, 1]], np.float32))
    assert np.allclose(y, [[0.5, 0.5, 0], [0, 1 / (1 + math.e), math.e / (1 + math.e)]])


def test_layer_norm_has_mean_0_variance_1_and_the_given_eps():
    x = 3 + 5 * draw(4, 24, dtype=np.float64)
    y = kernels.layer_norm(x, 1, 0)
    assert np.abs(y.mean(axis=-1)).max() < 1e-12 and np.abs(y.var(axis=-1) - 1).max() < 1e-5
    expected = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 0.5)
    assert np.allclose(kernels.layer_norm(x, 2, 7, eps=0.5), 2 * expected + 7, atol=1e-12)


def test_attention_by_loops_for_one_head_and_for_several():
    q, k, v = draw(3, 2, 5, 8, dtype=np.float64)  # each [n_head, n, d]
    q = q[:, -3:]  # the newest three of five
    expected = np.zeros(q.shape)
    for head in range(2):
        for i in range(3):
            scores = [q[head, i] @ k[head, j] / math.sqrt(8) for j in range(i + 3)]
            weights = np.exp(scores) / np.exp(scores).sum()
            expected[head, i] = sum(w * v[head, j] for j, w in enumerate(weights))
    mask = kernels.causal_mask(3, 5, np.float64)
    assert np.allclose(kernels.attention(q, k, v, mask), expected, atol=1e-12)
    assert np.allclose(kernels.attention(q[0], k[0], v[0], mask), expected[0], atol=1e-12)
    plain = kernels.attention(q * 3, k, v, mask, scale=8**-0.5 / 3)
    assert np.allclose(plain, expected, atol=1e-12)


def test_few_rows_gives_the_same_numbers():
    x = draw(150, 7)
    for n_rows in (1, 64, 149, 150, 1000):
        assert np.array_equal(kernels.few_rows(kernels.gelu, x, n_rows=n_rows), kernels.gelu(x))
    double = kernels.few_rows(lambda a, b: a * b, x, x + 1, n_rows=64)
    assert np.array_equal(double, x * (x + 1))


@pytest.mark.parametrize("n_rows", [1, 7, 64, 149, 1000])
def test_mha_does_not_depend_on_how_many_rows_go_at_a_time(n_rows):
    x = draw(150, CONFIG.n_embd)
    whole = kernels.mha(x, **BLOCK["attn"], n_head=N_HEAD, n_rows=150)
    y = kernels.mha(x, **BLOCK["attn"], n_head=N_HEAD, n_rows=n_rows)
    assert np.abs(y - whole).max() < 1e-5


def backwards(f, jobs):
    """What `deal` may do: the jobs in another order, each on a thread of its own."""
    with ThreadPoolExecutor(3) as pool:
        futures = [pool.submit(f, job) for job in reversed(jobs)]
    return [future.result() for future in reversed(futures)]


def test_dealt_out_rows_are_the_same_to_the_bit():
    dealt = []

    def deal(f, jobs):
        dealt.append(len(jobs))
        return backwards(f, jobs)

    for options in ({}, {"last_only": True}):
        plain, other = caches_for(3), caches_for(3)
        for lengths in ([100, 50, 90], [1, 2, 75]):
            ids = IDS[np.arange(sum(lengths)) % len(IDS)]
            expected = gpt2(ids, lengths=lengths, caches=plain, **options)
            given = gpt2(ids, lengths=lengths, caches=other, deal=deal, **options)
            np.testing.assert_array_equal(given, expected)
    assert len(dealt) > 2 * CONFIG.n_layer and max(dealt) > 3
    x = draw(200, 24)
    product = kernels.few_rows(lambda a, b: a * b, x, x + 1, deal=deal)
    np.testing.assert_array_equal(product, x * (x + 1))


def test_no_token_sees_a_later_one():
    changed = IDS.copy()
    changed[100] += 1 if changed[100] == 0 else -1
    before, after = gpt2(IDS), gpt2(changed)
    assert np.array_equal(before[:100], after[:100])
    assert (np.abs(before[100:] - after[100:]).max(axis=-1) > 1e-4).all()


def test_the_lectures_loop_and_ours_choose_the_same_tokens():
    expected = reference.generate(IDS[:10], PARAMS, N_HEAD, 30)
    caches, ids, got = caches_for(), IDS[:10].tolist(), []
    for _ in range(30):
        ids = [int(np.argmax(gpt2(ids, caches=caches, last_only=True)))]
        got += ids
    assert got == expected


@pytest.mark.parametrize("n_rows", [1, 8, 64, 65])
def test_the_order_of_a_matrix_in_memory_changes_nothing(n_rows):
    x, (w, b) = draw(n_rows, CONFIG.n_embd), BLOCK["mlp"]["c_fc"].values()
    by_columns = kernels.linear(x, np.asfortranarray(w), b)
    assert by_columns.shape == (n_rows, 4 * CONFIG.n_embd)
    assert np.abs(by_columns - (x @ w + b)).max() < 1e-5


@in_both_orders
@pytest.mark.parametrize("steps", [[150], [1] * 150, [10, *[1] * 140], [64, 64, 22], [70, 1, 79]])
def test_with_cache_is_without(steps, params):
    caches = caches_for()
    parts = [gpt2(part, params, caches=caches) for part in np.split(IDS, np.cumsum(steps)[:-1])]
    assert np.abs(np.concatenate(parts) - gpt2(IDS)).max() < 1e-5
    assert all(block["length"] == 150 for block in caches[0])


@in_both_orders
def test_batched_is_alone_with_and_without_caches(params):
    sequences = np.split(IDS, [1, 6, 80])
    lengths = [len(ids) for ids in sequences]
    alone = [gpt2(ids, params) for ids in sequences]
    batched = gpt2(IDS, params, lengths=lengths)
    assert np.abs(batched - np.concatenate(alone)).max() < 1e-5
    last = gpt2(IDS, params, lengths=np.array(lengths), last_only=True)
    assert np.abs(last - np.stack([rows[-1] for rows in alone])).max() < 1e-5

    caches = caches_for(4)  # each sequence has its own past when the rest of it comes
    halves = [np.split(ids, [(len(ids) + 1) // 2]) for ids in sequences]
    begun = [a for a, _ in halves]
    gpt2(np.concatenate(begun), params, lengths=[len(a) for a in begun], caches=caches)
    rest = [(i, b) for i, (_, b) in enumerate(halves) if len(b)]
    continued = gpt2(
        np.concatenate([b for _, b in rest]), params, lengths=[len(b) for _, b in rest],
        caches=[caches[i] for i, _ in rest], last_only=True,
    )  # fmt: skip
    assert len(rest) == 3
    assert np.abs(continued - np.stack([alone[i][-1] for i, _ in rest])).max() < 1e-5


def test_every_option_reaches_every_block():
    params = random_params(small_config(tie_word_embeddings=False), seed=3)
    options = {"eps": 0.3, "act": np.tanh, "scale": [0.5, 0.1], "lm_head": params.pop("lm_head")}
    x = params["wte"][IDS[:20]] + params["wpe"][:20]
    for block, scale in zip(params["blocks"], options["scale"]):
        a = kernels.layer_norm(x, **block["ln_1"], eps=0.3)
        to_q = np.where(np.arange(72) < 24, scale * math.sqrt(8), 1).astype(np.float32)
        c_attn = {name: array * to_q for name, array in block["attn"]["c_attn"].items()}
        x = x + reference.mha(a, c_attn, block["attn"]["c_proj"], N_HEAD)
        h = kernels.linear(kernels.layer_norm(x, **block["ln_2"], eps=0.3), **block["mlp"]["c_fc"])
        x = x + kernels.linear(np.tanh(h), **block["mlp"]["c_proj"])
    expected = kernels.layer_norm(x, **params["ln_f"], eps=0.3) @ options["lm_head"].T
    assert np.abs(gpt2(IDS[:20], params, **options) - expected).max() < 1e-5


def test_last_only_and_double_precision_caches():
    params = tree_map(lambda a: a.astype(np.float64), PARAMS)
    whole = gpt2(IDS, params)
    caches = caches_for(dtype=np.float64)
    gpt2(IDS[:100], params, caches=caches)
    last = gpt2(IDS[100:], params, caches=caches, last_only=True)
    assert last.shape == (1, CONFIG.n_vocab) and np.abs(last[0] - whole[-1]).max() < 1e-12


def test_a_model_without_blocks_is_its_embeddings():
    params = {**PARAMS, "blocks": []}
    assert np.abs(gpt2(IDS, params) - reference.gpt2(IDS, **params, n_head=N_HEAD)).max() < 1e-5


def test_a_cached_call_writes_to_the_next_places_and_nowhere_else():
    params, ids, caches = copy.deepcopy(PARAMS), IDS[:5].copy(), caches_for()
    freeze([params, ids])
    gpt2(ids, params, caches=caches)
    for block in caches[0]:
        block["k"][:, 5:], block["v"][:, 5:] = 7, 8
    gpt2(ids, params, caches=caches)
    for block in caches[0]:  # nothing behind what was added
        assert (block["k"][:, 10:] == 7).all() and (block["v"][:, 10:] == 8).all()


@pytest.mark.parametrize(
    "n_tokens, options, message",
    [
        (201, {}, "position 200 is past the 200"),
        (5, {"lengths": [2, 2]}, "add up to 5"),
        (5, {"lengths": [5, 0]}, "must be positive"),
        (5, {"lengths": [7, -2]}, "must be positive"),
        (5, {"lengths": []}, "must be positive"),
        (5, {"lengths": [2, 3], "caches": caches_for(1)}, "2 sequences but 1 caches"),
        (5, {"caches": []}, "1 sequences but 0 caches"),
    ],
)
def test_what_cannot_be_is_refused(n_tokens, options, message):
    with pytest.raises(ValueError, match=message):
        gpt2(np.zeros(n_tokens, int), **options)


def test_a_full_cache_is_refused_before_anything_is_written():
    caches = caches_for()
    gpt2(IDS, caches=caches)
    before = copy.deepcopy(caches)
    with pytest.raises(ValueError, match="position 209 is past the 200"):
        gpt2(IDS[:60], caches=caches)
    small = kernels.new_cache(1, N_HEAD, 4, 8)[0]
    with pytest.raises(ValueError, match="5 tokens are more than the cache's 4"):
        kernels.mha(draw(5, 24), **BLOCK["attn"], n_head=N_HEAD, caches=[small])
    for block, old in zip(caches[0], before[0]):
        assert block["length"] == old["length"] == 150
        for name in ("k", "v"):  # as bytes: the rows not yet used may hold NaN, unequal to itself
            assert block[name].tobytes() == old[name].tobytes()
