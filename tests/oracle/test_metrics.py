"""Metrics against scikit-learn's and sacrebleu's."""

import numpy as np
import pytest
from oracles import oracle

from picogpt.tasks.metrics import accuracy, chrf, confusion, macro_f1

sklearn_metrics = oracle("sklearn.metrics")
sacrebleu = oracle("sacrebleu.metrics")
hypothesis = oracle("hypothesis")
texts = hypothesis.strategies.text("ab c\n\té.", max_size=30)
pairs_of_texts = hypothesis.strategies.lists(
    hypothesis.strategies.tuples(texts, texts), min_size=1
)  # fmt: skip


@pytest.mark.parametrize("seed", range(5))
def test_classification_metrics_are_sklearns(seed):
    rng = np.random.default_rng(seed)
    labels, predictions = rng.integers(0, 5, 60), rng.integers(0, seed + 1, 60)
    assert accuracy(labels, predictions) == sklearn_metrics.accuracy_score(labels, predictions)
    theirs = sklearn_metrics.f1_score(labels, predictions, average="macro")
    assert macro_f1(labels, predictions) == pytest.approx(theirs, abs=1e-12)
    theirs = sklearn_metrics.confusion_matrix(labels, predictions, labels=range(5))
    np.testing.assert_array_equal(confusion(labels, predictions, 5), theirs)


@hypothesis.settings(max_examples=300, deadline=None, derandomize=True)
@hypothesis.given(pairs_of_texts)
def test_chrf_is_sacrebleus(pairs):
    said, true = (list(column) for column in zip(*pairs))
    theirs = sacrebleu.CHRF().corpus_score(said, [true]).score
    assert chrf(said, true) == pytest.approx(theirs, abs=1e-6)


def test_chrf_of_long_verse_is_sacrebleus():
    rng = np.random.default_rng(0)
    words = ["love", "time's", "beauty", "summer", "day;", "thee,", "O", "night", "fairer", "than"]
    said, true = (
        ["\n".join(" ".join(rng.choice(words, 8)) for _ in range(14)) for _ in range(12)]
        for _ in range(2)
    )
    theirs = sacrebleu.CHRF().corpus_score(said, [true]).score
    assert chrf(said, true) == pytest.approx(theirs, abs=1e-6)
