"""The command of the classification tasks, in every mode, on the samples and on odd files."""

import csv
import os
import re
import subprocess
import sys
import xml.dom.minidom

import numpy as np
import pytest
from models import small_folder, small_model
from systems import PYTHON_PATH

from picogpt import probe as module
from picogpt.kernels import softmax
from picogpt.model import load, logits, save
from picogpt.probe import main
from picogpt.tasks import classifier, regression
from picogpt.tasks import course_files as tasks
from picogpt.tasks import features as features_module
from picogpt.tasks.course_files import SAMPLES, load_task, task_text
from picogpt.tasks.features import encode_texts, features
from picogpt.tools.cli import call
from picogpt.training import fit
from picogpt.training.state import load_state


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory):
    return small_folder(tmp_path_factory.mktemp("models") / "small", n_ctx=64)


@pytest.fixture
def probe(tmp_path, monkeypatch, model_folder, capsys):
    """Call the command as the shell does: (exit code, stdout, stderr)."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("USERPROFILE", str(tmp_path / "home"))
    monkeypatch.setattr(regression, "PENALTIES", (1e-2, 1e-1))  # fewer take less time
    monkeypatch.setattr(module, "choose_penalty", lambda *_: 1e-2)  # of the bag of words

    def probe(*argv, data=SAMPLES, out=tmp_path / "out", model=model_folder):
        flags = [f"--out={out}", *([f"--model_size={model}"] if model else [])]
        code = call(main, [*map(str, argv), *flags, *([f"--data={data}"] if data else [])])
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return probe


def row(out, name):
    """The figures of a row of the last table."""
    return [float(x) for x in re.search(rf"^{name}  .*", out, re.M)[0].removeprefix(name).split()]


def test_features_of_int8_weights_and_their_head(probe):
    code, out, _ = probe("sst", "--int8", "--epochs=3")
    assert code == 0 and out.startswith("sst by small in int8, ")
    assert probe("sst", "--int8", "--predict=A fine film.")[0] == 0
    code, _, err = probe("sst", "--predict=A fine film.")
    assert code == 1 and err.count("\n") == 1 and "trained with --int8" in err
    code, _, err = probe("sst", "--int8", "--mode=top")
    assert code == 2 and err == "--int8 goes with --mode linear: a model in int8 can't be trained\n"


def test_the_linear_probe(probe, tmp_path, model_folder):
    code, out, _ = probe("sst", "--epochs=3")
    assert code == 0
    assert out.startswith("sst by small, last-linear-layer, honest recipe, seed 0, data in ")
    assert "\nepochs: 3, batch size: 4, learning rate: 0.02\n" in out
    head = "epoch  train loss  train acc  train F1  dev acc  dev F1"
    table = out[out.index(head) :].splitlines()[1:4]
    assert [line.split()[0] for line in table] == ["1", "2", "3"]
    assert row(out, "majority class") == [0.2, 0.067]
    assert row(out, "bag of words")[0] > 0.5
    assert row(out, "last-linear-layer") == [float(x) for x in table[-1].split()[-2:]]
    lines = out[out.index("true, predicted") :].splitlines()[1:6]
    counts = np.array([line[15:].split() for line in lines]).astype(int)
    assert counts.sum() == 70 and counts.trace() / 70 == pytest.approx(
        row(out, "last-linear-layer")[0], abs=1e-3
    )
    check_files(tmp_path / "out", "last-linear-layer", "sst", model_folder)


def check_files(out, label, task, model_folder, course=False):
    """The course's files, in its form, hold what the saved head says; the pictures are XML."""
    place = out / f"{label}-{task}"
    head, about = load_state(place / "head.safetensors")
    model = load(model_folder if label == "last-linear-layer" else place)
    _, examples = load_task(task, SAMPLES)
    for split in ("dev", "test"):
        name = f"para-{split}-output" if task == "quora" else f"{task}-{split}-out"
        heading = "Predicted_Is_Paraphrase" if task == "quora" else "Predicted_Sentiment"
        ids = encode_texts(model, [task_text(e.sentences, course) for e in examples[split]])
        x = features(model, ids, about["layer"], about["pool"])
        labels = (x @ head["w"] + head["b"]).argmax(axis=1)
        rows = [f"{example.id}, {label} \n" for example, label in zip(examples[split], labels)]
        text = (out / f"{label}-{name}.csv").read_bytes().decode()
        assert text == f"id \t {heading} \n" + "".join(rows)
    for picture in ("curve", "confusion"):
        xml.dom.minidom.parse(str(out / f"{label}-{task}-{picture}.svg"))
    assert not list(place.glob("unfinished*"))


@pytest.mark.parametrize(
    ("argv", "label", "course"),
    [
        (["cfimdb", "--mode=full"], "full-model", False),
        (["sst", "--mode=top", "--top_k_layers=1", "--pool=mean"], "top-1", False),
        (["quora", "--mode=top", "--head=cloze", "--top_k_layers=1"], "top-1-cloze", False),
        (["sst", "--mode=linear", "--recipe=course"], "last-linear-layer", True),
        (["quora", "--mode=full", "--head=cloze", "--recipe=course"], "full-model-cloze", True),
    ],
)
def test_fine_tuning(probe, tmp_path, model_folder, argv, label, course):
    code, out, _ = probe(*argv, "--epochs=2")
    assert code == 0
    name = label + ", selected on dev" * course
    by = "dev" if course else "validation"
    assert max(map(len, out.splitlines()[1:-1])) <= 100  # less those that name folders
    assert re.search(r"^epochs: 2, batch size: \d+, learning rate: \S+$", out, re.M)
    table = [line.split() for line in out.splitlines() if re.match(r" {3,}[12] ", line)]
    assert len(table) == 2
    taken = int(re.search(r"epoch (\d) is taken, the best on the (\S+) examples", out)[1])
    assert f"the best on the {by} examples" in out
    columns = next(line for line in out.splitlines() if line.startswith("epoch  "))
    columns = [column.strip() for column in columns.split("  ")]
    scores = [float(line[columns.index(f"{by} acc")]) for line in table]
    assert scores[taken - 1] == max(scores)
    dev = table[taken - 1][columns.index("dev acc")]
    assert row(out, name)[0] == float(dev)
    check_files(tmp_path / "out", label, argv[0], model_folder, course)


def test_zero_shot_cloze_is_the_models_own_next_token(probe, model_folder, tmp_path):
    code, out, _ = probe("quora", "--head=cloze")
    assert code == 0
    assert "'y' (token 88) for yes against 'n' (token 77) for no" in out  # of words of several
    model = load(model_folder)
    _, examples = load_task("quora", SAMPLES)
    path = tmp_path / "out" / "last-linear-layer-cloze-para-dev-output.csv"
    for line, example in zip(path.read_text().splitlines()[1:], examples["dev"], strict=True):
        (ids,) = encode_texts(model, [task_text(example.sentences)])
        scores = logits(model, ids, last_only=True)[0]
        assert line == f"{example.id}, {int(scores[88] > scores[77])} "
    assert "cloze, zero-shot" in out


def test_a_saved_head_classifies_a_sentence(probe, model_folder, tmp_path):
    probe("sst", "--epochs=2")
    code, out, err = probe("sst", "--predict=A warm , funny film .", data=None)
    assert code == 0
    assert err.startswith("by last-linear-layer, trained on 120 examples of sst in ")
    head, _ = load_state(tmp_path / "out" / "last-linear-layer-sst" / "head.safetensors")
    model = load(model_folder)
    x = features(model, [model.encoder.encode("A warm , funny film .")])
    expected = np.sort(softmax(x @ head["w"] + head["b"])[0])[::-1]
    np.testing.assert_allclose([float(line[:5]) for line in out.splitlines()], expected, atol=6e-4)
    assert {line[6:] for line in out.splitlines()} == set(tasks.SENTIMENTS)
    assert probe("sst", "--predict=  A warm , funny film . ", data=None)[1] == out
    code, _, err = probe("sst", "--mode=full", "--predict=fine", data=None)
    assert code == 1 and "is missing: run the same command without --predict first" in err


def test_columns_of_the_confusion_table_stand_under_their_heads(capsys):
    module.print_confusion(("no", "yes"), np.array([[1523, 7], [62, 880]]))
    head, *rows = capsys.readouterr().out.splitlines()[1:]
    assert head.split() == ["true,", "predicted", "no", "yes"]
    for name in ("no", "yes"):
        end = head.index(name) + len(name)
        assert all(row[end - 1] != " " and row[end : end + 2].strip() == "" for row in rows)


def test_a_damaged_head_is_told_in_one_sentence(probe, tmp_path):
    probe("sst", "--epochs=1")
    path = tmp_path / "out" / "last-linear-layer-sst" / "head.safetensors"
    good, rng = path.read_bytes(), np.random.default_rng(0)
    for place in [*rng.integers(0, len(good), 20), *rng.integers(0, 700, 20)]:
        damaged = bytearray(good)
        damaged[place] ^= rng.integers(1, 256)
        path.write_bytes(damaged)
        code, out, err = probe("sst", "--predict=fine", data=None)
        assert (code, out) == (1, "") and str(path) in err and len(err.splitlines()) == 1


@pytest.mark.parametrize("at", ["save_head", "write_predictions", "matrix_chart"])
def test_a_run_that_is_killed_while_it_writes_its_results_trains_nothing_again(
    probe, monkeypatch, tmp_path, at
):
    argv = ["cfimdb", "--mode=full", "--epochs=1", "--lr=0.01"]
    whole = probe(*argv, out=tmp_path / "whole")

    def die(*_):
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(module, at, die)
        assert probe(*argv)[0] == 1
    monkeypatch.setattr(classifier, "classifier_gradients", die)
    code, out, err = probe(*argv)
    assert code == 0 and "goes on after step" in err
    assert out == whole[1].replace(str(tmp_path / "whole"), str(tmp_path / "out"))
    files = [path.relative_to(tmp_path / "out") for path in (tmp_path / "out").rglob("*.*")]
    for path in files:
        if path.name != "head.safetensors":  # which names its model's folder
            same = (tmp_path / "whole" / path).read_bytes()
            assert (tmp_path / "out" / path).read_bytes() == same
    assert len(files) == len(list((tmp_path / "whole").rglob("*.*")))


def test_predicting_needs_both_questions_and_the_heads_own_model(probe, tmp_path):
    probe("quora", "--mode=full", "--epochs=1")
    argv = ["quora", "--mode=full", "--predict=Who ?|||Who are you ?"]
    code, _, err = probe(*argv, data=None)
    assert code == 2 and "trained before: leave --model_size out" in err
    code, out, _ = probe(*argv, data=None, model=None)
    assert code == 0 and {line[6:] for line in out.splitlines()} == {"yes", "no"}
    code, _, err = probe("quora", "--mode=full", "--predict=Who ?", data=None)
    assert code == 2 and "with ||| between two" in err
    probe("sst", "--epochs=1")
    other = small_folder(tmp_path / "other", seed=5, n_ctx=64)
    argv = ["sst", "--predict=fine", f"--model_size={other}", f"--out={tmp_path / 'out'}"]
    assert call(main, argv) == 1


def test_the_second_run_takes_the_features_that_were_kept(probe, monkeypatch):
    first = probe("sst", "--epochs=1")
    monkeypatch.setattr(features_module, "activations", None)
    assert probe("sst", "--epochs=1") == first


def test_a_run_that_was_stopped_goes_on_to_the_same_result(probe, monkeypatch, tmp_path):
    argv = ["sst", "--mode=full", "--epochs=2"]
    whole = probe(*argv, out=tmp_path / "whole")
    real = fit.adamw

    def interrupted(params, grads, state, *args, **options):
        if state["step"] == 6:
            raise KeyboardInterrupt
        real(params, grads, state, *args, **options)

    monkeypatch.setattr(fit, "adamw", interrupted)
    code, _, err = probe(*argv)
    assert code == 130 and "Traceback" not in err
    assert err.splitlines()[-1] == "stopped; what is done is saved: the same command goes on"
    monkeypatch.setattr(fit, "adamw", real)
    code, out, err = probe(*argv)
    assert code == 0 and "goes on after step" in err
    assert out == whole[1].replace(str(tmp_path / "whole"), str(tmp_path / "out"))
    name = "full-model-sst/model.safetensors"
    assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_features_are_kept_where_the_flag_says_and_nowhere(probe, tmp_path):
    assert probe("sst", "--epochs=1", "--cache_dir=none")[0] == 0
    assert not list((tmp_path / "home").rglob("*.npy"))
    assert probe("sst", "--epochs=1", f"--cache_dir={tmp_path / 'kept'}")[0] == 0
    assert list((tmp_path / "kept").rglob("*.npy")) and not (tmp_path / "home").exists()


def test_an_empty_cache_folder_is_not_the_current_one(probe, tmp_path, monkeypatch):
    """As --cache_dir "$CACHE" where the variable is not set."""
    monkeypatch.chdir(tmp_path)  # where features would go
    code, _, err = probe("sst", "--cache_dir=")
    assert code == 2 and err == "--cache_dir must be a path, not ''\n"


@pytest.mark.parametrize("mode", ["linear", "top", "full"])
def test_no_result_comes_from_nan(probe, tmp_path, mode):
    """A learning rate with which everything overflows: one sentence, and nothing is written."""
    code, out, err = probe("sst", f"--mode={mode}", "--top_k_layers=1", "--epochs=2", "--lr=1e30")
    assert code == 1 and "majority class" not in out
    assert re.search(r"in step \d+, at a learning rate of .*e\+\d+: .* try a lower --lr", err)
    assert len(err.splitlines()) == 2  # beside that of the long texts
    assert not [path for path in (tmp_path / "out").rglob("*") if path.is_file()]


@pytest.mark.parametrize("argv", [["--mode=linear"], ["--mode=full"], ["--head=cloze"]])
def test_a_model_of_nan_gets_no_head_and_no_figures(probe, tmp_path, argv):
    model = small_model(n_ctx=64)
    model.params["blocks"][0]["mlp"]["c_fc"]["w"][:] = np.nan
    save(model, tmp_path / "broken")
    code, out, err = probe("quora", *argv, model=tmp_path / "broken")
    assert code == 1 and "majority class" not in out
    assert "not finite" in err or "the loss is nan" in err
    assert not [path for path in (tmp_path / "out").rglob("*") if path.is_file()]


@pytest.mark.parametrize("split", ["train", "dev"])
def test_a_run_that_was_stopped_begins_anew_with_other_labels(probe, monkeypatch, tmp_path, split):
    rows = [(i, f"{i}", "good" if i % 2 else "bad", i % 2) for i in range(40)]
    for name in ("train", "dev"):
        write(tmp_path / "data", name, [(i, name + id, *row) for i, id, *row in rows])
    def interrupted(*args, state_path, **options):  # noqa: ARG001
        told.append(state_path)
        raise KeyboardInterrupt

    told = []
    monkeypatch.setattr(classifier, "fit", interrupted)
    for label in (1, 1, 0):
        write(tmp_path / "data", split, [*rows[:-1], (39, f"{split}39", "good", label)])
        assert probe("cfimdb", "--mode=full", data=tmp_path / "data")[0] == 130
    assert told[0] == told[1] != told[2]


def test_two_processes_compute_the_same(probe, tmp_path, monkeypatch):
    first = probe("cfimdb", "--epochs=1", "--layer=1", "--workers=2")
    monkeypatch.setenv("HOME", str(tmp_path / "another"))
    assert probe("cfimdb", "--epochs=1", "--layer=1") == first


def write(folder, split, rows, columns="\tid\tsentence\tsentiment"):
    folder.mkdir(exist_ok=True)
    with (folder / f"ids-cfimdb-{split}.csv").open("w", encoding="utf-8", newline="") as file:
        file.write(columns + "\n")
        csv.writer(file, delimiter="\t").writerows(rows)


def test_odd_texts_are_classified_like_any_other(probe, tmp_path):
    """Longer than the context, empty, of no known words, with one class in dev."""
    data = tmp_path / "data"
    rows = [(i, f"t{i}", ("good " if i % 2 else "bad ") * (1 + 9 * i), i % 2) for i in range(20)]
    write(data, "train", [*rows, (20, "empty", "", 1)])
    write(data, "dev", [(0, "d0", "", 1), (1, "d1", "ξένος", 1), (2, "d2", "good " * 99, 1)])
    code, out, err = probe("cfimdb", "--epochs=2", data=data)
    assert code == 0 and "3 dev examples" in out
    assert "texts are longer than the model's 64 positions: their ends are read." in err
    lines = (tmp_path / "out" / "last-linear-layer-cfimdb-dev-out.csv").read_text().splitlines()
    assert [line.split(",")[0] for line in lines[1:]] == ["d0", "d1", "d2"]
    assert not (tmp_path / "out" / "last-linear-layer-cfimdb-test-out.csv").exists()


def test_a_folder_belongs_to_one_run_at_a_time(probe, tmp_path):
    place = tmp_path / "out" / "last-linear-layer-sst"
    script = "import sys; from picogpt.tools.files import locked\n"
    script += "with locked(sys.argv[1]): print(flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", script, place], env=os.environ | {"PYTHONPATH": PYTHON_PATH},
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    ) as other:  # fmt: skip
        other.stdout.readline()
        code, _, err = probe("sst", "--epochs=1")
        other.communicate()
    assert code == 1 and f"another run is writing to {place}" in err
    assert not [path for path in place.iterdir() if path.is_file()]


def test_what_cannot_be_done_is_told_in_one_sentence(probe, tmp_path):
    data = tmp_path / "data"
    write(data, "train", [(0, "a", "good", 1), (1, "b", "fine", 1)])
    write(data, "dev", [(0, "c", "good", 1)])
    for argv, code, said in [
        (["cfimdb"], 1, "has one class only: there is nothing to learn"),
        (["sst"], 1, "ids-sst-train.csv is missing"),
        (["sst", "--head=cloze"], 2, "--head cloze is for quora"),
        (["quora", "--head=cloze", "--pool=mean"], 2, "--head cloze is for quora"),
        (["sst", "--mode=full", "--layer=1"], 2, "--layer goes with --mode linear"),
        (["sst", "--layer=3"], 2, "small has only 2 layers"),
        (["sst", "--mode=top", "--top_k_layers=3"], 2, "small has only 2 layers"),
        (["sst", "--mode=half"], 2, "--mode must be one of linear, top, full"),
        (["imdb"], 2, "--task must be one of sst, cfimdb, quora"),
        (["sst", "--epochs=0"], 2, "--epochs must be 1 or more"),
        (["sst", "--workers=-1"], 2, "--workers must be 1 or more"),
    ]:
        got, _, err = probe(*argv, data=data)
        assert (got, len(err.splitlines())) == (code, 1), err
        assert said in err


def test_the_command_runs_as_a_module_without_network(tmp_path, model_folder):
    """Nothing in the cache, nothing to download: the samples, and one line that says so."""
    env = os.environ | {"HOME": str(tmp_path), "USERPROFILE": str(tmp_path)}
    env |= {"PYTHONPATH": PYTHON_PATH, "HTTPS_PROXY": "http://127.0.0.1:9"}
    done = subprocess.run(
        [sys.executable, "-m", "picogpt.probe", "sst", "--model_size", model_folder, "--epochs=1"],
        env=env, cwd=tmp_path, check=False, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0
    sample, long = done.stderr.splitlines()
    assert "figures say nothing about the real task" in sample and "their ends are read" in long
    assert "70 dev examples" in done.stdout
    assert (tmp_path / "predictions" / "last-linear-layer-sst-dev-out.csv").exists()
