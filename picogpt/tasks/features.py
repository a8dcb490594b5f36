"""A model's activations for many texts: in packed batches, kept on disk, on any executor."""

import hashlib
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path

import numpy as np

from picogpt.generation import prompt_ids
from picogpt.kernels import hidden_states, layer_norm, split_by_lengths
from picogpt.model import check_ids, load
from picogpt.tasks.feature_cache import FeatureCache
from picogpt.tasks.workers import run_all
from picogpt.tools.cores import blas_threads, cores
from picogpt.tools.errors import CheckpointError, NotFiniteError, TextError, UsageError
from picogpt.tools.progress import hidden
from picogpt.tools.tree import tree_leaves

N_TOKENS = 1024  # of a batch, about; a run that is stopped loses the batches it is at
POOLS = "last", "mean", "tokens"


def encode_texts(model, texts):
    """The token ids of every text, a list of lists; an empty text is <|endoftext|> alone.

    Of a text longer than the model's n_ctx only the end is read; stderr tells of how many. Raises
    TextError for one text in the place of a list, and for what can't be encoded.
    """
    if isinstance(texts, str):
        raise TextError("encode_texts takes a list of texts, not one")
    from tqdm import tqdm

    texts = list(texts)  # which may come from a generator
    n_ctx = model.config.n_ctx
    bar = tqdm(texts, "encoding", unit=" texts", disable=hidden(), leave=False)
    sequences = [prompt_ids(model, text) for text in bar]
    if n_long := sum(len(ids) > n_ctx for ids in sequences):
        said = f"{n_long} of {len(texts)} texts are longer than the model's {n_ctx} positions"
        print(f"{said}: their ends are read.", file=sys.stderr)
    return [ids[-n_ctx:] for ids in sequences]


def token_weights(lengths, pool, dtype):
    """How much each token counts in the vector of its sequence: `[n_tokens, 1]`.

    By the pool "mean" each of n tokens has 1/n, by "last" the last has 1 and all others 0.
    """
    lengths = np.asarray(lengths)
    if pool == "mean":
        weights = np.repeat(1 / lengths, lengths)
    else:
        weights = np.zeros(lengths.sum())
        weights[np.cumsum(lengths) - 1] = 1
    return weights.astype(dtype)[:, None]


def pooled(x, lengths, pool):
    """One vector for each sequence: `[n_tokens, n_embd] -> [n_sequences, n_embd]`.

    It is the last token's, or the mean of all, as the pool says.
    """
    starts = np.cumsum(lengths) - lengths
    return np.add.reduceat(x * token_weights(lengths, pool, x.dtype), starts, axis=0)


def cut_into_batches(lengths):
    """Sort sequences by length and cut them into batches of about N_TOKENS: arrays of indices."""
    lengths = np.asarray(lengths)
    order = np.argsort(lengths, kind="stable")
    batch = (np.cumsum(lengths[order]) - 1) // N_TOKENS
    return np.split(order, np.flatnonzero(np.diff(batch)) + 1)


def activations(model, sequences, layer, pool):
    """What `features` computes, of one packed batch: a row for each sequence, or for each token."""
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


def remote_activations(folder, int8, checkpoint, sequences, layer, pool):
    """`activations` in a worker, which loads the model once, from a folder that it can read."""
    return activations(load_once(folder, int8, checkpoint), sequences, layer, pool)


@lru_cache(1)
def load_once(folder, int8, checkpoint):
    """The model in a folder; CheckpointError where it is another one than `checkpoint` says."""
    model = load(folder, int8=int8)
    if fingerprint(model.params) != checkpoint:
        raise CheckpointError(f"{folder} holds another model than the one that is asked for")
    return model


def features(model, sequences, layer=None, pool="last", *, keep=None, executor=None, folder=None):
    """What the model makes of each sequence of ids: `[n_sequences, n_embd]` float32.

    These are the activations that leave `layer` blocks: 0 is the embeddings, n_layer, the default,
    all blocks and ln_f. pool is "last" (the sequence's last token), "mean" (of its tokens) or
    "tokens" (all of them, a list of `[n_tokens, n_embd]`). Sequences of like length are run
    together, laid end to end. The last bits of a float depend on the machine's BLAS and, where that
    can't be kept to one thread, on how many it uses.

    In the folder `keep` each batch is kept once it is done: a run that was stopped goes on, and
    the next starts at once; what was longest unused goes when it is more than 2 GB. `executor` is
    any concurrent.futures.Executor; its workers load the model from `folder`, by a path that each
    of them can read, or else from model.folder. Raises PicoGPTError where a worker fails,
    UsageError for a pool, layer or folder that there isn't, TextError for what are no ids or too
    many, and NotFiniteError where the model's numbers are NaN or infinite: none of them are kept.
    """
    if executor is None:  # a thread for each core, with BLAS kept to one core each
        with blas_threads(1) as alone, ThreadPoolExecutor(cores() if alone else 1) as executor:
            return features(model, sequences, layer, pool, keep=keep, executor=executor)
    layer = model.config.n_layer if layer is None else layer
    if not isinstance(sequences, str):
        sequences = list(sequences)  # which may come from a generator
    check_request(model, sequences, layer, pool)
    if keep == "":
        raise UsageError("keep must be a folder, not '', which would be the current one")
    if not sequences:
        return [] if pool == "tokens" else np.zeros((0, model.config.n_embd), np.float32)
    lengths = np.array([len(ids) for ids in sequences])
    batches = cut_into_batches(lengths)
    cache = None
    if keep is not None:
        request = repr((model.config, layer, pool, N_TOKENS)).encode()
        name = fingerprint(request, lengths, np.concatenate(sequences), model.params)
        cache = FeatureCache(keep, name)
    done = compute_batches(model, sequences, batches, layer, pool, cache, executor, folder)
    places = np.argsort(np.concatenate(batches))
    if pool != "tokens":
        return np.concatenate(done)[places]
    sequence_rows = []
    for array, batch in zip(done, batches):
        sequence_rows += [array[rows] for rows in split_by_lengths(lengths[batch], len(array))]
    return [sequence_rows[place] for place in places]


def check_request(model, sequences, layer, pool):
    """Raise UsageError or TextError where `features` can't do what it is asked for."""
    if pool not in POOLS:
        raise UsageError(f"pool is {pool!r}, it must be one of {', '.join(POOLS)}")
    if not isinstance(layer, int | np.integer) or layer not in range(model.config.n_layer + 1):
        raise UsageError(f"layer is {layer}, {model.name} has 0 to {model.config.n_layer}")
    if isinstance(sequences, str) or any(isinstance(ids, str) for ids in sequences):
        raise TextError("features takes lists of ids: encode_texts makes them of texts")
    n_ctx = model.config.n_ctx
    for ids in sequences:
        check_ids(ids, model.config)
        if len(ids) > n_ctx:
            said = f"{model.name} reads {n_ctx} ids at most, not {len(ids)}"
            raise TextError(f"{said}: encode_texts keeps a text's end")


def compute_batches(model, sequences, batches, layer, pool, cache, executor, folder):
    """The activations of every batch, from the cache where it has them: a list of arrays."""
    from tqdm import tqdm

    n_embd = model.config.n_embd
    n_tokens = [sum(len(sequences[i]) for i in batch) for batch in batches]
    n_rows = n_tokens if pool == "tokens" else list(map(len, batches))
    done = [cache and cache.load(i, (n, n_embd)) for i, n in enumerate(n_rows)]
    left = [i for i, array in enumerate(done) if array is None]
    f, source = activations, (model,)
    if left and not isinstance(executor, ThreadPoolExecutor):  # threads share our memory
        f, source = remote_activations, remote_source(model, folder)
    calls = {i: (*source, [sequences[j] for j in batches[i]], layer, pool) for i in left}
    n_texts = len(sequences)
    with tqdm(total=n_texts, desc="features", unit=" texts", disable=hidden(), leave=False) as bar:
        bar.update(n_texts - sum(len(batches[i]) for i in left))
        for i, array in run_all(executor, f, calls):
            if not np.isfinite(array).all():
                raise NotFiniteError(f"what {model.name} makes of the texts is not finite")
            done[i] = cache.save(i, array) if cache else array
            bar.update(len(batches[i]))
    if cache:
        cache.trim()
    return done


def remote_source(model, folder):
    """What tells a worker which model to load: its folder, int8 or not, and its fingerprint."""
    if folder is None and model.folder is None:
        said = "features(executor=...) needs folder=..., from which its workers load the model"
        raise UsageError(said)
    if folder is None:
        folder = Path(model.folder).absolute()
    return str(folder), model.int8, fingerprint(model.params)


def fingerprint(*trees):
    """A name for what is computed from these bytes and arrays: their SHA-256, in 64 hex digits."""
    digest = hashlib.sha256()
    for leaf in tree_leaves(list(trees)):
        digest.update(leaf if isinstance(leaf, bytes) else np.ascontiguousarray(leaf))
    return digest.hexdigest()
