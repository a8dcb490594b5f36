"""From shell words to checked values; tests/test_gpt2_command.py has a whole command."""

import contextlib
import math
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Literal

import pytest

from picogpt import __version__
from picogpt.tools.cli import at_least, call, parse, read_stdin
from picogpt.tools.errors import DataError, DownloadError, TextError, UsageError

ROOT = Path(__file__).parents[2]


def command(
    text: str,
    place: Path = Path("here"),
    *,
    count: int = 1,
    rate: float = 0.5,
    label: str | None = None,
    top_k: int | None = None,
    task: Literal["sst", "Quora"] = "sst",
    and_: bool = False,
):
    """Try things out.

    Longer words on it.

    Args:
        text: what to say; it has a line of explanation that is so long that it can't possibly stand
            on one line of a console.
        place: where.
        count: how often.
        rate: how fast.
        label: what to call it.
        top_k: how many.
        task: which.
        and_: whether more.
    """


@pytest.mark.parametrize(
    "text",
    ["123", "1.5", "[1, 2]", "{'a': 1}", "None", "True", "-", "-x", "-1", "a b", "", "a=b", "한국"],
)
def test_a_word_stays_the_text_that_it_is(text):
    assert parse(command, [text]) == {"text": text}
    assert parse(command, [f"--text={text}"]) == {"text": text}
    assert parse(command, ["--text", text]) == {"text": text}
    assert parse(command, ["x", "--label", text]) == {"text": "x", "label": text}


@pytest.mark.parametrize("text", ["--", "--x", "--count", "--text=a", "---"])
def test_a_text_that_begins_with_two_dashes_stands_behind_an_equals_sign(text):
    assert parse(command, [f"--text={text}"]) == {"text": text}
    assert parse(command, ["--", text]) == {"text": text}


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (["x", "there"], {"place": Path("there")}),
        (["x", "--place", "there"], {"place": Path("there")}),
        (["--count", "3", "x"], {"count": 3}),
        (["x", "--count=-3"], {"count": -3}),
        (["x", "--count", "-3"], {"count": -3}),
        (["x", "--rate", "1e-4"], {"rate": 1e-4}),
        (["x", "--rate", "2"], {"rate": 2.0}),
        (["x", "--top_k", "5"], {"top_k": 5}),
        (["x", "--top-k", "5"], {"top_k": 5}),
        (["x", "--top-k=5"], {"top_k": 5}),
        (["x", "--label=a=b"], {"label": "a=b"}),
        (["x", "--label", ""], {"label": ""}),
        (["x", "--label=None"], {"label": "None"}),
        (["x", "--and"], {"and_": True}),
        (["x", "--and=false"], {"and_": False}),
        (["x", "--and=True"], {"and_": True}),
        (["x", "--task", "quora"], {"task": "Quora"}),
        (["--and", "x", "--", "--there"], {"and_": True, "place": Path("--there")}),
    ],
    ids=str,
)
def test_flags_become_what_the_annotation_says(argv, expected):
    values = parse(command, argv)
    assert values == {"text": "x", **expected}
    assert all(type(values[name]) is type(expected[name]) for name in expected)


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        ([], "missing a required argument: 'text'"),
        (["a", "b", "c"], "too many positional arguments.*in quotes"),
        (["a", "-t", "1"], "too many positional arguments: -t is no flag, flags begin with two"),
        (["a", "—top_k", "1"], "too many positional arguments: —top_k is no flag, flags begin"),
        (["a", "b", "−count=1"], "−count=1 is no flag, flags begin with two hyphens --"),
        (["a", "b", "-count=1"], "-count=1 is no flag, flags begin with two hyphens --"),
        (["a", "--COUNT", "1"], "--COUNT is no flag of this command: did you mean --count?"),
        (["a", "--text", "b"], "multiple values for argument 'text'"),
        (["a", "--count", "1", "--count", "2"], "--count is given twice"),
        (["a", "--coumt", "1"], "--coumt is no flag of this command: did you mean --count?"),
        (["a", "--coumt=1"], "--coumt is no flag of this command: did you mean --count?"),
        (["a", "--and", "--and"], "--and is given twice"),
        (["a", "--ad"], "--ad is no flag of this command: did you mean --and\\?"),
        (["a", ""], "--place must be a path, not ''"),
        (["a", "--zzz"], "--zzz is no flag of this command: --help"),
        (["a", "--=1"], "-- is no flag"),
        (["a", "--count"], "--count needs a value"),
        (["a", "--count", "--rate", "1"], "--count needs a value.*--count=VALUE"),
        (["a", "--count", "1.5"], "--count must be a whole number, not '1.5'"),
        (["a", "--count", "many"], "--count must be a whole number, not 'many'"),
        (["a", "--count="], "--count must be a whole number, not ''"),
        (["a", "--count", "9" * 5000], "--count must be a whole number"),
        (["a", "--top-k", "None"], "--top_k must be a whole number, not 'None'"),
        (["a", "--rate", "x"], "--rate must be a number, not 'x'"),
        (["a", "--rate", "nan"], "--rate must be a number, not 'nan'"),
        (["a", "--rate", "-inf"], "--rate must be a number"),
        (["a", "--rate", "1e999"], "--rate must be a number"),
        (["a", "--task", "mnli"], "--task must be one of sst, quora, not 'mnli'"),
        (["a", "--and=maybe"], "--and must be one of true, false, not 'maybe'"),
        (["a", "--and", "maybe", "b"], "too many positional arguments"),
    ],
    ids=str,
)
def test_wrong_usage_is_one_sentence_and_exit_2(argv, said, capsys):
    with pytest.raises(UsageError, match=said):
        parse(command, argv)
    assert call(command, argv) == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert len(output.err.splitlines()) == 1


def test_words_are_read_before_the_command_runs():
    ran = []

    def run_it(text: str, *, count: int = 1):
        ran.append((text, count))

    for argv in (["a", "--coumt", "2"], ["a", "b"], ["a", "--count", "x"], ["--help"], ["-h"]):
        call(run_it, argv)
    assert ran == []
    assert call(run_it, ["a", "--count", "2"]) == 0
    assert ran == [("a", 2)]
    assert call(run_it, ["--", "--help"]) == 0
    assert ran[1:] == [("--help", 1)]


def test_what_powershell_makes_of_commas_is_told():
    def only_flags(*, data: str):
        return data

    with pytest.raises(UsageError, match="put what has spaces or commas in quotes"):
        parse(only_flags, ["--data", "a", "b"])


@pytest.mark.parametrize(
    ("module", "script", "name"),
    [
        (None, "gpt2.py", "python gpt2.py"),
        (None, "/bin/picogpt", "picogpt"),
        (None, "picogpt.exe", "picogpt"),
        ("picogpt.train", "train.py", "python -m picogpt.train"),
        ("picogpt.__main__", "__main__.py", "python -m picogpt"),
    ],
)
def test_help_names_the_command_as_it_was_called(monkeypatch, capsys, module, script, name):
    spec = module and SimpleNamespace(name=module)
    monkeypatch.setattr(sys.modules["__main__"], "__spec__", spec, raising=False)
    monkeypatch.setattr(sys, "argv", [script])
    assert call(command, ["--help"]) == 0
    assert f"SYNOPSIS\n    {name} TEXT <flags>\n" in capsys.readouterr().out


def test_the_version_is_told(capsys):
    assert call(command, ["--version"]) == 0
    assert capsys.readouterr().out == f"picogpt {__version__}\n"


@pytest.mark.parametrize("word", ["--help", "-h"])
def test_help_tells_of_every_parameter(word, capsys):
    assert call(command, ["a", word]) == 0
    output = capsys.readouterr()
    assert output.err == ""
    for said in (
        "Try things out.",
        "Longer words on it.",
        "what to say; it has a line",
        "--count=COUNT\n        Type: int\n        Default: 1\n        how often.",
        "--label=LABEL\n        Type: str\n        what to call it.",
        "--top_k=TOP_K\n        Type: int\n        how many.",
        "--task=TASK\n        Type: one of sst, Quora\n        Default: 'sst'\n",
        "--and\n        whether more.",
        "which.",
    ):
        assert said in output.out
    assert max(map(len, output.out.splitlines())) <= 100
    assert "-c, " not in output.out  # one letter is no flag of ours


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (UsageError("that is wrong"), 2, "that is wrong"),
        (DataError("bad row"), 1, "bad row"),
        (DownloadError("no network"), 1, "no network"),
        (FileNotFoundError(2, "No such file", "x.txt"), 1, "x.txt: No such file"),
        (OSError(28, "No space left on device"), 1, "No space left on device"),
        (PermissionError(13, "Denied", "a\x1b[31m\nb"), 1, "a\\x1b[31m\\nb: Denied"),
        (OSError("no number"), 1, "no number"),
        (MemoryError(), 1, "There is not enough memory for this."),
        (KeyboardInterrupt(), 130, ""),
        (BrokenPipeError(), 1, None),
    ],
    ids=repr,
)
def test_errors_become_a_line_and_an_exit_code(error, code, said, capsys):
    def fail():
        raise error

    assert call(fail, []) == code
    assert capsys.readouterr().err == ("" if said is None else said + "\n")


def test_a_second_ctrl_c_changes_nothing():
    def interrupted():
        raise KeyboardInterrupt

    before = signal.getsignal(signal.SIGINT)
    try:
        assert call(interrupted, []) == 130
        assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_bug_keeps_its_traceback():
    with pytest.raises(ZeroDivisionError):
        call(lambda: 1 / 0, [])


def test_at_least():
    at_least(0, a=0, b=None, c=math.inf)
    with pytest.raises(UsageError, match="--b must be 1 or more, not 0"):
        at_least(1, a=1, b=0)


@pytest.mark.parametrize(
    ("data", "text"),
    [
        ("한국\n".encode(), "한국"),
        (b"a\n\n", "a\n"),
        (b"a\r\nb\r\n", "a\nb"),  # as Windows ends lines
        (b"\xef\xbb\xbfa", "a"),  # as PowerShell begins a text
        (b"  a  ", "  a  "),
        (b"\n", ""),
        (b"", ""),
    ],
)
def test_read_stdin_drops_one_final_newline(data, text, tmp_path):
    with replaced_stdin(tmp_path, data):
        assert read_stdin() == text


def test_read_stdin_refuses_what_is_no_utf_8(tmp_path):
    with replaced_stdin(tmp_path, b"ab\xff"), pytest.raises(TextError, match="byte 2"):
        read_stdin()


def test_standard_input_that_gives_nothing_is_told(tmp_path):
    with replaced_stdin(tmp_path, b""), (tmp_path / "other").open("wb") as write_only:
        os.dup2(write_only.fileno(), 0)
        with pytest.raises(TextError, match="standard input can't be read"):
            read_stdin()


@contextlib.contextmanager
def replaced_stdin(folder, data):
    """For a while, file descriptor 0 is a file that holds `data`."""
    path, saved = folder / "stdin", os.dup(0)
    path.write_bytes(data)
    try:
        with path.open("rb") as file:
            os.dup2(file.fileno(), 0)
        yield
    finally:
        os.dup2(saved, 0)
        os.close(saved)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGINT to send")
def test_ctrl_c_that_a_shell_has_ignored_stays_ignored_also_in_training():
    """As `python -m picogpt.train ... &` in a script, whose Ctrl-C is not for what runs behind."""
    code = """
import signal
from picogpt.tools.cli import run
from picogpt.training.state import deferred_interrupt
def command():
    signal.raise_signal(signal.SIGINT)
    with deferred_interrupt() as pressed:
        signal.raise_signal(signal.SIGINT)
    print(pressed)
run(command, [])
"""
    words = ["sh", "-c", 'trap "" INT; "$@"', "sh", sys.executable, "-c", code]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "[]\n", "")


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGINT to send")
@pytest.mark.parametrize("module", ["picogpt.tools.errors", "numpy.version", "picogpt.train"])
def test_ctrl_c_while_a_command_is_imported_is_no_traceback(module):
    words = [sys.executable, "-X", "importtime", "-m", "picogpt.train", "--help"]
    process = subprocess.Popen(words, cwd=ROOT, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL)
    for line in process.stderr:
        if line.split()[-1].decode() in (module, "picogpt.checkpoint.config"):
            break
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130 and b"Traceback" not in errors


def test_no_more_threads_is_one_sentence(capsys):
    def starts_threads():
        raise RuntimeError("can't start new thread")

    assert call(starts_threads, []) == 1
    assert "starts no more threads" in capsys.readouterr().err
