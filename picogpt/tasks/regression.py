"""Softmax regression by hand, and what it makes of a bag of words."""

import re
from collections import Counter

import numpy as np

from picogpt.backprop import softmax_cross_entropy_in_place
from picogpt.kernels import linear
from picogpt.tasks.metrics import metrics
from picogpt.tasks.recipes import regression_recipe
from picogpt.tools.errors import DataError
from picogpt.training.fit import fit, print_figures

PENALTIES = (1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1)  # of which choose_penalty takes one
N_WORDS = 5000  # of a bag: the most frequent ones
WIDEST = 2048  # the principal axes of so many features take a second; a bag of words has more


# loss = mean of -log softmax(x w + b)_label + penalty/2 |w|^2. With d = (softmax - 1[label]) / n:
# dw = x^T d + penalty w, db = sum of d.
def softmax_regression(x, labels, n_classes, penalty, recipe=None, *, seed=0, report=None):
    """The head {w, b} that predicts labels `[n]` from rows x `[n, n_in]`, and fit's history.

    w is `[n_in, n_classes]`, b `[n_classes]`. AdamW, without a decay of its own, minimises the mean
    cross-entropy + penalty/2 |w|^2. It does so along the principal axes of x: turning x leaves |w|
    and the loss as they are, but AdamW, which has a step size for every weight, goes straight to
    the optimum where features don't depend on each other. Rows of more than WIDEST numbers stay as
    they are. The recipe, where none is given, is regression_recipe. report(head, figures) is called
    after each epoch.
    """
    recipe = recipe or regression_recipe(len(x))
    shape = x.shape[1], n_classes
    turned = {"w": np.zeros(shape, np.float32), "b": np.zeros(n_classes, np.float32)}
    axes = None
    if x.shape[1] <= WIDEST:
        x = x.astype(np.float32)
        axes = np.linalg.eigh(x.T @ x)[1]  # [n_in, n_in], orthonormal
        x = x @ axes

    def head():
        w = turned["w"] if axes is None else axes @ turned["w"]
        return {"w": w, "b": turned["b"]}

    def gradients(part, batch, rng):  # noqa: ARG001 - nothing is random
        rows = x[part].astype(np.float32)
        share = len(part) / len(batch)
        d = linear(rows, **turned)  # [n, n_in] -> [n, n_classes]
        loss = softmax_cross_entropy_in_place(d, labels[part]) / len(batch)  # d: now the gradient
        d /= len(batch)
        loss += share * penalty / 2 * float((turned["w"] ** 2).sum())
        return loss, {"w": rows.T @ d + share * penalty * turned["w"], "b": d.sum(axis=0)}

    history = fit(
        turned, gradients, len(x), **recipe.fit_options, seed=seed, n_threads=1,
        report=report and (lambda figures: report(head(), figures)),
    )  # fmt: skip
    return head(), history


def linear_probe(x, labels, n_classes, recipe, seed):
    """Train a linear head on frozen features, {split: `[n, n_embd]`}: (head, history).

    `labels` are {split: `[n]`}, of train and dev both. Features are standardised by the training
    set's means and deviations; the head that is given back takes them as they are. Prints the
    penalty and, after each epoch, the metrics of both splits.
    """
    mean, std = x["train"].mean(axis=0), x["train"].std(axis=0)
    std[std == 0] = 1
    z = {split: (x[split] - mean) / std for split in ("train", "dev")}
    penalty = choose_penalty(z["train"], labels["train"], n_classes, seed)
    print(f"penalty {penalty:g}, the best on a validation tenth of the training set")

    def report(head, figures):
        for split in z:
            figures |= metrics(split, labels[split], linear(z[split], **head))
        print_figures(figures)

    head, history = softmax_regression(
        z["train"], labels["train"], n_classes, penalty, recipe, seed=seed, report=report
    )
    w = head["w"] / std[:, None]
    return {"w": w, "b": head["b"] - mean @ w}, history


def validation_mask(n, seed):
    """A tenth of n training examples, at random, to choose by: a mask `[n]`, True for those.

    Raises DataError for fewer than two examples.
    """
    if n < 2:
        raise DataError("one training example is too few: some are needed to choose by")
    return np.random.default_rng(seed).permutation(n) < max(1, n // 10)


def choose_penalty(x, labels, n_classes, seed):
    """The one of PENALTIES whose head predicts a validation tenth best: trained on the rest."""
    valid = validation_mask(len(x), seed)
    recipe = regression_recipe(np.count_nonzero(~valid)).with_values(epochs=10)
    losses = []
    for penalty in PENALTIES:
        head, _ = softmax_regression(
            x[~valid], labels[~valid], n_classes, penalty, recipe, seed=seed
        )
        logits = linear(x[valid].astype(np.float32), **head)
        losses.append(softmax_cross_entropy_in_place(logits, labels[valid]))
    return PENALTIES[int(np.argmin(losses))]


def words_of(sentences):
    """The set of words of a sentence; of two sentences, a set of (word, whether both have it)."""
    first, *second = (set(re.findall(r"\w+|[^\w\s]", text.lower())) for text in sentences)
    if not second:
        return first
    return {(word, word in first and word in second[0]) for word in first | second[0]}


def bag_of_words(train, others):
    """Which frequent words of `train` each Example has, in `train` and in `others`.

    Two arrays `[n_examples, n_words]` of 1 and 0, in one byte each.
    """
    counts = Counter(word for example in train for word in words_of(example.sentences))
    frequent = [word for word, n in counts.most_common(N_WORDS) if n > 1]
    columns = {word: i for i, word in enumerate(frequent)}

    def bags(examples):
        found = np.zeros((len(examples), len(columns)), np.uint8)
        for row, example in zip(found, examples):
            row[[columns[word] for word in words_of(example.sentences) if word in columns]] = 1
        return found

    return bags(train), bags(others)
