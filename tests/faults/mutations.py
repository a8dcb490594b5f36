"""Damage the project's own files at random, and see that every reader bears it.

    cd tests; PYTHONPATH=.. python -m faults.mutations 20000

What is read back is right, or the reader says in one sentence what is wrong: no traceback, no other
numbers, no more than a second and 200 MB. The plain tests run this with a small count.
"""

import contextlib
import io
import json
import os
import re
import resource
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from models import small_encoder

from picogpt.tasks.feature_cache import FeatureCache
from picogpt.tasks.heads import load_head, save_head
from picogpt.tools.errors import PicoGPTError
from picogpt.tools.tree import tree_leaves
from picogpt.training.data import encode_files
from picogpt.training.log import Log, parse_entry
from picogpt.training.resumable import Progress
from picogpt.training.run_folder import begin_or_go_on

WORDS = [
    b"null", b"true", b"-1", b"0", b"1e999", b"NaN", b"[]", b"{}", b'""', b"9" * 400, b"[" * 3000,
    b'"' + b"x" * 5000 + b'"', b"\xff\xfe", b"\x1b[31m", b"\r", b"\x00" * 8, b'{"step": 1}',
]  # fmt: skip


def damaged(data, rng):
    """The bytes with one to three random damages."""
    for _ in range(rng.integers(1, 4)):
        at, end = sorted(rng.integers(0, len(data) + 1, 2).tolist())
        near = min(len(data), at + int(rng.integers(1, 20)))
        kind = rng.integers(9)
        if kind == 0:  # cut off
            data = data[:at]
        elif kind == 1:  # a part is missing
            data = data[:at] + data[near:]
        elif kind == 2:  # a part is there twice
            data = data[:near] + data[at:]
        elif kind == 3:  # a part is zero, as after a power cut
            data = data[:at] + bytes(end - at) + data[end:]
        elif kind == 4:  # random bytes
            data = data[:at] + rng.bytes(near - at) + data[near:]
        elif kind == 5:  # other words than JSON has there
            data = data[:at] + WORDS[rng.integers(len(WORDS))] + data[near:]
        elif kind == 6 and (numbers := list(re.finditer(rb"-?\d+\.?\d*|true|false", data))):
            found = numbers[rng.integers(len(numbers))]
            data = data[: found.start()] + WORDS[rng.integers(len(WORDS))] + data[found.end() :]
        elif at < len(data):  # one bit
            flipped = bytes([data[at] ^ (1 << int(rng.integers(8)))])
            data = data[:at] + flipped + data[at + 1 :]
    return data


class Reader:
    """A file, written to a folder, and how it is read: `check` raises AssertionError if wrongly."""

    def __init__(self, folder):
        self.folder = folder


class LogReader(Reader):
    def write(self):
        self.path = self.folder / "log.jsonl"
        lines = []
        for step in range(1, 40):
            entry = {"step": step, "loss": 5 - step / 10, "tokens_per_second": 1000 + step}
            lines.append(entry | ({"valid_loss": 4.5, "bits_per_byte": 2.5} if step % 5 else {}))
        self.path.write_text("".join(json.dumps(line) + "\n" for line in lines))

    def check(self):
        log = Log(self.path, 30)
        steps = [entry["step"] for entry in log.entries]
        assert steps == sorted(set(steps)) and all(0 <= step <= 30 for step in steps)
        written = self.path.read_bytes().splitlines()
        assert [parse_entry(line) for line in written] == log.entries
        log.draw(self.folder / "curve.svg")
        assert "nan" not in (self.folder / "curve.svg").read_text()


class CheckpointReader(Reader):
    def write(self):
        self.path = self.folder / "checkpoint.safetensors"
        self.sound = self.new(1)
        self.sound.step = 7
        self.sound.save(self.path)

    def new(self, seed):
        rng = np.random.default_rng(seed)
        w = np.asfortranarray(rng.standard_normal((6, 4), np.float32))
        return Progress({"blocks": [{"w": w, "b": w[0].copy()}], "wte": w.copy()}, {"loss": 0.5})

    def check(self):
        progress = self.new(2)
        before = [array.copy() for array in tree_leaves(progress.trees())]
        try:
            progress.restore(self.path)
        except PicoGPTError:
            assert all(map(np.array_equal, before, tree_leaves(progress.trees())))
            raise
        found, sound = (tree_leaves(p.trees()) for p in (progress, self.sound))
        assert all(map(np.array_equal, found, sound))
        assert (progress.step, progress.notes) == (7, {"loss": 0.5})


class HeadReader(Reader):
    def write(self):
        self.path = self.folder / "head.safetensors"
        self.head = {"w": np.ones((4, 5), np.float32), "b": np.zeros(5, np.float32)}
        self.facts = {
            "task": "sst", "checkpoint": "0" * 64, "model": "a/b", "layer": None, "pool": "last",
            "course": False, "trained_on": "sst",
        }  # fmt: skip
        save_head(self.path, self.head, self.facts)

    def check(self):
        head, facts = load_head(self.path, "sst", 5)
        assert facts == self.facts
        assert all(map(np.array_equal, tree_leaves(head), tree_leaves(self.head)))


class TokensReader(Reader):
    def write(self):
        self.path = self.folder / "tokens.npy"
        text = self.folder / "text.txt"
        text.write_text("the cat in the hat " * 40)
        self.files, self.encoder = [text], small_encoder()
        self.ids = encode_files(self.encoder, self.files, self.path).tolist()

    def check(self):
        assert encode_files(self.encoder, self.files, self.path).tolist() == self.ids


class FeaturesReader(Reader):
    def write(self):
        self.cache = FeatureCache(self.folder, "0" * 64)
        self.array = np.random.default_rng(0).standard_normal((9, 8)).astype(np.float32)
        self.cache.save(3, self.array)
        (self.path,) = self.cache.place.iterdir()

    def check(self):
        found = self.cache.load(3, self.array.shape)
        assert found is None or np.array_equal(found, self.array)


class RunReader(Reader):
    def write(self):
        self.path = self.folder / "run.json"
        self.flags = {"n_steps": "10", "n_threads": "2", "half": "False", "seed": "0", "data": "x"}
        self.path.write_text(json.dumps(self.flags))
        (self.folder / "checkpoint.safetensors").touch()

    def check(self):
        assert begin_or_go_on(self.folder, self.flags)  # and the checkpoint is still there:
        assert (self.folder / "checkpoint.safetensors").exists()
        assert self.flags.items() <= json.loads(self.path.read_bytes()).items()


READERS = {
    "log": LogReader,
    "checkpoint": CheckpointReader,
    "head": HeadReader,
    "tokens": TokensReader,
    "features": FeaturesReader,
    "run.json": RunReader,
}


def run(name, n, seed=0):
    """Let a reader read n damaged files: how often it was right, refused or wrong, and the cost."""
    rng = np.random.default_rng(seed)
    counts = {"read": 0, "refused": 0, "wrong": 0}
    slowest = 0.0
    with tempfile.TemporaryDirectory() as folder:
        reader = READERS[name](Path(folder))
        reader.write()
        sound = reader.path.read_bytes()
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        for i in range(n):
            reader.path.write_bytes(damaged(sound, rng))
            started = time.perf_counter()
            said = io.StringIO()
            try:
                with contextlib.redirect_stderr(said):
                    reader.check()
                counts["read"] += 1
            except PicoGPTError as error:
                one_line = "\n" not in str(error) and "\x1b" not in str(error)
                counts["refused" if one_line else "wrong"] += 1
            except Exception as error:
                counts["wrong"] += 1
                print(f"{name}, mutation {i}: {type(error).__name__} {error}"[:300])
            slowest = max(slowest, time.perf_counter() - started)
            assert "\x1b" not in said.getvalue()
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory) / 1024
    return counts | {"slowest": slowest, "MB": grown}


if __name__ == "__main__":
    os.fsync = lambda _: None  # reading is tried here; waiting for the disk would take hours
    for name in READERS:
        figures = run(name, int(sys.argv[1]) if len(sys.argv) > 1 else 1000)
        print(name, {key: round(value, 3) for key, value in figures.items()}, flush=True)
