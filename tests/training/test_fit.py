"""The loop over examples: stopped at any moment and resumed to the same numbers; the best epoch."""

import math
import signal

import numpy as np
import pytest

from picogpt.tools.errors import NotFiniteError
from picogpt.tools.tree import tree_leaves
from picogpt.training import fit as module
from picogpt.training import resumable
from picogpt.training.fit import fit
from picogpt.training.state import load_state

X = np.random.default_rng(0).standard_normal((50, 6)).astype(np.float32)
Y = (X @ np.arange(6, dtype=np.float32))[:, None]
OPTIONS = {"epochs": 3, "batch_size": 8, "lr": 0.05, "seed": 1}


def start():
    return {"blocks": [{"w": np.zeros((6, 1), np.float32)}], "b": np.zeros(1, np.float32)}


def squares(params, seen=None):
    """Mean square loss of a linear model with noise on its inputs, so that rng counts."""

    def gradients(part, batch, rng):
        if seen is not None:
            seen.append(part)
        x = X[part] * (rng.random((len(part), 6), np.float32) + 0.5)
        error = x @ params["blocks"][0]["w"] + params["b"] - Y[part]
        d = 2 * error / len(batch)
        grads = {"blocks": [{"w": x.T @ d}], "b": d.sum(axis=0)}
        return float((error**2).sum()) / len(batch), grads

    return gradients


def run(params=None, stop=None, **options):
    """Fit; `stop` is called before each step with its number."""
    params, steps = params or start(), []

    def gradients(*args):
        steps.append(args)
        if stop:
            stop(len(steps))
        return squares(params)(*args)

    history = fit(params, gradients, len(X), **{"n_threads": 1, **OPTIONS, **options})
    return params, history, len(steps)


def same(one, other):
    return np.array_equal(one["b"], other["b"]) and np.array_equal(
        one["blocks"][0]["w"], other["blocks"][0]["w"]
    )


def test_every_epoch_sees_every_example_once_in_an_order_of_its_own():
    seen, params = [], start()
    fit(params, squares(params, seen), 50, **OPTIONS, n_threads=2)
    assert len(seen) == 3 * 7 * 2
    epochs = np.concatenate(seen).reshape(3, 50)
    assert all(sorted(epoch) == list(range(50)) for epoch in epochs.tolist())
    assert len({tuple(epoch) for epoch in epochs.tolist()}) == 3


def test_the_loss_is_the_mean_over_examples():
    params = start()
    history = fit(params, squares(params), 50, epochs=1, batch_size=8, lr=0.0, n_threads=1)
    assert history[0]["train loss"] == pytest.approx(float((Y**2).mean()), rel=1e-5)
    assert np.array_equal(params["b"], [0])


def test_threads_add_up_to_the_same():
    alone, shared = start(), start()
    for params, n_threads in ((alone, 1), (shared, 3)):
        fit(params, without_noise(params), 50, **OPTIONS, n_threads=n_threads)
    np.testing.assert_allclose(alone["blocks"][0]["w"], shared["blocks"][0]["w"], atol=1e-5)
    assert np.abs(alone["blocks"][0]["w"]).min() > 0.01


def without_noise(params):
    """As `squares`, but what a part adds doesn't depend on how a batch is cut."""

    def gradients(part, batch, rng):  # noqa: ARG001
        error = X[part] @ params["blocks"][0]["w"] + params["b"] - Y[part]
        d = 2 * error / len(batch)
        grads = {"blocks": [{"w": X[part].T @ d}], "b": d.sum(axis=0)}
        return float((error**2).sum()) / len(batch), grads

    return gradients


@pytest.mark.parametrize("at", [1, 5, 8, 15, 21])
def test_a_run_that_was_killed_goes_on_to_the_same_numbers(tmp_path, monkeypatch, at):
    monkeypatch.setattr(resumable, "SAVE_SECONDS", -1)  # save after every step
    whole, history, n_steps = run()
    assert n_steps == 21
    path = tmp_path / "state.safetensors"

    def die(step):
        if step == at:
            raise MemoryError

    with pytest.raises(MemoryError):
        run(stop=die, state_path=path)
    params, resumed, left = run(state_path=path)
    assert same(params, whole) and resumed == history and left == n_steps - (at - 1)


def test_between_saves_an_epoch_is_lost_at_most(tmp_path):
    def die(step):
        if step == 10:
            raise MemoryError

    path = tmp_path / "state.safetensors"
    with pytest.raises(MemoryError):
        run(stop=die, state_path=path)
    params, history, left = run(state_path=path)
    whole, expected, _ = run()
    assert left == 14 and same(params, whole) and history == expected


def test_ctrl_c_waits_for_the_end_of_a_step_and_saves(tmp_path):
    path = tmp_path / "state.safetensors"
    with pytest.raises(KeyboardInterrupt):
        run(stop=lambda step: step == 4 and signal.raise_signal(signal.SIGINT), state_path=path)
    params, history, left = run(state_path=path)
    whole, expected, _ = run()
    assert left == 21 - 4 and same(params, whole) and history == expected


def test_a_resumed_run_shows_what_came_before(tmp_path, capsys):
    path = tmp_path / "state.safetensors"
    run(state_path=path)
    capsys.readouterr()
    _, history, left = run(state_path=path)
    out, err = capsys.readouterr()
    assert left == 0 and len(history) == 3
    assert len(out.splitlines()) == 4 and out.startswith("epoch  train loss")
    assert "goes on after step 21" in err


def scored(scores):
    """A report that gives the epochs these scores, and keeps what the parameters were."""
    params, kept, scores = start(), [], iter(scores)

    def report(figures):
        kept.append(params["b"].copy())
        figures["score"] = next(scores)

    return params, kept, report


@pytest.mark.parametrize(("scores", "best"), [([1, 3, 2], 1), ([2, 2, 2], 0), ([-3, -2, -1], 2)])
def test_the_first_of_the_best_epochs_is_taken(scores, best):
    params, kept, report = scored(scores)
    run(params, report=report)
    np.testing.assert_array_equal(params["b"], kept[best])
    assert not np.array_equal(kept[0], kept[1])


def test_without_scores_the_last_epoch_is_taken():
    one, _, _ = run(epochs=2, final=1.0)
    two, _, _ = run(epochs=3, final=1.0)
    assert not same(one, two)


def test_patience_ends_it(tmp_path):
    params, kept, report = scored([1, 5, 4, 3, 9])
    path = tmp_path / "state.safetensors"
    _, history, _ = run(params, report=report, epochs=5, patience=2, state_path=path)
    assert [figures["score"] for figures in history] == [1, 5, 4, 3]
    np.testing.assert_array_equal(params["b"], kept[1])
    _, again, left = run(start(), epochs=5, patience=2, state_path=path)  # and stays ended
    assert left == 0 and again == history


@pytest.mark.parametrize("n_threads", [1, 3])
def test_a_loss_that_is_no_number_stops_training_and_leaves_the_last_good_state(
    tmp_path, monkeypatch, n_threads
):
    monkeypatch.setattr(resumable, "SAVE_SECONDS", -1)  # save after every step
    path, params, told = tmp_path / "state.safetensors", start(), []
    good = without_noise(params)

    def gradients(part, batch, rng):
        told.append(1)
        loss, grads = good(part, batch, rng)
        return (loss if len(told) <= 4 * n_threads else math.nan), grads

    said = "the loss is nan in step 5, at a learning rate of 0.05: .* try a lower --lr"
    with pytest.raises(NotFiniteError, match=said):
        fit(params, gradients, len(X), state_path=path, **OPTIONS, n_threads=n_threads)
    kept, meta = load_state(path)
    assert meta["step"] == 4 and all(np.isfinite(leaf).all() for leaf in tree_leaves(kept))


def test_parameters_that_are_no_numbers_are_neither_saved_nor_judged(tmp_path):
    """The last gradient of an epoch overflows, which its own loss doesn't show."""
    path, params, judged = tmp_path / "state.safetensors", start(), []

    def gradients(part, batch, rng):
        loss, grads = squares(params)(part, batch, rng)
        if len(batch) < 8:
            grads["b"] *= np.inf
        return loss, grads

    with pytest.raises(NotFiniteError, match="a parameter is not finite in step 7"):
        run_with(params, gradients, path, judged.append)
    assert not judged and not path.exists()


def test_figures_that_are_no_numbers_stop_training(tmp_path):
    params = start()

    def report(figures):
        if figures["epoch"] == 2:
            raise NotFiniteError("the perplexity is nan")

    with pytest.raises(NotFiniteError, match="the perplexity is nan in step 14, .* lower --lr"):
        run_with(params, squares(params), tmp_path / "state.safetensors", report)
    assert load_state(tmp_path / "state.safetensors")[1]["step"] == 7


def run_with(params, gradients, path, report):
    fit(params, gradients, len(X), state_path=path, report=report, **OPTIONS, n_threads=1)


def test_figures_are_a_table(capsys):
    module.print_figures({"epoch": 1, "train loss": 1.5, "dev accuracy": 0.25, "score": 0.25})
    module.print_figures({"epoch": 12, "train loss": 0.5, "dev accuracy": 0.5, "score": 0.25})
    assert capsys.readouterr().out.splitlines() == [
        "epoch  train loss  dev accuracy",
        "    1       1.500         0.250",
        "   12       0.500         0.500",
    ]
