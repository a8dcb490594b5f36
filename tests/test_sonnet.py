"""The command of the sonnets: its figures, its files, its model."""

import contextlib
import io
import re
from pathlib import Path

import numpy as np
import pytest
from models import small_folder

from picogpt import sonnet
from picogpt.model import load
from picogpt.sonnet import main, print_scores, write_on
from picogpt.tasks.course_files import SAMPLES, SONNET_FILES, read_sonnets
from picogpt.tasks.metrics import chrf
from picogpt.tools.cli import call
from picogpt.tools.tree import tree_leaves
from picogpt.training import fit

SHARED = Path(__file__).parents[2] / "shared" / "data" / "cs224n"


def test_scores_of_the_truth_and_of_nothing(capsys):
    openings, truths = ["a b\nc d"], ["a b\nc d\nthe end\nof it"]
    print_scores(truths, openings, truths, ["xyz"], np.random.default_rng(0))
    *_, opening, random, model = capsys.readouterr().out.splitlines()
    assert [float(x) for x in model.split()[-2:]] == [100, 100]
    assert [float(x) for x in opening.split()[-2:]] == [round(chrf(openings, truths), 1), 0]
    assert float(random.split()[-1]) == 0


@pytest.mark.skipif(not SHARED.exists(), reason="needs the course's data")
def test_the_scores_of_no_skill_on_shakespeare(capsys):
    poems = {split: read_sonnets(SHARED / name) for split, name in SONNET_FILES.items()}
    lines = "\n".join(poems["train"]).split("\n")
    given = (poems["openings"], poems["openings"], poems["truth"], lines)
    print_scores(*given, np.random.default_rng(0))
    _, _, opening, random, model = capsys.readouterr().out.splitlines()
    assert opening.split()[-2:] == model.split()[-2:] == ["24.8", "0.0"]
    assert [float(x) for x in random.split()[-2:]] == pytest.approx([41, 27], abs=1)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The command's work on the sample: (folder of the model, of the results, what it printed)."""
    tmp = tmp_path_factory.mktemp("sonnets")
    folder = small_folder(tmp / "small", n_ctx=96)
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        code = call(main, [
            f"--model_size={folder}", f"--out={tmp / 'out'}", f"--data={SAMPLES}", "--epochs=2",
            "--candidates=2", "--top_k_layers=1", "--lr=0.01",
        ])  # fmt: skip
    assert code == 0
    return folder, tmp / "out", printed.getvalue()


def test_the_command_trains_and_shows_a_sample_after_each_epoch(trained):
    folder, out, printed = trained
    assert printed.startswith("sonnets by small, seed 0, data in ")
    before = float(re.search(r"validation poems before training: ([\d.]+)", printed)[1])
    after = float(re.search(r"is taken: perplexity ([\d.]+)", printed)[1])
    assert after < before
    opening = read_sonnets(SAMPLES / "sonnets.txt")
    assert any(printed.count("\n".join(poem.split("\n")[:3])) == 2 for poem in opening)
    model, start = load(out / "sonnet-model"), load(folder)
    assert np.array_equal(model.params["wte"], start.params["wte"])
    one, other = (m.params["blocks"][1]["mlp"]["c_fc"]["w"] for m in (model, start))
    assert not np.array_equal(one, other)


def test_the_command_writes_the_courses_files(trained):
    _, out, printed = trained
    for name, split in [("generated_sonnets_dev", "openings"), ("generated_sonnets", "test")]:
        openings = read_sonnets(SAMPLES / SONNET_FILES[split])
        text = (out / f"{name}.txt").read_bytes().decode()
        assert text.startswith("--Generated Sonnets-- \n\n\n0\n")
        poems = read_sonnets(out / f"{name}.txt")
        assert len(poems) == len(openings)
        assert all(map(str.startswith, poems, openings))
    truths = read_sonnets(SAMPLES / SONNET_FILES["truth"])
    said = float(printed[printed.index("and the model's") :].split()[3])
    assert said == round(chrf(read_sonnets(out / "generated_sonnets_dev.txt"), truths), 1)


def test_write_uses_the_model_that_was_trained(trained, capsys):
    _, out, _ = trained
    argv = ["--write=Shall I compare", f"--out={out}"]
    assert call(main, argv) == 0
    first = capsys.readouterr().out
    assert first.startswith("Shall I compare") and len(first) > 20
    assert call(main, argv) == 0
    assert capsys.readouterr().out == first  # the same seed


def test_write_refuses_another_model(trained, capsys):
    folder, out, _ = trained
    assert call(main, ["--write=Shall", f"--out={out}", f"--model_size={folder}"]) == 2
    assert "trained before: leave --model_size out" in capsys.readouterr().err


def test_missing_files_are_told_before_the_training_and_the_test_file_may_be(tmp_path, capsys):
    folder, data = small_folder(tmp_path / "small", n_ctx=40), tmp_path / "data"
    data.mkdir()
    for split in ("train", "openings", "truth"):
        (data / SONNET_FILES[split]).write_bytes((SAMPLES / SONNET_FILES[split]).read_bytes())
    argv = [f"--out={tmp_path / 'out'}", f"--model_size={folder}", f"--data={data}", "--epochs=1"]
    assert call(main, [*argv, "--candidates=1", "--lr=0"]) == 0
    assert "perplexity" in capsys.readouterr().out
    assert not (tmp_path / "out" / "generated_sonnets.txt").exists()
    trained, start = load(tmp_path / "out" / "sonnet-model"), load(folder)
    assert all(map(np.array_equal, tree_leaves(trained.params), tree_leaves(start.params)))
    (data / SONNET_FILES["truth"]).unlink()
    assert call(main, argv) == 1
    printed = capsys.readouterr()
    assert "is missing" in printed.err and "before training" not in printed.out


def test_write_trains_where_no_model_was_trained(tmp_path, capsys):
    folder = small_folder(tmp_path / "small")
    argv = ["--write=Shall", f"--out={tmp_path / 'out'}", f"--model_size={folder}", "--epochs=1"]
    assert call(main, [*argv, f"--data={SAMPLES}"]) == 0
    assert "perplexity of 1 validation poems" in capsys.readouterr().out


def test_early_stopping(monkeypatch, tmp_path, capsys):
    """Two epochs without a better perplexity are the last, and the best one is kept."""
    folder = small_folder(tmp_path / "small", n_ctx=40)
    values = iter([100, 50, 40, 45, 60, 10])
    monkeypatch.setattr(sonnet, "perplexity", lambda *_: next(values))
    argv = [f"--out={tmp_path / 'out'}", f"--model_size={folder}", f"--data={SAMPLES}"]
    assert call(main, [*argv, "--write=Shall", "--epochs=9"]) == 0
    assert "epoch 2 is taken: perplexity 40.0, 60% lower" in capsys.readouterr().out
    assert next(values) == 10


def test_no_poem_and_no_model_come_from_nan(tmp_path, capsys):
    folder = small_folder(tmp_path / "small", n_ctx=40)
    argv = [f"--out={tmp_path / 'out'}", f"--model_size={folder}", f"--data={SAMPLES}"]
    assert call(main, [*argv, "--lr=1e30", "--batch_size=2"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert re.search(r"in step \d+, at a learning rate of 1e\+30: .* try a lower --lr", line)
    assert not [path for path in (tmp_path / "out").rglob("*") if path.is_file()]


@pytest.mark.parametrize("at", ["write_on", "write_sonnets", "print_scores"])
def test_a_run_that_is_stopped_while_it_writes_poems_trains_nothing_again(
    monkeypatch, tmp_path, capsys, at
):
    folder, out = small_folder(tmp_path / "small", n_ctx=40), tmp_path / "out"
    argv = [f"--out={out}", f"--model_size={folder}", f"--data={SAMPLES}", "--epochs=1"]
    argv += ["--candidates=1"]
    n_calls = []

    def stop(*args):
        n_calls.append(1)
        if at == "write_on" and len(n_calls) == 1:  # the sample after the epoch
            return write_on(*args)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(sonnet, at, stop)
        assert call(main, argv) == 130
    err = capsys.readouterr().err
    assert err.splitlines()[-1] == "stopped; what is done is saved: the same command goes on"
    monkeypatch.setattr(fit, "adamw", stop)
    assert call(main, argv) == 0
    assert "goes on after step" in capsys.readouterr().err
    assert not list(out.rglob("unfinished*")) and (out / "generated_sonnets.txt").exists()


def test_usage(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for argv in (
        ["--temperature=-1"], ["--top_p=0"], ["--candidates=0"], ["--epochs=x"], ["more"],
        ["--model_size=tiny", "--top_k_layers=99"],
    ):  # fmt: skip
        assert call(main, argv) == 2
        assert len(capsys.readouterr().err.splitlines()) == 1
    assert not list(tmp_path.iterdir())  # no folder of a run that never began
