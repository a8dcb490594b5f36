"""A model's activations for many texts: in packed batches, kept on disk, on any executor."""

import hashlib
import multiprocessing
import os
import signal
import sys
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor, as_completed
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

import numpy as np

from picogpt.generation import prompt_ids
from picogpt.kernels import hidden_states, layer_norm, split_by_lengths
from picogpt.model import Model, load
from picogpt.tools.cores import blas_threads, cores
from picogpt.tools.errors import NotFiniteError, PicoGPTError
from picogpt.tools.files import written_beside
from picogpt.tools.tree import tree_leaves

N_TOKENS = 1024  # of a batch; a run that is stopped loses one at most
THREADS = "OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS"


def encode_texts(model, texts):
    """The token ids of every text: of an empty one <|endoftext|>, of a long one the last n_ctx."""
    n_ctx = model.config.n_ctx
    sequences = [prompt_ids(model, text) for text in texts]
    if n_long := sum(len(ids) > n_ctx for ids in sequences):
        said = f"{n_long} of {len(texts)} texts are longer than the model's {n_ctx} positions"
        print(f"{said}: their ends are read.", file=sys.stderr)
    return [ids[-n_ctx:] for ids in sequences]


def token_weights(lengths, pool, dtype):
    """How much each token counts in its sequence's vector, by "last" or "mean": `[n_tokens, 1]`."""
    lengths = np.asarray(lengths)
    if pool == "mean":
        weights = np.repeat(1 / lengths, lengths)
    else:
        weights = np.zeros(lengths.sum())
        weights[np.cumsum(lengths) - 1] = 1
    return weights.astype(dtype)[:, None]


def pooled(x, lengths, pool):
    """One vector for each sequence: `[n_tokens, n_embd] -> [n_sequences, n_embd]`."""
    starts = np.cumsum(lengths) - lengths
    return np.add.reduceat(x * token_weights(lengths, pool, x.dtype), starts, axis=0)


def pack(lengths):
    """Sort sequences by length and cut them into batches of about N_TOKENS: lists of indices."""
    lengths = np.asarray(lengths)
    order = np.argsort(lengths, kind="stable")
    batch = (np.cumsum(lengths[order]) - 1) // N_TOKENS
    return np.split(order, np.flatnonzero(np.diff(batch)) + 1)


load_once = lru_cache(1)(load)


def activations(model, sequences, layer, pool):
    """What `features` computes, of one packed batch, by a model or by the one at a path."""
    if not isinstance(model, Model):
        model = load_once(model)  # in a worker
    lengths = [len(ids) for ids in sequences]
    params, options = model.params, model.config.kernel_options
    with np.errstate(all="ignore"):  # `features` tells what is not finite, in a sentence
        x = hidden_states(
            np.concatenate(sequences), params["wte"], params["wpe"], params["blocks"][:layer],
            lengths=lengths, **options,
        )  # [n_tokens] -> [n_tokens, n_embd]
        if layer == model.config.n_layer:
            x = layer_norm(x, **params["ln_f"], eps=options["eps"])
    return x if pool == "tokens" else pooled(x, lengths, pool)


def processes(n):
    """An executor of n processes on this machine, whose BLAS threads share its cores out."""
    os.environ.update(dict.fromkeys(THREADS, str(max(1, cores() // n))))
    executor = ProcessPoolExecutor(
        n, multiprocessing.get_context("spawn"),  # the same on every system
        signal.signal, (signal.SIGINT, signal.SIG_IGN),  # Ctrl-C is for this process to answer
    )  # fmt: skip
    with suppress(ValueError):  # outside the main thread
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            for _ in range(n):
                executor.submit(int)  # starts a worker, which ignores Ctrl-C as we do now
        finally:
            signal.signal(signal.SIGINT, before)
    return executor


def run_batches(source, batches, layer, pool, executor):
    """Yield (i, activations of batches[i]), in any order; PicoGPTError where a worker fails."""
    futures = {}
    try:
        for i, batch in batches.items():
            futures[executor.submit(activations, source, batch, layer, pool)] = i
        for future in as_completed(list(futures)):
            yield futures.pop(future), future.result()
    except Exception as error:
        said = f"{type(error).__name__} {error}".strip()
        raise PicoGPTError(f"a worker failed ({said}): run this again to go on") from error
    finally:
        for future in futures:
            future.cancel()


def kept_array(path, shape):
    """An array of float32 zeros; where there is a path, in a file that is mapped into memory."""
    if path is None:
        return np.zeros(shape, np.float32)
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        with written_beside(path) as partial, partial.open("wb") as file:
            np.save(file, np.zeros(shape, np.float32))  # so that the room on the disk is taken now
    return np.load(path, mmap_mode="r+")


def features(
    model, sequences, layer=None, pool="last", *, keep=None, executor=None, folder=None
):
    """What the model makes of each sequence of ids: `[n_sequences, n_embd]` float32.

    The activations that leave block `layer` (the last by default, through ln_f), at a sequence's
    last token or their mean; with pool="tokens" all of them, a list of `[n_tokens, n_embd]`.
    Sequences of like length are run together, laid end to end.

    In the folder `keep` each batch is kept once it is done: a run that was stopped goes on, and
    the next starts at once. `executor` is any concurrent.futures.Executor; its workers load the
    model from `folder`, by a path that each of them can read. Raises PicoGPTError where one fails,
    NotFiniteError where the model's numbers are NaN or infinite: none of them are kept.
    """
    from tqdm import tqdm

    if executor is None:  # a thread for each core, with BLAS kept to one core each
        with blas_threads(1) as alone, ThreadPoolExecutor(cores() if alone else 1) as executor:
            return features(model, sequences, layer, pool, keep=keep, executor=executor)
    layer = model.config.n_layer if layer is None else layer
    lengths = np.array([len(ids) for ids in sequences])
    batches = pack(lengths)
    order = np.concatenate(batches)
    rows = lengths[order] if pool == "tokens" else np.ones(len(order), int)
    n_rows, n_embd = rows.sum(), model.config.n_embd
    pieces = split_by_lengths(rows, n_rows)  # where each sequence, in that order, has its rows
    if keep is not None:
        said = repr((model.config, layer, pool, N_TOKENS)).encode()
        name = fingerprint(said, lengths, np.concatenate(sequences), model.params)
        keep = Path(keep) / f"{name}.npy"
    n_last = -(-len(batches) // n_embd)  # rows for `done`, which share the data's file
    kept = kept_array(keep, (n_rows + n_last, n_embd))
    data, done = kept[:n_rows], kept[n_rows:].reshape(-1)[: len(batches)]
    firsts = np.cumsum([0, *map(len, batches)])
    left = np.flatnonzero(done == 0).tolist()
    wanted = {i: [sequences[j] for j in batches[i]] for i in left}
    with tqdm(total=len(order), unit=" texts", disable=None) as bar:
        bar.update(len(order) - sum(map(len, wanted.values())))
        for i, array in run_batches(folder or model, wanted, layer, pool, executor):
            if not np.isfinite(array).all():
                raise NotFiniteError(f"what {model.name} makes of the texts is not finite")
            data[pieces[firsts[i]].start : pieces[firsts[i + 1] - 1].stop] = array
            if keep is not None:
                kept.flush()
            done[i] = 1
            bar.update(len(batches[i]))
    places = np.argsort(order)
    return [data[pieces[place]] for place in places] if pool == "tokens" else data[places]


def fingerprint(*trees):
    """A name for what is computed from these bytes and arrays: a hash of them all."""
    digest = hashlib.sha256()
    for leaf in tree_leaves(list(trees)):
        digest.update(leaf if isinstance(leaf, bytes) else np.ascontiguousarray(leaf))
    return digest.hexdigest()
