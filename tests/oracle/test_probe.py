"""The linear head beside scikit-learn's LogisticRegression, on the same features."""

import numpy as np
import pytest
from models import small_model
from oracles import oracle

from picogpt.backprop import softmax_cross_entropy_in_place
from picogpt.kernels import linear
from picogpt.tasks.course_files import SAMPLES, load_task, task_text
from picogpt.tasks.features import encode_texts, features
from picogpt.tasks.regression import PENALTIES, bag_of_words, softmax_regression

LogisticRegression = oracle("sklearn.linear_model").LogisticRegression
StandardScaler = oracle("sklearn.preprocessing").StandardScaler


def penalised_loss(head, x, labels, penalty):
    loss = softmax_cross_entropy_in_place(linear(x.astype(np.float64), **head), labels) / len(x)
    return loss + penalty / 2 * float((head["w"].astype(np.float64) ** 2).sum())


def check(x, labels, penalty):
    n_classes = labels.max() + 1
    head, _ = softmax_regression(x, labels, n_classes, penalty)
    best = LogisticRegression(C=1 / (len(x) * penalty), max_iter=2000, tol=1e-6)
    best.fit(x.astype(np.float64), labels)
    theirs = penalised_loss({"w": best.coef_.T, "b": best.intercept_}, x, labels, penalty)
    ours = penalised_loss(head, x, labels, penalty)
    assert theirs * (1 - 1e-4) <= ours <= theirs * 1.01


@pytest.mark.parametrize("penalty", PENALTIES)
def test_the_loss_is_within_one_percent_of_the_optimum(penalty):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((900, 40)) @ rng.standard_normal((40, 40))  # correlated, as features
    scores = x @ rng.standard_normal((40, 5)) * 0.1 + rng.gumbel(size=(900, 5))
    x = StandardScaler().fit_transform(x).astype(np.float32)
    check(x, scores.argmax(axis=1), penalty)


@pytest.mark.parametrize("penalty", PENALTIES[2:])
def test_on_a_models_features_and_on_a_bag_of_words(penalty):
    model = small_model(n_ctx=128, n_embd=96)
    _, examples = load_task("sst", SAMPLES)
    labels = np.array([example.label for example in examples["train"]])
    x = features(model, encode_texts(model, [task_text(e.sentences) for e in examples["train"]]))
    check(StandardScaler().fit_transform(x).astype(np.float32), labels, penalty)
    check(bag_of_words(examples["train"], [])[0], labels, penalty)
