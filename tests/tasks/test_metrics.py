"""Accuracy, macro F1, chrF and bits per byte on cases that can be worked out by hand."""

import math

import numpy as np
import pytest
from models import small_model

from picogpt.tasks.metrics import (
    accuracy,
    bits_per_byte,
    chrf,
    confusion,
    macro_f1,
    metrics,
    predicted_classes,
    text_loss,
)
from picogpt.tools.errors import CheckpointError, NotFiniteError


def test_accuracy_is_the_share_of_hits():
    assert accuracy([0, 1, 2, 2], [0, 1, 1, 2]) == 0.75


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_no_metric_is_made_of_what_is_no_number(value):
    scores = np.array([[1.0, 2.0], [value, 0.0]])
    for f in (predicted_classes, lambda scores: metrics("dev", [1, 0], scores)):
        with pytest.raises(NotFiniteError):
            f(scores)
    scores[1, 0] = 3
    assert metrics("dev", [1, 0], scores) == {"dev acc": 1.0, "dev F1": 1.0}


def test_a_model_of_nan_has_no_perplexity():
    model = small_model()
    model.params["ln_f"]["g"][:] = np.nan
    with pytest.raises(NotFiniteError, match="this model gives a text the loss nan"):
        text_loss(model, ["the one"])


def test_a_model_of_one_position_has_no_perplexity():
    with pytest.raises(CheckpointError, match="this model has an n_ctx of 1"):
        text_loss(small_model(n_ctx=1), ["the one"])


def test_confusion_has_the_truth_in_its_rows():
    counts = confusion([0, 0, 1, 2], [0, 1, 1, 0], 4)
    np.testing.assert_array_equal(counts, [[1, 1, 0, 0], [0, 1, 0, 0], [1, 0, 0, 0], [0] * 4])


def test_macro_f1_weighs_every_class_alike():
    # class 0: precision 3/4, recall 1; class 1: precision 1, recall 1/2
    assert macro_f1([0, 0, 0, 1, 1], [0, 0, 0, 0, 1]) == pytest.approx((6 / 7 + 2 / 3) / 2)
    assert macro_f1([0, 0, 4], [0, 0, 0]) == pytest.approx((0.8 + 0) / 2)  # 1, 2, 3 are absent
    assert macro_f1([1, 1], [1, 1]) == 1


def test_chrf_of_equal_and_of_unrelated_texts():
    assert chrf(["a bc\ndef"], ["abc  def"]) == pytest.approx(100)  # white space doesn't count
    assert chrf(["xyz"], ["abc"]) == 0
    assert chrf([""], ["abc"]) == chrf(["abc"], [""]) == chrf([], []) == 0


def test_chrf_by_hand():
    # n = 1: 2 of 3 and 2 of 4 match; n = 2: 1 of 2 and 1 of 3; n = 3: 0 of 1 and 0 of 2
    precision, recall = (2 / 3 + 1 / 2 + 0) / 3, (2 / 4 + 1 / 3 + 0) / 3
    assert chrf(["abx"], ["abcd"]) == pytest.approx(
        100 * 5 * precision * recall / (4 * precision + recall)
    )


def test_bits_per_byte_counts_bytes():
    assert bits_per_byte(6 * math.log(2), len("né".encode())) == pytest.approx(2)
