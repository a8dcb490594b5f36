"""How fast a model runs here, beside what the machine can do: python -m picogpt.bench.

What the machine can do is measured in the same minutes: the matrix products alone, the same ones
on as many rows, from matrices stored [n_in, n_out] or [n_out, n_in], whichever is faster. A single
row is bound by memory, because every weight is read for it once; 512 rows by arithmetic.
"""

import time
from statistics import median

import numpy as np

from picogpt.model import load, logits, new_caches, output_matrix
from picogpt.tools.cli import at_least, run
from picogpt.tools.cores import blas_kernel, cores
from picogpt.tools.tree import tree_leaves


def seconds(f, *args):
    """How long one call of f takes."""
    start = time.perf_counter()
    f(*args)
    return time.perf_counter() - start


def prefill(model, lengths):
    """Read prompts of these lengths: the caches that hold them."""
    caches = new_caches(model.config, len(lengths))
    logits(model, np.zeros(sum(lengths), int), lengths, caches, last_only=True)
    return caches


def decode(model, caches, n_steps):
    """Write n_steps tokens on to every cached sequence."""
    ids = [0] * len(caches)
    for _ in range(n_steps):
        ids = logits(model, ids, [1] * len(ids), caches, last_only=True).argmax(axis=-1)


def matrices(params):
    """Every matrix that a token is multiplied by, as `[n_in, n_out]`: the blocks', and the head."""
    blocks = [w for w in tree_leaves(params["blocks"]) if w.ndim == 2]
    return blocks, [output_matrix(params).T]


def stored(w, order):
    """A matrix of w's shape and numbers, in another order: stored by rows, "C", or columns, "F"."""
    return w.ravel(order="K").reshape(w.shape, order=order)  # no copy


def product_time(ws, n_rows):
    """Seconds for the products of n_rows rows with every matrix, in the faster layout."""
    x = {n_in: np.ones((n_rows, n_in), np.float32) for n_in in {len(w) for w in ws}}

    def multiply(ws):
        for w in ws:
            x[len(w)] @ w

    return min(seconds(multiply, [stored(w, order) for w in ws]) for order in "CF")


def measure(model, n_rounds, progress):
    """{what: (tokens per second, what the products alone would allow)}, by turns.

    The model's figure is the median of the rounds, the machine's its best.
    """
    n_ctx = model.config.n_ctx
    n_steps = max(1, min(16, n_ctx // 4))
    n_long, n_read = min(462, n_ctx - n_steps), min(512, n_ctx)
    batch = [min(n, n_long) for n in (10, 24, 17, 40, 5, 33, 12, 28)]
    decodes = [(f"decode after {n} tokens", [n]) for n in (min(10, n_long), n_long)]
    decodes.append((f"decode, {len(batch)} at once", batch))
    blocks, head = matrices(model.params)
    times = {}

    def note(name, n_tokens, taken, alone):
        runs, walls = times.setdefault(name, ([], []))
        runs.append(taken / n_tokens)
        walls.append(alone / n_tokens)

    for _ in progress(range(n_rounds)):
        alone = product_time(blocks, n_read) + product_time(head, 1)
        note(f"prefill, {n_read} tokens", n_read, seconds(prefill, model, [n_read]), alone)
        for name, lengths in decodes:
            caches = prefill(model, lengths)
            alone = product_time(blocks + head, len(lengths))
            taken = seconds(decode, model, caches, n_steps) / n_steps
            note(name, len(lengths), taken, alone)
    return {name: (1 / median(runs), 1 / min(walls)) for name, (runs, walls) in times.items()}


def main(*, model_size: str | None = None, models_dir: str | None = None, rounds: int = 5):
    """Print a model's tokens per second beside what this machine's matrix products allow.

    Args:
        model_size: 124M, 355M, 774M, 1558M, tiny, a folder or a hub id; without it 124M, or tiny.
        models_dir: where models are kept.
        rounds: how often everything is measured: the model's figures are medians.
    """
    from tqdm import tqdm

    at_least(1, rounds=rounds)
    model = load(model_size, models_dir)
    n_params = sum(w.size for w in tree_leaves(model.params))
    print(f"{model.name}: {n_params / 1e6:.1f} million parameters, float32, on {cores()} cores")
    print(f"NumPy {np.__version__}, BLAS kernel: {blas_kernel() or 'unknown'}")
    table = measure(model, rounds, lambda steps: tqdm(steps, unit="round", disable=None))
    print(f"{'tokens per second':24} {'model':>9} {'products':>9}")
    for name, (speed, limit) in table.items():
        print(f"{name:24} {speed:9,.1f} {limit:9,.1f} {speed / limit:6.0%}")


if __name__ == "__main__":
    run(main)
