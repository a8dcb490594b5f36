"""Softmax regression by hand against Newton's method; validation; bags of words."""

import numpy as np
import pytest

from picogpt.kernels import softmax
from picogpt.tasks import regression
from picogpt.tasks.course_files import Example
from picogpt.tasks.regression import (
    bag_of_words,
    choose_penalty,
    softmax_regression,
    validation_mask,
)
from picogpt.tools.errors import DataError


def data(n=400, n_in=12, n_classes=3, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, n_in)).astype(np.float32)
    scores = x @ rng.standard_normal((n_in, n_classes)) + 2 * rng.gumbel(size=(n, n_classes))
    return x, scores.argmax(axis=1)


def penalised_loss(w, b, x, labels, penalty):
    p = softmax(x.astype(float) @ w + b)
    return -np.log(p[np.arange(len(x)), labels]).mean() + penalty / 2 * (w**2).sum()


def optimum(x, labels, n_classes, penalty):
    """The least loss there is, by Newton's method on all weights as one vector."""
    x1 = np.hstack([x, np.ones((len(x), 1))]).astype(float)
    n_in, size = x1.shape[1], x1.shape[1] * n_classes
    theta = np.zeros((n_in, n_classes))
    ridge = np.full((n_in, n_classes), penalty)
    ridge[-1] = 0  # the bias is free
    for _ in range(30):
        p = softmax(x1 @ theta)
        gradient = x1.T @ (p - np.eye(n_classes)[labels]) / len(x) + ridge * theta
        spread = np.einsum("nc,cd->ncd", p, np.eye(n_classes)) - np.einsum("nc,nd->ncd", p, p)
        hessian = np.einsum("ni,ncd,nj->icjd", x1, spread, x1) / len(x)
        hessian = hessian.reshape(size, size) + np.diag(ridge.ravel())
        step = np.linalg.lstsq(hessian, gradient.ravel(), rcond=None)[0]
        theta -= step.reshape(theta.shape)
    return penalised_loss(theta[:-1], theta[-1], x, labels, penalty)


@pytest.mark.parametrize("penalty", [1e-3, 1e-2, 1e-1])
def test_the_trained_head_is_within_one_percent_of_the_optimum(penalty):
    x, labels = data()
    head, history = softmax_regression(x, labels, 3, penalty)
    reached = penalised_loss(**head, x=x, labels=labels, penalty=penalty)
    least = optimum(x, labels, 3, penalty)
    assert least * (1 - 1e-6) <= reached <= least * 1.01
    assert history[-1]["train loss"] == pytest.approx(reached, rel=0.01)  # the penalty is in it


def test_features_that_depend_on_each_other_take_no_longer():
    x, labels = data(300, 50)
    mixing = np.random.default_rng(1).standard_normal((50, 50))
    mixing *= np.exp(-np.arange(50) / 10)[:, None]
    x = (x @ mixing).astype(np.float32)
    x = (x - x.mean(axis=0)) / x.std(axis=0)
    head, _ = softmax_regression(x, labels, 3, 1e-3)
    reached = penalised_loss(**head, x=x, labels=labels, penalty=1e-3)
    assert reached <= optimum(x, labels, 3, 1e-3) * 1.01


def test_counts_are_taken_as_well_as_floats():
    x, labels = data()
    x = (x > 0).astype(np.uint8)
    one, _ = softmax_regression(x, labels, 3, 0.01)
    other, _ = softmax_regression(x.astype(np.float32), labels, 3, 0.01)
    np.testing.assert_array_equal(one["w"], other["w"])


def test_a_class_that_never_occurs_gets_nothing():
    x, labels = data(n_classes=2)
    head, _ = softmax_regression(x, labels, 4, 0.01)
    assert (x @ head["w"] + head["b"]).argmax(axis=1).max() == 1


def test_a_tenth_is_for_validation():
    valid = validation_mask(95, seed=3)
    assert valid.sum() == 9 and len(valid) == 95
    np.testing.assert_array_equal(valid, validation_mask(95, seed=3))
    assert (valid != validation_mask(95, seed=4)).any()
    assert validation_mask(5, seed=0).sum() == 1
    with pytest.raises(DataError, match="too few"):
        validation_mask(1, seed=0)


def test_the_penalty_is_chosen_by_the_validation_tenth_alone(monkeypatch):
    """Whatever a head was trained on, it is judged by rows that it has not seen."""
    x, labels = data()
    valid, real = validation_mask(len(x), 0), regression.softmax_regression
    seen = []

    def spy(rows, *args, **options):
        seen.append(rows)
        return real(rows, *args, **options)

    monkeypatch.setattr(regression, "softmax_regression", spy)
    assert choose_penalty(x, labels, 3, seed=0) in regression.PENALTIES
    assert len(seen) == len(regression.PENALTIES)
    for rows in seen:
        np.testing.assert_array_equal(rows, x[~valid])


def test_noise_asks_for_a_larger_penalty_than_a_clear_signal():
    x, labels = data(n=300, n_in=60)
    shuffled = np.random.default_rng(1).permutation(labels)
    clear = (x[:, 0] > 0).astype(int)
    assert choose_penalty(x, shuffled, 3, 0) > choose_penalty(x, clear, 3, 0)


def example(*sentences):
    return Example("id", sentences, 0)


def test_a_bag_of_words_has_the_words_that_occur_twice():
    train = [example("A good film , good !"), example("a bad film"), example("odd")]
    bags, others = bag_of_words(train, [example("film of a good A"), example("xyz"), example("")])
    assert bags.shape == (3, 2)  # a, film; good is in one text only
    np.testing.assert_array_equal(bags, [[1, 1], [1, 1], [0, 0]])
    np.testing.assert_array_equal(others, [[1, 1], [0, 0], [0, 0]])


def test_of_two_sentences_it_matters_whether_they_share_a_word():
    train = [example("who are you", "who am I"), example("you are", "you are")] * 2
    bags, _ = bag_of_words(train, train)
    # who in both; are, you, am, i in one; you, are in both
    assert bags.shape == (4, 7)
    np.testing.assert_array_equal(bags.sum(axis=1), [5, 2, 5, 2])
