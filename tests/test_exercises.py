"""`picogpt.exercises`: what it writes fails as it is, passes when filled in, shows one's own."""

import ast
import inspect
import json
import os
import re
import shutil
import subprocess
import sys
import unicodedata
from functools import partial
from pathlib import Path

import pytest

from picogpt import reference
from picogpt.checkpoint.hub import TINY_FOLDERS, is_complete
from picogpt.exercises import PARTS, blank, main
from picogpt.teaching import golden_files, report
from picogpt.teaching.golden import golden
from picogpt.tools.cli import call

needs_tiny = pytest.mark.skipif(
    not any(map(is_complete, TINY_FOLDERS)), reason="the built-in model is not in this checkout"
)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A function that gives the folder of a part, written once; of usual mistakes, no pairs."""
    folders, monkeypatch = {}, pytest.MonkeyPatch()

    def folder_of(part, *flags):
        key = (part, *flags)
        if key not in folders:
            monkeypatch.setattr("picogpt.teaching.folder.golden", partial(golden, pairs=False))
            folders[key] = tmp_path_factory.mktemp("exercises") / part
            assert call(main, [str(folders[key]), "--part", *key]) == 0
        return folders[key]

    yield folder_of
    monkeypatch.undo()


@pytest.fixture
def copied(written, tmp_path):
    """The same, as a copy to write into."""

    def copy_of(part, *flags):
        return shutil.copytree(written(part, *flags), tmp_path / part)

    return copy_of


def run_in(folder, *arguments):
    """What a student's command in the folder prints, and its exit code."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment |= {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTHONIOENCODING": "utf-8"}
    return subprocess.run(
        [sys.executable, *arguments], cwd=folder, env=environment, capture_output=True,
        encoding="utf-8",
    )  # fmt: skip


def fill_in(folder, part, source=None):
    """Fill a folder in: with the solutions, or with another source of the part's module."""
    solution = inspect.getsource(PARTS[part].load()) if source is None else source
    (folder / "picogpt" / PARTS[part].path).write_text(solution, encoding="utf-8")


def lecture_source(edit=("", "")):
    """The lecture's functions as a student might have them, one piece replaced, and the command."""
    tree = ast.parse(inspect.getsource(PARTS["lecture"].load()))
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and node.name != "main":
            del node.body[0]  # the docstring
    source = ast.unparse(tree)
    assert edit[0] in source
    return source.replace(*edit)


@pytest.mark.parametrize("part", PARTS)
def test_each_function_fails_before_and_passes_with_the_original_body(part, written):
    folder = written(part)
    numbers = folder / "picogpt" / "teaching" / "numbers"
    blanked = report.load_file(folder / "picogpt" / PARTS[part].path)
    names = list(PARTS[part].minutes)
    assert [path.name for path in sorted(folder.glob("test_*.py"))] == [
        f"test_{n:02}_{name}.py" for n, name in enumerate(names, 1)
    ]
    for name in names:
        with pytest.raises(NotImplementedError, match=f"^{name} is still to be filled in"):
            golden_files.check_golden(getattr(blanked, name), numbers)
        golden_files.check_golden(getattr(PARTS[part].load(), name), numbers)


def test_pytest_says_so_in_the_folder(copied):
    folder = copied("sampling")
    done = run_in(folder, "-m", "pytest", "-q")
    assert done.returncode == 1
    assert "NotImplementedError: keep_top_k is still to be filled in" in done.stdout
    source = inspect.getsource(PARTS["sampling"].load())
    fill_in(folder, "sampling", source.replace("logits < kth_best", "logits <= kth_best"))
    done = run_in(folder, "-m", "pytest", "-q")
    assert "1 failed, 2 passed" in done.stdout or "2 failed, 1 passed" in done.stdout
    assert "AssertionError: keep_top_k: the k-th best stays in" in done.stdout
    fill_in(folder, "sampling")
    assert "3 passed" in run_in(folder, "-m", "pytest", "-q").stdout


def test_the_folder_holds_no_solutions(written):
    for part in ("lecture", "kernels"):
        folder = written(part)
        assert not list(folder.rglob("mistakes.json"))
        for path in folder.rglob("*.py"):
            text = path.read_text(encoding="utf-8")
            for solution in ("np.exp(x - ", "softmax(scores + mask)", "* scale + mask)",
                             "0.044715 * x**3", "x + ffn(", "np.sqrt(variance + eps)"):  # fmt: skip
                assert solution not in text, path


@pytest.mark.parametrize("lang", ["en", "ko"])
def test_the_readme_has_order_times_help_and_solutions(lang, written):
    folder = written("tokens", "--lang", lang)
    text = (folder / "README.md").read_text(encoding="utf-8")
    places = [text.index(f"`{name}`") for name in PARTS["tokens"].minutes]
    assert places == sorted(places)
    minutes = "10 min" if lang == "en" else "10분"
    for said in (minutes, "test_01_count_pairs.py", "--compare count_pairs", "--part training",
                 "picogpt/teaching/tokens.py"):  # fmt: skip
        assert said in text
    assert ("도움말" in text) == (lang == "ko")
    assert golden_files.load_golden(folder / "picogpt/teaching/numbers/join.json")[1] == lang


def test_blanks_keep_everything_but_the_bodies():
    source = inspect.getsource(PARTS["kernels"].load())
    space = {}
    exec(blank(source, ["softmax", "mha"]), space)
    for name in ("softmax", "mha"):
        original = getattr(PARTS["kernels"].load(), name)
        assert space[name].__doc__ == original.__doc__
        assert inspect.signature(space[name]).parameters.keys() == \
            inspect.signature(original).parameters.keys()  # fmt: skip
        with pytest.raises(NotImplementedError, match=f"{name} is still .*: your code here"):
            space[name](*[None] * (4 if name == "mha" else 1))
    before, after = (text.splitlines() for text in (source, blank(source, ["softmax", "mha"])))
    assert len(set(after) - set(before)) == 2
    assert blank(source, []) == source


def test_refuses_a_folder_that_is_there(tmp_path, capsys):
    assert call(main, [str(tmp_path)]) == 2
    assert "is there already" in capsys.readouterr().err
    assert call(main, [str(tmp_path / "new"), "--part", "attention"]) == 2
    assert "--part must be one of lecture, kernels, gradients" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("place", "error"),
    [("save_golden", OSError(28, "No space left on device")),
     ("shutil.copytree", shutil.Error([("a", "b", "[Errno 28] No space left on device")]))],
)  # fmt: skip
def test_a_full_disk_leaves_nothing_behind(place, error, tmp_path, monkeypatch, capsys):
    def full(*_, **__):
        raise error

    monkeypatch.setattr(f"picogpt.teaching.folder.{place}", full)
    assert call(main, [str(tmp_path / "work"), "--part", "sampling"]) == 1
    said = capsys.readouterr().err
    assert "No space left on device" in said and "can't be written" in said
    assert len(said.splitlines()) == 1
    assert not list(tmp_path.iterdir())
    monkeypatch.undo()
    assert call(main, [str(tmp_path / "work"), "--part", "sampling"]) == 0


@needs_tiny
@pytest.mark.parametrize("part", ["lecture", "kernels"])
def test_commands_in_a_blank_folder_end_in_one_sentence(part, written):
    done = run_in(written(part), "-m", "picogpt.explain", "--model_size", "tiny")
    assert done.returncode == 1 and done.stdout == ""
    assert re.fullmatch(r"\w+ is still to be filled in: your code here\n", done.stderr)


def test_the_command_is_for_outside_of_the_folder(written, tmp_path):
    done = run_in(written("sampling"), "-m", "picogpt.exercises", str(tmp_path / "other"))
    assert done.returncode == 2
    assert done.stderr == "this is a folder of exercises: run the command outside of it\n"


GENERATE = """
import sys, picogpt
from picogpt.tools.cli import call
sys.exit(call(lambda: list(picogpt.generate(picogpt.load("tiny"), "Once", 2)), []))
"""


@needs_tiny
def test_the_lectures_folder_writes_and_its_page_shows_ones_own_lines(copied, capsys):
    folder = copied("lecture")
    fill_in(folder, "lecture", lecture_source())
    done = run_in(folder, "-m", "picogpt.explain", "--model_size", "tiny")
    assert done.stderr == "" and done.stdout.strip() == str((folder / "explain.html").resolve())
    page = (folder / "explain.html").read_text(encoding="utf-8")
    assert 'variance = np.var(x, axis=-1, keepdims=True)\\nx = (x - mean)' in page
    words = ["Once upon", "--model_size", "tiny", "--n_tokens_to_generate", "3"]
    own = run_in(folder, "-m", "picogpt.reference", *words)
    capsys.readouterr()
    assert call(reference.main, words) == own.returncode == 0
    assert own.stdout == capsys.readouterr().out
    refused = run_in(folder, "-c", GENERATE)
    assert refused.returncode == 1 and "batches and caches are another part" in refused.stderr


TRACED = """
import json, sys
import numpy as np
import picogpt
from picogpt import reference

NAMES = "x ln_1 c_attn q scores masked weights heads joined attn x_mid ln_2 c_fc act mlp y".split()
model = picogpt.load("tiny")
ids = model.encoder.encode("The cat sat")

def silenced(name, x):
    return 0 * x if name == "blocks.0.heads" else x

def traced(edit=None):
    seen = picogpt.trace(model, ids, edit)
    return {name: float(np.abs(seen["blocks.0." + name].clip(-1e4)).sum()) for name in NAMES}

for source in json.loads(sys.argv[1]):
    exec(source, vars(reference))  # as if reference.py held it
    print(json.dumps([traced(), traced(silenced)]))
"""
EDITS = {  # a change in a function of one's own: the first value in which it shows
    ("", ""): None,
    ("+ mask) @ v", "+ mask) @ v * 2"): "heads",
    ("np.hstack(heads)", "np.hstack(heads[::-1])"): "attn",
    ("gelu(linear(", "np.tanh(linear("): "mlp",
    ("return x + ffn(", "return 2 * x + ffn("): "y",
}


@needs_tiny
def test_what_the_page_shows_of_a_block_comes_from_ones_own_functions(written):
    sources = [lecture_source(edit) for edit in EDITS]
    done = run_in(written("lecture"), "-c", TRACED, json.dumps(sources))
    own = [json.loads(line) for line in done.stdout.splitlines()]
    done = run_in(Path(__file__).parent.parent, "-c", TRACED, json.dumps([""]))
    ours, ours_silenced = json.loads(done.stdout)
    for (found, silenced), first in zip(own, EDITS.values(), strict=True):
        differ = [name for name in ours if found[name] != pytest.approx(ours[name], rel=1e-4)]
        assert (differ[:1] or [None]) == [first]
        if first is None:  # with a change on its way, steps are put together as ours are
            assert silenced == pytest.approx(ours_silenced, rel=1e-4)


def test_all_parts_come_as_numbered_folders_or_none(tmp_path, monkeypatch, capsys):
    def fill_folder(folder, part, lang):
        if part.name == stops_at:
            raise OSError(28, "No space left on device")
        folder.mkdir(parents=True)
        (folder / "README.md").write_text(f"{part.name} {lang}")

    monkeypatch.setattr("picogpt.teaching.folder.fill_folder", fill_folder)
    command = [str(tmp_path / "all"), "--part", "all", "--lang", "ko"]
    stops_at = "tokens"
    assert call(main, command) == 1
    assert list(tmp_path.iterdir()) == []
    assert f"{tmp_path / 'all'} can't be written ([Errno 28] No space" in capsys.readouterr().err
    stops_at = None
    assert call(main, command) == 0
    folders = sorted((tmp_path / "all").iterdir())
    assert [folder.name for folder in folders] == [f"{i}-{name}" for i, name in enumerate(PARTS, 1)]
    assert (folders[2] / "README.md").read_text() == "gradients ko"
    assert "1-lecture, 2-kernels" in capsys.readouterr().out
    assert call(main, command) == 2  # it is there already


def test_a_teachers_table(tmp_path, written, capsys):
    for name in ("kim", "lee", "박지성"):  # the last as macOS may give it: letters taken apart
        shutil.copytree(written("sampling"), tmp_path / unicodedata.normalize("NFD", name))
    source = inspect.getsource(PARTS["sampling"].load())
    fill_in(tmp_path / "lee", "sampling", source.replace("logits / temperature", "logits"))
    fill_in(tmp_path / unicodedata.normalize("NFD", "박지성"), "sampling", "def keep_top_k(:\n")
    (tmp_path / "notes").mkdir()
    capsys.readouterr()
    assert call(main, [str(tmp_path), "--report"]) == 0
    lines = capsys.readouterr().out.splitlines()
    begins = {report.columns(line[: re.search("part|sampling", line).start()]) for line in lines}
    assert begins == {8}  # three Korean letters are six wide
    rows = [[cell.strip() for cell in line.split("  ") if cell.strip()] for line in lines]
    assert rows == [
        ["name", "part", "passed", "hints"],
        ["kim", "sampling", "0 of 3", "not begun: keep_top_k, keep_top_p, distribution"],
        ["lee", "sampling", "2 of 3", "distribution: temperature has not been applied: divide the "
         "logits by it"],
        ["박지성", "sampling", "0 of 3", rows[3][-1]],
    ]  # fmt: skip
    assert rows[3][-1].startswith("generation.py: ") and "line 1" in rows[3][-1]
    assert call(main, [str(tmp_path / "notes"), "--report"]) == 1
    assert "holds no folder that this command wrote" in capsys.readouterr().err


def test_a_student_who_loops_for_ever_is_stopped(tmp_path, written, monkeypatch, capsys):
    shutil.copytree(written("sampling"), tmp_path / "kim")
    fill_in(tmp_path / "kim", "sampling", "while True: pass\n")
    monkeypatch.setattr(report, "SECONDS", 3)
    assert call(main, [str(tmp_path), "--report", "--lang", "ko"]) == 0
    assert "초 안에 끝나지 않음" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("import sys\nsys.exit(5)\n", "generation.py: 5"),
        ("import os\nos._exit(5)\n", "generation.py: Python ended with exit code 5"),
    ],
)
def test_a_student_whose_file_ends_python_is_told_so(tmp_path, written, capsys, code, said):
    shutil.copytree(written("sampling"), tmp_path / "kim")
    fill_in(tmp_path / "kim", "sampling", code)
    capsys.readouterr()
    assert call(main, [str(tmp_path), "--report"]) == 0
    assert capsys.readouterr().out.splitlines()[1].endswith(said)


def test_compare_shows_ones_own_and_the_solution(copied, capsys):
    folder = copied("sampling")
    source = inspect.getsource(PARTS["sampling"].load())
    fill_in(folder, "sampling", source.replace("logits / temperature", "logits * temperature"))
    capsys.readouterr()
    assert call(main, [str(folder), "--compare", "distribution"]) == 0
    said = capsys.readouterr().out
    assert said.index("logits * temperature") < said.index("logits / temperature")
    assert call(main, [str(folder), "--compare", "gelu"]) == 2
    assert "--compare must be one of keep_top_k" in capsys.readouterr().err
    assert call(main, [str(folder.parent), "--compare", "gelu"]) == 1
    assert "is no folder of exercises" in capsys.readouterr().err
