"""Sonnets: what is trained, which candidate is taken, the scores, the command."""

import contextlib
import io
import re
from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest
from models import small_folder, small_model

from picogpt import sonnet
from picogpt.model import load, loss_and_gradients
from picogpt.sonnet import main, perplexity, print_scores, train_sonnets, write_on
from picogpt.tasks.course_files import SAMPLES, SONNET_FILES, read_sonnets
from picogpt.tasks.metrics import chrf, text_loss
from picogpt.tools.cli import call
from picogpt.tools.tree import tree_leaves

SHARED = Path(__file__).parents[2] / "shared" / "data" / "cs224n"
POEMS = ["the one\nthat is", "on and on", "in the stone\ntower", "a"]
OPTIONS = {"epochs": 1, "batch_size": 4, "lr": 1e-2, "n_threads": 2}


def test_the_loss_is_the_mean_over_the_tokens_of_a_batch():
    """Of each poem between two ends of text, however the batch is shared out among threads."""
    model = small_model()
    ids = [[266, *model.encoder.encode(poem), 266] for poem in POEMS]
    inputs, targets = sum((i[:-1] for i in ids), []), sum((i[1:] for i in ids), [])
    expected, _ = loss_and_gradients(model, inputs, targets, [len(i) - 1 for i in ids])
    history = train_sonnets(model, POEMS, dropout=0.0, **OPTIONS)
    assert history[0]["train loss"] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("first", [0, 1])
def test_layers_from_the_first_on_are_trained(first, tied):
    model = small_model(tie_word_embeddings=tied)
    before = deepcopy(model.params)
    train_sonnets(model, POEMS, first=first, **OPTIONS)
    changed = {"blocks.1", "ln_f", *["blocks.0", "wte", "wpe", "lm_head"][: 4 * (first == 0)]}
    for name in ("wte", "wpe", "ln_f", *["lm_head"] * (not tied)):
        pairs = zip(tree_leaves(before[name]), tree_leaves(model.params[name]), strict=True)
        assert any(not np.array_equal(*pair) for pair in pairs) == (name in changed), name
    for i, (old, new) in enumerate(zip(before["blocks"], model.params["blocks"])):
        same = all(map(np.array_equal, tree_leaves(old), tree_leaves(new)))
        assert same == (f"blocks.{i}" not in changed)


def test_a_poem_longer_than_the_context_is_cut():
    model = small_model(n_ctx=8)
    train_sonnets(model, ["a long poem that does not fit at all"], **OPTIONS)


def test_training_lowers_perplexity():
    model = small_model()
    before = perplexity(model, POEMS)
    train_sonnets(model, POEMS, dropout=0.0, **OPTIONS | {"epochs": 20})
    assert perplexity(model, POEMS) < 0.7 * before


def candidates(monkeypatch, texts):
    """Let these be what is drawn."""
    asked = []

    def draw(model, prompts, n_tokens, **options):  # noqa: ARG001
        asked.append((prompts, n_tokens))
        return texts[: len(prompts)]

    monkeypatch.setattr(sonnet, "generate_batch", draw)
    return asked


def test_of_the_candidates_the_likeliest_of_fourteen_lines_is_taken(monkeypatch):
    model, opening = small_model(n_ctx=256), "one\ntwo\n"
    texts = ["\n".join([word] * n) for word, n in
             [("a", 3), ("the", 12), ("in", 12), ("on", 20), ("re", 11)]]  # fmt: skip
    poems = ["\n".join((opening + text).split("\n")[:14]) for text in texts]
    losses = {poem: np.divide(*text_loss(model, [poem])) for poem in poems}
    whole = [poem for poem in poems if poem.count("\n") == 13]
    assert len(whole) == 3  # one of them was longer
    asked = candidates(monkeypatch, texts)
    taken = write_on(model, opening, 5, 1.2, 0.9, np.random.default_rng(0))
    assert taken == min(whole, key=losses.get)
    ((prompts, n_tokens),) = asked  # one batch
    assert prompts == [opening] * 5 and n_tokens == 256 - len(model.encoder.encode(opening))


def test_an_empty_candidate_is_taken_last(monkeypatch):
    candidates(monkeypatch, ["", "one", ""])
    assert write_on(small_model(), "", 3, 1.0, 0.9, np.random.default_rng(0)) == "one"


def test_a_poem_begins_with_its_opening_and_ends_within_the_context():
    model = small_model(n_ctx=40)
    rng = np.random.default_rng(0)
    poem = write_on(model, "the one that\n", 3, 1.0, 0.9, rng)
    assert poem.startswith("the one that")
    assert write_on(model, "the " * 60, 1, 1.0, 0.9, rng) == ("the " * 60).rstrip()


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
    before = float(re.search(r"held-back poems before training: ([\d.]+)", printed)[1])
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
    assert "perplexity of 1 held-back poems" in capsys.readouterr().out


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


def test_usage(capsys):
    for argv in (
        ["--temperature=-1"], ["--top_p=0"], ["--candidates=0"], ["--epochs=x"], ["more"],
        ["--model_size=tiny", "--top_k_layers=99"],
    ):  # fmt: skip
        assert call(main, argv) == 2
        assert len(capsys.readouterr().err.splitlines()) == 1
