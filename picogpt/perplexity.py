"""How well a model predicts a text: python -m picogpt.perplexity FILE."""

import math
from itertools import chain
from pathlib import Path

import numpy as np

from picogpt.backprop import softmax_cross_entropy
from picogpt.generation import prompt_ids
from picogpt.model import load, logits
from picogpt.tools.cli import run
from picogpt.tools.errors import DataError
from picogpt.training.data import read_chunks


def windows(chunks, n_ctx):
    """Cut a stream of lists of ids into overlapping windows: yield (window, how many are new).

    A window is n_ctx ids long and starts n_ctx // 2 after the one before, so that every id but the
    first window's is seen with half a context of history or more.
    """
    window, n_new = [], 0
    for id in chain.from_iterable(chunks):
        if len(window) == n_ctx:
            yield window, n_new
            window, n_new = window[max(1, n_ctx // 2) :], 0
        window.append(id)
        n_new += 1
    yield window, n_new


def text_loss(model, chunks):
    """Summed loss in nats and number of tokens of a text, given as an iterator of strings.

    The first token is scored after <|endoftext|>, which itself is not.
    """
    start = prompt_ids(model, "")
    loss, n_tokens = 0.0, 0
    ids = (model.encoder.encode(text) for text in chunks)
    for window, n_new in windows(chain([start], ids), model.config.n_ctx):
        n_new = min(n_new, len(window) - 1)  # nothing comes before the first of all
        if n_new:
            scores = logits(model, window[:-1])[-n_new:]  # [n_new, n_vocab]
            loss += softmax_cross_entropy(scores, window[-n_new:])
            n_tokens += n_new
    return loss, n_tokens


def perplexity_of(loss, n_tokens):
    """e to the mean loss in nats; infinite where that is more than a float can be."""
    with np.errstate(over="ignore"):
        return float(np.exp(loss / n_tokens))


def main(file: Path, *, model_size: str | None = None, models_dir: str | None = None):
    """Print a model's perplexity per token and bits per byte on a text file.

    Perplexity compares models that share a tokenizer; bits per byte compares any. Windows are as
    long as the model's context and start half a context apart.

    Args:
        file: a text in UTF-8, of any length.
        model_size: 124M, 355M, 774M, 1558M, tiny, a folder or a hub id; without it 124M, or tiny.
        models_dir: where models are kept.
    """
    from tqdm import tqdm

    if not file.is_file():
        raise DataError(f"{file} is no file: name a text file in UTF-8")
    n_bytes = file.stat().st_size
    if not n_bytes:
        raise DataError(f"{file} is empty: there is nothing to predict")
    model = load(model_size, models_dir)
    with tqdm(total=n_bytes, unit="B", unit_scale=True, disable=None) as bar:

        def chunks():
            for text in read_chunks(file, 2**14):
                yield text
                bar.update(len(text.encode()))

        loss, n_tokens = text_loss(model, chunks())
    print(f"{file.name} by {model.name}: {n_tokens:,} tokens, {n_bytes:,} bytes")
    print(f"perplexity per token {perplexity_of(loss, n_tokens):.4f}")
    print(f"bits per byte {loss / math.log(2) / n_bytes:.4f}")


if __name__ == "__main__":
    run(main)
