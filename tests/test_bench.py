"""python -m picogpt.bench: its table, and that it reads all of the model's matrices."""

import numpy as np
import pytest
from models import small_encoder, small_folder, small_model

from picogpt import bench, logits
from picogpt.tokenizer.encoder import Encoder
from picogpt.tools import cores
from picogpt.tools.cli import call
from picogpt.tools.errors import TextError
from picogpt.tools.tree import tree_leaves


def figures(row):
    """The numbers in a row of the table, percentages as they stand."""
    return [float(n.rstrip("%").replace(",", "")) for n in row[24:].split()]


def test_the_table_names_the_model_and_has_a_row_for_every_run(tmp_path, capsys):
    folder = str(small_folder(tmp_path))
    assert call(bench.main, ["--model_size", folder, "--rounds", "1"]) == 0
    title, numpy, header, *rows = capsys.readouterr().out.splitlines()
    assert title.startswith(f"{tmp_path.name}: 0.0 million parameters, float32, on")
    assert np.__version__ in numpy
    assert header.split() == ["tokens", "per", "second", "model", "products", "reading"]
    runs = ["prefill, 32 tokens", "decode after 10 tokens", "decode after 24 tokens"]
    runs.append("decode, 8 at once")
    assert [row[:24].strip() for row in rows[:4]] == runs
    for row in rows[:4]:
        speed, *limits = figures(row)
        for limit, share in (limits[:2], limits[2:]):
            assert speed > 0 and limit > 0
            assert share == pytest.approx(100 * speed / limit, rel=0.02, abs=0.6)
    assert rows[4].split()[3:] == ["drafting", "without", "tokens", "a", "pass"]
    drafting = ["a text that repeats", "a text that doesn't"]
    assert [row[:24].strip() for row in rows[5:7]] == drafting
    for row in rows[5:7]:
        drafted, plain, share, per_pass = figures(row)
        assert share == pytest.approx(100 * drafted / plain, rel=0.02, abs=0.6)
        assert per_pass >= 1
    assert [row.partition(":")[0] for row in rows[8:]] == [*runs[:2], runs[3], *drafting]


def test_a_model_of_one_position_is_told(tmp_path, capsys):
    folder = str(small_folder(tmp_path, n_ctx=1))
    assert call(bench.main, ["--model_size", folder, "--rounds", "1"]) == 1
    said = capsys.readouterr()
    assert said.out == "" and "has an n_ctx of 1" in said.err


@pytest.mark.parametrize("lacks", ["letters", "embeddings"])
def test_a_model_that_cannot_read_the_text_that_repeats_reads_ids(lacks):
    vocab = small_encoder().vocab
    if lacks == "letters":
        del vocab["O"]
        model = small_model()._replace(encoder=Encoder(vocab, []))
    else:
        model = small_model(n_vocab=40)
        model.encoder.fit_to(40)
    with pytest.raises(TextError):
        model.encoder.encode(bench.COUNTING)
    assert len(bench.measure_drafting(model, 1, iter)) == 2


@pytest.mark.parametrize("tied", [True, False])
def test_the_products_are_all_that_a_token_is_multiplied_by(tied):
    model = small_model(tie_word_embeddings=tied)
    blocks, head = bench.matrices(model.params)
    read = sum(w.size for w in blocks + head)
    params = {name: tree for name, tree in model.params.items() if name != "wpe"}
    if not tied:
        del params["wte"]  # looked up, not multiplied
    assert read == sum(w.size for w in tree_leaves(params) if w.ndim == 2)
    assert bench.product_time(blocks + head, n_rows=3) > 0


def test_matrices_smaller_than_the_machine_are_read(monkeypatch):
    monkeypatch.setattr(bench, "cores", lambda: 64)
    assert bench.read_time([np.ones((2, 3), np.float32), np.ones((1, 1), np.int8)]) > 0


def test_both_orders_in_memory_are_tried_and_neither_is_a_copy():
    w = np.ones((3, 5), np.float32)
    for matrix in (w, np.asfortranarray(w)):
        by_rows, by_columns = (bench.stored(matrix, order) for order in "CF")
        assert by_rows.shape == by_columns.shape == (3, 5)
        assert by_rows.flags.c_contiguous and by_columns.flags.f_contiguous
        assert np.shares_memory(by_rows, matrix) and np.shares_memory(by_columns, matrix)


def test_decode_goes_on_from_what_prefill_read():
    model = small_model()
    caches = bench.prefill(model, [4, 2])
    bench.decode(model, caches, 3)
    assert [cache[0]["length"] for cache in caches] == [7, 5]
    one_by_one = bench.prefill(model, [1])
    logits(model, [0] * 3, [3], one_by_one)
    np.testing.assert_allclose(one_by_one[0][1]["k"][:, :4], caches[0][1]["k"][:, :4], atol=1e-5)


@pytest.mark.parametrize("words", ["--round 3", "--rounds 0", "--rounds x", "word"])
def test_wrong_usage_is_one_sentence_and_exit_2(words, capsys):
    assert call(bench.main, words.split()) == 2
    said = capsys.readouterr()
    assert said.out == "" and said.err.count("\n") == 1


def test_the_kernel_is_the_one_that_was_asked_for(monkeypatch):
    kernel = cores.blas_kernel()
    assert kernel is None or kernel.isalnum()
    monkeypatch.setattr(np, "__file__", "/nowhere/numpy/__init__.py")  # another BLAS
    assert cores.blas_kernel() is None
