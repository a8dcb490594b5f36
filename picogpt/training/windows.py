"""Which windows of n_ctx + 1 tokens a step of training reads, from one text or from several.

They go through the whole text in an order that depends on the seed and the step alone.
"""

from typing import NamedTuple

import numpy as np


class Text(NamedTuple):
    """What windows are cut from."""

    ids: np.ndarray  # [n_tokens]
    lines: np.ndarray | None = None  # where lines begin, if windows are to begin there
    share: int = 1  # of this many windows in turn, where there are several texts


def batch_at(step, texts, n_ctx, batch_size, seed):
    """The windows of a step: `[batch_size, n_ctx + 1]` ids, from one Text or from several.

    Texts take turns in the order of `interleaved`, however large a batch is, and each goes on where
    it was left.
    """
    order = interleaved([text.share for text in texts])
    parts = []
    for i, text in enumerate(texts):
        before, after = (
            n // len(order) * text.share + order[: n % len(order)].count(i)
            for n in (step * batch_size, (step + 1) * batch_size)
        )  # windows of this text that were read before this step, and after it
        if after > before:
            parts.append(windows_of(text, before, after - before, n_ctx, seed))
    return np.concatenate(parts)


def interleaved(shares):
    """Which text gets a window, in turn: every text as often as its share says, evenly spread.

    >>> interleaved([5, 2, 1])
    [0, 1, 0, 0, 2, 0, 1, 0]
    """
    places = [((k + 0.5) / share, i) for i, share in enumerate(shares) for k in range(share)]
    return [i for _, i in sorted(places)]


def windows_of(text, first, n_windows, n_ctx, seed):
    """Windows first, first + 1, ... of a text: `[n_windows, n_ctx + 1]` ids.

    Each pass over the tokens, 2 * n_ctx or more, cuts them into windows anew, at another offset,
    and shuffles them. With lines, each window moves on to the next beginning of a line.
    """
    tokens = text.ids
    starts = []
    per_pass = len(tokens) // n_ctx - 1
    for n in range(first // per_pass, (first + n_windows - 1) // per_pass + 1):
        rng = np.random.default_rng([seed, n])
        offset = rng.integers(n_ctx)
        starts.append(offset + n_ctx * rng.permutation(per_pass))
    starts = np.concatenate(starts)[first % per_pass :][:n_windows]
    if text.lines is not None:
        starts = next_lines(starts, text.lines, len(tokens) - n_ctx)
    return np.stack([tokens[i : i + n_ctx + 1] for i in starts]).astype(np.int64)


def next_lines(starts, lines, end):
    """For each of the starts, the first of the lines' beginnings from there on, before `end`."""
    lines = lines[lines < end]
    return lines[np.searchsorted(lines, starts) % len(lines)]
