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
    if ids:
        return ids
    for start in (model.encoder.end_of_text, model.config.bos_token_id):
        if start is not None and start < model.config.n_vocab:
            return [start]
    raise TextError("the prompt is empty, and this model has no <|endoftext|> to start from")


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

    index: int  # which of the prompts it continues
    ids: list  # all that the next token depends on
    rng: np.random.Generator
    text: TextStream
    cache: list
    n_cached: int = 0  # how many of the ids the model has run

    def fit(self, n_ctx, notify):
        """When the ids outgrow the model's n_ctx positions, start anew from the newest half."""
        if len(self.ids) <= n_ctx:
            return
        what = "the text outgrows" if self.n_cached else "the prompt is longer than"
        kept = max(1, n_ctx // 2)
        notify(f"{what} the model's {n_ctx} positions: its newest {kept} tokens are run again")
        self.ids, self.n_cached = self.ids[-kept:], 0
        for block in self.cache:
            block["length"] = 0


def decode(model, sequences, n_tokens, sampling, notify):
    """The decode loop: yield (index, piece of text) while the sequences grow, n_tokens at most."""
    ends = model.generation.get("eos_token_id", model.config.eos_token_id)
    ends = ends if isinstance(ends, list) else [ends]
    for n_left in reversed(range(n_tokens)):
        for sequence in sequences:
            sequence.fit(model.config.n_ctx, notify)
        new = [sequence.ids[sequence.n_cached :] for sequence in sequences]
        rows = logits(
            model, sum(new, []), [len(ids) for ids in new],
            [sequence.cache for sequence in sequences], last_only=True,
        )  # [n_sequences, n_vocab]
        for sequence, scores in zip(sequences, rows):
            sequence.n_cached = len(sequence.ids)
            token = draw(scores[: model.encoder.n_vocab], sequence.rng, sampling)  # less padding
            sequence.ids.append(token)
            ended = token in ends
            data = b"" if ended else model.encoder.decode_bytes([token])
            if piece := sequence.text.feed(data, final=ended or n_left == 0):
                yield sequence.index, piece
        sequences = [sequence for sequence in sequences if not sequence.text.done]
        if not sequences:
            return


def stream(
    model, prompts, n_tokens=40, *, temperature=None, top_k=None, top_p=None, seed=None, stop=None,
    notify=None,
):  # fmt: skip
    """Continue several prompts as one batch: an iterator of (which prompt, piece of text).

    Temperature, top_k and top_p: see `sampling_for`. seed is an int, a numpy Generator or None for
    a fresh one; stop a list of strings, or one string with ||| between them; notify is called with
    sentences for people, which otherwise go to stderr. Raises, before any work, UsageError for
    an argument that can't be and TextError for a prompt that can't be encoded.
    """
    if n_tokens < 0:
        raise UsageError(f"n_tokens must be 0 or more, not {n_tokens}")
    sampling = sampling_for(model, temperature=temperature, top_k=top_k, top_p=top_p)
    stops = stop.split("|||") if isinstance(stop, str) else stop or []
    stops = [stop for stop in stops if stop]
    try:
        rngs = np.random.default_rng(seed).spawn(len(prompts))  # each text depends on its own only
    except (TypeError, ValueError):
        raise UsageError(f"seed must be a whole number, 0 or more, not {seed!r}") from None
    notify = cache(notify or partial(print, file=sys.stderr, flush=True))  # says nothing twice
    starts = [prompt_ids(model, prompt) for prompt in prompts]
    caches = new_caches(model.config, len(starts))
    sequences = [
        Sequence(i, ids, rng, TextStream(stops), kv)
        for i, (ids, rng, kv) in enumerate(zip(starts, rngs, caches))
    ]
    return decode(model, sequences, n_tokens, sampling, notify)


def generate(model, prompt, n_tokens=40, **options):
    """Continue a prompt by up to n_tokens: an iterator of pieces of text; options as in `stream`."""
    return (piece for _, piece in stream(model, [prompt], n_tokens, **options))


def generate_batch(model, prompts, n_tokens=40, **options):
    """Continue several prompts at once: a list of texts; options as in `stream`."""
    texts = [""] * len(prompts)
    for i, piece in stream(model, prompts, n_tokens, **options):
        texts[i] += piece
    return texts


def next_token_probabilities(model, prompt, temperature=1.0, top_k=0, top_p=1.0):
    """How likely each token is to come next: `[n_vocab]`, filtered as `distribution` does it."""
    check_sampling(temperature, top_k, top_p)
    ids = prompt_ids(model, prompt)
    if len(ids) > model.config.n_ctx:
        ids = ids[-max(1, model.config.n_ctx // 2) :]
    scores = logits(model, ids, last_only=True)[0, : model.encoder.n_vocab]
    return distribution(scores, temperature, top_k, top_p)
