"""Writing on: from logits to a token (sampling), and from token to token (the decode loop)."""

import codecs
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from numbers import Real

import numpy as np

from picogpt.checkpoint.generation_config import not_followed, processor_settings, stop_strings
from picogpt.drafting import Drafter
from picogpt.kernels import softmax
from picogpt.logits_processors import process_logits
from picogpt.model import Model, check_ids, encoder_of, logits, new_caches
from picogpt.tokenizer.encoder import END_OF_TEXT
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
    for name, value in (("temperature", temperature), ("top_p", top_p)):
        if not isinstance(value, Real | None):
            raise UsageError(f"{name} must be a number, not {value!r}")
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


def prompt_ids(model, prompt, special_tokens=False):
    """The ids to start from; an empty prompt starts from <|endoftext|>, as texts in training do.

    A prompt is a text, in which special tokens are plain text unless asked for, or a list of ids.
    Raises TextError for one that can't be encoded, UsageError for what is neither.
    """
    if not isinstance(prompt, str):
        is_list = isinstance(prompt, list | tuple | range | np.ndarray) and len(prompt) > 0
        if not is_list or not all(isinstance(id, int | np.integer) for id in prompt):
            said = f"a prompt is a text or a list of token ids, not {prompt!r:.60}"
            raise UsageError(f"{said}; generate_batch takes a list of prompts")
        return check_ids(prompt, model.config).tolist()
    encoder = encoder_of(model)
    ids = encoder.encode(prompt, special_tokens)
    if not ids:
        starts = [encoder.end_of_text, model.config.bos_token_id]
        if END_OF_TEXT not in encoder.added_tokens:  # its end_of_text is not how texts begin
            starts.reverse()
        ids = [start for start in starts if start in range(model.config.n_vocab)][:1]
    if not ids:
        raise TextError("the prompt is empty, and this model has no <|endoftext|> to start from")
    return ids


def next_scores(model, ids, lengths=None, caches=None, last_only=True):
    """Logits for the token after each sequence `[n_sequences, tokenizer's n_vocab]`, or after all.

    A checkpoint's vocabulary may be padded; the padding is cut off. Raises CheckpointError for NaN.
    """
    with np.errstate(all="ignore"):  # what comes of it is looked at here
        rows = logits(model, ids, lengths, caches, last_only)
    if model.encoder:
        rows = rows[:, : model.encoder.n_vocab]
    if not np.isfinite(rows.max()):
        raise CheckpointError("the model computes NaN or infinity: are its weights damaged?")
    return rows


def next_token_probabilities(
    model, prompt, temperature=1.0, top_k=0, top_p=1.0, special_tokens=False
):
    """How likely each token is to come next: `[n_vocab]`, filtered as `distribution` does it."""
    check_sampling(temperature, top_k, top_p)
    ids = fitted(prompt_ids(model, prompt, special_tokens), model.config.n_ctx)
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


class IdStream:
    """What a prompt of ids gets in TextStream's place: ids, as they come."""

    done = False

    def feed(self, ids, final):
        """Take in a list of ids, and give it back."""
        self.done = final
        return ids


@dataclass
class Tally:
    """What writing has taken: given to `stream`, it is counted up, pass by pass of the model.

    A pass that reads more than it writes (a prompt, or once more the newest half of a text that has
    outgrown the model) is counted apart.
    """

    n_read: int = 0
    n_first: int = 0  # tokens written by passes that read
    reading_seconds: float = 0.0
    n_written: int = 0  # tokens written by all other passes
    n_passes: int = 0  # those others
    writing_seconds: float = 0.0

    def count(self, read, n_written, seconds):
        """Count a pass; `read` holds a list of ids for each sequence, or nothing."""
        if read:
            self.n_read += sum(map(len, read))
            self.n_first += n_written
            self.reading_seconds += seconds
        else:
            self.n_written += n_written
            self.n_passes += 1
            self.writing_seconds += seconds

    def __str__(self):
        """The sentence that --verbose prints."""
        said = []
        if self.n_first:
            seconds = f"{self.reading_seconds:.2f} s"
            said.append(f"{self.n_read} tokens read and {self.n_first} written in {seconds}")
        if self.n_passes:
            per_pass = f"{self.n_written / self.n_passes:.2f} tokens a pass"
            speed = f"{self.n_written / self.writing_seconds:,.1f} tokens a second"
            more = f"{self.n_written} more" if said else f"{self.n_written} tokens written"
            said.append(f"{more} in {self.n_passes} passes: {per_pass}, {speed}")
        return "; ".join(said) or "no token written"


@dataclass
class Sequence:
    """One text being written."""

    index: int  # which of the prompts it continues
    ids: list  # what the model looks at for the next token
    history: list  # all tokens: the prompt's and those that were written
    n_prompt: int  # how many of them are the prompt's
    n_left: int  # how many more may be written
    rng: np.random.Generator
    decode: Callable  # from a list of ids to what `text` takes in
    text: TextStream | IdStream
    cache: list  # of those that the model has run
    drafter: Drafter | None  # None where nothing is to be drafted


def decode(model, sequences, sampling, processing, tally):
    """The decode loop: yield (index, piece of text) while the sequences grow.

    Each turn is one pass of the model over what is new in every sequence, and over drafts of what
    may follow. `sampling` are keyword arguments of `distribution`, `processing` those of
    `process_logits`.
    """
    n_ctx = model.config.n_ctx
    while sequences:
        started = time.perf_counter()
        for sequence in sequences:
            if len(sequence.ids) > n_ctx:
                sequence.ids = fitted(sequence.ids, n_ctx, "the text outgrows")
                sequence.cache = new_caches(model.config)[0]
        new = [one.ids[one.cache[0]["length"] :] for one in sequences]  # what wasn't run yet
        reading = any(len(ids) > 1 for ids in new)
        drafts = [[] if reading else draft_for(one, n_ctx) for one in sequences]
        inputs = [ids + draft for ids, draft in zip(new, drafts)]
        rows = run(model, sequences, inputs, last_only=reading)
        pieces = []
        for sequence, draft, its_rows in zip(sequences, drafts, rows):
            pieces += accept(model, sequence, draft, its_rows, sampling, processing)
        tally.count(new if reading else [], len(pieces), time.perf_counter() - started)
        yield from (piece for piece in pieces if piece[1])
        sequences = [sequence for sequence in sequences if not sequence.text.done]


def draft_for(sequence, n_ctx):
    """Token ids that may follow: no more than may be written, or than the model has room for."""
    if sequence.drafter is None:
        return []
    room = n_ctx - len(sequence.ids)
    return sequence.drafter.draft(sequence.history, min(sequence.n_left - 1, room))


def run(model, sequences, inputs, last_only):
    """Run each sequence's new ids: a list of its rows of logits `[n_ids, tokenizer's n_vocab]`.

    With last_only, one row for each, `[1, tokenizer's n_vocab]`.
    """
    lengths = [len(ids) for ids in inputs]
    caches = [sequence.cache for sequence in sequences]
    rows = next_scores(model, sum(inputs, []), lengths, caches, last_only)
    return np.split(rows, range(1, len(inputs)) if last_only else np.cumsum(lengths)[:-1])


def accept(model, sequence, draft, rows, sampling, processing):
    """Write the tokens that rows of logits give: a list of (index, piece of text), one for each.

    The first row is for the token that comes next, each other one for the token after a drafted
    one: it counts only where the text has just gone on with that very token.
    """
    ends, pieces = end_tokens(model), []
    for scores, drafted in zip(rows, [*draft, None]):
        if processing:
            scores = process_logits(scores, sequence.history, sequence.n_prompt, **processing)
        token = draw(scores, sequence.rng, sampling)
        sequence.ids.append(token)
        sequence.history.append(token)
        sequence.n_left -= 1
        data = sequence.decode([] if token in ends else [token])
        final = token in ends or sequence.n_left == 0
        pieces.append((sequence.index, sequence.text.feed(data, final)))
        if token != drafted or sequence.text.done:
            break
    for block in sequence.cache:  # forget what was drafted and is wrong
        block["length"] = len(sequence.ids) - 1
    if draft:
        sequence.drafter.judge(len(draft), n_right=len(pieces) - 1)
    return pieces


def stream(
    model, prompts, n_tokens=40, *, temperature=None, top_k=None, top_p=None, seed=None, stop=None,
    draft=True, special_tokens=False, tally=None,
):
    """Continue several prompts as one batch: an iterator of (which prompt, piece of text).

    A prompt is a text, or a list of token ids: then ids come, in lists. With special_tokens,
    <|endoftext|> and the tokenizer's other special tokens in a text are these tokens.

    Temperature, top_k and top_p: see `sampling_for`. seed is an int, a numpy Generator or None for
    a fresh one; stop a list of strings, or one string with ||| between them: the text ends before
    the first that comes, without it before the generation config's stop_strings. draft: guess
    tokens where the text repeats itself, which changes its speed alone; tally: a `Tally`. Raises,
    before any work, UsageError for an argument that can't be, CheckpointError for such a setting of
    the model, and TextError for a prompt that can't be encoded.
    """
    if not hasattr(model, "params"):
        raise UsageError(f"model must be what picogpt.load gives, not {model!r:.60}")
    if not isinstance(n_tokens, int | np.integer) or n_tokens < 0:
        raise UsageError(f"n_tokens must be a whole number, 0 or more, not {n_tokens!r}")
    sampling = sampling_for(model, temperature=temperature, top_k=top_k, top_p=top_p)
    processing = processor_settings(model.generation, end_tokens(model))
    is_text = [isinstance(prompt, str) for prompt in prompts]
    stops = stop_strings_for(model, stop, all(is_text))
    try:
        rngs = np.random.default_rng(seed).spawn(len(prompts))  # each text depends on its own only
    except (TypeError, ValueError):
        raise UsageError(f"seed must be a whole number, 0 or more, not {seed!r}") from None
    n_ctx = model.config.n_ctx
    starts = [fitted(prompt_ids(model, prompt, special_tokens), n_ctx) for prompt in prompts]
    caches = new_caches(model.config, len(prompts))
    sequences = [
        Sequence(
            index, ids, [*ids], len(ids), n_tokens, rng,
            model.encoder.decode_bytes if as_text else list,
            TextStream(stops) if as_text else IdStream(), cache, Drafter() if draft else None,
        )
        for index, (ids, rng, as_text, cache) in enumerate(zip(starts, rngs, is_text, caches))
    ]  # fmt: skip
    return decode(model, sequences if n_tokens else [], sampling, processing, tally or Tally())


def stop_strings_for(model, stop, all_texts):
    """The strings before which texts end: those asked for, else those of the generation config."""
    if stop is None:
        return stop_strings(model.generation)
    stops = stop.split("|||") if isinstance(stop, str) else stop
    if not isinstance(stops, list | tuple) or not all(isinstance(one, str) for one in stops):
        raise UsageError(f"stop must be a text or a list of texts, not {stop!r:.60}")
    if not all_texts:
        raise UsageError("stop is a text, and a prompt of token ids gets ids: leave it out")
    return [stop for stop in stops if stop]


def generate(
    model: Model,
    prompt: str | list[int],
    n_tokens: int = 40,
    *,
    temperature: float | None = None,
    top_k: int | None = None,
    top_p: float | None = None,
    seed: int | np.random.Generator | None = None,
    stop: str | list[str] | None = None,
    draft: bool = True,
    special_tokens: bool = False,
    tally: Tally | None = None,
) -> Iterator[str] | Iterator[int]:
    """Continue a prompt by n_tokens at most: an iterator of pieces of text. See `stream`.

    A list of token ids is continued by token ids.
    """
    pieces = stream(
        model, [prompt], n_tokens,
        temperature=temperature, top_k=top_k, top_p=top_p, seed=seed, stop=stop, draft=draft,
        special_tokens=special_tokens, tally=tally,
    )  # fmt: skip
    if isinstance(prompt, str):
        return (piece for _, piece in pieces)
    return (id for _, ids in pieces for id in ids)


def generate_batch(
    model: Model,
    prompts: list[str] | list[list[int]],
    n_tokens: int = 40,
    *,
    temperature: float | None = None,
    top_k: int | None = None,
    top_p: float | None = None,
    seed: int | np.random.Generator | None = None,
    stop: str | list[str] | None = None,
    draft: bool = True,
    special_tokens: bool = False,
    tally: Tally | None = None,
) -> list[str] | list[list[int]]:
    """Continue several prompts at once: a list of texts. See `stream`.

    Lists of token ids are continued by lists of token ids.
    """
    if isinstance(prompts, str | bytes) or not isinstance(prompts, Iterable):
        raise UsageError("prompts must be a list of texts; generate takes a single one")
    prompts = list(prompts)
    texts = ["" if isinstance(prompt, str) else [] for prompt in prompts]
    pieces = stream(
        model, prompts, n_tokens,
        temperature=temperature, top_k=top_k, top_p=top_p, seed=seed, stop=stop, draft=draft,
        special_tokens=special_tokens, tally=tally,
    )  # fmt: skip
    for i, piece in pieces:
        texts[i] += piece
    return texts
