"""The one loop of all training: it can be stopped at any moment, and goes on to the same numbers.

A checkpoint holds all that the next step depends on, so a run that was killed and started again
ends as one that never stopped. Numbers that are not finite stop it: nothing is saved of them.
"""

import math
import time

import numpy as np

from picogpt.optim import new_state
from picogpt.quantization import refuse_int8
from picogpt.tools.errors import CheckpointError, NotFiniteError
from picogpt.tools.progress import hidden
from picogpt.tools.tree import tree_leaves, tree_map
from picogpt.training.parallel import summed_over_threads
from picogpt.training.state import deferred_interrupt, load_state, same_shapes, save_state

SAVE_SECONDS = 300  # from one checkpoint to the next: a run that is killed loses no more


class Progress:
    """How far a training has come: all that a checkpoint holds.

    `params` is the tree that is trained, in place; `state` the optimizer's moments; `best` a copy
    of the parameters that had the highest score so far. `notes` is the caller's own dict, of what
    JSON can hold. Raises UsageError for weights in int8.
    """

    def __init__(self, params, notes=None):
        refuse_int8(params)
        self.params = params
        self.state = new_state(params)
        self.best = tree_map(np.copy, params)
        self.step = 0  # how many are done
        self.best_step = 0
        self.best_score = None  # until there is one
        self.scored_step = 0  # the last one that had a score
        self.notes = notes or {}

    def trees(self):
        """All arrays that a checkpoint holds, as one tree."""
        moments = {name: tree for name, tree in self.state.items() if name != "step"}
        return {"params": self.params, "best": self.best, **moments}

    def save(self, path):
        """Write a checkpoint; raises OutputError where that fails."""
        values = {
            "step": self.step,
            "updates": self.state["step"],
            "best_step": self.best_step,
            "best_score": self.best_score,
            "scored_step": self.scored_step,
            "notes": self.notes,
        }
        save_state(path, self.trees(), values)

    def restore(self, path):
        """Take everything from a checkpoint, into the arrays that are there.

        Raises CheckpointError, with nothing changed, where it is damaged or of another run.
        """
        saved, values = load_state(path)
        if not same_shapes(self.trees(), saved):
            raise CheckpointError(f"{path} is of another run or version: delete it to start anew")
        tree_map(np.copyto, self.trees(), saved)
        self.state["step"] = values.pop("updates")
        vars(self).update(values)

    def note_score(self, score):
        """Keep a copy of the parameters as they are now, if none before had as high a score.

        Raises NotFiniteError where the score is NaN or infinite.
        """
        if not math.isfinite(score):
            raise NotFiniteError(f"the score is {score}")
        self.scored_step = self.step
        if self.best_score is None or score > self.best_score:
            self.best_score, self.best_step = score, self.step
            tree_map(np.copyto, self.best, self.params)

    def take_best(self):
        """Go back to the parameters of the highest score, if there is one."""
        if self.best_score is not None:
            tree_map(np.copyto, self.params, self.best)


def train_steps(
    progress, take_step, n_steps, *, after_step, rate, n_threads, path=None, after_saving=None,
    save_with_score=False, is_over=None,
):
    """Train until n_steps are done, or `is_over()`; progress is changed in place.

    take_step(step, state, summed) moves the parameters and gives the loss before; `summed` adds up
    over n_threads (parallel.py). after_step(loss, seconds, bar) is called when the step is counted;
    seconds is how long it took, bar the progress bar. It gives a score, the higher the better, or
    None. rate(step) is the learning rate, which the message has where something goes wrong.

    With a path, a checkpoint goes there every SAVE_SECONDS, on Ctrl-C and, with save_with_score,
    whenever there is a score; after_saving() is called after each. Ctrl-C waits for the step's end.

    Raises NotFiniteError where the loss, a parameter or a score is no longer finite: what was saved
    before stays. Raises KeyboardInterrupt after Ctrl-C, with a sentence to print if it saved.
    """
    from tqdm import tqdm

    size = {"total": n_steps, "initial": progress.step, "unit": " steps"}
    bar = tqdm(desc="training", disable=hidden(), leave=False, **size)
    quiet = np.errstate(all="ignore")  # what is not finite is told in a sentence
    saved_at = time.monotonic()
    with deferred_interrupt() as pressed, summed_over_threads(n_threads) as summed, bar, quiet:
        while progress.step < n_steps and not (is_over and is_over()):
            score = take_checked_step(progress, take_step, after_step, rate, summed, bar)
            bar.update()
            due = pressed or (save_with_score and score is not None)
            if path and (due or time.monotonic() > saved_at + SAVE_SECONDS):
                progress.save(path)
                if after_saving:
                    after_saving()
                saved_at = time.monotonic()
            if pressed:
                said = f"stopped after step {progress.step} and saved: the same command goes on"
                raise KeyboardInterrupt(*[said] if path else [])


def take_checked_step(progress, take_step, after_step, rate, summed, bar):
    """Take a step and give back its score; raises NotFiniteError, which names step and rate."""
    started = time.perf_counter()
    loss = take_step(progress.step, progress.state, summed)
    seconds = max(time.perf_counter() - started, 1e-9)  # a clock may not have ticked
    progress.step += 1
    try:
        check_finite(loss, progress.params)
        score = after_step(loss, seconds, bar)
        if score is not None:
            progress.note_score(score)
        return score
    except NotFiniteError as error:
        where = f"step {progress.step}, at a learning rate of {rate(progress.step - 1):g}"
        raise NotFiniteError(f"{error} in {where}: training stops here") from None


def check_finite(loss, params):
    """Raise NotFiniteError where the loss or a parameter is NaN or infinite."""
    if not math.isfinite(loss):
        raise NotFiniteError(f"the loss is {loss}")
    for w in tree_leaves(params):
        # a sum with NaN or infinity in it is not finite; unlike np.isfinite it makes no array
        if not math.isfinite(np.sum(w)):
            raise NotFiniteError("a parameter is not finite")
