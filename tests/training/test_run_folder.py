"""The folder of a run: whose it is, when it goes on, and what is left when something goes wrong."""

import json
import os
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest
from models import small_folder
from safetensors.numpy import load_file

from picogpt.model import load
from picogpt.tools.cli import call
from picogpt.tools.files import locked
from picogpt.tools.tree import tree_leaves
from picogpt.train import main
from picogpt.training import loop, resumable
from picogpt.training.log import read_log
from picogpt.training.run_folder import CHECKPOINT, CURVE, LOG, MODEL, has_own_name
from picogpt.training.windows import Text

SIZE = ["--n_layer", "1", "--n_embd", "16", "--n_head", "2", "--n_ctx", "16", "--vocab_size", "270"]


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    file = tmp_path_factory.mktemp("text") / "sums.txt"
    rng = np.random.default_rng(0)
    file.write_text("".join(f"{a}+{b}={a + b}\n" for a, b in rng.integers(0, 50, (500, 2))))
    return file


@pytest.fixture
def train(text, tmp_path, capsys):
    """Train into a folder `out`; give back the exit code and what was said."""

    def run(n_steps=6, *more, out="out", data=text):
        words = ["--data", str(data), "--out", str(tmp_path / out), *SIZE, "--batch_size", "4"]
        code = call(main, [*words, "--n_steps", str(n_steps), *more])
        said = capsys.readouterr()
        return code, said.out + said.err

    return run


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def losses(folder):
    lines = (folder / "log.jsonl").read_text().splitlines()
    return [json.loads(line)["loss"] for line in lines]


def stopped_at(monkeypatch, step):
    """Let a training be interrupted after a step, as by Ctrl-C."""
    take = loop.train_step

    def train_step(model, state, windows, n, *rest):
        loss = take(model, state, windows, n, *rest)
        if n + 1 == step:
            monkeypatch.setattr(loop, "train_step", take)
            os.kill(os.getpid(), 2)
        return loss

    monkeypatch.setattr(loop, "train_step", train_step)


def test_a_finished_run_is_found_finished_and_its_checkpoint_is_small(train, tmp_path):
    assert train()[0] == 0
    before = contents(tmp_path / "out")
    assert len(before["checkpoint.safetensors"]) < 1000
    code, said = train()
    assert code == 0 and "6 steps: it is finished" in said
    assert contents(tmp_path / "out") == before


def test_a_finished_run_can_be_made_longer(train, tmp_path):
    train()
    code, said = train(9)
    assert code == 0 and "--n_steps 9 in place of 6" in said and "goes on after step 6" in said
    assert len(losses(tmp_path / "out")) == 9
    assert "9 steps: it is finished" in train(7)[1]


def test_a_run_that_an_earlier_version_began_goes_on(train, tmp_path, monkeypatch):
    stopped_at(monkeypatch, 4)
    assert train(8)[0] == 130
    file = tmp_path / "out" / "run.json"
    flags = json.loads(file.read_text())
    del flags["by_document"]
    file.write_text(json.dumps(flags))
    code, said = train(8, "--by_document")
    assert code == 2 and "holds a run with another by_document" in said
    assert train(8)[0] == 0
    assert len(losses(tmp_path / "out")) == 8


def test_every_command_can_use_a_stopped_run(train, text, tmp_path, monkeypatch, capsys):
    import gpt2
    from picogpt import explain, perplexity

    stopped_at(monkeypatch, 4)
    assert train(8)[0] == 130
    model = ["--model_size", str(tmp_path / "out")]
    assert call(gpt2.main, ["1+1", "--n_tokens_to_generate", "2", *model]) == 0
    assert call(perplexity.main, [str(text), *model]) == 0
    assert call(explain.main, ["1+1", "--out", str(tmp_path / "page.html"), *model]) == 0
    assert "perplexity" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["save", "save_state"])
def test_ctrl_c_while_the_result_is_written_loses_nothing(train, tmp_path, monkeypatch, name):
    write = getattr(loop, name)

    def write_and_press(*given):
        monkeypatch.setattr(loop, name, write)
        signal.raise_signal(signal.SIGINT)
        write(*given)

    monkeypatch.setattr(loop, name, write_and_press)
    code, said = train(6)
    assert code == 130 and "out holds the model: all steps were done before" in said
    assert "6 steps: it is finished" in train(6)[1]
    assert (tmp_path / "out" / "model.safetensors").exists()


@pytest.mark.parametrize("n_steps", [12, 5, 3])
def test_a_stopped_run_goes_on_with_another_length(train, tmp_path, monkeypatch, n_steps):
    stopped_at(monkeypatch, 4)
    code, said = train(8)
    assert code == 130 and "stopped after step 4 and saved" in said
    assert load(tmp_path / "out").config.n_layer == 1
    code, said = train(n_steps)
    assert code == 0 and f"--n_steps {n_steps} in place of 8: from here on the learning" in said
    assert ("ends as it stands after step 4" in said) == (n_steps == 3)
    assert len(losses(tmp_path / "out")) == max(n_steps, 4)


def test_without_the_flag_a_run_keeps_its_number_of_threads(train, tmp_path, monkeypatch):
    monkeypatch.setattr("picogpt.train.cores", lambda: 1)
    train(8, out="straight")
    stopped_at(monkeypatch, 4)
    train(8)
    monkeypatch.setattr("picogpt.train.cores", lambda: 3)
    code, said = train(8)
    assert code == 0 and "n_threads" not in said
    assert losses(tmp_path / "out") == losses(tmp_path / "straight")


def test_threads_may_change_with_a_notice(train, monkeypatch):
    stopped_at(monkeypatch, 4)
    train(8, "--n_threads", "1")
    code, said = train(8, "--n_threads", "2")
    assert code == 0 and "--n_threads 2 in place of 1: the numbers differ in their last" in said


def test_another_run_in_the_same_folder_is_refused(train, text, tmp_path):
    data = tmp_path / "data.txt"
    data.write_bytes(text.read_bytes())
    assert train(2, data=data)[0] == 0
    before = contents(tmp_path / "out")
    code, said = train(2, "--seed", "1", data=data)
    assert code == 2 and "another seed: choose another --out" in said
    data.write_bytes(text.read_bytes().replace(b"1", b"2"))
    code, said = train(2, data=data)
    assert code == 2 and "another text in the files: choose another --out" in said
    assert contents(tmp_path / "out") == before


def test_a_run_goes_on_where_its_folder_was_moved_to(train, tmp_path):
    assert train(3)[0] == 0
    (tmp_path / "out").rename(tmp_path / "moved")
    code, said = train(5, out="moved")
    assert code == 0 and f"{tmp_path / 'moved'} goes on after step 3" in said
    assert train(5, out="./../" + tmp_path.name + "/moved")[0] == 0


def test_a_finished_run_without_its_tokenizer_is_told_before_it_goes_on(train, tmp_path):
    assert train(3)[0] == 0
    (tmp_path / "out" / "merges.txt").unlink()
    before = contents(tmp_path / "out")
    code, said = train(3)
    assert code == 1 and "merges.txt" in said.splitlines()[-1]
    assert contents(tmp_path / "out") == before


@pytest.mark.skipif(os.name == "nt", reason="on Windows not everybody may make links")
def test_a_link_to_itself_can_be_no_folder(train, tmp_path):
    (tmp_path / "out").symlink_to(tmp_path / "out")
    code, said = train(3)
    assert code == 1 and "out can't be a folder to write to" in said


def killed(*_, **__):
    raise MemoryError


def test_a_run_that_saved_nothing_is_replaced_its_tokenizer_too(train, tmp_path, monkeypatch):
    monkeypatch.setattr("picogpt.train.train", killed)
    assert train(2, "--seed", "1")[0] == 1
    assert (tmp_path / "out" / "merges.txt").exists()
    monkeypatch.setattr("picogpt.train.train_encoder", killed)
    (tmp_path / "out" / "log.jsonl").write_text("old")
    assert train(2, "--seed", "2")[0] == 1
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["run.json"]


TOKENS = ("tokens.npy", "tokens-3.npy", "finish.npy", "valid.npy")


@pytest.mark.parametrize("name", [CHECKPOINT, LOG, CURVE, *MODEL, *TOKENS, "tokenizer.json"])
def test_files_of_the_user_are_neither_deleted_nor_replaced(train, tmp_path, name):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / name).write_text("mine")
    code, said = train()
    assert code == 2 and f"holds {name}, but no run.json" in said and "another --out" in said
    assert contents(tmp_path / "out") == {name: b"mine"}


@pytest.mark.parametrize("damage", [b"", b"{}", b"{", b"[1]", b"\xff", b'{"seed": "0"}', None])
def test_a_lost_or_damaged_run_json_throws_nothing_away(train, tmp_path, damage):
    train()
    path = tmp_path / "out" / "run.json"
    path.unlink()
    if damage is not None:
        path.write_bytes(damage)
    before = contents(tmp_path / "out")
    code, said = train()
    assert code in (1, 2) and said.count("\n") == 1 and "choose another --out" in said
    assert "run.json" in said and contents(tmp_path / "out") == before


def test_a_folder_belongs_to_one_run_at_a_time(train, tmp_path, monkeypatch):
    with locked(tmp_path / "out"), monkeypatch.context() as other_process:
        other_process.setattr("picogpt.tools.files.locked_here", set())
        code, said = train()
    assert code == 1 and "another run is writing to" in said
    assert list((tmp_path / "out").iterdir()) == []
    assert train()[0] == 0


def test_a_runs_own_files_are_never_its_data(train, text, tmp_path):
    folder = tmp_path / "both"
    folder.mkdir()
    shutil.copy(text, folder / "book.txt")
    for data in (folder, folder / "*"):
        assert train(3, out="both", data=data)[0] == 0
        n_tokens = len(np.load(folder / "tokens.npy"))
        assert train(3, out="both", data=data)[0] == 0
        assert train(4, out="both", data=data)[0] == 0
        (folder / "last-step").mkdir(exist_ok=True)
        (folder / "last-step" / "merges.txt").write_text("a b\n" * 500)
        assert train(3, out="both/other", data=f"{folder}/**/*.txt")[0] == 0
        assert len(np.load(folder / "other" / "tokens.npy")) == n_tokens
        shutil.rmtree(folder / "other")
        for file in filter(has_own_name, list(folder.iterdir())):
            file.unlink()
    code, said = train(3, out="both", data=folder / "merges.txt")
    assert code == 1


def test_training_may_write_over_the_model_that_it_starts_from(text, tmp_path, capsys):
    out = small_folder(tmp_path / "model")
    before = load(out).params["wte"].copy()
    words = ["--data", str(text), "--out", str(out), "--model_size", str(out), "--n_steps", "3"]
    assert call(main, [*words, "--batch_size", "2"]) == 0
    assert not np.array_equal(load(out).params["wte"], before)
    assert call(main, [*words, "--batch_size", "2"]) == 0
    assert "it is finished" in capsys.readouterr().out


def test_a_run_that_saved_nothing_leaves_the_shards_that_it_starts_from(tmp_path, monkeypatch):
    out = small_folder(tmp_path / "out")
    shard = "model-00001-of-00001.safetensors"
    (out / "model.safetensors").rename(out / shard)
    index = {"weight_map": dict.fromkeys(load_file(out / shard), shard)}
    (out / "model.safetensors.index.json").write_text(json.dumps(index))
    before = contents(out)
    words = ["--data", str(tmp_path / "sums.txt"), "--out", str(out), "--model_size", str(out)]
    (tmp_path / "sums.txt").write_text("1+1=2\n" * 200)
    monkeypatch.setattr("picogpt.train.train", killed)
    assert call(main, words) == 1
    assert call(main, [*words, "--seed", "1"]) == 2
    assert before.items() <= contents(out).items()


def test_a_loss_that_is_no_number_stops_it_and_keeps_the_best_model(train, tmp_path):
    code, said = train(60, "--learning_rate", "1e6", "--warmup", "5")
    assert code == 1 and "training stops here; try a lower --learning_rate" in said
    assert "in step" in said and "at a learning rate of" in said and "Traceback" not in said
    assert "holds the model of step" in said
    assert all(np.isfinite(w).all() for w in tree_leaves(load(tmp_path / "out").params))
    assert "NaN" not in (tmp_path / "out" / "log.jsonl").read_text()
    assert "nan" not in (tmp_path / "out" / "curve.svg").read_text()


def test_the_best_model_by_validation_is_what_is_written(train, tmp_path):
    """A sum has one =, so that many at once get likelier at first, and then less likely."""
    signs = tmp_path / "signs.txt"
    signs.write_text("=" * 200)
    code, said = train(40, "--valid", str(signs), "--learning_rate", "2e-2")
    entries = [json.loads(x) for x in (tmp_path / "out" / "log.jsonl").read_text().splitlines()]
    best = min(entries, key=lambda entry: entry["valid_loss"])
    assert code == 0 and best["step"] < 40
    assert f"lowest after step {best['step']} of 40: " in said
    assert f"{tmp_path / 'out'} holds the model of that step" in said
    model, ids = load(tmp_path / "out"), np.load(tmp_path / "out" / "valid.npy")
    assert loop.valid_loss(model, 16, Text(ids))[0] == pytest.approx(best["valid_loss"], rel=1e-6)
    assert best["valid_loss"] < entries[-1]["valid_loss"] - 0.1


@pytest.mark.parametrize(("n_steps", "warmup"), [(50, 5), (1000, 100), (5000, 100), (9, 0)])
def test_warm_up_is_a_tenth_of_the_steps_at_most_and_says_so(capsys, n_steps, warmup):
    from picogpt.train import warmup_steps

    assert warmup_steps(None, n_steps) == warmup
    assert ("a tenth of all" in capsys.readouterr().err) == (n_steps < 1000)
    assert warmup_steps(n_steps, n_steps) == n_steps
    assert "never reaches its peak" in capsys.readouterr().err


def test_damaged_token_ids_are_made_anew(train, tmp_path, monkeypatch):
    train(12, out="straight")
    stopped_at(monkeypatch, 4)
    train(12)
    path = tmp_path / "out" / "tokens.npy"
    sound = path.read_bytes()
    changed = sound[:300] + b"\xff" + sound[301:]
    for i, damaged in enumerate([b"", sound[:200], sound[:-1], changed]):
        path.write_bytes(damaged)
        stopped_at(monkeypatch, 5 + i)
        assert train(12)[0] == 130
        assert path.read_bytes() == sound
    assert train(12)[0] == 0
    assert losses(tmp_path / "out") == losses(tmp_path / "straight")


def test_a_damaged_checkpoint_is_refused_and_stays(train, tmp_path, monkeypatch):
    stopped_at(monkeypatch, 4)
    train(8)
    path = tmp_path / "out" / "checkpoint.safetensors"
    sound = path.read_bytes()
    for i in range(0, len(sound), len(sound) // 20):
        path.write_bytes(sound[:i] + bytes([sound[i] ^ 1]) + sound[i + 1 :])
        before = contents(tmp_path / "out")
        code, said = train(8)
        assert code == 1 and "checkpoint.safetensors is damaged" in said
        assert said.splitlines()[-1].endswith("delete it to start anew")
        assert contents(tmp_path / "out") == before


def test_a_checkpoint_of_other_shapes_is_refused_before_anything_is_copied(tmp_path):
    path = tmp_path / "state"
    resumable.Progress({"b": np.ones(1, np.float32)}).save(path)  # it would broadcast
    progress = resumable.Progress({"b": np.zeros(3, np.float32)})
    with pytest.raises(resumable.CheckpointError, match="of another run or version"):
        progress.restore(path)
    assert not progress.params["b"].any() and progress.step == 0


def test_a_damaged_log_is_no_reason_to_stop(train, tmp_path, monkeypatch):
    train(8, out="straight")
    stopped_at(monkeypatch, 4)
    train(8)
    path = tmp_path / "out" / "log.jsonl"
    lines = path.read_text().splitlines()
    deep, large = "[" * 100_000, '{"step": 2, "loss": 1' + "0" * 400 + "}"
    for damage in (
        "",
        "{",
        "nonsense",
        deep,
        large,
        '{"step": "2", "loss": 1}',
        "\udcff",
        lines[0],
    ):
        text = "\n".join([lines[0], damage, *lines[2:]])
        path.write_bytes(text.encode("utf-8", "surrogateescape"))
        assert [entry["step"] for entry in read_log(path, 3)] == [1, 3]
    assert train(8)[0] == 0
    expected = losses(tmp_path / "straight")
    assert losses(tmp_path / "out") == [expected[0], *expected[2:]]


def test_a_curve_that_cant_be_drawn_is_no_reason_to_stop(train, tmp_path, monkeypatch):
    def held(*_):
        raise PermissionError(13, "another program has it open")

    monkeypatch.setattr("picogpt.training.log.line_chart", held)
    code, said = train()
    assert code == 0 and "the curve isn't drawn" in said and "has it open" in said
    assert Path(tmp_path / "out" / "model.safetensors").exists()
