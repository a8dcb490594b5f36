"""Writing on: from logits to a token (sampling), and from token to token (the decode loop)."""

import codecs
import sys
from dataclasses import dataclass
from functools import cache

import numpy as np

from picogpt.checkpoint.generation_config import not_followed, processor_settings, stop_strings
from picogpt.kernels import softmax
from picogpt.logits_processors import process_logits
from picogpt.model import logits, new_caches
from picogpt.tools.errors import CheckpointError, TextError, UsageError

# transformers' rules for what neither the caller nor generation_config.json says
SAMPLING_DEFAULTS = {"temperature": 1.0, "top_k": 50, "top_p": 1.0}
COLDEST = 1e-5  # below this temperature float32 overflows, and sampling is greedy anyway


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

    Nucleus sampling: Holtzman et al. 2020, "The Curious Case of Neural Text Degeneration".
    """
    left = np.flatnonzero(scores > -np.inf)  # what top-k leaves is quickly sorted
    order = left[np.argsort(scores[left])]  # the unlikeliest first
    # tail[i]: all tokens up to the i-th unlikeliest together; while that is at most 1 - p, those
    # left reach p. Added up in double precision and compared in single, as torch does
    tail = np.cumsum(softmax(scores[order]), dtype=np.float64).astype(scores.dtype)
    scores = scores.copy()
    scores[order[:-1][tail[:-1] <= 1 - p]] = -np.inf  # the likeliest stays, whatever p is
    return scores


def distribution(scores, temperature=1.0, top_k=0, top_p=1.0):
    """What to draw from: logits `[n_vocab]` -> probabilities `[n_vocab]`, float64.

    Temperature sharpens (below 1) or flattens (Ackley, Hinton & Sejnowski 1985); 0 is the limit,
    where the best token has it all. top_k 0 and top_p 1 filter nothing. transformers' order.
    """
    if temperature < COLDEST:
        return np.eye(1, len(scores), np.argmax(scores))[0]
    scores = scores / temperature
    if top_k:
        scores = keep_top_k(scores, top_k)
    if top_p < 1:
        scores = keep_top_p(scores, top_p)
    return softmax(scores.astype(np.float64))


def draw(scores, rng, sampling):
    """Draw a token id from logits `[n_vocab]`; temperature 0 takes the best one."""
    if sampling["temperature"] < COLDEST:
        return int(np.argmax(scores))
    return int(rng.choice(len(scores), p=distribution(scores, **sampling)))


def check_sampling(temperature=None, top_k=None, top_p=None):
    """Raise UsageError for a value that makes no sense; None is one that is not given."""
    if temperature is not None and not 0 <= temperature < 1e38:
        raise UsageError(f"temperature must be 0 (greedy) or more, not {temperature}")
    if top_k is not None and not (isinstance(top_k, int | np.integer) and top_k >= 0):
        raise UsageError(f"top_k must be a whole number, 0 (all tokens) or more, not {top_k}")
    if top_p is not None and not 0 < top_p <= 1:
        raise UsageError(f"top_p must be above 0 and at most 1 (all tokens), not {top_p}")


def sampling_for(model, **asked):
    """How to draw: as asked, else as generation_config.json says, else transformers' defaults.

    Greedy where nothing is asked and the file doesn't say do_sample. Raises UsageError and
    CheckpointError for values that make no sense.
    """
    check_sampling(**asked)
    if names := not_followed(model.generation):
        notify(f"the model's generation config sets {', '.join(names)}, which is not followed here")
    asked = {name: value for name, value in asked.items() if value is not None}
    if not asked and not model.generation.get("do_sample"):
        return SAMPLING_DEFAULTS | {"temperature": 0}
    said = {name: model.generation.get(name) for name in SAMPLING_DEFAULTS.keys() - asked.keys()}
    try:
        check_sampling(**said)
    except (TypeError, UsageError) as error:
        raise CheckpointError(f"generation_config.json can't be followed: {error}") from None
    said = {name: value for name, value in said.items() if value is not None}
    return SAMPLING_DEFAULTS | said | asked


def end_tokens(model):
    """The ids that end a text: generation_config.json's or, where there is none, config.json's."""
    ends = model.config.eos_token_id
    if model.generation:
        ends = model.generation.get("eos_token_id")
    return ends if isinstance(ends, list) else [ends]


@cache  # says nothing twice
def notify(sentence):
    """Tell the user on stderr."""
    print(sentence, file=sys.stderr, flush=True)


def fitted(ids, n_ctx, what="the prompt is longer than"):
    """The ids where they fit into the model's n_ctx positions, else the newest n_ctx // 2."""
    if len(ids) <= n_ctx:
        return ids
    n_kept = max(1, n_ctx // 2)
    notify(f"{what} the model's {n_ctx} positions: it goes on from the newest {n_kept} tokens")
    return ids[-n_kept:]


def prompt_ids(model, prompt):
    """The ids to start from; an empty prompt starts from <|endoftext|>, as texts in training do.

    Raises TextError for a prompt that can't be encoded.
    """
    ids = model.encoder.encode(prompt)
    if not ids:
        starts = [model.encoder.end_of_text, model.config.bos_token_id]
        ids = [start for start in starts if start in range(model.config.n_vocab)][:1]
    if not ids:
        raise TextError("the prompt is empty, and this model has no <|endoftext|> to start from")
    return ids


def next_scores(model, ids, lengths=None, caches=None):
    """Logits for the token after each sequence `[n_sequences, tokenizer's n_vocab]`.

    A checkpoint's vocabulary may be padded; the padding is cut off. Raises CheckpointError for NaN.
    """
    with np.errstate(all="ignore"):  # what comes of it is looked at here
        rows = logits(model, ids, lengths, caches, last_only=True)[:, : model.encoder.n_vocab]
    if not np.isfinite(rows.max()):
        raise CheckpointError("the model computes NaN or infinity: are its weights damaged?")
    return rows


def next_token_probabilities(model, prompt, temperature=1.0, top_k=0, top_p=1.0):
    """How likely each token is to come next: `[n_vocab]`, filtered as `distribution` does it."""
    check_sampling(temperature, top_k, top_p)
    ids = fitted(prompt_ids(model, prompt), model.config.n_ctx)
    return distribution(next_scores(model, ids)[0], temperature, top_k, top_p)


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
        ends = [text.index(stop) for stop in self.stops if stop in text]
        self.done = final or bool(ends)
        if not self.done:
            begun = [stop[:n] for stop in self.stops for n in range(len(stop))]
            ends = [len(text) - len(start) for start in begun if text.endswith(start)]
        end = min(ends, default=len(text))
        self.held = text[end:]
        return text[:end]


@dataclass
class Sequence:
    """One text being written."""

    index: int  # which of the prompts it continues
    ids: list  # what the model looks at for the next token
    history: list  # all tokens: the prompt's and those that were written
    n_prompt: int  # how many of them are the prompt's
    rng: np.random.Generator
    text: TextStream
    cache: list  # of those that the model has run


def decode(model, sequences, n_tokens, sampling, processing):
    """The decode loop: yield (index, piece of text) while the sequences grow, n_tokens at most.

    `sampling` are keyword arguments of `distribution`, `processing` those of `process_logits`.
    """
    n_ctx, ends = model.config.n_ctx, end_tokens(model)
    for n_left in reversed(range(n_tokens)):
        if not sequences:
            return
        for sequence in sequences:
            if len(sequence.ids) > n_ctx:
                sequence.ids = fitted(sequence.ids, n_ctx, "the text outgrows")
                sequence.cache = new_caches(model.config)[0]
        caches = [sequence.cache for sequence in sequences]
        new = [one.ids[one.cache[0]["length"] :] for one in sequences]  # what wasn't run yet
        rows = next_scores(model, sum(new, []), [len(ids) for ids in new], caches)
        for sequence, scores in zip(sequences, rows):
            if processing:
                scores = process_logits(scores, sequence.history, sequence.n_prompt, **processing)
            token = draw(scores, sequence.rng, sampling)
            sequence.ids.append(token)
            sequence.history.append(token)
            data = b"" if token in ends else model.encoder.decode_bytes([token])
            piece = sequence.text.feed(data, final=token in ends or n_left == 0)
            if piece:
                yield sequence.index, piece
        sequences = [sequence for sequence in sequences if not sequence.text.done]


def stream(
    model, prompts, n_tokens=40, *, temperature=None, top_k=None, top_p=None, seed=None, stop=None
):
    """Continue several prompts as one batch: an iterator of (which prompt, piece of text).

    Temperature, top_k and top_p: see `sampling_for`. seed is an int, a numpy Generator or None for
    a fresh one; stop a list of strings, or one string with ||| between them: the text ends before
    the first that comes, without it before the generation config's stop_strings. Raises, before any
    work, UsageError for an argument that can't be, CheckpointError for such a setting of the model,
    and TextError for a prompt that can't be encoded.
    """
    if n_tokens < 0:
        raise UsageError(f"n_tokens must be 0 or more, not {n_tokens}")
    sampling = sampling_for(model, temperature=temperature, top_k=top_k, top_p=top_p)
    processing = processor_settings(model.generation, end_tokens(model))
    stops = stop.split("|||") if isinstance(stop, str) else stop
    if stop is None:
        stops = stop_strings(model.generation)
    stops = [stop for stop in stops if stop]
    try:
        rngs = np.random.default_rng(seed).spawn(len(prompts))  # each text depends on its own only
    except (TypeError, ValueError):
        raise UsageError(f"seed must be a whole number, 0 or more, not {seed!r}") from None
    starts = [fitted(prompt_ids(model, prompt), model.config.n_ctx) for prompt in prompts]
    sequences = [
        Sequence(i, ids, [*ids], len(ids), rng, TextStream(stops), kv)
        for i, (ids, rng, kv) in enumerate(zip(starts, rngs, new_caches(model.config, len(rngs))))
    ]
    return decode(model, sequences, n_tokens, sampling, processing)


def generate(model, prompt, n_tokens=40, **options):
    """Continue a prompt by n_tokens at most: an iterator of pieces of text. See `stream`."""
    return (piece for _, piece in stream(model, [prompt], n_tokens, **options))


def generate_batch(model, prompts, n_tokens=40, **options):
    """Continue several prompts at once: a list of texts. See `stream`."""
    texts = [""] * len(prompts)
    for i, piece in stream(model, prompts, n_tokens, **options):
        texts[i] += piece
    return texts
