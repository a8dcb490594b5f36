"""The training loop of a language model, which can be stopped at any moment.

Each step takes a batch of windows of n_ctx + 1 tokens, predicts every token from those before it,
and moves the weights a little against the gradient of the mean loss (Radford et al. 2018, sec.
3.1). Which windows depends on the seed and the step alone (windows.py): a run that was stopped goes
on, by the same command, with the very numbers that it would have had.
"""

import math
import sys
from dataclasses import dataclass

import numpy as np

from picogpt import backprop, optim
from picogpt.checkpoint.weights import checkpoint_tree
from picogpt.model import logits, save
from picogpt.tools.errors import NotFiniteError
from picogpt.tools.tree import tree_map
from picogpt.training.log import Log
from picogpt.training.resumable import Progress, train_steps
from picogpt.training.run_folder import CHECKPOINT, CURVE, LAST, LOG, remove_last
from picogpt.training.state import deferred_interrupt, load_meta, save_state
from picogpt.training.windows import batch_at, next_lines

VALID_WINDOWS = 64  # so many of the validation text, the first ones, tell how training goes


def init_params(config, rng):
    """Random parameters to start from, a tree of float32 arrays in the shapes of the config.

    Matrices and embeddings are normal with a standard deviation of 0.02 (Radford et al. 2018, sec.
    4.1), biases are 0, layer norm's g is 1. The c_proj matrices add to the residual stream
    2 * n_layer times, so they start smaller by a factor of sqrt(2 * n_layer): Radford et al. 2019,
    sec. 2.3.
    """

    def random_leaf(leaf):
        name, shape = leaf
        if name.endswith("bias"):
            return np.zeros(shape, np.float32)
        if "ln_" in name:
            return np.ones(shape, np.float32)
        std = 0.02 / (2 * config.n_layer) ** 0.5 if "c_proj" in name else 0.02
        return std * rng.standard_normal(shape, np.float32)

    return tree_map(random_leaf, checkpoint_tree(config))


def valid_loss(model, n_ctx, text):
    """Mean loss in nats a token over the first windows of a validation text, and bits per byte.

    text is a `windows.Text`, a window n_ctx + 1 tokens. Raises NotFiniteError where the loss is
    NaN or infinite.
    """
    tokens = text.ids
    lines = text.lines
    loss, n_tokens, n_bytes = 0.0, 0, 0
    starts = np.arange(0, max(len(tokens) - n_ctx, 1), n_ctx)[:VALID_WINDOWS]
    for start in starts if lines is None else next_lines(starts, lines, len(tokens) - n_ctx):
        window = tokens[start : start + n_ctx + 1]
        loss += backprop.softmax_cross_entropy_in_place(logits(model, window[:-1]), window[1:])
        n_tokens += len(window) - 1
        n_bytes += len(model.encoder.decode_bytes(window[1:].tolist()))
    if not math.isfinite(loss):
        raise NotFiniteError(f"the loss on the validation text is {loss}")
    return loss / n_tokens, loss / math.log(2) / n_bytes


@dataclass
class Recipe:
    """How to train: what train.py makes of its flags."""

    n_steps: int
    batch_size: int  # windows of a step
    accumulate: int  # parts that each thread takes one after the other
    optimizer: str  # "adamw", or "muon" for the blocks' matrices and AdamW for the rest
    learning_rate: float
    muon_rate: float  # of the matrices that Muon moves
    beta2: float  # AdamW's memory of the squared gradients
    warmup: int  # steps
    decay_share: float | None  # as in optim.learning_rate
    weight_decay: float
    max_norm: float  # of all gradients together
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
    """One step of training, in place: windows `[batch, n_ctx + 1]` -> the mean loss before it.

    summed(f, parts) is the sum of f(part) = (loss, gradients) over the parts, several at a time on
    threads, and summed.deal a map that uses these threads: see parallel.py.
    """
    n_rows, n_ctx = windows[:, 1:].shape
    # each thread takes `accumulate` parts, one after the other: less memory for the same sum
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
    update(model.params, grads, state, step, recipe, summed.deal)
    return loss


def update(params, grads, state, step, recipe, deal):
    """Move the parameters against their gradients, as the recipe's optimizer does."""
    share = recipe.share_of_peak(step)
    if recipe.optimizer == "muon":
        matrices, grads = optim.split_for_muon(grads)
        optim.muon(
            params, matrices, state, share * recipe.muon_rate, weight_decay=recipe.weight_decay,
            deal=deal,
        )  # fmt: skip
    optim.adamw(
        params, grads, state, share * recipe.learning_rate, (0.9, recipe.beta2),
        weight_decay=recipe.weight_decay, decays=optim.decay_mask(params),
    )  # fmt: skip


def train(model, texts_at, valid, out, recipe, dtype=np.float32):
    """Train a model, in place, from the checkpoint in `out` where there is one, and save it there.

    texts_at(step) is the list of Texts that a step reads from; `valid` is the validation text, on
    which nothing is trained. What is saved in the end, and at every checkpoint, as dtype, is the
    model of the lowest loss on `valid` so far. run_folder.py tells what else is in the folder.
    Raises KeyboardInterrupt, after saving, when Ctrl-C was pressed; pressed when all steps are
    done, it waits until the result is written. Raises NotFiniteError where the loss becomes NaN or
    infinite, after saving the best model before that.
    """
    run = Run(model, texts_at, valid, out, recipe, dtype)
    with deferred_interrupt() as pressed:
        try:
            train_steps(
                run.progress, run.take_step, recipe.n_steps, after_step=run.after_step,
                rate=recipe.rate, n_threads=recipe.n_threads, path=run.checkpoint,
                after_saving=run.save_model,
            )  # fmt: skip
        except NotFiniteError as error:
            raise NotFiniteError(f"{error}; {run.rescue()}") from None
        run.finish()
    if pressed:
        raise KeyboardInterrupt(f"{out} holds the model: all steps were done before it was stopped")


class Run:
    """A training run in its folder: what `train` does at a step, between steps and at the end."""

    def __init__(self, model, texts_at, valid, out, recipe, dtype):
        self.model = model
        self.texts_at = texts_at
        self.valid = valid
        self.out = out
        self.recipe = recipe
        self.dtype = dtype
        self.checkpoint = out / CHECKPOINT
        self.progress = Progress(model.params)
        go_on(self.progress, self.checkpoint)
        self.log = Log(out / LOG, self.progress.step)
        self.valid_every = max(1, recipe.n_steps // 50)

    def take_step(self, step, state, summed):
        """Train on a step's windows, in place: the mean loss before it."""
        recipe = self.recipe
        texts = self.texts_at(step)
        windows = batch_at(step, texts, recipe.n_ctx, recipe.batch_size, recipe.seed)
        return train_step(self.model, state, windows, step, recipe, summed)

    def after_step(self, loss, seconds, bar):
        """Log a step, show it, and now and then validate: the score then, else None."""
        step = self.progress.step
        recipe = self.recipe
        speed = round(recipe.batch_size * recipe.n_ctx / seconds)
        entry = {"step": step, "loss": round(loss, 5), "tokens_per_second": speed}
        score = None
        if step % self.valid_every == 0 or step == recipe.n_steps:
            entry["valid_loss"], entry["bits_per_byte"] = self.validate()
            score = -entry["valid_loss"]
        self.log.append(entry)
        bar.set_postfix_str(f"loss {loss:.3f}, {speed:,} tokens/s", refresh=False)
        return score

    def validate(self):
        """The model's loss on the validation text now, in nats a token and in bits per byte."""
        return valid_loss(self.model, self.recipe.n_ctx, self.valid)

    def save_model(self):
        """Write the best model so far and the curve; the model as it is before the first score."""
        scored = self.progress.best_score is not None
        best = self.model._replace(params=self.progress.best) if scored else self.model
        save(best, self.out, self.dtype)
        self.log.draw(self.out / CURVE)

    def rescue(self):
        """After NaN, save the best model, if there is one; say what to do and what is saved."""
        hint = "try a lower --learning_rate, a longer --warmup or a smaller --max_norm"
        if self.progress.best_score is None:
            self.log.draw(self.out / CURVE)
            return hint
        self.save_model()
        saved = f"{self.out} holds the model of step {self.progress.best_step}, the best before"
        return f"{hint}, with another --out ({saved})"

    def finish(self):
        """Save the best model and, in the checkpoint's place, how far the run came."""
        progress = self.progress
        if progress.step > self.recipe.n_steps:
            print(f"it ends as it stands after step {progress.step}", file=sys.stderr)
        if progress.scored_step < progress.step:  # where it ends before its time
            progress.note_score(-self.validate()[0])
        self.keep_last()
        progress.take_best()
        self.save_model()
        values = {"best_step": progress.best_step, "best_score": progress.best_score}
        save_state(self.checkpoint, {}, {"step": progress.step, "finished": True} | values)

    def keep_last(self):
        """Where the last step's model is not the best, tell, and keep it in a folder of its own."""
        progress, last = self.progress, self.out / LAST
        if progress.best_step == progress.step:
            remove_last(self.out)  # left from when the run was shorter
            return
        save(self.model, last, self.dtype)
        said = f"the loss on the validation text was lowest after step {progress.best_step}"
        where = f"{self.out} holds the model of that step, {last} that of the last"
        print(f"{said} of {progress.step}: {where}", file=sys.stderr)


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
