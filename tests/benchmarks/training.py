"""A training step by hand beside torch's, 124M's shapes: python tests/benchmarks/training.py

Forward, backward and AdamW on 4 x 128 tokens, all layers and the top two; needs torch and
transformers. Weights are random and the same; each step has a process of its own, for in one they
slow each other down; they take turns, and the tables hold medians.
"""

import argparse
import multiprocessing
import os
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

N_THREADS = 2
os.environ.setdefault("OMP_NUM_THREADS", str(N_THREADS))
os.environ.setdefault("OPENBLAS_NUM_THREADS", str(N_THREADS))
sys.path[:0] = [str(Path(__file__).parents[2]), str(Path(__file__).parents[1])]

import numpy as np  # noqa: E402
from models import random_params  # noqa: E402

from picogpt import backprop, kernels, optim  # noqa: E402
from picogpt.checkpoint.config import Config  # noqa: E402
from picogpt.checkpoint.weights import LARGE  # noqa: E402
from picogpt.tools.cores import blas_kernel, keep_freed_memory  # noqa: E402
from picogpt.tools.tree import tree_map  # noqa: E402

LENGTHS = [128] * 4
TOP = 10  # the first trained block when only the top two layers train
CONFIG = Config()


def batch():
    """Ids and the ids that follow them, `[n_tokens]` both."""
    ids = np.random.default_rng(0).integers(0, CONFIG.n_vocab, sum(LENGTHS) + 1)
    return ids[:-1], ids[1:]


def as_loaded(w):
    """A block's array in the order in memory that load_params gives it."""
    return np.asfortranarray(w) if w.ndim == 2 and w.size >= LARGE else w


class Ours:
    """One step by picogpt; `top`: the top two layers on kept activations."""

    def __init__(self, top=False):
        keep_freed_memory()  # as picogpt.train does
        self.params, self.first = random_params(CONFIG, std=0.02), TOP if top else 0
        self.params["blocks"] = tree_map(as_loaded, self.params["blocks"])
        self.ids, self.targets = batch()
        trained = self.params
        self.hidden = None
        if top:
            trained = {"blocks": self.params["blocks"][TOP:], "ln_f": self.params["ln_f"]}
            self.hidden = kernels.hidden_states(
                self.ids, self.params["wte"], self.params["wpe"], self.params["blocks"][:TOP],
                CONFIG.n_head, lengths=LENGTHS,
            )  # fmt: skip
        self.trained, self.state = trained, optim.new_state(trained)

    def __call__(self):
        loss, grads = backprop.loss_and_gradients(
            self.params, self.ids, self.targets, CONFIG, lengths=LENGTHS,
            first_trained_block=self.first, hidden=self.hidden,
        )  # fmt: skip
        if self.first:
            grads = {"blocks": grads["blocks"][TOP:], "ln_f": grads["ln_f"]}
        optim.adamw(self.trained, grads, self.state, lr=1e-4)
        return loss


class Torch:
    """One step by torch: eager or compiled, AdamW plain or fused, all layers or the top two."""

    def __init__(self, fused=False, compiled=False, top=False, kept=False):
        import torch
        from transformers import GPT2Config, GPT2LMHeadModel

        torch.set_num_threads(N_THREADS)
        self.torch, self.top, self.kept = torch, top, kept
        no_dropout = {f"{place}_pdrop": 0.0 for place in ("resid", "embd", "attn")}
        model = GPT2LMHeadModel(GPT2Config(**no_dropout)).train()
        self.model = model
        self.ids, self.targets = (torch.tensor(a).view(len(LENGTHS), -1) for a in batch())
        if top:
            model.requires_grad_(False)
            for part in (*model.transformer.h[TOP:], model.transformer.ln_f):
                part.requires_grad_(True)
        if kept:
            with torch.no_grad():
                out = model.transformer(self.ids, output_hidden_states=True)
            self.hidden = out.hidden_states[TOP].clone()
        self.forward = torch.compile(self.run) if compiled else self.run
        trained = [p for p in model.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(trained, lr=1e-4, fused=fused)

    def run(self):
        if not self.kept:
            return self.model(self.ids, use_cache=False).logits
        x = self.hidden
        for block in self.model.transformer.h[TOP:]:
            x = block(x)
            x = x[0] if isinstance(x, tuple) else x
        return self.model.lm_head(self.model.transformer.ln_f(x))

    def __call__(self):
        logits = self.forward()
        loss = self.torch.nn.functional.cross_entropy(logits.flatten(0, 1), self.targets.flatten())
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad()
        return loss.item()


ALL_LAYERS = {
    "picoGPT": Ours,
    "torch eager, AdamW": Torch,
    "torch eager, fused AdamW": lambda: Torch(fused=True),
    "torch.compile, fused AdamW": lambda: Torch(fused=True, compiled=True),
}
TOP_TWO = {
    "picoGPT, activations kept": lambda: Ours(top=True),
    "torch, activations kept": lambda: Torch(top=True, kept=True),
    "torch, recomputing the frozen": lambda: Torch(top=True),
}


def serve(name, connection):
    """Make a step and say so; then take one whenever asked, and send its seconds."""
    try:
        step = (ALL_LAYERS | TOP_TWO)[name]()
        step()  # compiles, allocates
    except Exception as error:
        return connection.send(f"{error!r:.200}")
    connection.send(None)
    while connection.recv():
        start = time.perf_counter()
        step()
        connection.send(time.perf_counter() - start)


def compare(title, names, n_rounds):
    """Print tokens/s of every step, each in a process of its own, and the first one's lead."""
    spawn, steps = multiprocessing.get_context("spawn"), {}
    for name in names:
        ours, its = spawn.Pipe()
        spawn.Process(target=serve, args=(name, its), daemon=True).start()
        if error := ours.recv():
            print(f"{name} did not run: {error}")
        else:
            steps[name] = ours
    seconds = {name: [] for name in steps}
    for _ in range(n_rounds):
        for name, step in steps.items():
            time.sleep(0.3)  # threads of the one before go to sleep
            step.send(True)
            seconds[name].append(step.recv())
    for step in steps.values():
        step.send(False)
    print(f"\n{title}: tokens/s, medians of {n_rounds}")
    for name, times in seconds.items():
        ratio = statistics.median(t / mine for t, mine in zip(times, seconds[next(iter(names))]))
        print(f"{name:30} {sum(LENGTHS) / statistics.median(times):8.0f}  {ratio:5.2f} x")


def peak_memory(name):
    """MB that a process needs for two full steps."""
    code = f"import training; training.print_peak({name!r})"
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=Path(__file__).parent, capture_output=True, text=True
    )
    return run.stdout.strip() or run.stderr[-300:]


def print_peak(name):
    step = ALL_LAYERS[name]()
    step()
    step()
    unit = 2**20 if sys.platform == "darwin" else 2**10
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // unit)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--without-compile", action="store_true")
    args = parser.parse_args()
    print(f"NumPy's BLAS kernel: {blas_kernel()}")
    if args.without_compile:
        del ALL_LAYERS["torch.compile, fused AdamW"]
    print("Peak memory of a full step's process, MB")  # first: a child inherits its parent's peak
    for name in list(ALL_LAYERS)[:2]:
        print(f"{name:30} {peak_memory(name):>8}")
    compare("A full step", ALL_LAYERS, args.rounds)
    compare("The top two layers", TOP_TWO, args.rounds)


if __name__ == "__main__":
    main()
