"""Training in epochs over examples, which can be stopped at any moment."""

import math
import sys

import numpy as np

from picogpt.optim import adamw, decay_mask, learning_rate
from picogpt.tools.cores import cores
from picogpt.tools.errors import NotFiniteError
from picogpt.training.resumable import Progress, train_steps


def fit(
    params, gradients, n, *, epochs, batch_size, lr, seed=0, warmup=0.0, final=1.0, eps=1e-8,
    weight_decay=0.0, patience=None, report=None, state_path=None, n_threads=None,
):
    """Train a tree of parameters, in place, on n examples: each epoch's figures, a list of dicts.

    gradients(part, batch, rng) gives what the examples `part` (their numbers, from 0) add to the
    mean loss of the examples `batch`, and the gradients of that; threads share a batch out. The
    rate rises to lr during `warmup`, a share of the steps, and falls to final * lr.

    report(figures) may add to an epoch's figures. With a "score" among them the best epoch's
    parameters are taken in the end, and `patience` epochs in a row without a better one are the
    last. With state_path a run that was stopped goes on from there, to the same numbers. Raises
    NotFiniteError where the loss, a parameter or a score is no longer finite: what was saved stays.
    """
    progress = Progress(params, {"loss": 0.0, "history": []})
    if state_path and state_path.exists():
        go_on(progress, state_path)
    history = progress.notes["history"]
    n_threads = n_threads or cores()
    n_steps = epochs * n_batches(n, batch_size)
    decays = decay_mask(params)

    def rate(step):
        return learning_rate(step, lr, n_steps, round(warmup * n_steps), final)

    def take_step(step, state, summed):
        rows = batch_rows(step, n, batch_size, seed)
        loss, grads = batch_gradients(gradients, rows, [seed, step], n_threads, summed)
        adamw(params, grads, state, rate(step), eps=eps, weight_decay=weight_decay, decays=decays)
        return loss

    def after_step(loss, *_):
        return note_loss(progress, loss, n, batch_size, report)

    def is_over():
        return patience and history and history[-1]["epoch"] - best_of(history)["epoch"] >= patience

    try:
        train_steps(
            progress, take_step, n_steps, after_step=after_step, rate=rate, n_threads=n_threads,
            path=state_path, save_with_score=True, is_over=is_over,
        )  # fmt: skip
    except NotFiniteError as error:
        raise NotFiniteError(f"{error}, try a lower --lr (what was saved stays)") from None
    progress.take_best()
    return history


def go_on(progress, state_path):
    """Take a stopped run's progress from its checkpoint, and print its epochs again."""
    progress.restore(state_path)
    print(f"{state_path} goes on after step {progress.step}", file=sys.stderr)
    for figures in progress.notes["history"]:
        print_figures(figures)


def n_batches(n, batch_size):
    """How many batches an epoch of n examples has; the last may be smaller."""
    return math.ceil(n / batch_size)


def batch_rows(step, n, batch_size, seed):
    """Which of n examples a step trains on: their places, `[batch_size]` or fewer.

    Every epoch goes through all of them once, in an order of its own.
    """
    epoch, batch = divmod(step, n_batches(n, batch_size))
    order = np.random.default_rng([seed, epoch]).permutation(n)
    return order[batch * batch_size : (batch + 1) * batch_size]


def batch_gradients(gradients, rows, seed, n_threads, summed):
    """The mean loss of the examples `rows` and its gradients, computed in a part for each thread.

    Each part has a random generator of its own, for dropout.
    """
    parts = np.array_split(rows, min(n_threads, len(rows)))
    rngs = np.random.default_rng(seed).spawn(len(parts))
    shares = [(part, rows, rng) for part, rng in zip(parts, rngs)]
    if len(shares) == 1:
        return gradients(*shares[0])
    return summed(lambda share: gradients(*share), shares)


def note_loss(progress, loss, n, batch_size, report):
    """Add a batch's loss to the epoch's mean; at its end, note its figures and give its score."""
    notes = progress.notes
    epoch, n_done = divmod(progress.step, n_batches(n, batch_size))
    n_rows = batch_size if n_done else n - (n_batches(n, batch_size) - 1) * batch_size
    notes["loss"] += loss * n_rows / n
    if n_done:
        return None
    figures = {"epoch": epoch, "train loss": notes["loss"]}
    if report:
        report(figures)
    notes["history"].append(figures)
    notes["loss"] = 0.0
    return figures.get("score", epoch)  # without scores each epoch is better than the one before


def best_of(history):
    """The figures of the best epoch: the first of the highest score, or the last without scores."""
    return max(history, key=lambda figures: figures.get("score", figures["epoch"]))


def print_figures(figures):
    """Print an epoch's figures as one row of a table, below its head before the first."""
    from tqdm import tqdm

    shown = {name: value for name, value in figures.items() if name not in ("epoch", "score")}
    if figures["epoch"] == 1:
        tqdm.write("  ".join(["epoch", *shown]))
    cells = (f"{value:{len(name)}.3f}" for name, value in shown.items())
    tqdm.write("  ".join([f"{figures['epoch']:5}", *cells]))
