"""Which windows of n_ctx + 1 tokens a step of training reads, from one text or from several.

Pass after pass they go through nearly the whole of a text, in an order that depends on the seed and
on how many windows were read before, which the step tells.
"""

from typing import NamedTuple

import numpy as np


class Text(NamedTuple):
    """What windows are cut from."""

    ids: np.ndarray  # [n_tokens]
    lines: np.ndarray | None = None  # where lines begin, if windows are to begin there
    share: int = 1  # how many windows in a round this text gives, where there are several
    documents: np.ndarray | None = None  # where documents begin, if a near one draws windows


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
        )  # how many windows of this text have been read when the step begins, and when it ends
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

    Each pass over the text, which has at least 2 * n_ctx tokens, cuts it into windows anew, at
    another offset, and shuffles them; the last token of one is the first of the next. With lines,
    each window moves on to the next beginning of a line; with documents, to the first beginning of
    a document within it, or stays where there is none.
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
    if text.documents is not None:
        starts, found = next_documents(starts, text.documents, n_ctx, len(tokens) - n_ctx)
        # every second window leaves <|endoftext|> out, as a prompt does
        odd = np.arange(first, first + n_windows) % 2
        starts = starts + odd * found
    return np.stack([tokens[i : i + n_ctx + 1] for i in starts]).astype(np.int64)


def next_lines(starts, lines, end):
    """For each of the starts `[n]`, where the first line from there on begins: `[n]`.

    `lines` `[n_lines]` are all beginnings, in their order. Lines from `end` on don't count; after
    the last that does comes the text's first.
    """
    lines = lines[lines < end]
    return lines[np.searchsorted(lines, starts) % len(lines)]


def next_documents(starts, documents, n_ctx, end):
    """For each of the starts `[n]`, where the first document in its window begins; and if one does.

    Both are `[n]`; a start stays where no document begins in its window. `documents`
    `[n_documents]` are the places of all <|endoftext|>, in order; those from `end - 1` on don't
    count.
    """
    firsts = np.append(documents[documents + 1 < end], end + n_ctx)  # the last is never near enough
    nearest = firsts[np.searchsorted(firsts, starts)]
    found = nearest < starts + n_ctx
    return np.where(found, nearest, starts), found
