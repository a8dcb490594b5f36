"""Writing on: from logits to a token (sampling), and from token to token (the decode loop)."""

import codecs
import sys
from dataclasses import dataclass
from functools import cache, partial

import numpy as np

from picogpt.errors import CheckpointError, TextError, UsageError
from picogpt.kernels import softmax
from picogpt.model import logits, new_caches

# transformers' rules for what neither the caller nor generation_config.json says
SAMPLING_DEFAULTS = {"temperature": 1.0, "top_k": 50, "top_p": 1.0}


def keep_top_k(scores, k):
    """Leave the k best logits of `[n_vocab]` and what equals the last of them, -inf for the others.

    Fan, Lewis & Dauphin 2018, "Hierarchical Neural Story Generation".
    """
    if k >= len(scores):
        return scores
    kth_best = np.partition(scores, -k)[-k]  # cheaper than sorting them all
    return np.where(scores < kth_best, -np.inf, scores)


def keep_top_p(scores, p):
    """Leave the likeliest tokens of `[n_vocab]` that reach p together, -inf for the others.

    Holtzman et al. 2020, "The Curious Case of Neural Text Degeneration", section 3.1.
    """
    left = np.flatnonzero(scores > -np.inf)  # what top-k leaves is quickly sorted
    order = left[np.argsort(scores[left], kind="stable")]  # the unlikeliest first
    # added up in double precision and compared in single, as torch does
    tail = np.cumsum(softmax(scores[order]), dtype=np.float64).astype(scores.dtype)
    removed = order[:-1][tail[:-1] <= 1 - p]  # the likeliest stays, whatever p is
    scores = scores.copy()
    scores[removed] = -np.inf
    return scores


def distribution(scores, temperature=1.0, top_k=0, top_p=1.0):
    """What to draw from: logits `[n_vocab]` -> probabilities `[n_vocab]`, float64.

    Temperature sharpens (below 1) or flattens (Ackley, Hinton & Sejnowski 1985); 0 is the limit,
    where the best token has it all. top_k 0 and top_p 1 filter nothing. transformers' order.
    """
    if temperature == 0:
        return np.eye(1, len(scores), np.argmax(scores))[0]
    scores = scores / temperature
    if top_k:
        scores = keep_top_k(scores, top_k)
    if top_p < 1:
        scores = keep_top_p(scores, top_p)
    return softmax(scores.astype(np.float64))


def draw(scores, rng, sampling):
    """Draw a token id from logits `[n_vocab]`; temperature 0 takes the best one."""
    if sampling["temperature"] == 0:
        return int(np.argmax(scores))
    return int(rng.choice(len(scores), p=distribution(scores, **sampling)))


def check_sampling(temperature=None, top_k=None, top_p=None):
    """Raise UsageError for a value that makes no sense; None is one that is not given."""
    if temperature is not None and not 0 <= temperature < np.inf:
        raise UsageError(f"temperature must be 0 (greedy) or more, not {temperature}")
    if top_k is not None and not (top_k >= 0 and top_k % 1 == 0):
        raise UsageError(f"top_k must be a whole number, 0 (all tokens) or more, not {top_k}")
    if top_p is not None and not 0 < top_p <= 1:
        raise UsageError(f"top_p must be above 0 and at most 1 (all tokens), not {top_p}")


def sampling_for(model, **asked):
    """How to draw: as asked, else as generation_config.json says, else transformers' defaults.

    Greedy where nothing is asked and the file doesn't say do_sample. Raises UsageError and
    CheckpointError for values that make no sense.
    """
    check_sampling(**asked)
    asked = {name: value for name, value in asked.items() if value is not None}
    if not asked and not model.generation.get("do_sample"):
        return SAMPLING_DEFAULTS | {"temperature": 0}
    said = {name: model.generation.get(name) for name in SAMPLING_DEFAULTS}
    said = {name: value for name, value in said.items() if value is not None}
    try:
        check_sampling(**said)
    except (TypeError, UsageError) as error:
        raise CheckpointError(f"generation_config.json can't be followed: {error}") from None
    return SAMPLING_DEFAULTS | said | asked


def prompt_ids(model, prompt):
    """The ids to start from; an empty prompt starts from <|endoftext|>, as texts in training do.

    Raises TextError for a prompt that can't be encoded.
    """
    ids = model.encoder.encode(prompt)
    if not ids:
        start = model.encoder.end_of_text
        ids = [model.config.bos_token_id if start is None else start]
    if ids == [None]:
        raise TextError("the prompt is empty, and this model has no <|endoftext|> to start from")
    return ids


def newest(ids, n_ctx, notify, trouble):
    """The ids as they are, or if they outgrow the model's n_ctx positions, the newest n_ctx // 2."""
    if len(ids) <= n_ctx:
        return ids
    notify(f"{trouble} the model's {n_ctx} positions: the newest {n_ctx // 2} tokens stay in view.")
    return ids[-max(1, n_ctx // 2) :]


class TextStream:
    """From tokens' bytes to text that can be printed: whole characters, and no stop string."""

    def __init__(self, stops):
        self.stops = stops
        self.held = ""  # it may be how a stop string begins
        self.decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self.done = False

    def feed(self, data, final):
        """Take in bytes; give back what can be printed by now or, if `final`, all that is left."""
        text = self.held + self.decoder.decode(data, final)
        found = [text.index(stop) for stop in self.stops if stop in text]
        begun = [n for stop in self.stops for n in range(len(stop)) if text.endswith(stop[:n])]
        self.done = final or bool(found)
        if self.done:
            return text[: min(found, default=None)]
        end = len(text) - max(begun, default=0)
        self.held = text[end:]
        return text[:end]


@dataclass
class Sequence:
    """One text being written."""

    ids: list  # what the next token depends on
    rng: np.random.Generator
    text: TextStream
    cache: list
    n_cached: int = 0  # how many of the ids the model has run


