"""Training in epochs over examples, which can be stopped at any moment."""

import math
import sys
import time

import numpy as np

from picogpt.optim import adamw, decay_mask, learning_rate, new_state
from picogpt.tools.cores import cores
from picogpt.tools.errors import NotFiniteError
from picogpt.tools.tree import tree_leaves, tree_map
from picogpt.training.parallel import summed_over_threads
from picogpt.training.state import deferred_interrupt, load_state, save_state

SAVE_SECONDS = 300  # a run that is killed loses no more


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
    from tqdm import tqdm

    state, at = new_state(params), {"step": 0, "loss": 0.0, "history": []}
    tree = {"params": params, "m": state["m"], "v": state["v"], "best": tree_map(np.copy, params)}
    if state_path and state_path.exists():
        saved, at = load_state(state_path)
        tree_map(np.copyto, tree, saved)
        del saved  # as large as the tree
        state["step"] = at["step"]
        print(f"{state_path} goes on after step {at['step']}", file=sys.stderr)
        for figures in at["history"]:
            print_figures(figures)
    n_threads, n_batches = n_threads or cores(), -(-n // batch_size)
    n_steps, decays, saved_at = epochs * n_batches, decay_mask(params), time.monotonic()
    bar = tqdm(total=n_steps, initial=at["step"], unit=" steps", disable=None, leave=False)
    quiet = np.errstate(all="ignore")  # what is not finite is told below, in a sentence
    with deferred_interrupt() as pressed, summed_over_threads(n_threads) as summed, bar, quiet:
        for step in range(at["step"], n_steps):
            epoch, batch = divmod(step, n_batches)
            if patience and epoch and epoch - best_of(at["history"])["epoch"] >= patience:
                break
            order = np.random.default_rng([seed, epoch]).permutation(n)
            rows = order[batch * batch_size : (batch + 1) * batch_size]
            parts = np.array_split(rows, min(n_threads, len(rows)))
            rngs = np.random.default_rng([seed, step]).spawn(len(parts))
            shares = [(part, rows, rng) for part, rng in zip(parts, rngs)]
            if len(shares) > 1:
                loss, grads = summed(lambda share: gradients(*share), shares)
            else:
                loss, grads = gradients(*shares[0])
            rate = learning_rate(step, lr, n_steps, round(warmup * n_steps), final)
            if not math.isfinite(loss):
                raise stopped(f"the loss is {loss}", step + 1, rate)
            adamw(params, grads, state, rate, eps=eps, weight_decay=weight_decay, decays=decays)
            at["step"], at["loss"] = step + 1, at["loss"] + loss * len(rows) / n
            bar.update()
            ended = batch == n_batches - 1
            due = ended or pressed or time.monotonic() > saved_at + SAVE_SECONDS
            if due and not all(np.isfinite(w).all() for w in tree_leaves(params)):
                raise stopped("a parameter is not finite", step + 1, rate)
            if ended:
                try:
                    end_epoch(at, epoch + 1, tree, report)
                except NotFiniteError as error:
                    raise stopped(str(error), step + 1, rate) from None
            if state_path and due:
                save_state(state_path, tree, at)
                saved_at = time.monotonic()
            if pressed:
                raise KeyboardInterrupt
    tree_map(np.copyto, params, tree["best"])
    return at["history"]


def stopped(why, step, lr):
    """The error for a training that can't go on: where it was, and what to try."""
    said = f"{why} in step {step}, at a learning rate of {lr:g}"
    return NotFiniteError(f"{said}: training stops here, try a lower --lr (what was saved stays)")


def end_epoch(at, epoch, tree, report):
    """Add an epoch's figures to the history; keep its parameters where it is the best so far."""
    figures = {"epoch": epoch, "train loss": at["loss"]}
    if report:
        report(figures)
    at["history"].append(figures)
    at["loss"] = 0.0
    if best_of(at["history"]) is figures:
        tree_map(np.copyto, tree["best"], tree["params"])


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
