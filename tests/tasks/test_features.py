"""Features: packed batches against one text alone; kept on disk; threads, processes, accidents."""

import os
import signal
import subprocess
import sys
from concurrent.futures import Executor, Future
from pathlib import Path

import numpy as np
import pytest
from models import small_folder, small_model

from picogpt.kernels import hidden_states, layer_norm
from picogpt.model import load, logits
from picogpt.tasks import features as module
from picogpt.tasks.features import cut_into_batches, encode_texts, features
from picogpt.tasks.workers import processes
from picogpt.tools.errors import NotFiniteError, PicoGPTError, TextError, UsageError

ROOT = Path(__file__).parents[2]
MODEL = small_model()


@pytest.fixture(autouse=True)
def small_batches(monkeypatch):
    """Batches of some 64 tokens, so that a few texts make several."""
    monkeypatch.setattr(module, "N_TOKENS", 64)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """MODEL on disk, for workers."""
    return small_folder(tmp_path_factory.mktemp("models") / "small").as_posix()


def sequences(n=30, seed=0):
    rng = np.random.default_rng(seed)
    return [rng.integers(0, 267, size).tolist() for size in rng.integers(1, 33, n)]


def alone(ids, layer):
    """The activations that leave a block, of one text without any other: `[n_tokens, n_embd]`."""
    params, options = MODEL.params, MODEL.config.kernel_options
    x = hidden_states(ids, params["wte"], params["wpe"], params["blocks"][:layer], **options)
    return layer_norm(x, **params["ln_f"]) if layer == MODEL.config.n_layer else x


def test_batches_hold_each_sequence_once_sorted_by_length():
    lengths = [5, 60, 1, 9, 30, 7, 64, 64]
    batches = cut_into_batches(lengths)
    order = np.concatenate(batches)
    assert sorted(order) == list(range(8))
    assert np.take(lengths, order).tolist() == sorted(lengths)
    assert len(batches) == 4


@pytest.mark.parametrize("layer", [0, 1, 2])
@pytest.mark.parametrize("pool", ["last", "mean", "tokens"])
def test_packed_features_are_those_of_each_text_alone(layer, pool):
    texts = sequences()
    got = features(MODEL, texts, layer, pool)
    for ids, x in zip(texts, got, strict=True):
        y = alone(ids, layer)
        expected = {"last": y[-1], "mean": y.mean(axis=0), "tokens": y}[pool]
        np.testing.assert_allclose(x, expected, atol=2e-5)


def test_by_default_they_are_what_the_output_reads():
    texts = sequences(5)
    scores = features(MODEL, texts) @ MODEL.params["wte"].T
    for ids, row in zip(texts, scores, strict=True):
        np.testing.assert_allclose(row, logits(MODEL, ids, last_only=True)[0], atol=1e-4)


def test_an_empty_text_is_end_of_text_and_of_a_long_one_the_end_is_read(capsys):
    texts = ["", "a" * 40, "the end"]
    ids = encode_texts(MODEL, texts)
    assert ids[0] == [266]
    assert ids[1] == MODEL.encoder.encode("a" * 32)
    assert ids[2] == MODEL.encoder.encode("the end")
    said = "1 of 3 texts are longer than the model's 32 positions: their ends are read.\n"
    assert capsys.readouterr().err == said


def count_batches(monkeypatch, fail_at=None):
    """Let `activations` count its calls and, at one of them, be interrupted."""
    calls, real = [], module.activations

    def activations(*args):
        calls.append(args)
        if len(calls) == fail_at:
            raise KeyboardInterrupt
        return real(*args)

    monkeypatch.setattr(module, "activations", activations)
    return calls


@pytest.mark.parametrize("pool", ["last", "tokens"])
def test_the_second_run_computes_nothing(tmp_path, monkeypatch, pool):
    texts = sequences()
    first = features(MODEL, texts, 1, pool, keep=tmp_path)
    calls = count_batches(monkeypatch)
    second = features(MODEL, texts, 1, pool, keep=tmp_path)
    assert not calls
    for one, other in zip(first, second, strict=True):
        np.testing.assert_array_equal(one, other)


class InTurn(Executor):
    """One call after the other, in this thread."""

    def submit(self, f, *args):
        future = Future()
        future.set_result(f(*args))
        return future


class Lazy(Future):
    """A call that is made when its result is asked for."""

    def __init__(self, f, args):
        super().__init__()
        self.call = f, args
        self.set_result(None)

    def result(self):
        f, args = self.call
        return f(*args)


class OnDemand(Executor):
    """Calls that are made as their results are taken."""

    def submit(self, f, *args):
        return Lazy(f, args)


def test_a_run_that_was_interrupted_loses_one_batch_at_most(tmp_path, monkeypatch, folder):
    texts = sequences()
    expected, n_batches = features(MODEL, texts), len(cut_into_batches([len(ids) for ids in texts]))
    with monkeypatch.context() as patch:
        count_batches(patch, fail_at=4)
        with pytest.raises(KeyboardInterrupt):
            features(MODEL, texts, keep=tmp_path, executor=OnDemand(), folder=folder)
    calls = count_batches(monkeypatch)
    np.testing.assert_allclose(features(MODEL, texts, keep=tmp_path), expected, atol=1e-6)
    assert len(calls) == n_batches - 3


def test_a_run_that_was_killed_goes_on(tmp_path, monkeypatch, folder):
    """kill -9 in the middle of the fourth batch."""
    script = """
import os, signal
import test_features as tests
real, calls = tests.module.activations, []
def activations(*args):
    calls.append(args)
    if len(calls) == 4:
        os.kill(os.getpid(), signal.SIGKILL)
    return real(*args)
tests.module.activations, tests.module.N_TOKENS = activations, 64
tests.features(
    tests.MODEL, tests.sequences(), keep="KEEP", executor=tests.OnDemand(), folder="FOLDER"
)
"""
    if not hasattr(signal, "SIGKILL"):
        pytest.skip("no kill -9 on this system")
    paths = os.pathsep.join(map(str, [ROOT, ROOT / "tests", ROOT / "tests" / "tasks"]))
    script = script.replace("KEEP", tmp_path.as_posix()).replace("FOLDER", folder)
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=os.environ | {"PYTHONPATH": paths}, check=False,
    )  # fmt: skip
    assert done.returncode == -signal.SIGKILL
    calls = count_batches(monkeypatch)
    texts = sequences()
    kept = features(MODEL, texts, keep=tmp_path)
    np.testing.assert_allclose(kept, features(MODEL, texts), atol=1e-6)
    n_batches = len(cut_into_batches([len(ids) for ids in texts]))
    assert len(calls) == (n_batches - 3) + n_batches


def test_what_is_kept_belongs_to_a_checkpoint_its_texts_and_the_way(tmp_path):
    texts = sequences(4)
    other = small_model(seed=1)
    for model, some, layer, pool in [
        (MODEL, texts, 2, "last"), (other, texts, 2, "last"), (MODEL, texts[:3], 2, "last"),
        (MODEL, texts, 1, "last"), (MODEL, texts, 2, "mean"), (MODEL, texts[::-1], 2, "last"),
    ]:  # fmt: skip
        kept = features(model, some, layer, pool, keep=tmp_path)
        np.testing.assert_array_equal(kept, features(model, some, layer, pool))
    assert len(list(tmp_path.iterdir())) == 6


def test_what_is_no_number_is_neither_given_nor_kept(tmp_path):
    model = small_model()
    model.params["wte"][5] = np.nan
    with pytest.raises(NotFiniteError, match="what this model makes of the texts is not finite"):
        features(model, [[1, 2], [5]], keep=tmp_path)
    expected = features(MODEL, [[1, 2], [5]])
    np.testing.assert_array_equal(features(MODEL, [[1, 2], [5]], keep=tmp_path), expected)


def test_any_executor_does(folder):
    texts = sequences()
    got = features(MODEL, texts, executor=InTurn(), folder=folder)
    np.testing.assert_allclose(got, features(MODEL, texts), atol=1e-6)


def test_processes_of_this_machine_and_one_that_dies(tmp_path, folder):
    texts = sequences()
    with processes(1) as executor:
        got = features(MODEL, texts, executor=executor, folder=folder)
        np.testing.assert_allclose(got, features(MODEL, texts), atol=1e-6)
        executor.submit(os._exit, 1)
        with pytest.raises(PicoGPTError, match="a worker failed .*: run this again to go on") as e:
            features(MODEL, texts, 1, executor=executor, folder=folder, keep=tmp_path / "kept")
    assert "\n" not in str(e.value)
    kept = features(MODEL, texts, 1, keep=tmp_path / "kept")
    np.testing.assert_array_equal(kept, features(MODEL, texts, 1))


def test_a_worker_without_the_model_is_told_in_one_sentence(tmp_path):
    with pytest.raises(PicoGPTError, match="a worker failed .*no-such"):
        features(MODEL, sequences(3), executor=OnDemand(), folder=str(tmp_path / "no-such"))


def test_workers_take_int8_weights_where_the_model_has_them(folder):
    texts, model = sequences(5), load(folder, int8=True)
    got = features(model, texts, executor=OnDemand())
    np.testing.assert_allclose(got, features(model, texts), atol=1e-6)
    assert np.abs(got - features(MODEL, texts)).max() > 1e-3


def test_workers_take_the_models_own_folder_and_no_other_model(folder):
    texts, model = sequences(5), load(folder)
    got = features(model, texts, executor=OnDemand())
    np.testing.assert_allclose(got, features(MODEL, texts), atol=1e-6)
    with pytest.raises(UsageError, match="needs folder="):
        features(MODEL, texts, executor=OnDemand())
    model.params["wpe"][0] += 1  # the folder's model no more
    with pytest.raises(PicoGPTError, match="holds another model"):
        features(model, texts, executor=OnDemand())


def test_no_texts_have_no_features(tmp_path):
    assert features(MODEL, [], keep=tmp_path).shape == (0, 24)
    assert features(MODEL, [], pool="tokens") == []


@pytest.mark.parametrize(
    ("given", "options", "error"),
    [
        ("a text", {}, TextError), (["a text"], {}, TextError), ([[1, 999]], {}, TextError),
        ([[]], {}, TextError), ([[1.5]], {}, TextError), ([[1]], {"pool": "max"}, UsageError),
        ([[1]], {"layer": 3}, UsageError), ([[1]], {"layer": -1}, UsageError),
        ([[1]], {"layer": 1.0}, UsageError), ([[1]], {"keep": ""}, UsageError),
        ([[1, [2]]], {}, TextError),
        ([[1], [1] * 33], {}, TextError),
    ],
)  # fmt: skip
def test_what_can_have_no_features_is_told_in_a_sentence(
    tmp_path, monkeypatch, given, options, error
):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(error) as told:
        features(MODEL, given, **options)
    assert len(str(told.value).splitlines()) == 1 and "worker" not in str(told.value)


def test_texts_and_ids_may_come_from_generators(capsys):
    expected = features(MODEL, [[1, 2], [3]])
    np.testing.assert_array_equal(features(MODEL, (ids for ids in [[1, 2], [3]])), expected)
    assert encode_texts(MODEL, (text for text in ["x" * 40, "y"])) == [[87] * 32, [88]]
    assert "1 of 2 texts are longer" in capsys.readouterr().err


def test_one_string_is_not_many_texts():
    with pytest.raises(TextError, match="a list of texts"):
        encode_texts(MODEL, "one text")
