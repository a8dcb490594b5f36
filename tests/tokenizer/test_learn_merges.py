"""Learned merges beside those of tokenizers, kept as golden, and beside counting anew each time."""

import json
from array import array
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from texts import CORPORA, NASTY, write_corpus

from picogpt.tokenizer import learn_merges as learning
from picogpt.tokenizer.encoder import BYTE_OF_SYMBOL, to_symbols
from picogpt.tokenizer.learn_merges import count_pre_tokens, learn_merges, train_encoder
from picogpt.tools.errors import DataError, UsageError

PATH = Path(__file__).parents[1] / "golden/bpe_training.json"
GOLDEN = json.loads(PATH.read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", CORPORA)
def test_merges_are_those_of_tokenizers(tmp_path, name):
    _, vocab_size, min_frequency = CORPORA[name]
    files = write_corpus(name, tmp_path)
    encoder = train_encoder(files, vocab_size, min_frequency, progress=False)
    assert encoder.merges == GOLDEN[name]
    assert encoder.n_vocab == 257 + len(GOLDEN[name]) <= vocab_size
    assert encoder.end_of_text == encoder.n_vocab - 1


def test_the_corpora_show_what_they_should():
    assert len(GOLDEN["prose"]) == 300
    assert GOLDEN["bytes alone"] == GOLDEN["nothing"] == []
    reached = [len(GOLDEN[f"{n} or more"]) for n in ("four times", "twice")]
    assert 0 < reached[0] < reached[1] < len(GOLDEN["all that there is"]) < 1000 - 257


def naive_merges(pieces, n_merges, min_frequency):
    """Count all pairs anew before each merge."""
    tokens = list(BYTE_OF_SYMBOL)
    words = [[tokens.index(symbol) for symbol in to_symbols(piece)] for piece in pieces]
    merges = []
    while len(merges) < n_merges:
        counts = Counter()
        for word, count in zip(words, pieces.values()):
            for pair in zip(word, word[1:]):
                counts[pair] += count
        best = min(counts, key=lambda pair: (-counts[pair], pair), default=None)
        if best is None or counts[best] < min_frequency:
            break
        merges.append(f"{tokens[best[0]]} {tokens[best[1]]}")
        for word in words:
            for i in range(len(word)):
                if tuple(word[i : i + 2]) == best:
                    word[i : i + 2] = [len(tokens)]
        tokens.append(tokens[best[0]] + tokens[best[1]])
    return merges


@pytest.mark.parametrize("seed", range(20))
def test_merges_are_those_of_counting_anew(seed):
    rng = np.random.default_rng(seed)
    letters = "abcd한"[: 1 + seed % 5]
    pieces = {}
    for length in rng.integers(1, 15, 30):
        piece = "".join(letters[i] for i in rng.integers(0, len(letters), length))
        pieces[piece] = int(rng.integers(1, 5))
    merges = learn_merges(pieces, 60, 1 + seed % 3, progress=False)
    assert merges == naive_merges(pieces, 60, 1 + seed % 3)
    assert len({merge.replace(" ", "") for merge in merges}) == len(merges)


def test_fewer_merges_are_the_first_of_more():
    pieces = {"the": 9, "other": 5, "then": 4, "those": 4, "there": 3, "her": 3, "hero": 1}
    many = learn_merges(pieces, 40, 1, progress=False)
    assert learn_merges(pieces, 7, 1, progress=False) == many[:7]


def test_a_pair_that_is_gone_is_not_merged():
    assert learn_merges({"abab": 1}, 9, min_frequency=0, progress=False) == ["a b", "ab ab"]


def test_pre_tokens_end_before_the_lines_end(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"one  two\r\n\n\n three\rfour\n")
    (tmp_path / "b.txt").write_bytes("\ufeffone two".encode())
    counts = count_pre_tokens([tmp_path / "a.txt", str(tmp_path / "b.txt")], progress=False)
    once = dict.fromkeys((" ", " three", "four"), 1)  # and no byte-order mark
    assert counts == once | {"one": 2, " two": 2, "\r": 2}


@pytest.mark.parametrize("end", ["\n", "\r\n", " \n", "  \r\n"])
def test_the_end_of_a_line_is_a_token_of_its_own(tmp_path, end):
    text = "".join(f"{'  ' * (i % 2)}item {i} is red{end}" for i in range(200))
    (tmp_path / "items.txt").write_text(text, encoding="utf-8", newline="")
    encoder = train_encoder([tmp_path / "items.txt"], 400, progress=False)
    (newline,) = encoder.encode("\n")
    assert encoder.encode(text).count(newline) == 200


def test_a_long_word_costs_as_much_as_its_letters_in_short_ones(monkeypatch):
    looks = 0

    class CountedArray(array):
        def __getitem__(self, i):
            nonlocal looks
            looks += 1
            return super().__getitem__(i)

    monkeypatch.setattr(learning, "array", CountedArray)
    letters = "".join(np.random.default_rng(0).choice(list("abcdefgh"), 6000))
    work = []
    for n in (12, len(letters)):
        looks = 0
        words = Counter(letters[i : i + n] for i in range(0, len(letters), n))
        assert len(learn_merges(words, 300, 2, progress=False)) == 300
        work.append(looks)
    assert 0 < work[1] < 1.5 * work[0]


def test_one_very_long_word_of_one_letter():
    merges = learn_merges({"=" * 200_000: 1}, 100, 2, progress=False)
    assert merges[:3] == ["= =", "== ==", "==== ===="]


def test_what_was_trained_on_comes_back(tmp_path):
    encoder = train_encoder(write_corpus("nasty", tmp_path), 2000, progress=False)
    for text in NASTY:
        assert encoder.decode(encoder.encode(text)) == text


def test_refusals(tmp_path):
    (tmp_path / "good.txt").write_text("good")
    with pytest.raises(UsageError, match="257 tokens or more, not 256"):
        train_encoder([tmp_path / "good.txt"], 256)
    with pytest.raises(DataError, match=r"none.txt can't be read: .*No such"):
        train_encoder([tmp_path / "good.txt", tmp_path / "none.txt"], 300, progress=False)
    (tmp_path / "bad.txt").write_bytes(b"good\nb\xe9d\n")
    with pytest.raises(DataError, match=r"bad.txt is not UTF-8 in line 2: save") as caught:
        train_encoder([tmp_path / "good.txt", tmp_path / "bad.txt"], 300, progress=False)
    assert "\n" not in str(caught.value)


def test_progress_is_silent_where_stderr_is_no_terminal(tmp_path, capsys):
    train_encoder(write_corpus("prose", tmp_path), 300)
    assert capsys.readouterr() == ("", "")
