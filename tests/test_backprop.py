"""The whole model's gradients against central differences; freezing, batches, parts, refusals."""

import copy
import tracemalloc

import numpy as np
import pytest
from differences import relative_error, slopes
from models import random_params, small_config, small_model

import picogpt
from picogpt import backprop
from picogpt.optim import accumulate
from picogpt.tools.errors import TextError
from picogpt.tools.tree import tree_leaves, tree_map, tree_paths

LENGTHS = [4, 1, 2]
IDS = np.array([5, 1, 5, 0, 6, 2, 5])
TARGETS = np.array([1, -100, 0, 3, 2, 5, -100])
TINY = {"n_vocab": 7, "n_ctx": 4, "n_embd": 4, "n_head": 2, "n_inner": 5}


def tiny_model(dtype=np.float64, **changes):
    config = small_config(**{**TINY, **changes})
    return picogpt.Model(random_params(config, dtype=dtype, std=0.5), config, None)


def by_path(tree):
    return dict(zip(tree_leaves(tree_paths(tree)), tree_leaves(tree), strict=True))


def assert_same(found, wanted, tolerance=1e-5):
    """The same tree, every tensor's difference small beside it, or beside all where it is 0."""
    found, wanted = by_path(found), by_path(wanted)
    assert list(found) == list(wanted)
    whole = np.sqrt(sum((a**2).sum() for a in wanted.values()))
    for name, a in wanted.items():
        size = max(np.linalg.norm(a), 1e-2 * whole)
        assert np.linalg.norm(found[name] - a) <= tolerance * size, name


WHOLE = {
    "gpt2": ({}, {}),
    "ragged": ({}, {"lengths": LENGTHS}),
    "untied, with dropout": (
        {"tie_word_embeddings": False}, {"lengths": LENGTHS, "dropout": 0.3}
    ),
    "tied, all options": (
        {"activation_function": "silu", "scale_attn_by_inverse_layer_idx": True,
         "layer_norm_epsilon": 0.1},
        {"lengths": [3, 4], "dropout": 0.2},
    ),
    "frozen": ({}, {"lengths": LENGTHS, "first_trained_block": 1, "dropout": 0.3}),
    "all frozen, untied": (
        {"tie_word_embeddings": False, "scale_attn_weights": False},
        {"lengths": LENGTHS, "first_trained_block": 2},
    ),
}  # fmt: skip


@pytest.mark.parametrize("changes, options", WHOLE.values(), ids=WHOLE)
def test_every_parameter_against_central_differences(changes, options):
    model = tiny_model(n_ctx=7, **changes)

    def run():
        rng = np.random.default_rng(3)
        return picogpt.loss_and_gradients(model, IDS, TARGETS, rng=rng, **options)

    grads, params = by_path(run()[1]), by_path(model.params)
    first = options.get("first_trained_block", 0)
    frozen = {f"blocks.{i}." for i in range(first)} | ({"wte", "wpe"} if first else set())
    assert set(grads) == {name for name in params if not name.startswith(tuple(frozen))}
    for name, dw in grads.items():
        assert relative_error(dw, slopes(lambda: run()[0], params[name])) <= 1e-6, name


def test_loss_is_the_mean_of_minus_log_probability():
    model = small_model()
    logits = picogpt.logits(model, IDS, LENGTHS).astype(float)
    p = np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)
    scored = TARGETS != -100
    expected = -np.log(p[scored, TARGETS[scored]]).mean()
    loss, _ = picogpt.loss_and_gradients(model, IDS, TARGETS, LENGTHS)
    assert isinstance(loss, float) and loss == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("tied", [True, False])
def test_the_tree_is_the_parameters_and_float32(tied):
    model = small_model(tie_word_embeddings=tied)
    _, grads = picogpt.loss_and_gradients(model, IDS.tolist(), TARGETS.tolist(), LENGTHS)
    assert list(by_path(grads)) == list(by_path(model.params))  # in the same order
    pairs = tree_map(lambda w, g: (w.shape, w.dtype) == (g.shape, g.dtype), model.params, grads)
    assert all(tree_leaves(pairs))


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("first", [1, 2])
def test_frozen_is_not_differentiated_and_changes_nothing_else(first, tied):
    model = small_model(tie_word_embeddings=tied)
    loss, whole = picogpt.loss_and_gradients(model, IDS, TARGETS, LENGTHS)
    expected = {**whole, "blocks": [{}] * first + whole["blocks"][first:], "wte": {}, "wpe": {}}
    frozen_loss, grads = picogpt.loss_and_gradients(
        model, IDS, TARGETS, LENGTHS, first_trained_block=first
    )
    assert frozen_loss == pytest.approx(loss, rel=1e-6)
    assert list(grads) == list(model.params)
    assert [grads[name] for name in ("wte", "wpe")] == [{}, {}]
    assert grads["blocks"][:first] == [{}] * first
    assert_same(grads, expected)


def test_activations_kept_from_an_earlier_pass():
    model = small_model()
    options = {"config": model.config, "lengths": LENGTHS, "first_trained_block": 1}
    seen = picogpt.trace(model, IDS[:4])["blocks.1.x"]
    parts = [seen, *(picogpt.trace(model, ids)["blocks.1.x"] for ids in (IDS[4:5], IDS[5:]))]
    loss, wanted = backprop.loss_and_gradients(model.params, IDS, TARGETS, **options)
    params = {**model.params, "blocks": [None, model.params["blocks"][1]], "wpe": None}  # not run
    kept, grads = backprop.loss_and_gradients(
        params, IDS, TARGETS, hidden=np.concatenate(parts), **options
    )
    assert kept == pytest.approx(loss, rel=1e-6)
    assert_same(grads, wanted)


def scaled(grads, factor):
    return tree_map(lambda g: g * factor, grads)


def test_a_batch_is_its_sequences_and_its_parts():
    """Each sequence alone, weighted by what it scores, or as a part of the batch's mean."""
    model = small_model()
    loss, wanted = picogpt.loss_and_gradients(model, IDS, TARGETS, LENGTHS)
    n_scored, losses, alone, parts = 5, np.zeros(2), None, None
    for rows in (slice(0, 4), slice(4, 5), slice(5, 7)):
        ids, targets = IDS[rows], TARGETS[rows]
        share = (targets != -100).sum() / n_scored
        part_loss, grads = picogpt.loss_and_gradients(model, ids, targets)
        alone = accumulate(alone, scaled(grads, float(share)))
        losses[0] += part_loss * share
        part_loss, grads = backprop.loss_and_gradients(
            model.params, ids, targets, model.config, n_scored=n_scored
        )
        parts = accumulate(parts, grads)
        losses[1] += part_loss
    assert losses == pytest.approx(loss, rel=1e-6)
    assert_same(alone, wanted)
    assert_same(parts, wanted)


def test_targets_that_are_not_scored_change_nothing():
    model = small_model()
    ids, targets = [*IDS, 40, 41], [*TARGETS, -100, -100]  # what comes later is not seen before
    loss, grads = picogpt.loss_and_gradients(model, IDS, TARGETS)
    longer_loss, longer = picogpt.loss_and_gradients(model, ids, targets)
    assert longer_loss == pytest.approx(loss, rel=1e-6)
    assert_same(longer, grads)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("tied", [True, False])
def test_nothing_scored_is_a_loss_of_0_and_gradients_of_0(tied):
    model = small_model(tie_word_embeddings=tied)
    loss, grads = picogpt.loss_and_gradients(model, IDS, [-100] * 7, LENGTHS)
    assert loss == 0
    assert list(by_path(grads)) == list(by_path(model.params))
    assert not any(a.any() for a in tree_leaves(grads))


def test_a_single_token_looks_at_itself():
    model = small_model()
    _, grads = picogpt.loss_and_gradients(model, [5], [7])
    queries_and_keys, values = np.split(grads["blocks"][0]["attn"]["c_attn"]["w"], [48], axis=-1)
    assert not queries_and_keys.any() and values.any()
    assert not grads["wpe"][1:].any() and grads["wpe"][0].any()


def test_only_tokens_in_the_batch_move_an_untied_embedding():
    model = small_model(tie_word_embeddings=False)
    _, grads = picogpt.loss_and_gradients(model, IDS, TARGETS, LENGTHS)
    assert np.flatnonzero(grads["wte"].any(axis=1)).tolist() == sorted(set(IDS))
    assert np.flatnonzero(grads["wpe"].any(axis=1)).tolist() == [0, 1, 2, 3]
    assert grads["lm_head"].any(axis=1).all()


def test_dropout_is_in_trained_blocks_alone_and_of_the_given_generator():
    model = small_model()

    def loss(seed, **options):
        rng = np.random.default_rng(seed)
        return picogpt.loss_and_gradients(model, IDS, TARGETS, LENGTHS, rng=rng, **options)[0]

    assert loss(0, dropout=0.5, first_trained_block=2) == loss(0, first_trained_block=2)
    assert loss(0, dropout=0.5) == loss(0, dropout=0.5)
    others = {loss(0), loss(0, dropout=0.5), loss(1, dropout=0.5), loss(0, dropout=0.4)}
    assert len(others | {loss(0, dropout=0.5, first_trained_block=1)}) == 5


def test_dropout_reaches_the_embeddings():
    model = tiny_model()
    rng, kept = np.random.default_rng(0), {}
    hook = backprop.keep_activations(kept)
    backprop.stack_forward(model.params, IDS[:4], model.config, hook, dropout=0.5, rng=rng)
    x = model.params["wte"][IDS[:4]] + model.params["wpe"][:4]
    assert np.allclose(kept["blocks.0.x"], x * kept["embd_dropped"])
    assert not kept["embd_dropped"].all()


def test_nothing_that_is_given_is_written_to():
    model, ids, targets = small_model(), IDS.copy(), TARGETS.copy()
    before = copy.deepcopy(model.params)
    tree_map(lambda a: a.setflags(write=False), [model.params, ids, targets])
    for first in (0, 1):
        picogpt.loss_and_gradients(
            model, ids, targets, LENGTHS, first, dropout=0.1, rng=np.random.default_rng(0)
        )
    assert all(map(np.array_equal, tree_leaves(before), tree_leaves(model.params)))


def test_gradients_are_nobody_elses_memory():
    model = small_model()
    _, grads = picogpt.loss_and_gradients(model, IDS, TARGETS, LENGTHS)
    leaves = tree_leaves(grads)
    for i, a in enumerate(leaves):
        assert a.flags.writeable
        for b in [*leaves[i + 1 :], *tree_leaves(model.params)]:
            assert not np.may_share_memory(a, b)


REFUSED = [
    ({"targets": TARGETS[:-1]}, ValueError, r"targets of shape \(6,\) don't fit 7 ids"),
    ({"targets": TARGETS[None]}, ValueError, r"targets of shape \(1, 7\) don't fit 7 ids"),
    ({"targets": np.where(TARGETS < 0, -1, TARGETS)}, TextError, "between 0 and 6"),
    ({"targets": TARGETS + 7}, TextError, "between 0 and 6"),
    ({"targets": TARGETS / 2}, TextError, "whole number"),
    ({"ids": IDS + 1}, TextError, "between 0 and 6"),
    ({"ids": [], "targets": []}, TextError, "at least one"),
    ({"lengths": [4, 1]}, ValueError, r"lengths \[4, 1\] must be positive and add up to 7"),
    ({"lengths": [5, 2]}, ValueError, "position 4 is past the 4"),
    ({"first_trained_block": 3}, ValueError, "first_trained_block is 3, it must be 0 to 2"),
    ({"first_trained_block": -1}, ValueError, "first_trained_block is -1"),
    ({"first_trained_block": 0.5}, ValueError, "first_trained_block is 0.5"),
    ({"dropout": 1.0, "rng": np.random.default_rng(0)}, ValueError, "dropout is 1.0"),
    ({"dropout": -0.1, "rng": np.random.default_rng(0)}, ValueError, "dropout is -0.1"),
    ({"dropout": 0.1}, ValueError, "needs an rng"),
]


@pytest.mark.parametrize("changes, error, message", REFUSED)
def test_what_cannot_be_is_refused(changes, error, message):
    given = {"ids": IDS, "targets": TARGETS, "lengths": LENGTHS}
    with pytest.raises(error, match=message):
        picogpt.loss_and_gradients(tiny_model(), **{**given, **changes})


def draw(*shape):
    return np.random.default_rng(sum(shape)).standard_normal(shape)


@pytest.mark.parametrize("n_scored", [None, 11])
def test_cross_entropy_against_central_differences(n_scored):
    x, w = draw(7, 4), draw(9, 4)
    loss, dx, dw = backprop.cross_entropy(x, TARGETS, w, n_scored)
    value = {"x": x, "w": w}
    for name, found in (("x", dx), ("w", dw)):
        wanted = slopes(lambda: backprop.cross_entropy(x, TARGETS, w, n_scored)[0], value[name])
        assert relative_error(found, wanted) <= 1e-6
    assert not dx[TARGETS == -100].any()
    if n_scored:
        assert loss == pytest.approx(backprop.cross_entropy(x, TARGETS, w)[0] * 5 / 11)


@pytest.mark.parametrize("n_logits", [1, 9, 20, 36])
def test_logits_a_few_at_a_time_are_the_whole(n_logits, monkeypatch):
    x, w = draw(7, 4), draw(9, 4)
    whole = backprop.cross_entropy(x, TARGETS, w)
    monkeypatch.setattr(backprop, "MAX_LOGITS", n_logits)
    for found, wanted in zip(backprop.cross_entropy(x, TARGETS, w), whole, strict=True):
        assert np.allclose(found, wanted, rtol=1e-12)
    loss, dx, dw = backprop.cross_entropy(x, TARGETS, w, frozen=True)
    assert loss == pytest.approx(whole[0]) and np.allclose(dx, whole[1]) and dw is None


@pytest.mark.filterwarnings("error")
def test_logits_become_their_gradient_and_do_not_overflow():
    logits = np.array([[1e4, 0.0, -1e4], [1.0, 2.0, 3.0], [0.0, 0.0, 0.0]] * 12, np.float32)
    targets = np.array([0, 2, 1] * 12)
    e = np.exp([1.0, 2.0, 3.0])
    expected = [0.0, -np.log(e[2] / e.sum()), np.log(3.0)]
    for n_rows in (1, 5, 36, 100):
        changed = logits.copy()
        loss = backprop.softmax_cross_entropy_in_place(changed, targets, n_rows)
        assert loss == pytest.approx(12 * sum(expected), rel=1e-6)
        rows = [[0, 0, 0], e / e.sum() - [0, 0, 1], [1 / 3, -2 / 3, 1 / 3]]
        assert np.allclose(changed, rows * 12, atol=1e-6)


def test_logits_exist_once():
    x, w = draw(60, 8).astype(np.float32), draw(20000, 8).astype(np.float32)
    targets = np.arange(60)
    tracemalloc.start()
    backprop.cross_entropy(x, targets, w)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1.6 * 60 * 20000 * 4  # 16 rows of 60 at a time are worked on


def test_a_frozen_head_gets_no_gradient_of_its_own():
    model = small_model(n_vocab=20000)
    tracemalloc.start()
    picogpt.loss_and_gradients(model, [5, 6], [6, 7], first_trained_block=1)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < model.params["wte"].nbytes / 2


def test_memory_falls_as_the_gradients_grow():
    model, kept = small_model(n_layer=3), {}
    params, config = model.params, model.config
    hook = backprop.keep_activations(kept)
    x = backprop.stack_forward(params, IDS, config, hook, lengths=LENGTHS)
    own_names = {name.split(".")[2] for name in kept if name.startswith("blocks.")}
    assert "weights" in own_names and not own_names & backprop.UNUSED
    assert {f"blocks.{i}.weights.{n}" for i in range(3) for n in (1, 2)} <= kept.keys()
    backprop.stack_backward(x, kept, params, IDS, config, lengths=LENGTHS)
    assert kept.keys() == {"embd_dropped"}


def test_embedding_backward_adds_where_a_row_is_used_again():
    dx, index = draw(7, 3), np.array([2, 0, 2, 5, 2, 5, 0])
    table = draw(6, 3)
    wanted = table.copy()
    np.add.at(wanted, index, dx)
    found = backprop.embedding_backward(dx, index, table)
    assert found is table and np.allclose(found, wanted)
