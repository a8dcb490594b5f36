"""AdamW pinned to its convention, the schedule, clipping, accumulation, and trees with holes."""

import copy
import math
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from models import random_params, small_config

from picogpt import optim
from picogpt.tools.tree import tree_leaves, tree_map, tree_paths

LR, DECAY, EPS, BETAS = 0.1, 0.5, 1e-2, (0.9, 0.999)
START = [0.7, -1.3, 0.02, 2.0]
GRADIENTS = [[0.5, -0.01, 0.3, 0.0], [-0.2, 0.02, 0.3, 1e-3], [1.5, 0.4, -0.6, 0.0]]
AFTER = [  # what torch.optim.AdamW in float64 makes of START
    [0.566960784313725, -1.185000000000000, -0.077774193548387, 1.900000000000000],
    [0.504936696885734, -1.148177858072617, -0.170659677419354, 1.800084506883855],
    [0.411282948554973, -1.153422083658145, -0.154735919133037, 1.706940522378761],
]


def steps(grads=GRADIENTS, start=START, dtype=np.float64, **options):
    """The weights after each step."""
    params = {"w": np.array(start, dtype)}
    state, after = optim.new_state(params), []
    options = {"lr": LR, "betas": BETAS, "eps": EPS, "weight_decay": DECAY, **options}
    for g in grads:
        optim.adamw(params, {"w": np.array(g, dtype)}, state, **options)
        after.append(params["w"].copy())
    return np.array(after)


def by_hand(*, decay="before", eps="beside", corrected=True):
    """AdamW number by number, in the order that is asked for."""
    after = [list(START)]
    for i, start in enumerate(START):
        w, m, v = start, 0.0, 0.0
        for t, row in enumerate(GRADIENTS, 1):
            g = row[i] + (DECAY * w if decay == "in the gradient" else 0)
            m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
            m_hat = m / (1 - 0.9**t) if corrected else m
            v_hat = v / (1 - 0.999**t) if corrected else v
            if decay == "before":
                w *= 1 - LR * DECAY
            root = {
                "beside": math.sqrt(v_hat) + EPS,
                "inside": math.sqrt(v_hat + EPS),
                "uncorrected": (math.sqrt(v) + EPS) / math.sqrt(1 - 0.999**t),
            }[eps]
            w -= LR * m_hat / root
            if decay == "after":
                w *= 1 - LR * DECAY
            if len(after) <= t:
                after.append([0.0] * len(START))
            after[t][i] = w
    return np.array(after[1:])


def test_three_steps_are_pinned():
    assert np.abs(steps() - AFTER).max() < 1e-12


VARIANTS = [
    {"decay": "after"},
    {"decay": "in the gradient"},
    {"decay": "none"},
    {"eps": "inside"},
    {"eps": "uncorrected"},
    {"corrected": False},
]


@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_every_other_order_shows(variant):
    assert np.abs(by_hand() - AFTER).max() < 1e-12
    differences = np.abs(by_hand(**variant) - AFTER).max(axis=1)
    assert (differences[1:] > 1e-4).all()


def test_the_courses_vector():
    """Stanford CS 224N's optimizer_test.npy; the course decays after the update."""
    w = [[-0.0043225177, 0.3097158372, -0.4751853347], [-0.4248946011, -0.2223689705, 0.1548207253]]
    params = {"w": np.array(w, np.float32)}
    state, rng = optim.new_state(params), np.random.default_rng(0)
    for _ in range(1000):
        x = rng.uniform(size=3).astype(np.float32)
        y = np.array([x[0] + x[1], -x[2]])
        grads = {"w": np.outer(2 * (params["w"] @ x - y), x)}
        optim.adamw(params, grads, state, lr=1e-3, betas=(0.9, 0.999), eps=1e-6, weight_decay=1e-4)
    expected = [[0.55482787, 0.86665666, 0.07291982], [-0.44724506, -0.2951228, -0.2717272]]
    assert np.allclose(params["w"], expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("chunk", [1, 3, 4, 1000])
def test_a_few_numbers_at_a_time_are_the_whole(chunk, monkeypatch):
    rng = np.random.default_rng(0)
    start, grads = rng.standard_normal((2, 5)), rng.standard_normal((3, 2, 5))
    whole = steps(grads, start)
    monkeypatch.setattr(optim, "CHUNK", chunk)
    assert np.array_equal(steps(grads, start), whole)


def test_the_first_step_is_lr_whatever_the_gradients_size():
    g = np.array([1e3, -1e-3, 2.0])
    moved = steps([g], np.zeros(3), eps=1e-12)[0]
    assert np.allclose(moved, -LR * np.sign(g), rtol=1e-6)


def test_params_and_state_change_in_place_and_gradients_do_not():
    params = random_params(small_config())
    grads, state = random_params(small_config(), seed=1), optim.new_state(params)
    arrays = tree_leaves([params, state["m"], state["v"]])
    before = copy.deepcopy([params, grads])
    optim.adamw(params, grads, state, lr=1e-2)
    assert all(a is b for a, b in zip(tree_leaves([params, state["m"], state["v"]]), arrays))
    assert {a.dtype for a in arrays} == {np.dtype(np.float32)} and state["step"] == 1
    assert all(a.any() for a in arrays)
    assert not any(map(np.array_equal, tree_leaves(before[0]), tree_leaves(params)))
    assert all(map(np.array_equal, tree_leaves(before[1]), tree_leaves(grads)))


@pytest.mark.parametrize("hole", [{}, "absent"])
def test_what_has_no_gradient_stays(hole):
    params = random_params(small_config(tie_word_embeddings=False))
    grads = tree_map(np.ones_like, params)
    grads["blocks"][0] = {}
    for name in ("wte", "wpe"):
        grads[name] = {}
        if hole == "absent":
            del grads[name]
    before, state = copy.deepcopy(params), optim.new_state(params)
    optim.clip(grads, 1.0)
    optim.adamw(params, grads, state, lr=0.1, decays=optim.decay_mask(params))
    for frozen, old in [(params["blocks"][0], before["blocks"][0]), (params["wte"], before["wte"])]:
        assert all(map(np.array_equal, tree_leaves(frozen), tree_leaves(old)))
    trained = ["blocks", "ln_f", "lm_head"]
    now, then = ([tree["blocks"][1], tree["ln_f"], tree["lm_head"]] for tree in (params, before))
    assert trained and not any(map(np.array_equal, tree_leaves(now), tree_leaves(then)))
    assert not any(a.any() for a in tree_leaves([state["m"]["wte"], state["v"]["blocks"][0]]))


def test_decay_is_of_matrices_and_embeddings():
    params = random_params(small_config(tie_word_embeddings=False, n_layer=1))
    norm, dense = {"g": False, "b": False}, {"w": True, "b": False}
    block = {"ln_1": norm, "attn": {"c_attn": dense, "c_proj": dense}}
    block |= {"ln_2": norm, "mlp": {"c_fc": dense, "c_proj": dense}}
    expected = {"wte": True, "wpe": True, "blocks": [block], "ln_f": norm, "lm_head": True}
    assert optim.decay_mask(params) == expected
    part = {"blocks": params["blocks"], "ln_f": params["ln_f"]}
    assert optim.decay_mask(part) == {"blocks": [block], "ln_f": norm}


def test_the_mask_exempts_from_decay_and_from_nothing_else():
    params = random_params(small_config())
    grads, mask = tree_map(np.zeros_like, params), optim.decay_mask(params)
    before = copy.deepcopy(params)
    optim.adamw(params, grads, optim.new_state(params), 0.1, weight_decay=0.5, decays=mask)
    for new, old, decays in zip(*map(tree_leaves, (params, before, mask)), strict=True):
        assert np.allclose(new, 0.95 * old if decays else old, rtol=1e-6)
    optim.adamw(params, grads, optim.new_state(params), 0.1, weight_decay=0.5)  # no mask: all
    for new, old, decays in zip(*map(tree_leaves, (params, before, mask)), strict=True):
        assert np.allclose(new, 0.95 * (0.95 * old if decays else old), rtol=1e-6)
    optim.adamw(params, tree_map(np.ones_like, params), optim.new_state(params), 0.1, decays=mask)
    assert not any(map(np.array_equal, tree_leaves(params), tree_leaves(before)))


def test_arrays_that_cannot_be_changed_in_place_are_refused():
    params = {"w": np.ones((4, 6))[:, ::2]}
    with pytest.raises(ValueError, match="contiguous"):
        optim.adamw(params, {"w": np.ones((4, 3))}, optim.new_state(params), 0.1)


def test_a_gradient_may_have_another_layout():
    g = np.random.default_rng(0).standard_normal((4, 3))
    both = []
    for grad in (g, np.asfortranarray(g)):
        params = {"w": np.ones((4, 3))}
        optim.adamw(params, {"w": grad}, optim.new_state(params), 0.1)
        both.append(params["w"])
    assert np.array_equal(*both)


def test_parameters_may_be_stored_by_columns(monkeypatch):
    monkeypatch.setattr(optim, "CHUNK", 5)
    start, grads = np.random.default_rng(0).standard_normal((2, 4, 3))
    both = []
    for order in "CF":
        params = {"w": start.copy(order)}
        state = optim.new_state(params)
        for grad in (grads, grads.copy("F"), -grads):
            optim.adamw(params, {"w": grad}, state, 0.1)
        assert params["w"].flags[f"{order}_CONTIGUOUS"]
        both.append([params["w"], state["m"]["w"], state["v"]["w"]])
    assert all(map(np.array_equal, *both))
    assert optim.global_norm({"w": grads.copy("F")}) == pytest.approx(np.linalg.norm(grads))


def test_muon_by_its_definition():
    """Three steps on c_attn's three matrices and a tall one, by the singular value decomposition"""
    rng = np.random.default_rng(0)
    params = {"blocks": [{"c_attn": {"w": rng.standard_normal((6, 18))}}, {"w": np.ones((8, 3))}]}
    arrays = [params["blocks"][0]["c_attn"]["w"], params["blocks"][1]["w"]]
    wanted, means = [a.copy() for a in arrays], [0.0, 0.0]
    state = optim.new_state(params)

    def all_near_one(g):
        u, s, vt = np.linalg.svd(g, full_matrices=False)
        s = s / np.sqrt((s * s).sum())
        for _ in range(5):
            s = 3.4445 * s - 4.7750 * s**3 + 2.0315 * s**5
        return u * s @ vt

    for _ in range(3):
        grads = tree_map(lambda a: rng.standard_normal(a.shape), params)
        for i, g in enumerate(tree_leaves(grads)):
            means[i] = 0.9 * means[i] + 0.1 * g
            ahead = 0.1 * g + 0.9 * means[i]
            parts = np.split(ahead, 3, axis=1) if i == 0 else [ahead]
            step = np.concatenate([all_near_one(part) for part in parts], axis=1)
            wanted[i] *= 1 - 0.1 * 0.5
            wanted[i] -= 0.1 * 0.2 * np.sqrt([6, 8][i]) * step
        optim.muon(params, grads, state, 0.1, momentum=0.9, weight_decay=0.5)
    for found, array in zip(arrays, wanted):
        np.testing.assert_allclose(found, array, rtol=1e-6)


def test_muon_is_for_the_blocks_matrices_and_leaves_the_rest():
    params = random_params(small_config(tie_word_embeddings=False))
    grads, state = random_params(small_config(tie_word_embeddings=False), seed=1), None
    matrices, rest = optim.split_for_muon(grads)
    assert len(tree_leaves(matrices)) + len(tree_leaves(rest)) == len(tree_leaves(grads))
    assert all(a.ndim == 2 for a in tree_leaves(matrices))
    assert matrices["wte"] == {} and rest["blocks"][0]["attn"]["c_attn"]["w"] == {}
    before, state = copy.deepcopy(params), optim.new_state(params)
    optim.muon(params, matrices, state, 0.1)
    moved = tree_map(lambda a, b: not np.array_equal(a, b), before, params)
    assert moved == tree_map(lambda path: path.endswith(".w"), tree_paths(params))
    assert state["step"] == 0 and not any(a.any() for a in tree_leaves(state["v"]))
    assert {a.dtype for a in tree_leaves([params, state["m"]])} == {np.dtype(np.float32)}


@pytest.mark.parametrize("shape", [(8, 8), (4, 12), (12, 4)])
def test_orthogonalised_has_all_its_directions_equally_long(shape):
    g = np.random.default_rng(0).standard_normal(shape) * np.geomspace(1, 0.1, shape[1])
    s = np.linalg.svd(optim.orthogonalised(g), compute_uv=False)
    assert s.max() < 1.21 and s.min() > 0.5
    assert not np.isnan(optim.orthogonalised(np.zeros(shape))).any()


def test_threads_update_each_leaf_as_one_thread_does():
    results = []
    with ThreadPoolExecutor(3) as pool:
        for deal in (map, pool.map):
            params = random_params(small_config())
            grads, state = random_params(small_config(), seed=1), optim.new_state(params)
            matrices, _ = optim.split_for_muon(grads)
            optim.muon(params, matrices, state, 0.1, deal=deal)
            results.append(tree_leaves(params))
    assert all(map(np.array_equal, *results))


def test_the_schedule_with_a_plateau():
    rates = [optim.learning_rate(n, 2.0, 100, 10, 0.0, decay_share=0.2) for n in range(101)]
    assert rates[:10] == pytest.approx(np.arange(1, 11) / 5)
    assert rates[10:81] == [2.0] * 71
    assert rates[80:] == pytest.approx(np.linspace(2, 0, 21))
    assert [optim.learning_rate(n, 2.0, 900, 10, 0.0, 0.2) for n in range(81)] == rates[:81]


def test_the_schedule_rises_in_a_line_and_falls_along_half_a_cosine():
    rates = [optim.learning_rate(step, 2.0, 110, warmup=10, final=0.1) for step in range(111)]
    assert rates[:10] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0, 1.2, 1.4, 1.6, 1.8, 2.0])
    assert rates[10] == 2.0
    assert rates[35] == pytest.approx(0.2 + 1.8 * (1 + math.sqrt(0.5)) / 2)  # a quarter
    assert rates[60] == pytest.approx((2.0 + 0.2) / 2)  # half way
    assert rates[110] == pytest.approx(0.2)
    assert all(np.diff(rates[10:]) < 0)
    assert optim.learning_rate(500, 2.0, 110, warmup=10, final=0.0) == pytest.approx(0)
    assert optim.learning_rate(0, 2.0, 5) == 2.0
    assert optim.learning_rate(7, 2.0, 5, warmup=5, final=1.0) == 2.0


def test_clipping_is_by_the_norm_of_all_together():
    grads = {"a": np.array([3.0, 0.0]), "b": [{"c": np.array([[4.0]])}, {}]}
    assert optim.global_norm(grads) == pytest.approx(5.0)
    kept = copy.deepcopy(grads)
    assert optim.clip(kept, 6.0) == pytest.approx(5.0)
    assert np.array_equal(kept["a"], grads["a"])
    arrays = tree_leaves(grads)
    assert optim.clip(grads, 1.0) == pytest.approx(5.0)
    assert np.allclose(arrays[0], [0.6, 0], rtol=1e-6) and np.allclose(arrays[1], 0.8, rtol=1e-6)
    assert optim.global_norm(grads) == pytest.approx(1.0, rel=1e-6)
    assert optim.global_norm({}) == 0


def test_a_global_norm_of_many_float32_numbers():
    g = np.full(10**6, 0.1, np.float32)
    assert optim.global_norm({"a": g, "b": g}) == pytest.approx(math.sqrt(2e6) * 0.1, rel=1e-4)


def test_micro_batches_add_up_in_place():
    trees = [random_params(small_config(), seed=i) for i in range(3)]
    copies = copy.deepcopy(trees)
    total = None
    for tree in trees:
        before = total
        total = optim.accumulate(total, tree)
        assert before is None or total is before
    wanted = tree_map(lambda *leaves: sum(leaves), *copies)
    for found, leaf in zip(tree_leaves(total), tree_leaves(wanted), strict=True):
        assert found.dtype == np.float32 and np.allclose(found, leaf, atol=1e-6)
    for tree, old in zip(trees[1:], copies[1:]):  # what is added stays as it is
        assert all(map(np.array_equal, tree_leaves(tree), tree_leaves(old)))


def test_frozen_parts_accumulate_as_nothing():
    grads = {"wte": {}, "blocks": [{}, {"w": np.ones(2)}]}
    total = optim.accumulate(optim.accumulate(None, grads), copy.deepcopy(grads))
    assert total["wte"] == {} and total["blocks"][0] == {}
    assert np.array_equal(total["blocks"][1]["w"], np.full(2, 2.0))
