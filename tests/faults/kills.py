"""Kill and interrupt the project's commands at random moments, and see that nothing is lost.

    cd tests; PYTHONPATH=.. python -m faults.kills 200 50

so often by SIGKILL, so often by SIGINT. A job that is stopped and started again must end as one
that was never disturbed, byte for byte, with nothing left over: no file, no process. SIGINT is
answered with exit code 130 and no traceback. The plain tests run this with a small count.

A third number is another seed. Parts with different seeds (100 25 1, 100 25 2) can run at the same
time. Ctrl-C ends a run with the figures so far.
"""

import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from hub import MEDIUM, Hub
from models import small_folder
from safetensors import safe_open
from texts import prose

from picogpt.tasks.course_files import SAMPLES

ROOT = Path(__file__).parents[2]


# what `python -m picogpt` does first of all, for jobs that are started in another way
EXITS = "import os, _signal; _signal.signal(_signal.SIGINT, lambda *_: os._exit(130)); "
OFTEN = EXITS + "from picogpt.training import resumable; resumable.SAVE_SECONDS = 0.05; "
SIZE = ["--n_layer=2", "--n_embd=24", "--n_head=2", "--n_ctx=16", "--vocab_size=300"]
SAVE = f"""{EXITS}
import numpy as np
from picogpt import load, save
model = load("../small")
model.params["wte"] += 1
save(model._replace(folder=None), "out")
"""


def command(module, *words, first=""):
    """Python's words for a command: as the shell calls it, or with `first` done before."""
    if not first:
        return ["-m", f"picogpt.{module}", *words]
    return ["-c", f"{first}from picogpt import {module}, tools; "
            f"from picogpt.tools.cli import run; run({module}.main)", *words]  # fmt: skip


def jobs():
    """The commands that are disturbed, by name: Python's words. They write to the folder out."""
    start = ["--model_size", "../small"]
    probe = ["--data", str(SAMPLES), "--out", "out", *start, "--epochs", "2"]
    train = ["--data", "../data.txt", "--out", "out", *SIZE, "--n_threads", "2"]
    return {
        "train": command("train", *train, "--n_steps", "60"),
        "train, saving often": command("train", *train, "--n_steps", "150", first=OFTEN),
        "probe": command("probe", "sst", *probe, "--cache_dir", "cache"),
        "probe, workers": command("probe", "sst", *probe, "--workers", "2", "--cache_dir", "cache"),
        "probe, top": command("probe", "sst", "--mode", "top", "--top_k_layers", "1", *probe,
                              "--cache_dir", "none", first=OFTEN),
        "sonnet": command("sonnet", "--data", str(SAMPLES), "--out", "out", *start, "--epochs", "2",
                          "--candidates", "2", first=OFTEN),
        "download": [str(ROOT / "gpt2.py"), "a", "--n_tokens_to_generate", "1",
                     "--model_size", "355M", "--models_dir", "out"],
        "save": ["-c", SAVE],
    }  # fmt: skip


def contents(folder):
    """What a job has made: {path: bytes}, less what tells of time."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_dir():
            continue
        data = path.read_bytes()
        if path.suffix == ".safetensors":
            with safe_open(path, "numpy") as file:  # whose metadata come in any order
                arrays = {name: file.get_tensor(name).tobytes() for name in file.keys()}  # noqa: SIM118
                data = file.metadata(), arrays
        if path.name == "log.jsonl":
            entries = [json.loads(line) for line in data.splitlines()]
            data = [{**entry, "tokens_per_second": 0} for entry in entries]
        found[str(path.relative_to(folder))] = data
    return found


def living(mark):
    """The processes that carry a mark in their environment: a job's, and its workers'."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if mark.encode() in (folder / "environ").read_bytes():
                found.append(int(folder.name))
    return found


class Jobs:
    """A scratch folder with all that the jobs need, and what they make when undisturbed."""

    def __init__(self, scratch):
        self.scratch = scratch
        small = small_folder(scratch / "small", n_ctx=96)
        (scratch / "data.txt").write_text(prose(1500), encoding="utf-8")
        files = {path.name: path.read_bytes() for path in small.iterdir()}
        self.hub = Hub({MEDIUM: files})
        self.words = jobs()
        self.expected, self.seconds = {}, {}

    def start(self, name, folder, mark="undisturbed"):
        folder.mkdir(exist_ok=True)
        env = os.environ | {
            "MARK": mark,
            "PYTHONPATH": str(ROOT),
            "HF_ENDPOINT": self.hub.url,
            "HF_HOME": str(self.scratch / "no cache"),
            "OPENBLAS_NUM_THREADS": "1",
        }
        words = [sys.executable, *self.words[name]]
        pipe = subprocess.PIPE
        return subprocess.Popen(words, cwd=folder, env=env, stdout=pipe, stderr=pipe, text=True)

    def undisturbed(self, name):
        """Run a job once as it should be, and keep what it makes."""
        folder = self.scratch / "job"
        shutil.rmtree(folder, ignore_errors=True)
        started = time.monotonic()
        process = self.start(name, folder)
        _, errors = process.communicate()
        if process.returncode:
            raise RuntimeError(f"{name}: {errors}")
        self.seconds[name] = time.monotonic() - started
        self.expected[name] = contents(folder / "out")

    def disturb(self, name, number, rng):
        """Stop a job at a random moment, once or a few times, and let it end: what went wrong."""
        if name not in self.expected:
            self.undisturbed(name)
        folder = self.scratch / "job"
        shutil.rmtree(folder, ignore_errors=True)
        wrong = []
        for _ in range(rng.choice([1, 1, 2])):
            mark = f"job-{rng.getrandbits(64):x}"
            process = self.start(name, folder, mark)
            moment = rng.uniform(0, 1.1 * self.seconds[name])
            time.sleep(moment)
            process.send_signal(number)
            _, errors = process.communicate()
            # until Python comes to the project's first line, it answers by itself
            ours = process.returncode != -number or "picogpt" in errors
            good = process.returncode in (0, 130) and "Traceback" not in errors
            if number == signal.SIGINT and ours and not good:
                said = f"exit code {process.returncode} after {moment:.3f} s"
                wrong.append(f"{said}: {errors[-900:]}")
            wrong += self.orphans(mark)
        process = self.start(name, folder)
        _, errors = process.communicate()
        if process.returncode:
            wrong.append(f"it can't go on: {errors[-500:]}")
        found = contents(folder / "out")
        for path in sorted(found.keys() | self.expected[name].keys()):
            if found.get(path) != self.expected[name].get(path):
                kind = "left over" if path not in self.expected[name] else "other or missing"
                wrong.append(f"{path} is {kind}")
        if others := [path.name for path in folder.iterdir() if path.name not in ("out", "cache")]:
            wrong.append(f"left over beside it: {others}")
        return wrong

    def orphans(self, mark):
        """What is wrong where a job's processes outlive it by more than 10 s; they are ended."""
        end = time.monotonic() + 10
        while (left := living(mark)) and time.monotonic() < end:
            time.sleep(0.1)
        for pid in left:
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        return [f"{len(left)} orphans"] if left else []


def run(n_kills, n_interrupts, seed=0, names=None):
    """Disturb jobs in turn, so often by each signal; what went wrong: [(job, signal, what)]."""
    rng = random.Random(seed)
    failed, done = [], Counter()
    with tempfile.TemporaryDirectory() as scratch:
        all_jobs = Jobs(Path(scratch))
        names = names or list(all_jobs.words)
        numbers = [signal.SIGKILL] * n_kills + [signal.SIGINT] * n_interrupts
        for i, number in enumerate(numbers):
            name = names[i % len(names)]
            try:
                wrong = all_jobs.disturb(name, number, rng)
            except KeyboardInterrupt:
                break
            done[f"{number.name}, {name}"] += 1
            failed += [(name, number.name, what) for what in wrong]
            for what in wrong:
                print(f"{i}: {name}, {number.name}: {what}", flush=True)
            if i % 10 == 9:
                print(f"{i + 1} of {len(numbers)} disturbed", file=sys.stderr, flush=True)
        all_jobs.hub.close()
    return failed, done


if __name__ == "__main__":
    n_kills, n_interrupts = (int(word) for word in (*sys.argv[1:], 24, 16)[:2])
    seed = int(sys.argv[3]) if len(sys.argv) > 3 else 0
    failed, done = run(n_kills, n_interrupts, seed)
    for what, n in sorted(done.items()):
        print(f"{n:4} {what}")
    print(f"{sum(done.values())} disturbed, {len(failed)} wrong")
    sys.exit(bool(failed))
