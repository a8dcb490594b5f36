"""python gpt2.py as its users run it: most in this process, some as a process of its own."""

import io
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from models import small_folder, small_model
from reciter import reciter

import gpt2
from picogpt import generate, generate_batch, save
from picogpt.generation import notify
from picogpt.tools.cli import call

SCRIPT = Path(gpt2.__file__).resolve()
OUTGROWN = "the text outgrows the model's 32 positions: it goes on from the newest 16 tokens"
# these models are so small that a second thread only waits
ENVIRONMENT = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "PYTHONIOENCODING": "utf-8"}
ENVIRONMENT["PYTHONUNBUFFERED"] = ""  # what is printed at once is so without it
needs_sigint = pytest.mark.skipif(os.name == "nt", reason="Windows can't send a process Ctrl-C")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A random model that knows no end of text."""
    return str(small_folder(tmp_path_factory.mktemp("random"), generation={"eos_token_id": None}))


@pytest.fixture(scope="module")
def model():
    """The same, in memory."""
    return small_model(generation={"eos_token_id": None})


def reciter_folder(folder, text):
    save(reciter(text), folder)
    return str(folder)


def process(*argv, env=(), **options):
    """Run gpt2.py as a process; the finished one, its output as bytes."""
    return subprocess.run(
        [sys.executable, SCRIPT, *argv], capture_output=True, timeout=60,
        env={**ENVIRONMENT, **dict(env)}, **options,
    )  # fmt: skip


@pytest.fixture
def run(capsys):
    """Call the command in this process: (exit code, stdout, stderr)."""

    def run_it(*argv):
        notify.cache_clear()
        code = call(gpt2.main, list(argv))
        return code, *capsys.readouterr()

    return run_it


@pytest.mark.parametrize("prompt", ["in the", "123", "[1, 2]", "None", "-x", "--x", ""])
def test_only_the_continuation_of_the_very_prompt_is_printed(run, folder, model, prompt):
    expected = "".join(generate(model, prompt, 20)) + "\n"
    flags = ["--n_tokens_to_generate=20", "--model-size", folder]
    assert run(f"--prompt={prompt}", *flags) == (0, expected, "")
    assert run(*flags, "--", prompt) == (0, expected, "")
    if not prompt.startswith("--"):
        assert run(prompt, *flags) == (0, expected, "")


def test_number_of_tokens(run, folder, model):
    text = "".join(generate(model, "in the", 7))
    argv = ["in the", "--model_size", folder, "--n_tokens_to_generate"]
    assert run(*argv, "7") == (0, text + "\n", "")
    assert run(*argv, "0") == (0, "\n", "")


def test_long_texts_say_so_once_on_stderr(run, folder, model):
    prompt = "in the end " * 10
    argv = [prompt, "--model_size", folder, "--n_samples", "2"]
    code, out, err = run(*argv)
    assert code == 0
    assert out == "---\n".join(["".join(generate(model, prompt)) + "\n"] * 2)
    assert [line.split(" the model's")[0] for line in err.splitlines()] == [
        "the prompt is longer than",
        "the text outgrows",
    ]


@pytest.mark.parametrize(
    ("flags", "options"),
    [
        (["--temperature", "0.8"], {"temperature": 0.8}),
        (["--top_k", "5"], {"top_k": 5}),
        (["--top_p", "0.9"], {"top_p": 0.9}),
        (["--temperature", "0"], {"temperature": 0}),
        (["--temperature=1.5", "--top-p=.7", "--top-k=0"],
         {"temperature": 1.5, "top_p": 0.7, "top_k": 0}),
    ],
    ids=str,
)  # fmt: skip
def test_sampling_flags_samples_and_seed(run, folder, model, flags, options):
    texts = generate_batch(model, ["in the"] * 3, seed=3, **options)
    printed = "\n---\n".join(texts) + "\n"
    argv = ["in the", "--model_size", folder, "--seed", "3", "--n_samples", "3", *flags]
    assert run(*argv) == (0, printed, OUTGROWN + "\n")
    assert run(*argv, "--no_stream")[:2] == (0, printed)
    if options != {"temperature": 0}:
        assert len(set(texts)) == 3


def test_without_a_seed_every_run_is_new(run, folder):
    argv = ["in the", "--model_size", folder, "--temperature", "1"]
    assert run(*argv)[1] != run(*argv)[1]


def test_without_flags_the_checkpoint_decides(run, tmp_path, model):
    generation = {"do_sample": True, "top_k": 3, "eos_token_id": None}
    folder = str(small_folder(tmp_path / "model", generation=generation))
    text = "".join(generate(model, "in the", seed=1, temperature=1, top_k=3))
    assert run("in the", "--model_size", folder, "--seed", "1")[:2] == (0, text + "\n")


def test_stop_strings(run, tmp_path):
    folder = reciter_folder(tmp_path / "model", "one, two; three")
    for stop, text in [("; ", "one, two"), ("four|||, t", "one"), (";;", "one, two; three")]:
        assert run("x", "--model_size", folder, "--stop", stop) == (0, text + "\n", "")


def test_drafts_change_the_passes_and_not_the_text(run, tmp_path):
    text = "again and again and " * 8
    argv = ["x", "--model_size", reciter_folder(tmp_path / "model", text), "--verbose"]
    argv += ["--n_tokens_to_generate", "150"]
    for more in ([], ["--no_stream"], ["--n_samples", "2"]):
        code, out, err = run(*argv, *more)
        assert (code, len(err.splitlines())) == (0, 1)
        written, _, rest = err.partition(" tokens written in ")
        n_passes, _, rest = rest.partition(" passes: ")
        assert int(written) == 150 * (2 if "--n_samples" in more else 1)
        assert int(n_passes) < int(written) / 2
        assert rest.split(" tokens a pass, ")[1].endswith(" tokens a second\n")
        without = run(*argv, *more, "--no_draft")
        assert without[:2] == (0, out)
        assert without[2].startswith(f"{written} tokens written in {written} passes: 1.00 tokens")


def test_a_line_s_end_as_a_stop_string(run, tmp_path):
    folder = reciter_folder(tmp_path / "model", "one\ntwo; three")
    for stop in (r"\n", "\n", r"; |||\n", r"e\nt"):
        printed = "on" if stop.startswith("e") else "one"
        assert run("x", "--model_size", folder, "--stop", stop) == (0, printed + "\n", "")


def test_special_tokens_in_the_prompt(run, folder, model):
    prompt = "in<|endoftext|>the"
    for flags, special in (([], False), (["--special_tokens"], True)):
        text = "".join(generate(model, prompt, 9, special_tokens=special))
        argv = [prompt, "--model_size", folder, "--n_tokens_to_generate", "9", *flags]
        assert run(*argv) == (0, text + "\n", "")
        assert run(*argv, "--no_stream") == (0, text + "\n", "")
    shown = [run(prompt, "--model_size", folder, "--show_next", "5", *flags)[1]
             for flags in ([], ["--special_tokens"])]  # fmt: skip
    assert shown[0] != shown[1]


def test_show_next_is_a_table_with_the_models_name(run, tmp_path):
    folder = reciter_folder(tmp_path / "model", "né")
    code, out, err = run("x", "--model_size", folder, "--show_next", "3", "--temperature", "0.5")
    assert (code, err) == (0, "")
    title, first, second, third = out.splitlines()
    assert title == f"next token, by {Path(folder).name}"
    token, percent, bar = first.split()
    assert token == "'n'"
    assert float(percent.rstrip("%")) == pytest.approx(2 * len(bar), abs=1.1)
    assert float(second.split()[1].rstrip("%")) <= float(percent.rstrip("%"))
    assert run("x", "--model_size", folder, "--show_next", "1", "--temperature", "0")[1] == (
        f"next token, by {Path(folder).name}\n'n' 100.0% {50 * '#'}\n"
    )
    assert len(run("x", "--model_size", folder, "--show_next", "9999")[1].splitlines()) == 268
    words = ["--show_next", "5", "--temperature", "0"]  # no other can come
    assert len(run("x", "--model_size", folder, *words)[1].splitlines()) == 2


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        ([], "missing a required argument: 'prompt'"),
        (["a", "b"], "too many positional arguments"),
        (["a", "--temprature", "1"], "did you mean --temperature?"),
        (["a", "--n_tokens", "1"], "did you mean --n_tokens_to_generate?"),
        (["a", "--n_tokens_to_generate", "-1"], "--n_tokens_to_generate must be 0 or more, not -1"),
        (["a", "--n_tokens_to_generate", "1.5"], "must be a whole number, not '1.5'"),
        (["a", "--n_samples", "0"], "--n_samples must be 1 or more, not 0"),
        (["a", "--show_next", "-1"], "--show_next must be 0 or more"),
        (["a", "--seed", "-1"], "--seed must be 0 or more"),
        (["a", "--seed", "x"], "--seed must be a whole number"),
        (["a", "--top_p", "2"], "top_p must be above 0 and at most 1"),
        (["a", "--top_p", "0"], "top_p must be above 0"),
        (["a", "--top_p", "nan"], "--top_p must be a number, not 'nan'"),
        (["a", "--top_k", "-3"], "top_k must be a whole number, 0 (all tokens) or more"),
        (["a", "--temperature", "-0.1"], "temperature must be 0 (greedy) or more"),
        (["a", "--temperature", "1e39"], "temperature must be 0 (greedy) or more"),
        (["a", "--stop"], "--stop needs a value"),
    ],
    ids=str,
)
def test_wrong_usage_is_told_before_any_work(run, argv, said):
    no_model = ["--model_size", "/no/such/folder"]  # looking for it would be exit 1
    code, out, err = run(*no_model, *argv)
    assert (code, out, len(err.splitlines())) == (2, "", 1)
    assert said in err


def test_a_model_that_is_not_there_is_one_sentence_and_exit_1(run):
    code, out, err = run("a", "--model_size", "/no/such/folder")
    assert (code, out, len(err.splitlines())) == (1, "", 1)
    assert "/no/such/folder" in err


def test_help_documents_every_flag(run):
    code, out, err = run("--help")
    assert (code, err) == (0, "")
    for name in ("n_tokens_to_generate", "model_size", "models_dir", "temperature", "top_k",
                 "top_p", "seed", "n_samples", "stop", "special_tokens", "no_stream",
                 "show_next", "no_draft", "verbose"):  # fmt: skip
        _, _, after = out.partition(f"    --{name}")
        lines = [line.strip() for line in after.splitlines()[1:4]]
        assert any(line and not line.startswith(("Type:", "Default:", "--")) for line in lines)


def test_as_a_process_from_elsewhere_with_the_prompt_on_stdin(folder, model, tmp_path):
    text = "".join(generate(model, "in the\n")) + "\n"
    relative = os.path.relpath(folder, tmp_path)
    done = process("-", "--model_size", relative, input=b"in the\n\n", cwd=tmp_path)
    assert (done.returncode, done.stderr.decode().rstrip()) == (0, OUTGROWN)
    assert done.stdout.decode() == text.replace("\n", os.linesep)
    assert process("a", "--help", cwd=tmp_path).returncode == 0
    assert process("a", "b", cwd=tmp_path).returncode == 2


@pytest.mark.parametrize(
    ("encoding", "shown"),
    [("cp949", "한국 caf? ?!"), ("cp1252", "?? café ?!"), ("utf-8", "한국 café 🤖!")],
)
def test_any_text_comes_out_under_any_encoding(tmp_path, encoding, shown):
    folder = reciter_folder(tmp_path / "model", "한국 café 🤖!")
    done = process("x", "--model_size", folder, env={"PYTHONIOENCODING": encoding})
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.decode(encoding).rstrip() == shown


def test_no_character_is_printed_in_parts(tmp_path):
    text = "a한🤖b" * 30
    folder = reciter_folder(tmp_path / "model", text)
    with started("x", "--model_size", folder, "--n_tokens_to_generate", "500") as running:
        chunks = list(iter(lambda: os.read(running.stdout.fileno(), 1 << 16), b""))
    assert running.returncode == 0
    assert all(chunk.decode() for chunk in chunks)  # none of them ends within a character
    assert b"".join(chunks).decode().rstrip() == text


class Screen(io.StringIO):
    """A stdout that remembers what could be read on it, each time that it was flushed."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def flush(self):
        self.seen.append(self.getvalue())


def test_no_character_waits_for_the_next(tmp_path, monkeypatch):
    text = "a한🤖b" * 30
    folder = reciter_folder(tmp_path / "model", text)
    monkeypatch.setattr(sys, "stdout", Screen())
    gpt2.main("x", model_size=str(folder), n_tokens_to_generate=500)
    assert {text[:n] for n in range(1, len(text) + 1)} <= set(sys.stdout.seen)


def started(*argv, python=()):
    """gpt2.py as a process at work."""
    argv = [sys.executable, *python, SCRIPT, *argv]
    pipe = subprocess.PIPE
    return subprocess.Popen(argv, stdout=pipe, stderr=pipe, env=ENVIRONMENT)


def endless(folder):
    """What makes gpt2.py write for many minutes."""
    return ["in", "--model_size", folder, "--n_tokens_to_generate", "10000000"]


@needs_sigint
def test_ctrl_c_leaves_what_is_printed_and_exits_130(folder):
    with started(*endless(folder)) as running:
        first = os.read(running.stdout.fileno(), 1 << 16)
        running.send_signal(signal.SIGINT)
        _, err = running.communicate(timeout=60)
    assert running.returncode == 130
    assert first
    assert err.decode() in ("\n", OUTGROWN + "\n\n")  # the shell's prompt gets its own line


@pytest.mark.skipif(os.name == "nt", reason="needs a POSIX shell")
def test_a_closed_stderr_keeps_stdout_clean():
    command = ["sh", "-c", '"$@" 2>&-', "sh", sys.executable, str(SCRIPT), "--bogus"]
    done = subprocess.run(command, capture_output=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (2, b"", b"")


@needs_sigint
@pytest.mark.parametrize("module", ["numpy.version", "picogpt.tools.errors", "picogpt.tools.cli"])
def test_ctrl_c_during_imports_ends_at_once(folder, module):
    with started(*endless(folder), python=["-X", "importtime"]) as running:
        for line in running.stderr:  # what has been imported; gpt2.py's own first line is past
            assert OUTGROWN not in line.decode()
            if line.split()[-1].decode() == module:
                break
        running.send_signal(signal.SIGINT)
        _, err = running.communicate(timeout=60)
    assert running.returncode == 130
    assert b"Traceback" not in err


def test_a_reader_that_leaves_is_no_traceback(folder):
    with started(*endless(folder)) as running:
        assert os.read(running.stdout.fileno(), 1)
        running.stdout.close()
        err = running.stderr.read()
        assert running.wait(timeout=60) == 1
    assert err.decode().rstrip() in ("", OUTGROWN)
