"""Training in epochs over examples, which can be stopped at any moment."""

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
    """Train a tree of parameters, in place, on n examples; give back a dict of figures per epoch.

    gradients(part, batch, rng) gives what the examples `part` add to the mean loss of the examples
    `batch`, and the gradients of that: a batch is shared out among threads. report(figures) adds
    to an epoch's figures: with a "score" among them, the best epoch's parameters are taken in the
    end. With state_path a run that was stopped goes on from there, to the same numbers. `lr` rises
    during `warmup`, a share of the steps, and falls to final * lr. So many epochs as `patience`
    says without a new best one are the last. Raises NotFiniteError, with nothing saved from then
    on, where the loss, a parameter or what report makes of them is no longer finite.
    """
    progress = Progress(params, {"loss": 0.0, "history": []})
    if state_path and state_path.exists():
        progress.restore(state_path)
        print(f"{state_path} goes on after step {progress.step}", file=sys.stderr)
        for figures in progress.notes["history"]:
            print_figures(figures)
    notes = progress.notes
    n_threads = n_threads or cores()
    n_batches = -(-n // batch_size)
    n_steps = epochs * n_batches
    decays = decay_mask(params)

    def rate(step):
        return learning_rate(step, lr, n_steps, round(warmup * n_steps), final)

    def take_step(step, state, summed):
        epoch, batch = divmod(step, n_batches)
        order = np.random.default_rng([seed, epoch]).permutation(n)
        rows = order[batch * batch_size : (batch + 1) * batch_size]
        parts = np.array_split(rows, min(n_threads, len(rows)))
        rngs = np.random.default_rng([seed, step]).spawn(len(parts))
        shares = [(part, rows, rng) for part, rng in zip(parts, rngs)]
        if len(shares) > 1:
            loss, grads = summed(lambda share: gradients(*share), shares)
        else:
            loss, grads = gradients(*shares[0])
        adamw(params, grads, state, rate(step), eps=eps, weight_decay=weight_decay, decays=decays)
        return loss

    def after_step(loss, *_):
        ended = progress.step % n_batches == 0
        n_rows = n - (n_batches - 1) * batch_size if ended else batch_size
        notes["loss"] += loss * n_rows / n
        if not ended:
            return None
        figures = {"epoch": progress.step // n_batches, "train loss": notes["loss"]}
        if report:
            report(figures)
        notes["history"].append(figures)
        notes["loss"] = 0.0
        return figures.get("score", figures["epoch"])

    def is_over():
        epoch = progress.step // n_batches
        return patience and epoch and epoch - best_of(notes["history"])["epoch"] >= patience

    try:
        train_steps(
            progress, take_step, n_steps, after_step=after_step, rate=rate, n_threads=n_threads,
            path=state_path, save_with_score=True, is_over=is_over,
        )  # fmt: skip
    except NotFiniteError as error:
        raise NotFiniteError(f"{error}, try a lower --lr (what was saved stays)") from None
    progress.take_best()
    return notes["history"]


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
