"""Writing on: from logits to a token (sampling), and from token to token (the decode loop)."""

import functools
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from numbers import Real

import numpy as np

from picogpt.checkpoint.generation_config import (
    not_followed,
    not_to_follow,
    processor_settings,
    samples,
)
from picogpt.drafting import Drafter
from picogpt.kernels import softmax
from picogpt.logits_processors import process_logits
from picogpt.model import Model, check_ids, encoder_of, new_caches
from picogpt.model import logits as model_logits
from picogpt.text_stream import IdStream, TextStream, end_tokens, stop_strings_for
from picogpt.tokenizer.encoder import END_OF_TEXT
from picogpt.tools.errors import CheckpointError, TextError, UsageError
from picogpt.tools.tally import Tally

# transformers' rules for what neither the caller nor generation_config.json says
SAMPLING_DEFAULTS = {"temperature": 1.0, "top_k": 50, "top_p": 1.0}
MIN_TEMPERATURE = 1e-5  # below it float32 overflows, and sampling is greedy anyway


def keep_top_k(logits, k):
    """Leave the k largest logits of `[n_vocab]` and what equals the last of them, -inf elsewhere.

    Fan, Lewis & Dauphin 2018, "Hierarchical Neural Story Generation".
    """
    if k >= len(logits):
        return logits
    k = int(k)  # of NumPy's unsigned numbers there is no -k
    kth_best = np.partition(logits, -k)[-k]  # cheaper than sorting them all
    return np.where(logits < kth_best, -np.inf, logits)


def keep_top_p(logits, p):
    """Leave the likeliest tokens of `[n_vocab]` that reach p together, -inf for the others.

    Nucleus sampling: Holtzman et al. 2020, "The Curious Case of Neural Text Degeneration".
    """
    left = np.flatnonzero(logits > -np.inf)  # what top-k leaves is quickly sorted
    order = left[np.argsort(logits[left])]  # the unlikeliest first
    # tail[i]: all tokens up to the i-th unlikeliest together; they go while that is at most 1 - p.
    # Added up in double precision and compared in single, as torch does
    tail = np.cumsum(softmax(logits[order]), dtype=np.float64).astype(logits.dtype)
    logits = logits.copy()
    logits[order[:-1][tail[:-1] <= 1 - p]] = -np.inf  # the likeliest stays, whatever p is
    return logits


def distribution(logits, temperature=1.0, top_k=0, top_p=1.0):
    """What to sample from: logits `[n_vocab]` -> probabilities `[n_vocab]`, float64.

    Temperature sharpens (below 1) or flattens (Ackley, Hinton & Sejnowski 1985); 0 is the limit,
    where the best token has it all. top_k 0 and top_p 1 filter nothing. transformers' order.
    """
    if temperature < MIN_TEMPERATURE:
        return np.eye(1, len(logits), np.argmax(logits))[0]
    logits = logits / temperature
    if top_k:
        logits = keep_top_k(logits, top_k)
    if top_p < 1:
        logits = keep_top_p(logits, top_p)
    return softmax(logits.astype(np.float64))


def sample(logits, rng, sampling):
    """Choose a token id from logits `[n_vocab]`: the best at temperature 0, else at random.

    `rng` is a numpy Generator, `sampling` the keyword arguments of `distribution`.
    """
    if sampling["temperature"] < MIN_TEMPERATURE:
        return int(np.argmax(logits))
    return int(rng.choice(len(logits), p=distribution(logits, **sampling)))


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
    """How to sample: as asked, else as generation_config.json says, else transformers' defaults.

    The keyword arguments of `distribution`: temperature 0 (greedy) where nothing is asked and the
    file doesn't say do_sample; who asks for one of them samples, and what is then neither asked
    nor in the file is temperature 1, top_k 50, top_p 1. Raises UsageError and CheckpointError for
    values that make no sense.
    """
    check_sampling(**asked)
    if names := not_followed(model.generation):
        notify(f"the model's generation config sets {', '.join(names)}, which is not followed here")
    asked = {name: value for name, value in asked.items() if value is not None}
    if not asked and not samples(model.generation):
        return SAMPLING_DEFAULTS | {"temperature": 0}
    in_file = {name: model.generation.get(name) for name in SAMPLING_DEFAULTS.keys() - asked.keys()}
    try:
        check_sampling(**in_file)
    except (TypeError, UsageError) as error:
        raise not_to_follow(error) from None
    in_file = {name: value for name, value in in_file.items() if value is not None}
    return SAMPLING_DEFAULTS | in_file | asked


@functools.cache  # says nothing twice
def notify(sentence):
    """Tell the user on stderr."""
    print(sentence, file=sys.stderr, flush=True)


def truncate(ids, n_ctx, what="the prompt is longer than"):
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
        is_list = isinstance(prompt, list | tuple | range)
        is_list |= isinstance(prompt, np.ndarray) and prompt.ndim == 1
        is_whole = is_list and all(isinstance(id, int | np.integer) for id in prompt)
        if not is_whole or len(prompt) == 0:
            said = f"a prompt is a text or a list of token ids, not {prompt!r:.60}"
            raise UsageError(f"{said}; generate_batch takes a list of prompts")
        return check_ids(prompt, model.config).tolist()
    encoder = encoder_of(model)
    ids = encoder.encode(prompt, special_tokens)
    if not ids:
        starts = [encoder.end_of_text, model.config.bos_token_id]
        if END_OF_TEXT not in encoder.added_tokens:  # then eos_token is taken for it
            starts.reverse()
        ids = [start for start in starts if start in range(model.config.n_vocab)][:1]
    if not ids:
        raise TextError("the prompt is empty, and this model has no <|endoftext|> to start from")
    return ids


def next_logits(model, ids, lengths=None, caches=None, last_only=True):
    """Logits for the token after each sequence `[n_sequences, tokenizer's n_vocab]`.

    Without last_only, for what follows every token: `[n_tokens, tokenizer's n_vocab]`. A
    checkpoint's vocabulary may be padded; the padding is cut off, and what stands in the
    tokenizer's gaps is -inf. Raises CheckpointError for NaN and infinity.
    """
    with np.errstate(all="ignore"):  # what comes of it is looked at here
        rows = model_logits(model, ids, lengths, caches, last_only)
    if model.encoder:
        rows = rows[:, : model.encoder.n_vocab]
        rows[:, model.encoder.gaps] = -np.inf
    if not np.isfinite(rows.max()):
        raise CheckpointError("the model computes NaN or infinity: are its weights damaged?")
    return rows


def next_token_probabilities(
    model, prompt, temperature=1.0, top_k=0, top_p=1.0, special_tokens=False
):
    """How likely each token is to come next: `[n_vocab]`, filtered as `distribution` does it.

    Raises UsageError for sampling that makes no sense, and what `prompt_ids` raises.
    """
    check_sampling(temperature, top_k, top_p)
    ids = truncate(prompt_ids(model, prompt, special_tokens), model.config.n_ctx)
    return distribution(next_logits(model, ids)[0], temperature, top_k, top_p)


@dataclass
class Sequence:
    """One text being written."""

    index: int  # which of the prompts it continues
    ids: list  # all tokens: the prompt's, as `truncate` left them, and those that were written
    n_prompt: int  # how many of them are the prompt's
    window: list  # the newest ids, which the model looks at for the next token: n_ctx at most
    cache: list  # keys and values of the window's tokens that the model has run
    n_left: int  # how many more may be written
    rng: np.random.Generator
    detokenize: Callable  # from a list of ids to what `output` takes in
    output: TextStream | IdStream
    drafter: Drafter | None  # None where nothing is to be drafted


def decode_loop(model, sequences, sampling, processing, tally):
    """Token by token: yield (index, chunk of text or list of ids) while the sequences grow.

    Each turn is one pass of the model over what is new in every sequence, and over drafts of what
    may follow. `sampling` are keyword arguments of `distribution`, `processing` those of
    `process_logits`. The sequences and the tally are changed.
    """
    n_ctx = model.config.n_ctx
    while sequences:
        started = time.perf_counter()
        for sequence in sequences:
            if len(sequence.window) > n_ctx:
                sequence.window = truncate(sequence.window, n_ctx, "the text outgrows")
                sequence.cache = new_caches(model.config)[0]
        new = [new_ids(sequence) for sequence in sequences]
        is_prefill = any(len(ids) > 1 for ids in new)  # then logits of the last tokens will do
        drafts = [[] if is_prefill else draft_for(sequence, n_ctx) for sequence in sequences]
        inputs = [ids + draft for ids, draft in zip(new, drafts)]
        logits = forward(model, sequences, inputs, last_only=is_prefill)
        chunks = []
        for sequence, draft, rows in zip(sequences, drafts, logits):
            chunks += sample_and_append(model, sequence, draft, rows, sampling, processing)
        seconds = max(time.perf_counter() - started, 1e-9)  # a clock may not have ticked
        tally.count(new if is_prefill else [], len(chunks), seconds)
        yield from ((index, chunk) for index, chunk in chunks if chunk)
        sequences = [sequence for sequence in sequences if not sequence.output.done]


def new_ids(sequence):
    """The ids of the window that the model has not run yet."""
    return sequence.window[sequence.cache[0]["length"] :]  # as long in every block


def draft_for(sequence, n_ctx):
    """Token ids that may follow: no more than may be written, or than the model has room for."""
    if sequence.drafter is None:
        return []
    room = n_ctx - len(sequence.window)
    return sequence.drafter.draft(sequence.ids, min(sequence.n_left - 1, room))


def forward(model, sequences, inputs, last_only):
    """Run each sequence's new ids: a list of its rows of logits `[n_ids, tokenizer's n_vocab]`.

    With last_only, one row for each, `[1, tokenizer's n_vocab]`.
    """
    lengths = [len(ids) for ids in inputs]
    caches = [sequence.cache for sequence in sequences]
    rows = next_logits(model, sum(inputs, []), lengths, caches, last_only)
    return np.split(rows, range(1, len(inputs)) if last_only else np.cumsum(lengths)[:-1])


def sample_and_append(model, sequence, draft, rows, sampling, processing):
    """Sample tokens from rows of logits: a list of (index, chunk of text or of ids), one for each.

    The first row is for the token that comes next, each other one for the token after a drafted
    one: it counts only where the text has just gone on with that very token. The sequence takes the
    tokens in, and its cache forgets what was drafted and is wrong.
    """
    ends = end_tokens(model)
    chunks = []
    for logits, drafted in zip(rows, [*draft, None]):  # nothing is drafted after the last row
        if processing:
            logits = process_logits(logits, sequence.ids, sequence.n_prompt, **processing)
        token = sample(logits, sequence.rng, sampling)
        sequence.window.append(token)
        sequence.ids.append(token)
        sequence.n_left -= 1
        data = sequence.detokenize([] if token in ends else [token])
        final = token in ends or sequence.n_left == 0
        chunks.append((sequence.index, sequence.output.feed(data, final)))
        if token != drafted or sequence.output.done:
            break
    for block in sequence.cache:  # it holds all but the newest token, which is still to be run
        block["length"] = len(sequence.window) - 1
    if draft:
        sequence.drafter.judge(len(draft), n_right=len(chunks) - 1)
    return chunks


def stream(
    model, prompts, n_tokens=40, *, temperature=None, top_k=None, top_p=None, seed=None, stop=None,
    draft=True, special_tokens=False, tally=None,
):
    """Continue several prompts as one batch: an iterator of (which prompt, chunk of text).

    A prompt is a text, or a list of token ids: then ids come, in lists. With special_tokens,
    <|endoftext|> and the tokenizer's other special tokens in a text are these tokens.

    Temperature, top_k and top_p: see `sampling_for`. seed is an int, a numpy Generator or None for
    a fresh one; stop a list of strings, or one string with ||| between them: the text ends before
    the first of them; None are the generation config's stop_strings. draft: guess tokens where the
    text repeats itself, to write faster (drafting.py); tally: a `Tally`. Raises, before any work,
    UsageError for an argument that can't be, CheckpointError for such a setting of the model, and
    TextError for a prompt that can't be encoded.
    """
    if not hasattr(model, "params"):
        raise UsageError(f"model must be what picogpt.load gives, not {model!r:.60}")
    if not isinstance(n_tokens, int | np.integer) or n_tokens < 0:
        raise UsageError(f"n_tokens must be a whole number, 0 or more, not {n_tokens!r}")
    sampling = sampling_for(model, temperature=temperature, top_k=top_k, top_p=top_p)
    processing = processor_settings(model.generation, end_tokens(model))
    stops = stop_strings_for(model, stop, all(isinstance(prompt, str) for prompt in prompts))
    rngs = spawn_generators(seed, len(prompts))
    sequences = [
        begin(model, index, prompt, int(n_tokens), rng, stops, draft, special_tokens)
        for index, (prompt, rng) in enumerate(zip(prompts, rngs))
    ]
    return decode_loop(model, sequences if n_tokens else [], sampling, processing, tally or Tally())


def spawn_generators(seed, n):
    """A random generator for each of n texts, so that none depends on what is written beside it.

    Raises UsageError for a seed that NumPy doesn't take.
    """
    try:
        return np.random.default_rng(seed).spawn(n)
    except (TypeError, ValueError):
        raise UsageError(f"seed must be a whole number, 0 or more, not {seed!r}") from None


def begin(model, index, prompt, n_tokens, rng, stops, draft, special_tokens):
    """The sequence that continues a prompt, before the model's first pass; see `stream`."""
    ids = truncate(prompt_ids(model, prompt, special_tokens), model.config.n_ctx)
    # no larger than the text may become: GPT-2 XL's cache of 1024 positions takes 0.6 GB
    n_positions = min(model.config.n_ctx, len(ids) + n_tokens)
    as_text = isinstance(prompt, str)
    return Sequence(
        index=index,
        ids=ids,
        n_prompt=len(ids),
        window=[*ids],
        cache=new_caches(replace(model.config, n_ctx=n_positions))[0],
        n_left=n_tokens,
        rng=rng,
        detokenize=model.encoder.decode_bytes if as_text else list,
        output=TextStream(stops) if as_text else IdStream(),
        drafter=Drafter() if draft else None,
    )


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
    """What follows a prompt, n_tokens at most: an iterator of chunks of text. See `stream`.

    A list of token ids is continued by token ids.
    """
    chunks = stream(
        model, [prompt], n_tokens,
        temperature=temperature, top_k=top_k, top_p=top_p, seed=seed, stop=stop, draft=draft,
        special_tokens=special_tokens, tally=tally,
    )  # fmt: skip
    if isinstance(prompt, str):
        return (chunk for _, chunk in chunks)
    return (id for _, ids in chunks for id in ids)


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
    """What follows each of several prompts, written at once: a list of texts. See `stream`.

    Lists of token ids are continued by lists of token ids.
    """
    if isinstance(prompts, str | bytes) or not isinstance(prompts, Iterable):
        raise UsageError("prompts must be a list of texts; generate takes a single one")
    prompts = list(prompts)
    texts = ["" if isinstance(prompt, str) else [] for prompt in prompts]
    chunks = stream(
        model, prompts, n_tokens,
        temperature=temperature, top_k=top_k, top_p=top_p, seed=seed, stop=stop, draft=draft,
        special_tokens=special_tokens, tally=tally,
    )  # fmt: skip
    for i, chunk in chunks:
        texts[i] += chunk
    return texts
