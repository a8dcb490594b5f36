"""Is one checkout of this project slower than another? python tests/benchmarks/versions.py OLD NEW

Prefill, decoding and a training step of two checkouts, by turns, each in a process of its own, on
the same weights: random ones in GPT-2 124M's shapes, or those of --model. For the commit ffdc738,
say: git worktree add ../old ffdc738; python tests/benchmarks/versions.py ../old .
It takes some three minutes and 5 GB of memory.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

N_THREADS = 2
PROMPT = 512  # tokens that prefill reads
N_STEPS = 16  # tokens that decoding writes
TRAINED = [128] * 4  # lengths of a training step's sequences
ROWS = ["prefill", "decode_short", "decode_long", "training_step"]  # methods of Measures


class Worker:
    """A process that runs this file's `serve` with one checkout's package."""

    def __init__(self, checkout, model):
        env = os.environ | {"PYTHONPATH": str(checkout)}
        env |= dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), str(N_THREADS))
        self.process = subprocess.Popen(
            [sys.executable, __file__, "--serve", str(checkout), str(model)],
            env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip

    def ask(self, name):
        """Tokens a second in what a method of Measures does."""
        self.process.stdin.write(name + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            sys.exit("a worker has stopped: its error stands above")
        return float(answer)


class Measures:
    """What is measured of the package that is imported here: tokens a second for each."""

    def __init__(self, folder):
        import picogpt

        self.picogpt = picogpt
        self.model = picogpt.load(folder)
        self.state = None  # AdamW's, from the first training step on
        self.n_ctx = self.model.config.n_ctx

    def read(self, n_tokens):
        """(seconds, caches, logits) of reading a prompt."""
        started = time.perf_counter()
        caches = self.picogpt.new_caches(self.model.config)
        rows = self.picogpt.logits(self.model, [0] * n_tokens, caches=caches, last_only=True)
        return time.perf_counter() - started, caches, rows

    def prefill(self):
        n_tokens = min(PROMPT, self.n_ctx)
        return n_tokens / self.read(n_tokens)[0]

    def decode(self, n_tokens):
        """Write N_STEPS tokens after a prompt."""
        _, caches, rows = self.read(min(n_tokens, self.n_ctx - N_STEPS))
        started = time.perf_counter()
        for _ in range(N_STEPS):
            rows = self.picogpt.logits(self.model, rows.argmax(-1), caches=caches, last_only=True)
        return N_STEPS / (time.perf_counter() - started)

    def decode_short(self):
        return self.decode(10)

    def decode_long(self):
        return self.decode(462)

    def training_step(self):
        """As the trainer takes it: sequences for each thread, clipping, AdamW."""
        import numpy as np

        from picogpt import optim

        try:
            from picogpt.training.parallel import summed_over_threads
        except ImportError:  # before version 2
            from picogpt.parallel import summed_over_threads
        model, n = self.model, TRAINED[0]
        ids = np.random.default_rng(0).integers(0, model.config.n_vocab, sum(TRAINED) + 1)
        self.state = self.state or optim.new_state(model.params)
        parts = [slice(i * n, (i + 1) * n) for i in range(len(TRAINED))]

        def gradients(rows):
            return self.picogpt.loss_and_gradients(model, ids[:-1][rows], ids[1:][rows])

        with summed_over_threads(N_THREADS) as summed:
            started = time.perf_counter()
            _, grads = summed(gradients, parts)
            optim.clip(grads, 1.0)
            optim.adamw(model.params, grads, self.state, 1e-6)
            return sum(TRAINED) / (time.perf_counter() - started)


def serve(checkout, folder):
    """Take a measure's name from each line of stdin, and answer with its tokens a second."""
    sys.path[0] = checkout  # in place of this file's own folder
    measures = Measures(folder)
    assert Path(measures.picogpt.__file__).parents[1] == Path(checkout)
    for line in sys.stdin:
        print(getattr(measures, line.strip())(), flush=True)


def write_random_model(folder):
    """GPT-2 124M's shapes with random weights, and a tokenizer of bytes."""
    sys.path[:0] = [str(Path(__file__).parents[2]), str(Path(__file__).parents[1])]
    from models import random_params

    import picogpt
    from picogpt.checkpoint.config import Config
    from picogpt.tokenizer.encoder import Encoder

    config = Config()
    picogpt.save(picogpt.Model(random_params(config), config, Encoder.from_merges([])), folder)


def compare(checkouts, folder, n_rounds):
    """Print tokens a second of both checkouts, and the median of the rounds' ratios."""
    workers = [Worker(checkout, folder) for checkout in checkouts]
    print(f"{'tokens a second':15} {'old':>9} {'new':>9}  new/old (lowest to highest)")
    for name in ROWS:
        speeds = [[], []]
        for i in range(n_rounds + 1):
            for j in (0, 1) if i % 2 else (1, 0):
                time.sleep(0.2)  # threads of the one before go to sleep
                speed = workers[j].ask(name)
                if i > 0:  # the first allocates
                    speeds[j].append(speed)
        old, new = map(statistics.median, speeds)
        ratios = sorted(after / before for before, after in zip(*speeds))
        told = f"{statistics.median(ratios):.3f} ({ratios[0]:.3f} to {ratios[-1]:.3f})"
        print(f"{name:15} {old:9,.1f} {new:9,.1f}  {told}", flush=True)
    for worker in workers:
        worker.process.stdin.close()
        worker.process.wait()


def main():
    if sys.argv[1:2] == ["--serve"]:
        return serve(*sys.argv[2:])
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("old", type=Path)
    parser.add_argument("new", type=Path)
    parser.add_argument("--model", type=Path, help="a model's folder, in place of random weights")
    parser.add_argument("--rounds", type=int, default=9)
    args = parser.parse_args()
    checkouts = [args.old.resolve(), args.new.resolve()]
    with tempfile.TemporaryDirectory() as folder:
        if args.model is None:
            write_random_model(Path(folder))
        folder = args.model.resolve() if args.model else folder
        compare(checkouts, folder, args.rounds)


if __name__ == "__main__":
    main()
