"""Sonnets: what is trained, which candidate is taken."""

from copy import deepcopy

import numpy as np
import pytest
from models import small_model

from picogpt.model import loss_and_gradients
from picogpt.tasks import sonnets
from picogpt.tasks.metrics import text_loss
from picogpt.tasks.recipes import Recipe
from picogpt.tasks.sonnets import perplexity, train_sonnets, write_on
from picogpt.tools.tree import tree_leaves

POEMS = ["the one\nthat is", "on and on", "in the stone\ntower", "a"]
RECIPE = Recipe(epochs=1, batch_size=4, lr=1e-2)


def test_the_loss_is_the_mean_over_the_tokens_of_a_batch():
    """Of each poem between two ends of text, however the batch is shared out among threads."""
    model = small_model()
    ids = [[266, *model.encoder.encode(poem), 266] for poem in POEMS]
    inputs, targets = sum((i[:-1] for i in ids), []), sum((i[1:] for i in ids), [])
    expected, _ = loss_and_gradients(model, inputs, targets, [len(i) - 1 for i in ids])
    history = train_sonnets(model, POEMS, RECIPE, n_threads=2)
    assert history[0]["train loss"] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("first", [0, 1])
def test_layers_from_the_first_on_are_trained(first, tied):
    model = small_model(tie_word_embeddings=tied)
    before = deepcopy(model.params)
    train_sonnets(model, POEMS, RECIPE, first=first)
    changed = {"blocks.1", "ln_f", *["blocks.0", "wte", "wpe", "lm_head"][: 4 * (first == 0)]}
    for name in ("wte", "wpe", "ln_f", *["lm_head"] * (not tied)):
        pairs = zip(tree_leaves(before[name]), tree_leaves(model.params[name]), strict=True)
        assert any(not np.array_equal(*pair) for pair in pairs) == (name in changed), name
    for i, (old, new) in enumerate(zip(before["blocks"], model.params["blocks"])):
        same = all(map(np.array_equal, tree_leaves(old), tree_leaves(new)))
        assert same == (f"blocks.{i}" not in changed)


def test_a_poem_longer_than_the_context_is_cut():
    model = small_model(n_ctx=8)
    train_sonnets(model, ["a long poem that does not fit at all"], RECIPE)


def test_training_lowers_perplexity():
    model = small_model()
    before = perplexity(model, POEMS)
    train_sonnets(model, POEMS, RECIPE._replace(epochs=20))
    assert perplexity(model, POEMS) < 0.7 * before


def candidates(monkeypatch, texts):
    """Let these be what is sampled."""
    asked = []

    def sample(model, prompts, n_tokens, **options):  # noqa: ARG001
        asked.append((prompts, n_tokens))
        return texts[: len(prompts)]

    monkeypatch.setattr(sonnets, "generate_batch", sample)
    return asked


def test_of_the_candidates_the_likeliest_of_fourteen_lines_is_taken(monkeypatch):
    model, opening = small_model(n_ctx=256), "one\ntwo\n"
    texts = ["\n".join([word] * n) for word, n in
             [("a", 3), ("the", 12), ("in", 12), ("on", 20), ("re", 11)]]  # fmt: skip
    poems = ["\n".join((opening + text).split("\n")[:14]) for text in texts]
    losses = {poem: np.divide(*text_loss(model, [poem])) for poem in poems}
    whole = [poem for poem in poems if poem.count("\n") == 13]
    assert len(whole) == 3  # one of them was longer
    asked = candidates(monkeypatch, texts)
    taken = write_on(model, opening, 5, 1.2, 0.9, np.random.default_rng(0))
    assert taken == min(whole, key=losses.get)
    ((prompts, n_tokens),) = asked  # one batch
    assert prompts == [opening] * 5 and n_tokens == 256 - len(model.encoder.encode(opening))


def test_an_empty_candidate_is_taken_last(monkeypatch):
    candidates(monkeypatch, ["", "one", ""])
    assert write_on(small_model(), "", 3, 1.0, 0.9, np.random.default_rng(0)) == "one"


def test_a_poem_begins_with_its_opening_and_ends_within_the_context():
    model = small_model(n_ctx=40)
    rng = np.random.default_rng(0)
    poem = write_on(model, "the one that\n", 3, 1.0, 0.9, rng)
    assert poem.startswith("the one that")
    assert write_on(model, "the " * 60, 1, 1.0, 0.9, rng) == ("the " * 60).rstrip()
