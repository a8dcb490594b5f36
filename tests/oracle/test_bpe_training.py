"""Learned merges beside those of the tokenizers library."""

from pathlib import Path

import pytest
from oracles import learn_merges_by_tokenizers, oracle
from texts import CORPORA, write_corpus

from picogpt.tokenizer.learn_merges import train_encoder

oracle("tokenizers")
hypothesis = oracle("hypothesis")
st = oracle("hypothesis.strategies")
STORIES = Path(__file__).parents[2] / "../shared/data/stories"


@pytest.mark.parametrize("name", CORPORA)
def test_corpora(tmp_path, name):
    files = write_corpus(name, tmp_path)
    for vocab_size in (CORPORA[name][1], 1000):
        for min_frequency in (0, 1, 2, 3):
            merges = train_encoder(files, vocab_size, min_frequency, progress=False).merges
            assert merges == learn_merges_by_tokenizers(files, vocab_size, min_frequency, tmp_path)


WORDS = st.text("ab ", max_size=30) | st.text("abcdé한\n\r \t'1!", max_size=60)


@hypothesis.settings(max_examples=150, deadline=None, derandomize=True)
@hypothesis.given(texts=st.lists(WORDS, max_size=8), min_frequency=st.integers(1, 3))
def test_small_corpora(tmp_path_factory, texts, min_frequency):
    folder = tmp_path_factory.mktemp("small")
    files = [folder / f"{i}.txt" for i in range(len(texts))]
    for file, text in zip(files, texts):
        file.write_bytes(text.encode("utf-8"))
    merges = train_encoder(files, 500, min_frequency, progress=False).merges
    assert merges == learn_merges_by_tokenizers(files, 500, min_frequency, folder)


@pytest.mark.skipif(not STORIES.exists(), reason="needs ../shared/data/stories")
def test_books(tmp_path):
    files = sorted(STORIES.glob("*.txt"))[:6]
    merges = train_encoder(files, 2000, progress=False).merges
    assert len(merges) == 2000 - 257
    assert merges == learn_merges_by_tokenizers(files, 2000, 2, tmp_path)
