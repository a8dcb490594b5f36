"""Which windows a step reads: all of a text in a pass, texts by shares, by line, by document."""

import numpy as np
import pytest

from picogpt.training.windows import Text, batch_at


def test_every_pass_reads_every_token_once():
    tokens = np.arange(1000, dtype=np.uint16)
    n_ctx, batch = 10, 7
    per_pass = len(tokens) // n_ctx - 1
    text = [Text(tokens)]
    windows = np.concatenate([batch_at(s, text, n_ctx, batch, seed=1) for s in range(per_pass)])
    assert (np.diff(windows, axis=1) == 1).all()  # targets are the ids one later
    for n in range(batch):
        targets = windows[n * per_pass : (n + 1) * per_pass, 1:].ravel()
        assert len(np.unique(targets)) == len(targets) == per_pass * n_ctx
    first, second = windows[:per_pass, 0], windows[per_pass : 2 * per_pass, 0]
    assert not np.array_equal(np.sort(first), first)  # shuffled
    assert not np.array_equal(first, second)  # and another time in another order


@pytest.mark.parametrize("batch", [1, 3, 8])
def test_several_texts_are_read_by_their_shares_and_each_in_its_own_order(batch):
    texts = [Text(np.arange(i * 1000, i * 1000 + 500), share=n) for i, n in enumerate([5, 2, 1])]
    windows = np.concatenate([batch_at(s, texts, 10, batch, seed=1) for s in range(48 // batch)])
    assert len(windows) == 48
    for i, text in enumerate(texts):
        own = windows[windows[:, 0] // 1000 == i]
        assert len(own) == 6 * text.share
        alone = np.concatenate([batch_at(s, [text], 10, 1, seed=1) for s in range(len(own))])
        assert np.array_equal(own, alone)


def test_small_batches_read_texts_evenly_in_turn():
    texts = [Text(np.arange(i * 1000, i * 1000 + 500), share=n) for i, n in enumerate([5, 2, 1])]
    steps = [batch_at(step, texts, 10, 1, seed=1)[0, 0] // 1000 for step in range(8)]
    assert steps == [0, 1, 0, 0, 2, 0, 1, 0]


def test_windows_by_line_begin_where_lines_begin():
    tokens = np.random.default_rng(0).integers(0, 6, 500)
    lines = np.flatnonzero(tokens == 5) + 1
    text = [Text(tokens, lines)]
    windows = np.concatenate([batch_at(s, text, 10, 7, 1) for s in range(20)])
    found = {tuple(tokens[i : i + 11]) for i in lines}
    assert all(tuple(window) in found for window in windows)


def test_windows_by_document_begin_where_a_document_does_if_one_begins_within_them():
    n_ctx = 10
    lengths = np.random.default_rng(0).integers(3, 25, 60)
    lengths[-1] = n_ctx + 1  # the last begins a token too late to be moved to
    tokens = np.arange(lengths.sum())  # every token tells where it stands
    documents = np.cumsum(lengths)[:-1]
    texts = [Text(tokens), Text(tokens, documents=documents)]
    n_steps = 10 * (len(tokens) // n_ctx - 1)  # ten passes
    plain, windows = (
        np.concatenate([batch_at(step, [text], n_ctx, 1, seed=1) for step in range(n_steps)])
        for text in texts
    )
    assert (np.diff(windows, axis=1) == 1).all()
    n_moved, n_there_already = [0, 0], 0
    for i, (before, after) in enumerate(zip(plain[:, 0], windows[:, 0])):
        near = documents[(documents >= before) & (documents < before + n_ctx)]
        if len(near) == 0 or near[0] + 1 >= len(tokens) - n_ctx:
            assert after == before
        else:
            behind = i % 2  # every second window leaves <|endoftext|> out, as a prompt does
            assert after == near[0] + behind
            n_moved[behind] += 1
            n_there_already += near[0] == before
    assert min(n_moved) > 100 and n_there_already > 10
