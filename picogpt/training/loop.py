"""The training loop of a language model, which can be stopped at any moment.

Each step takes a batch of windows of n_ctx + 1 tokens, predicts every token from those before it,
and moves the weights a little against the gradient of the mean loss (Radford et al. 2018, sec.
3.1). Windows go through the whole text in an order that depends on the seed and the step alone: a
run that was stopped goes on with the very numbers that it would have had.
"""

import json
import math
import sys
import time
from dataclasses import dataclass
from statistics import fmean
from typing import NamedTuple

import numpy as np

from picogpt import backprop, optim
from picogpt.checkpoint.weights import checkpoint_tree
from picogpt.model import logits
from picogpt.tools.files import write_text
from picogpt.tools.svg import line_chart
from picogpt.tools.tree import tree_map
from picogpt.training.parallel import summed_over_threads
from picogpt.training.state import deferred_interrupt, load_state, save_state, state_meta

BEST = "best.safetensors"  # the weights of the lowest loss on held-back text
SAVE_SECONDS = 300  # from one checkpoint to the next
VALID_WINDOWS = 64  # of held-back text, looked at as training goes on


def init_params(config, rng):
    """Random parameters to start from: small and normal, as in Radford et al. 2019, sec. 2.3.

    The c_proj matrices add to the residual stream 2 * n_layer times and start smaller by its root.
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
    rate = optim.learning_rate(
        step, 1.0, recipe.n_steps, recipe.warmup, final=0.0, decay_share=recipe.decay_share
    )
    decay = {"weight_decay": recipe.weight_decay, "each": each}
    if recipe.optimizer == "muon":
        matrices, grads = optim.split_for_muon(grads)
        optim.muon(params, matrices, state, rate * recipe.muon_rate, **decay)
    optim.adamw(
        params, grads, state, rate * recipe.learning_rate, (0.9, recipe.beta2),
        decays=optim.decay_mask(params), **decay,
    )  # fmt: skip


def train(model, texts_at, valid, out, recipe):
    """Train a model, in place, from the checkpoint in `out` where there is one.

    texts_at(step) is the list of Texts that a step reads from; `valid` is one that is held back.
    Into the folder `out` go checkpoint.safetensors every
    SAVE_SECONDS, best.safetensors, log.jsonl and curve.svg; the model that is left is the best one
    on `valid`. Raises KeyboardInterrupt, after saving, when Ctrl-C was
    pressed.
    """
    from tqdm import tqdm

    path = out / "checkpoint.safetensors"
    state, step = optim.new_state(model.params), 0
    tree = {"params": model.params, "m": state["m"], "v": state["v"]}
    if path.exists():
        kept, meta = load_state(path)
        tree_map(np.copyto, tree, kept)
        del kept  # three times the weights' memory
        state["step"] = step = meta["step"]
    best = state_meta(out / BEST) if step and (out / BEST).exists() else None
    log_path = out / "log.jsonl"
    log = open_log(log_path, step)
    valid_every = max(1, recipe.n_steps // 50)
    saved = time.monotonic()
    bar = tqdm(total=recipe.n_steps, initial=step, unit="step", disable=None)
    with deferred_interrupt() as pressed, summed_over_threads(recipe.n_threads) as summed, bar, log:
        while step < recipe.n_steps:
            started = time.monotonic()
            windows = batch_at(
                step, texts_at(step), recipe.n_ctx, recipe.batch_size, recipe.seed
            )
            loss = train_step(model, state, windows, step, recipe, summed)
            step += 1
            speed = round(windows[:, 1:].size / (time.monotonic() - started))
            entry = {"step": step, "loss": round(loss, 5), "tokens_per_second": speed}
            if step % valid_every == 0 or step == recipe.n_steps:
                found = valid_loss(model, recipe.n_ctx, valid)
                entry["valid_loss"], entry["bits_per_byte"] = found
                best = keep_best(model, best, step, found[0], out)
            print(json.dumps(entry), file=log, flush=True)  # at once, so that a plot can follow
            bar.update()
            bar.set_postfix_str(f"loss {loss:.3f}, {speed:,} tokens/s")
            if pressed or step == recipe.n_steps or time.monotonic() - saved > SAVE_SECONDS:
                save_state(path, tree, {"step": step})
                draw_curve(log_path, out / "curve.svg")
                saved = time.monotonic()
            if pressed:
                print(f"stopped after step {step}: the same command goes on", file=sys.stderr)
                raise KeyboardInterrupt
    if best and best["step"] != step:
        print(f"the loss on held-back text was lowest after step {best['step']}", file=sys.stderr)
        tree_map(np.copyto, model.params, load_state(out / BEST)[0])


def keep_best(model, best, step, loss, out):
    """Write the weights to `out` if they have the lowest loss so far; the best {step, loss}."""
    if best and best["loss"] <= loss:
        return best
    best = {"step": step, "loss": loss}
    save_state(out / BEST, model.params, best)
    return best


def open_log(path, n_steps):
    """Open a log of one JSON object a step, to write on after its first n_steps: those stay."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    write_text(path, "".join(line + "\n" for line in lines[:n_steps]))
    return path.open("a", encoding="utf-8", newline="\n")


def draw_curve(log_path, path):
    """Draw the training loss, a mean of every 1 % of the steps, and the validation loss."""
    entries = [json.loads(line) for line in log_path.read_text(encoding="utf-8").splitlines()]
    size = max(1, len(entries) // 100)
    groups = [entries[i : i + size] for i in range(0, len(entries), size)]
    series = {
        "training": [(group[-1]["step"], fmean(e["loss"] for e in group)) for group in groups],
        "validation": [(e["step"], e["valid_loss"]) for e in entries if "valid_loss" in e],
    }
    line_chart(path, series, "loss while training", "step", "nats per token")
