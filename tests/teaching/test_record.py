"""What the page shows beside the trace: how each token was foretold, and what each head does."""

import numpy as np
import pytest
from models import small_model

import picogpt
from picogpt.kernels import softmax
from picogpt.teaching.page import about_texts
from picogpt.teaching.record import head_effects, predictions
from picogpt.teaching.request import Request
from picogpt.tools.tree import tree_map

IDS = [3, 7, 7, 1, 200]


def test_predictions_are_the_distributions():
    scores = picogpt.logits(small_model(), IDS)
    rows = predictions(scores, IDS)
    assert len(rows) == len(IDS) - 1
    for i, (p_true, rank, best, p_best) in enumerate(rows):
        p = softmax(scores[i].astype(np.float64))
        assert p_true == pytest.approx(p[IDS[i + 1]])
        assert rank == sorted(p, reverse=True).index(p[IDS[i + 1]]) + 1
        assert (best, p_best) == (p.argmax(), pytest.approx(p.max()))


@pytest.mark.parametrize("changes", [
    {}, {"tie_word_embeddings": False, "activation_function": "silu"},
    {"scale_attn_by_inverse_layer_idx": True, "n_inner": 40},
])  # fmt: skip
def test_an_effect_is_the_slope_along_a_head(changes, best=9, h=1e-4):
    model = small_model(**changes)
    model = model._replace(params=tree_map(lambda w: w.astype(np.float64), model.params))
    effects = np.array(head_effects(model, picogpt.trace(model, IDS), best))
    assert effects.shape == (model.config.n_layer, model.config.n_head)
    for block in range(model.config.n_layer):
        for head in range(model.config.n_head):

            def loss(factor, block=block, head=head):
                def edit(name, x):
                    if name == f"blocks.{block}.heads":
                        x[head] *= factor
                    return x

                return -np.log(softmax(picogpt.trace(model, IDS, edit)["logits"][-1])[best])

            slope = (loss(1 + h) - loss(1 - h)) / (2 * h)
            assert effects[block, head] == pytest.approx(-slope, abs=2e-5)


def test_kernels_that_disagree_with_the_steps_are_told(monkeypatch):
    model = small_model()
    assert about_texts(model, Request(("The cat",)))["disagreement"] < 1e-5
    from picogpt import kernels

    for factor in (0, np.nan):  # a student's
        monkeypatch.setattr(kernels, "ffn", lambda x, factor=factor, **_: factor * x)
        assert about_texts(model, Request(("The cat",)))["disagreement"] > 1e-2
