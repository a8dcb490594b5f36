"""Induction scores, on heads that were made by hand."""

import numpy as np
from models import small_model

from picogpt.model import logits
from picogpt.teaching import induction as module
from picogpt.teaching.induction import induction


def test_scores_are_those_of_heads_that_look_where_they_should(monkeypatch):
    model = small_model()
    n, n_layer = 6, model.config.n_layer

    def trace(model, ids):
        assert len(ids) == 2 * n and (ids[:n] == ids[n:]).all()
        before, behind = np.eye(2 * n, k=-1), np.eye(2 * n, k=1 - n)
        scores = np.where(np.arange(model.config.n_vocab) == np.roll(ids, -1)[:, None], 3.0, 0.0)
        scores[:n] = 0  # nothing is known in the first copy
        seen = {f"blocks.{i}.weights": np.stack([before, behind * 0.5]) for i in range(n_layer)}
        return seen | {"logits": scores}

    monkeypatch.setattr(module, "trace", trace)
    found = induction(model, n, 3)
    assert np.allclose(found["previous"], [[1, 0]] * n_layer)
    assert np.allclose(found["induction"], [[0, 0.5]] * n_layer)
    n_vocab = model.config.n_vocab
    assert np.isclose(found["first"], np.log(n_vocab))
    assert np.isclose(found["second"], np.log(np.exp(3) + n_vocab - 1) - 3)


def test_losses_are_the_models():
    model = small_model()
    found = induction(model, n_tokens=8, n_sequences=1, seed=3)
    n_vocab = model.config.n_vocab
    ids = np.tile(np.random.default_rng(3).integers(n_vocab // 2, n_vocab - 1, 8), 2)
    scores = logits(model, ids).astype(float)
    losses = np.log(np.exp(scores).sum(axis=-1))[:-1] - scores[np.arange(15), ids[1:]]
    assert np.isclose(found["first"], losses[:7].mean(), rtol=1e-5)
    assert np.isclose(found["second"], losses[8:].mean(), rtol=1e-5)
    assert found["induction"].shape == (model.config.n_layer, model.config.n_head)
