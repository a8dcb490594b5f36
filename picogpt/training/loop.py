"""The training loop of a language model, which can be stopped at any moment.

Each step takes a batch of windows of n_ctx + 1 tokens, predicts every token from those before it,
and moves the weights a little against the gradient of the mean loss (Radford et al. 2018, sec.
3.1). Windows go through the whole text in an order that depends on the seed and the step alone: a
run that was stopped goes on with the very numbers that it would have had.
"""

import math
import sys
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from picogpt import backprop, optim
from picogpt.checkpoint.weights import checkpoint_tree
from picogpt.model import logits, save
from picogpt.tools.errors import NotFiniteError
from picogpt.tools.tree import tree_map
from picogpt.training.log import Log
from picogpt.training.resumable import Progress, train_steps
from picogpt.training.run_folder import CHECKPOINT, CURVE, LOG
from picogpt.training.state import load_meta, save_state

VALID_WINDOWS = 64  # of held-back text, looked at as training goes on


def init_params(config, rng):
    """Random parameters to start from: small and normal: Radford et al. 2018, sec. 4.1.

    The c_proj matrices add to the residual stream 2 * n_layer times and start smaller by its root.
    (Radford et al. 2019, sec. 2.3.)
    """

    def draw(leaf):
        name, shape = leaf
        if name.endswith("bias"):
            return np.zeros(shape, np.float32)
        if "ln_" in name:
            return np.ones(shape, np.float32)
        std = 0.02 / (2 * config.n_layer) ** 0.5 if "c_proj" in name else 0.02
        return std * rng.standard_normal(shape, np.float32)

    return tree_map(draw, checkpoint_tree(config))


def batch_at(step, texts, n_ctx, batch_size, seed):
    """The windows of a step: `[batch_size, n_ctx + 1]` ids, from one Text or from several.

    Windows are dealt to the texts in the order of `dealt`, however large a batch is, and each text
    goes on where it was left.
    """
    order = dealt([text.share for text in texts])
    parts = []
    for i, text in enumerate(texts):
        before, after = (
            n // len(order) * text.share + order[: n % len(order)].count(i)
            for n in (step * batch_size, (step + 1) * batch_size)
        )  # windows of this text that were read before this step, and after it
        if after > before:
            parts.append(windows_of(text, before, after - before, n_ctx, seed))
    return np.concatenate(parts)


def dealt(shares):
    """Which text gets a window, in turn: every text as often as its share says, evenly spread.

    >>> dealt([5, 2, 1])
    [0, 1, 0, 0, 2, 0, 1, 0]
    """
    places = [((k + 0.5) / share, i) for i, share in enumerate(shares) for k in range(share)]
    return [i for _, i in sorted(places)]


def windows_of(text, first, n_windows, n_ctx, seed):
    """Windows first, first + 1, ... of a text: `[n_windows, n_ctx + 1]` ids.

    Each pass over the tokens, 2 * n_ctx or more, cuts them into windows anew, at another offset,
    and shuffles them. With lines, each window moves on to the next beginning of a line.
    """
    tokens, starts = text.ids, []
    per_pass = len(tokens) // n_ctx - 1
    for n in range(first // per_pass, (first + n_windows - 1) // per_pass + 1):
        rng = np.random.default_rng([seed, n])
        offset = rng.integers(n_ctx)
        starts.append(offset + n_ctx * rng.permutation(per_pass))
    starts = np.concatenate(starts)[first % per_pass :][:n_windows]
    if text.lines is not None:
        starts = next_lines(starts, text.lines, len(tokens) - n_ctx)
    return np.stack([tokens[i : i + n_ctx + 1] for i in starts]).astype(np.int64)


def valid_loss(model, n_ctx, text):
    """Mean loss in nats a token over the first windows of a held-back text, and bits per byte."""
    tokens, lines = text.ids, text.lines
    loss, n_tokens, n_bytes = 0.0, 0, 0
    starts = np.arange(0, max(len(tokens) - n_ctx, 1), n_ctx)[:VALID_WINDOWS]
    for start in starts if lines is None else next_lines(starts, lines, len(tokens) - n_ctx):
        window = tokens[start : start + n_ctx + 1]
        loss += backprop.softmax_cross_entropy_in_place(logits(model, window[:-1]), window[1:])
        n_tokens += len(window) - 1
        n_bytes += len(model.encoder.decode_bytes(window[1:].tolist()))
    if not math.isfinite(loss):
        raise NotFiniteError(f"the loss on held-back text is {loss}")
    return loss / n_tokens, loss / math.log(2) / n_bytes


def next_lines(starts, lines, end):
    """For each of the starts, the first of the lines' beginnings from there on, before `end`."""
    lines = lines[lines < end]
    return lines[np.searchsorted(lines, starts) % len(lines)]


class Text(NamedTuple):
    """What windows are cut from."""

    ids: np.ndarray  # [n_tokens]
    lines: np.ndarray | None = None  # where lines begin, if windows are to begin there
    share: int = 1  # of this many windows in turn, where there are several texts


@dataclass
class Recipe:
    """How to train; the command's flags of the same names."""

    n_steps: int
    batch_size: int
    accumulate: int
    optimizer: str  # "adamw", or "muon" for the blocks' matrices and AdamW for the rest
    learning_rate: float
    muon_rate: float  # of the matrices that Muon moves
    beta2: float
    warmup: int
    decay_share: float | None
    weight_decay: float
    max_norm: float
    dropout: float
    seed: int
    n_threads: int
    first_trained_block: int
    n_ctx: int  # tokens of a window

    def rate(self, step):
        """AdamW's learning rate in a step."""
        return self.learning_rate * self.share_of_peak(step)

    def share_of_peak(self, step):
        """How much of its peak any learning rate has in a step, from 0 to 1."""
        return optim.learning_rate(
            step, 1.0, self.n_steps, self.warmup, final=0.0, decay_share=self.decay_share
        )


def train_step(model, state, windows, step, recipe, summed):
    """One step of training, in place: windows `[batch, n_ctx + 1]` -> the mean loss before it."""
    n_rows, n_ctx = windows[:, 1:].shape
    n_parts = min(recipe.n_threads * recipe.accumulate, n_rows)
    rngs = np.random.default_rng([recipe.seed, step]).spawn(n_parts)

    def part_gradients(part):
        rows, rng = part
        return backprop.loss_and_gradients(
            model.params, rows[:, :-1].ravel(), rows[:, 1:].ravel(), model.config,
            lengths=[n_ctx] * len(rows),
            first_trained_block=recipe.first_trained_block, n_scored=n_rows * n_ctx,
            dropout=recipe.dropout, rng=rng,
        )  # fmt: skip

    loss, grads = summed(part_gradients, list(zip(np.array_split(windows, n_parts), rngs)))
    optim.clip(grads, recipe.max_norm)
    update(model.params, grads, state, step, recipe, summed.each)
    return loss


def update(params, grads, state, step, recipe, each):
    """Move the parameters against their gradients, as the recipe's optimizer does."""
    share = recipe.share_of_peak(step)
    decay = {"weight_decay": recipe.weight_decay, "each": each}
    if recipe.optimizer == "muon":
        matrices, grads = optim.split_for_muon(grads)
        optim.muon(params, matrices, state, share * recipe.muon_rate, **decay)
    optim.adamw(
        params, grads, state, share * recipe.learning_rate, (0.9, recipe.beta2),
        decays=optim.decay_mask(params), **decay,
    )  # fmt: skip


def train(model, texts_at, valid, out, recipe, dtype=np.float32):
    """Train a model, in place, from the checkpoint in `out` where there is one, and save it there.

    texts_at(step) is the list of Texts that a step reads from; `valid` is one that is held back.
    What is saved in the end, and at every checkpoint, as
    dtype, is the model of the lowest loss on `valid` so far. run_folder.py tells what else is in
    the folder. Raises KeyboardInterrupt, after saving, when Ctrl-C was pressed, NotFiniteError
    where the loss becomes NaN or infinite: the best model before is saved then.
    """
    checkpoint = out / CHECKPOINT
    progress = Progress(model.params)
    go_on(progress, checkpoint)
    log = Log(out / LOG, progress.step)
    valid_every = max(1, recipe.n_steps // 50)

    def take_step(step, state, summed):
        windows = batch_at(step, texts_at(step), recipe.n_ctx, recipe.batch_size, recipe.seed)
        return train_step(model, state, windows, step, recipe, summed)

    def after_step(loss, seconds, bar):
        step, speed = progress.step, round(recipe.batch_size * recipe.n_ctx / seconds)
        entry = {"step": step, "loss": round(loss, 5), "tokens_per_second": speed}
        score = None
        if step % valid_every == 0 or step == recipe.n_steps:
            entry["valid_loss"], entry["bits_per_byte"] = valid_loss(model, recipe.n_ctx, valid)
            score = -entry["valid_loss"]
        log.append(entry)
        bar.set_postfix_str(f"loss {loss:.3f}, {speed:,} tokens/s", refresh=False)
        return score

    def save_model():
        scored = progress.best_score is not None
        save(model._replace(params=progress.best) if scored else model, out, dtype)
        log.draw(out / CURVE)

    try:
        train_steps(
            progress, take_step, recipe.n_steps, after_step=after_step, rate=recipe.rate,
            n_threads=recipe.n_threads, path=checkpoint, after_saving=save_model,
        )  # fmt: skip
    except NotFiniteError as error:
        hint = "try a lower --learning_rate, a longer --warmup or a smaller --max_norm"
        log.draw(out / CURVE)
        if progress.best_score is None:
            raise NotFiniteError(f"{error}; {hint}") from None
        save_model()
        kept = f"{out} holds the model of step {progress.best_step}, the best before"
        raise NotFiniteError(f"{error}; {hint}, with another --out ({kept})") from None
    if progress.step > recipe.n_steps:
        print(f"it ends as it stands after step {progress.step}", file=sys.stderr)
    if progress.scored_step < progress.step:  # where it ends before its time
        loss, _ = valid_loss(model, recipe.n_ctx, valid)
        progress.note_score(-loss)
    progress.take_best()
    save_model()
    values = {"best_step": progress.best_step, "best_score": progress.best_score}
    save_state(checkpoint, {}, {"step": progress.step, "finished": True} | values)
    if progress.best_step < progress.step:
        said = f"the loss on held-back text was lowest after step {progress.best_step}"
        print(f"{said} of {progress.step}: the model is of that step")


def go_on(progress, checkpoint):
    """Take what a run has come to from its checkpoint, if there is one, and tell.

    That of a finished run has no moments of AdamW any more: they begin anew, at the best model.
    """
    if not checkpoint.exists():
        return
    values = load_meta(checkpoint)
    if values.pop("finished", False):
        vars(progress).update(values)
    else:
        progress.restore(checkpoint)
    print(f"{checkpoint.parent} goes on after step {progress.step}", file=sys.stderr)
