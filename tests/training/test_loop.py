"""The trainer: a loop that can be killed and resumed to the same bits, its command."""

import json
import os
import signal
import subprocess
import sys
import time
import tracemalloc
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from models import small_encoder, small_folder, small_model

from picogpt import train as train_command
from picogpt.model import load
from picogpt.optim import new_state
from picogpt.tokenizer.added_tokens import AddedToken
from picogpt.tokenizer.encoder import Encoder
from picogpt.tools.cli import call
from picogpt.tools.cores import blas_threads, cores, openblas
from picogpt.tools.errors import DataError
from picogpt.tools.tree import tree_leaves, tree_map
from picogpt.train import Files, main
from picogpt.training import loop
from picogpt.training.data import encode_files, find_files, line_starts, read_chunks
from picogpt.training.loop import Recipe, init_params, train_step, valid_loss
from picogpt.training.parallel import summed_over_threads
from picogpt.training.windows import Text, batch_at

ROOT = Path(__file__).parents[2]
SIZE = ["--n_layer", "2", "--n_embd", "16", "--n_head", "2", "--n_ctx", "16", "--vocab_size", "280"]
RECIPE = Recipe(
    n_steps=20, batch_size=4, accumulate=1, optimizer="adamw", learning_rate=1e-2,
    muon_rate=1e-2, beta2=0.99, warmup=2, decay_share=None, weight_decay=0.1, max_norm=1.0,
    dropout=0.0, seed=0, n_threads=1, first_trained_block=0, n_ctx=32,
)  # fmt: skip


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    """Sums, one a line: a text that a small model learns something of in a few steps."""
    file = tmp_path_factory.mktemp("text") / "sums.txt"
    rng = np.random.default_rng(0)
    sums = (f"{a}+{b}={a + b}\n" for a, b in rng.integers(0, 50, (3000, 2)))
    file.write_text("".join(sums), encoding="utf-8")
    return file


def command(text, out, n_steps=200, *more):
    return ["--data", str(text), "--out", str(out), *SIZE, "--n_steps", str(n_steps), *more]


def weights(folder):
    return tree_leaves(load(folder).params)


@pytest.mark.parametrize("change", [{"n_threads": 2}, {"accumulate": 4}, {"n_threads": 3}])
def test_threads_and_accumulation_change_nothing(change):
    windows = np.random.default_rng(1).integers(0, 267, (4, 33))
    results = []
    for recipe in (RECIPE, replace(RECIPE, **change)):
        model = small_model()
        state = new_state(model.params)
        with summed_over_threads(recipe.n_threads) as summed:
            losses = [train_step(model, state, windows, step, recipe, summed) for step in range(3)]
        results.append((losses, model.params))
    (plain_losses, plain), (losses, changed) = results
    np.testing.assert_allclose(losses, plain_losses, rtol=1e-5)
    for a, b in zip(tree_leaves(plain), tree_leaves(changed)):
        if a.ndim > 1:  # not the keys' bias: its gradient is 0 but for rounding
            np.testing.assert_allclose(a, b, atol=1e-4)


def test_blas_threads_come_back():
    with blas_threads(1) as known:
        if not known:
            pytest.skip("NumPy has another BLAS than OpenBLAS here")
        threads = openblas("get_num_threads")
        assert threads() == 1
        with blas_threads(2):
            assert threads() == 2
        assert threads() == 1
    assert cores() >= 1


def test_init_params_are_gpt2s():
    config = small_model(n_embd=96, n_layer=8).config
    params = init_params(config, np.random.default_rng(0))
    assert np.std(params["wte"]) == pytest.approx(0.02, rel=0.05)
    assert np.std(params["blocks"][3]["attn"]["c_proj"]["w"]) == pytest.approx(0.005, rel=0.05)
    assert np.std(params["blocks"][3]["mlp"]["c_fc"]["w"]) == pytest.approx(0.02, rel=0.05)
    assert not params["blocks"][0]["mlp"]["c_fc"]["b"].any()
    assert (params["ln_f"]["g"] == 1).all()
    assert {a.dtype for a in tree_leaves(params)} == {np.dtype(np.float32)}


def test_killed_and_resumed_is_the_same_to_the_bit(text, tmp_path):
    straight, killed = tmp_path / "straight", tmp_path / "killed"
    assert call(main, command(text, straight)) == 0
    often = "from picogpt import train; from picogpt.tools import cli; "
    often += "from picogpt.training import resumable; resumable.SAVE_SECONDS = 0.2; "
    words = [sys.executable, "-c", often + "cli.run(train.main)", *command(text, killed)]
    process = subprocess.Popen(words, cwd=ROOT)
    while not (killed / "config.json").exists():
        assert process.poll() is None, "it ended before it could be killed"
        time.sleep(0.01)
    process.kill()
    process.wait()
    n_logged = len((killed / "log.jsonl").read_text().splitlines())
    assert 0 < n_logged < 200
    assert load(killed).config == load(straight).config  # every command can use it
    assert call(main, command(text, killed)) == 0
    assert all(map(np.array_equal, weights(straight), weights(killed)))
    logs = [
        [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
        for out in (straight, killed)
    ]
    assert [e["loss"] for e in logs[0]] == [e["loss"] for e in logs[1]]
    assert [e["step"] for e in logs[0]] == list(range(1, 201))
    assert logs[0][-1]["valid_loss"] < logs[0][3]["valid_loss"] - 1  # it has learned something
    assert "</svg>" in (straight / "curve.svg").read_text()


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGINT to send")
def test_ctrl_c_saves_and_says_how_to_go_on(text, tmp_path, capsys):
    words = [sys.executable, "-m", "picogpt.train", *command(text, tmp_path, 100_000)]
    process = subprocess.Popen(words, cwd=ROOT, stderr=subprocess.PIPE, text=True)
    log = tmp_path / "log.jsonl"
    while not (log.exists() and log.read_text().count("\n") > 3):
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "saved: the same command goes on" in errors and "Traceback" not in errors
    n_done = len(log.read_text().splitlines())
    assert load(tmp_path).config.n_layer == 2
    assert call(main, command(text, tmp_path, n_done)) == 0  # a shorter run ends as it stands
    said = capsys.readouterr()
    assert f"--n_steps {n_done} in place of 100000" in said.err
    entries = log.read_text().splitlines()
    assert len(entries) == n_done
    assert call(main, command(text, tmp_path, n_done)) == 0
    assert f"{n_done} steps: it is finished" in capsys.readouterr().out


def test_top_layers_from_a_checkpoint(text, tmp_path, capsys):
    start, out = tmp_path / "start", tmp_path / "out"
    assert call(main, command(text, start, 2)) == 0
    before = load(start).params
    more = ["--model_size", str(start), "--top_k_layers"]
    assert call(main, command(text, out, 3, *more, "3")) == 2 and not out.exists()
    assert "start has only 2 layers" in capsys.readouterr().err
    more += ["1", "--dropout", "0.1", "--half"]
    assert call(main, command(text, out, 3, *more)) == 0
    after = load(out).params
    half = tree_map(lambda x: x.astype(np.float16).astype(np.float32), before)
    for name in ("wte", "wpe"):
        assert np.array_equal(half[name], after[name])
    same = [
        all(map(np.array_equal, tree_leaves(a), tree_leaves(b)))
        for a, b in zip(half["blocks"], after["blocks"])
    ]
    assert same == [True, False]
    sizes = [(folder / "model.safetensors").stat().st_size for folder in (out, start)]
    assert sizes[0] < 0.6 * sizes[1]


def test_a_model_to_start_from_keeps_its_size_but_windows_may_be_shorter(text, tmp_path, capsys):
    start, out = tmp_path / "start", tmp_path / "out"
    assert call(main, command(text, start, 2)) == 0
    capsys.readouterr()
    argv = ["--data", str(text), "--out", str(out), "--n_steps", "2", "--model_size", str(start)]
    for flags in (["--n_layer", "3"], ["--n_embd", "8"], ["--n_ctx", "17"]):
        assert call(main, [*argv, *flags]) == 2
        assert f"{' '.join(flags)} doesn't fit" in capsys.readouterr().err
        assert not out.exists()
    assert call(main, [*argv, "--n_ctx", "8", "--batch_size", "1", "--n_threads", "1"]) == 0
    model = load(out)
    assert model.config.n_ctx == 16
    held = np.load(out / "tokens.npy")
    loss, _ = valid_loss(model, 8, Text(held[len(held) * 49 // 50 :]))
    told = json.loads((out / "log.jsonl").read_text().splitlines()[-1])["valid_loss"]
    assert told == pytest.approx(loss, rel=1e-6)
    short = (out / "model.safetensors").read_bytes()
    assert call(main, [*argv[:3], str(tmp_path / "long"), *argv[4:], "--batch_size", "1"]) == 0
    assert short != (tmp_path / "long" / "model.safetensors").read_bytes()


def test_the_finish_reads_its_own_files(text, tmp_path, monkeypatch):
    (tmp_path / "stars.txt").write_text("*" * 2000, encoding="utf-8")
    read = []

    def train(model, texts_at, *_):
        texts = [texts_at(step)[0].ids.tolist() for step in range(10)]
        read.extend("*" in model.encoder.decode(ids) for ids in texts)
        return model

    monkeypatch.setattr("picogpt.train.train", train)
    more = ["--finish_with", str(tmp_path / "stars.txt"), "--finish_share", "0.3"]
    assert call(main, command(text, tmp_path / "out", 10, *more)) == 0
    assert read == [False] * 7 + [True] * 3


@pytest.mark.parametrize("flag", ["data", "finish_with", "valid"])
def test_a_text_that_is_too_short_is_told_at_once_and_read_anew_when_it_has_grown(
    text, tmp_path, capsys, flag
):
    short, out = tmp_path / "short.txt", tmp_path / "out"
    short.write_text("" if flag == "valid" else "one short line", encoding="utf-8")
    more = [] if flag == "data" else [f"--{flag}", str(short)]
    argv = command(short if flag == "data" else text, out, 2, *more)
    assert call(main, argv) == 1
    assert f"--{flag} gives too few tokens, " in capsys.readouterr().err
    assert not (out / "log.jsonl").exists()
    short.write_text(text.read_text(encoding="utf-8")[:9000] + "*", encoding="utf-8")
    assert call(main, argv) == 0


def test_a_finish_without_lines_is_told_at_once(text, tmp_path, capsys):
    (tmp_path / "stars.txt").write_text("*" * 2000, encoding="utf-8")
    argv = command(text, tmp_path, 2, "--finish_with", str(tmp_path / "stars.txt"), "--by_line")
    assert call(main, argv) == 1
    assert "--finish_with: no window fits" in capsys.readouterr().err


def test_a_run_that_changes_its_length_before_the_rate_falls_is_one_of_that_length(text, tmp_path):
    straight, changed = tmp_path / "straight", tmp_path / "changed"
    more = ["--decay_share", "0.5", "--optimizer", "muon", "--n_threads", "2", "--warmup", "2"]
    assert call(main, command(text, straight, 20, *more)) == 0
    with pytest.MonkeyPatch.context() as patch:  # Ctrl-C in the 10th of 100 steps
        patch.setattr(loop, "train_step", interrupted_after(10))
        assert call(main, command(text, changed, 100, *more)) == 130
    assert call(main, command(text, changed, 20, *more)) == 0
    assert all(map(np.array_equal, weights(straight), weights(changed)))


def interrupted_after(n_steps):
    """train_step, with Ctrl-C pressed in the last of n_steps."""

    def step_and_press(model, state, windows, step, *rest):
        loss = train_step(model, state, windows, step, *rest)
        if step + 1 == n_steps:
            signal.raise_signal(signal.SIGINT)
        return loss

    return step_and_press


def test_the_model_is_the_best_one_on_the_validation_text(text, tmp_path, capsys, monkeypatch):
    losses = iter([3.0, 2.0, 2.5, 2.2])
    best = []

    def valid_loss(model, *_):
        best.append([a.copy() for a in tree_leaves(model.params)])
        return next(losses), 1.0

    monkeypatch.setattr(loop, "valid_loss", valid_loss)
    assert call(main, command(text, tmp_path, 4)) == 0
    said = "validation text was lowest after step 2 of 4: "
    where = f"{tmp_path} holds the model of that step, {tmp_path / 'last-step'} that of the last"
    assert said + where in capsys.readouterr().err
    assert all(map(np.array_equal, weights(tmp_path), best[1]))
    assert all(map(np.array_equal, weights(tmp_path / "last-step"), best[3]))
    losses = iter([1.9, 1.8])
    assert call(main, command(text, tmp_path, 6)) == 0  # longer, and the last is the best
    assert not (tmp_path / "last-step").exists()


def test_the_tokenizer_may_be_learned_from_other_files(text, tmp_path):
    (tmp_path / "stars.txt").write_text("*" * 2000, encoding="utf-8")
    more = ["--vocab_from", str(tmp_path / "stars.txt")]
    assert call(main, command(text, tmp_path / "out", 1, *more)) == 0
    assert load(tmp_path / "out").encoder.merges[0] == "* *"


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (["--n_embd", "15"], "n_embd"),
        (["--n_layer", "0"], "n_layer"),
        (["--top_k_layers", "1"], "model_size"),
        (["--vocab_from", "SAME", "--model_size", "tiny"], "--model_size brings its own"),
        (["--finish_share", "2"], "finish_share"),
        (["--batch_size", "0"], "batch_size"),
        (["--learning_rate", "-1"], "learning_rate"),
        (["--max_norm", "-1"], "max_norm"),
        (["--beta2", "1"], "beta2"),
        (["--decay_share", "0"], "decay_share"),
        (["--optimizer", "sgd"], "optimizer"),
        (["--shares", "1,2"], "for each part of --data, with commas between: 1 in all"),
        (["--shares", "0"], "--shares must be a whole number from 1 to 999"),
        (["--shares", "3"], "--shares needs --valid"),
        (["--by_line", "--by_document"], "--by_line or --by_document: leave one of them out"),
        (["--by_document", "--no_special_tokens"], "which --no_special_tokens makes plain text"),
        (["--valid", "SAME"], "--data names no files but those of --valid"),
        (["--valid", "OTHER", "--finish_with", "OTHER"], "--finish_with names no files but"),
        (["--valid", "OTHER", "--vocab_from", "OTHER"], "--vocab_from names no files but"),
        (["--finish_with", "no/such/*.txt"], "no/such"),
        (["--valid", ""], '"" holds no text'),
        (["--finish_with", ""], '"" holds no text'),
        (["--vocab_from", ""], '"" holds no text'),
        (["--model_size", ""], "'' is no folder"),
    ],
)
def test_wrong_usage_is_one_sentence(text, tmp_path, capsys, more, told):
    other = tmp_path / "other.txt"
    other.write_text("another text")
    more = [{"SAME": str(text), "OTHER": str(other)}.get(word, word) for word in more]
    assert call(main, command(text, tmp_path / "out", 2, *more)) in (1, 2)
    error = capsys.readouterr().err
    assert told in error and error.count("\n") == 1
    assert not (tmp_path / "out" / "model.safetensors").exists()


def test_no_data_are_told(tmp_path, capsys):
    """As --data "$DATA" where the variable is not set."""
    assert call(main, command("", tmp_path / "out")) == 1
    assert capsys.readouterr().err.startswith('"" holds no text')


def test_the_checksum_of_large_files_takes_little_memory(tmp_path):
    file = tmp_path / "large.txt"
    file.write_bytes(bytes(range(256)) * 2**16)  # 16 MiB
    files = Files([[file]], [1], [], [file], [])
    tracemalloc.start()
    crc = files.checksum()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert crc == zlib.crc32(2 * file.read_bytes())
    assert peak < 2**22
    file.unlink()
    with pytest.raises(DataError, match="large.txt can't be read"):
        files.checksum()


def test_chunks_of_a_file_are_encoded_like_the_whole(tmp_path):
    words = ["Hello,", " world", "!\r\n", "  two  spaces", "\n\n", "né", "한국", " ", "\t", "\x1c"]
    encoder = small_model().encoder
    file = tmp_path / "odd.txt"
    for left_out in ("", " "):  # without any space it is cut where lines end
        some = [word.replace(left_out, "") for word in words]
        text = "".join(np.random.default_rng(0).choice(some, 500))
        file.write_text(text, encoding="utf-8", newline="")
        for n in (1, 7, 64, 10**6):
            chunks = list(read_chunks(file, n))
            assert "".join(chunks) == text
            assert sum(map(encoder.encode, chunks), []) == encoder.encode(text)
            assert max(map(len, chunks)) < n + 200
    ids = encode_files(encoder, [file, file], tmp_path / "ids.npy")
    assert ids.tolist() == [266, *encoder.encode(text)] * 2
    assert encode_files(encoder, [], tmp_path / "ids.npy").tolist() == ids.tolist()  # kept


def test_chunks_cut_no_added_token_and_part_none_from_its_white_space(tmp_path):
    tokens = [
        AddedToken("<a tag>", 267),
        AddedToken("the end", 268, normalized=True),
        AddedToken("<sep>", 269, rstrip=True, lstrip=True),
    ]
    small = small_encoder()
    for prefix in (False, True):
        encoder = Encoder(small.vocab, small.merges, tokens, add_prefix_space=prefix)
        words = ["<a tag>", "the end", "<sep>", " ", "in", "the", "\n", "<a", "<sep>  ", "."]
        text = "".join(np.random.default_rng(0).choice(words, 400))
        (tmp_path / "text.txt").write_text(text, encoding="utf-8")
        for n in (1, 3, 10, 50):
            chunks = list(read_chunks(tmp_path / "text.txt", n, encoder))
            assert "".join(chunks) == text
            assert len(chunks) > 10
            assert sum(encoder.encode_chunks(chunks), []) == encoder.encode(text)


@pytest.mark.parametrize("merges", [[], ["č Ċ"], ["Ċ Ġ"], ["Ċ Ċ"], ["Ġ Ċ", "ĠĊ Ġ"]])
def test_lines_are_found_whatever_their_ends_are_merged_with(merges):
    encoder = Encoder.from_merges(merges)
    text = "one\n  two\r\n  three \n four<|endoftext|>five\n"
    ids = np.array(encoder.encode(text, allow_special=True))
    starts = line_starts(encoder, ids)
    lines = [encoder.decode(ids[start:]).lstrip() for start in starts]
    expected = ["two", "three", "four", "five", ""]
    assert [line[: len(word)] for line, word in zip(lines, expected)] == expected
    assert len(lines) == 5


def test_the_mark_between_documents_is_the_token_in_training(tmp_path):
    encoder, file = small_model().encoder, tmp_path / "stories.txt"
    end = encoder.end_of_text
    file.write_text("in the end<|endoftext|>in the stone\n<|endoftext|>\non", encoding="utf-8")
    first, second, third = map(encoder.encode, ("in the end", "in the stone\n", "\non"))
    ids = encode_files(encoder, [file], tmp_path / "ids.npy")
    assert ids.tolist() == [end, *first, end, *second, end, *third]
    plain = encode_files(encoder, [file], tmp_path / "plain.npy", special_tokens=False)
    assert plain.tolist() == [end, *encoder.encode(file.read_text())]


@pytest.mark.parametrize("n", [1, 2, 3, 10, 2**20])
def test_a_byte_order_mark_is_no_text(tmp_path, n):
    (tmp_path / "notepad.txt").write_text("one \ufefftwo", encoding="utf-8-sig")
    assert "".join(read_chunks(tmp_path / "notepad.txt", n)) == "one \ufefftwo"


def test_training_takes_the_mark_for_the_token_and_learns_no_merge_of_it(tmp_path):
    (tmp_path / "text.txt").write_text("the other day\n<|endoftext|>\n" * 60, encoding="utf-8")
    for flags, n, learned in (([], 61, False), (["--no_special_tokens"], 1, True)):
        out = tmp_path / f"out{n}"
        assert call(main, command(tmp_path / "text.txt", out, 2, *flags)) == 0
        encoder = load(out).encoder
        assert (np.load(out / "tokens.npy") == encoder.end_of_text).sum() == n
        assert any("endo" in merge.replace(" ", "") for merge in encoder.merges) == learned


def test_windows_of_training_begin_at_documents_where_that_is_asked_for(tmp_path, monkeypatch):
    (tmp_path / "text.txt").write_text("the other day<|endoftext|>" * 400, encoding="utf-8")
    read = []

    def kept(model, texts_at, *_):
        read.append((model, texts_at))

    monkeypatch.setattr(train_command, "train", kept)
    argv = command(tmp_path / "text.txt", tmp_path / "out", 10, "--by_document")
    assert call(main, [*argv, "--finish_with", str(tmp_path / "text.txt")]) == 0
    ((model, texts_at),) = read
    for step in (0, 9):  # the last is one of the finish
        windows = batch_at(step, texts_at(step), 8, 200, seed=0)
        texts = [model.encoder.decode(ids.tolist()) for ids in windows]
        begin = sum(text.removeprefix("<|endoftext|>").startswith("the") for text in texts)
        assert begin >= 195, texts  # no document begins in the last window of the text


def test_a_model_that_knows_no_end_of_text_has_no_documents(text, tmp_path, capsys):
    model = small_folder(tmp_path / "none", n_vocab=266)  # <|endoftext|> is beyond
    argv = ["--data", str(text), "--out", str(tmp_path / "out"), "--model_size", str(model)]
    assert call(main, [*argv, "--by_document"]) == 2
    assert "<|endoftext|>, and none has no such token: leave it out" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    assert call(main, [*argv, "--n_steps", "1"]) == 0


def test_find_files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # which an empty pattern does not name
    for name in ("b.txt", "a.txt", "c.md"):
        (tmp_path / name).write_text(name)
    a, b, c = (tmp_path / name for name in ("a.txt", "b.txt", "c.md"))
    assert find_files(str(tmp_path)) == [a, b]
    assert find_files(f"{tmp_path}/*.md,{a}") == [c, a]
    for none in (str(tmp_path / "none"), "", f"{a},"):
        with pytest.raises(DataError, match="no text"):
            find_files(none)
    (tmp_path / "a,b").mkdir()
    names = ("b, and c.txt", "d,e.txt")
    commas = [tmp_path / "a,b" / name for name in names]
    for file in commas:
        file.write_text("commas")
    assert find_files(f"{commas[1]},{a}") == [commas[1], a]
    assert find_files(f"{a},{commas[0]},{commas[1]}") == [a, *commas]
    assert find_files(str(tmp_path / "a,b")) == commas
    (tmp_path / "a [2].txt").write_text("brackets")
    assert find_files(str(tmp_path / "a [2].txt")) == [tmp_path / "a [2].txt"]


@pytest.mark.parametrize("end", [b"\xff", "한".encode()[:2]])
def test_where_a_file_is_no_utf_8_is_told_by_its_line(tmp_path, end):
    (tmp_path / "bad.txt").write_bytes("fine 한국\n".encode() * 99 + b"so " + end)
    for n in (7, 2**20):
        with pytest.raises(DataError, match="not UTF-8 in line 100: save"):
            list(read_chunks(tmp_path / "bad.txt", n))
