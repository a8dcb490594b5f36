"""How fast a model runs here, beside what the machine can do: python -m picogpt.bench.

What the machine can do is measured in the same minutes. Products: the model's matrix products
alone, on as many rows, from matrices stored [n_in, n_out] or [n_out, n_in], whichever is faster.
Reading: every number of these matrices looked at once, on all cores, and nothing more; no token can
be written in less. A single row is bound by memory, because every weight is read for it once; 512
rows by arithmetic. Then the same text is written with drafts (drafting.py) and without.
"""

import time
from contextlib import suppress
from statistics import median

import numpy as np

from picogpt.generation import Tally, generate
from picogpt.kernels import int8_product
from picogpt.model import load, logits, new_caches
from picogpt.tools.cli import at_least, run
from picogpt.tools.cores import blas_kernel, cores, deal_to_cores
from picogpt.tools.errors import CheckpointError, TextError
from picogpt.tools.progress import hidden
from picogpt.tools.tree import tree_leaves

COUNTING = "One, two, three, four, five, six, seven.\n"  # most models go on with what they read


def seconds(f, *args):
    """How long one call of f takes."""
    start = time.perf_counter()
    f(*args)
    return max(time.perf_counter() - start, 1e-9)  # never 0: speeds are divided by it


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
    """Every matrix that a token is multiplied by, as `[n_in, n_out]`, in two lists.

    The first holds the blocks' matrices, the second the head, which in GPT-2 is wte once more.
    """
    blocks = [w for w in tree_leaves(params["blocks"]) if w.ndim == 2]
    head = params.get("lm_head", params["wte"])
    return blocks, [head["w"] if isinstance(head, dict) else head.T]


def stored(w, order):
    """A matrix of w's shape and numbers, in another order: stored by rows, "C", or columns, "F"."""
    return w.ravel(order="K").reshape(w.shape, order=order)  # no copy


def product_time(ws, n_rows):
    """Seconds for the products of n_rows rows with every matrix, in the faster layout.

    A matrix in int8 has one layout, and is widened as `kernels.linear` does it.
    """
    x = {n_in: np.ones((n_rows, n_in), np.float32) for n_in in {len(w) for w in ws}}

    def multiply(ws):
        for w in ws:
            x[len(w)] @ w

    def multiply_int8(ws):
        for w in ws:
            int8_product(x[len(w)], w, deal=deal_to_cores)

    in_int8 = [w for w in ws if w.dtype == np.int8]
    floats = [w for w in ws if w.dtype != np.int8]
    return seconds(multiply_int8, in_int8) + min(
        seconds(multiply, [stored(w, order) for w in floats]) for order in "CF"
    )


def read_time(ws):
    """Seconds to look at every number of the matrices, each core at its share of every one."""
    shares = zip(*(np.array_split(w.ravel(order="K"), cores()) for w in ws))

    def look(share):
        return [part.max(initial=0) for part in share]  # a share of a few numbers may be empty

    return seconds(deal_to_cores, look, list(shares))


def measure(model, n_rounds, progress):
    """{what: tokens per second of the model, of the products alone, of reading alone}, by turns.

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
        runs, products, reads = times.setdefault(name, ([], [], []))
        runs.append(taken / n_tokens)
        products.append(alone / n_tokens)
        reads.append(read_time(blocks + head) / n_tokens)

    for _ in progress(range(n_rounds)):
        alone = product_time(blocks, n_read) + product_time(head, 1)
        note(f"prefill, {n_read} tokens", n_read, seconds(prefill, model, [n_read]), alone)
        for name, lengths in decodes:
            caches = prefill(model, lengths)
            alone = product_time(blocks + head, len(lengths))
            taken = seconds(decode, model, caches, n_steps) / n_steps
            note(name, len(lengths), taken, alone)
    return {
        name: (1 / median(runs), 1 / min(products), 1 / min(reads))
        for name, (runs, products, reads) in times.items()
    }


def measure_drafting(model, n_rounds, progress):
    """{what: tokens per second with drafts, without, and tokens a pass with them}, medians.

    A text that has just repeated itself, written on greedily: most models go on so. Beside it one
    that is sampled from all tokens.
    """
    half = model.config.n_ctx // 2
    n_tokens = max(2, min(64, half))
    ids = list(range(min(7, model.config.n_vocab)))
    if model.encoder:
        with suppress(TextError):  # its tokenizer may lack these letters, or the model their tokens
            ids = model.encoder.encode(COUNTING)
    endless = model._replace(generation={"eos_token_id": []})
    texts = {
        "a text that repeats": ((4 * ids)[-half:], {"temperature": 0}),
        "a text that doesn't": (ids[-half:], {"temperature": 1, "top_k": 0, "seed": 0}),
    }
    tallies = {name: ([], []) for name in texts}
    for _ in progress(range(n_rounds)):
        for name, (ids, sampling) in texts.items():
            for counted, draft in zip(tallies[name], (True, False)):
                tally = Tally()
                list(generate(endless, ids, n_tokens, **sampling, draft=draft, tally=tally))
                counted.append(tally)
    return {
        name: (
            median(tally.n_written / tally.decode_seconds for tally in drafted),
            median(tally.n_written / tally.decode_seconds for tally in plain),
            drafted[0].n_written / drafted[0].n_passes,
        )
        for name, (drafted, plain) in tallies.items()
    }


def print_limits(table, drafting, n_bytes):
    """Say in a line each what stands between these figures and better ones."""
    names = list(table)
    speed, products, _ = table[names[0]]
    said = f"products take {speed / products:.0%} of the time, attention, gelu and sums the rest"
    print(f"{names[0]}: arithmetic; {said}")
    gigabytes = [n_bytes * tokens / 1e9 for tokens in table[names[1]]]  # a token reads all once
    said = "{:.1f} GB a second, in products alone {:.1f}, in reading {:.1f}".format(*gigabytes)
    print(f"{names[1]}: memory; {said}")
    speed, products, reading = table[names[-1]]
    said = f"products take {speed / products:.0%} of the time, reading would {speed / reading:.0%}"
    print(f"{names[-1]}: products of few rows; {said}")
    for name, (drafted, plain, per_pass) in drafting.items():
        limit = "a pass with a draft" if per_pass > 1.1 else "hardly anything to draft from"
        cost = per_pass * plain / drafted
        said = f"{per_pass:.2f} tokens a pass, in {cost:.2f} times the time of one without drafts"
        print(f"{name}: {limit}; {said}")


def main(
    *,
    model_size: str | None = None,
    models_dir: str | None = None,
    rounds: int = 5,
    int8: bool = False,
):
    """Print a model's tokens per second beside what this machine's products and memory allow.

    Args:
        model_size: 124M, 355M, 774M, 1558M, tiny, a folder or a hub id; without it 124M, or tiny.
        models_dir: where models are kept.
        rounds: how often everything is measured: the model's figures are medians.
        int8: hold the large matrices as whole numbers of one byte.
    """
    from tqdm import tqdm

    at_least(1, rounds=rounds)
    model = load(model_size, models_dir, int8=int8)
    if model.config.n_ctx < 2:
        raise CheckpointError(f"{model.name} has an n_ctx of 1: there is no text to go on from")
    said = f"{model.n_params / 1e6:.1f} million parameters, {'int8' if int8 else 'float32'}"
    print(f"{model.name}: {said}, on {cores()} cores")
    print(f"NumPy {np.__version__}, BLAS kernel: {blas_kernel() or 'unknown'}")

    def progress(steps):
        return tqdm(steps, unit="round", disable=hidden())

    table = measure(model, rounds, progress)
    print(f"{'tokens per second':24} {'model':>9} {'products':>9} {'':6} {'reading':>9}")
    for name, (speed, products, reading) in table.items():
        shares = f"{products:9,.1f} {speed / products:6.0%} {reading:9,.1f} {speed / reading:6.0%}"
        print(f"{name:24} {speed:9,.1f} {shares}")
    drafting = measure_drafting(model, rounds, progress)
    print(f"{'tokens per second':24} {'drafting':>9} {'without':>9} {'':6} tokens a pass")
    for name, (drafted, plain, per_pass) in drafting.items():
        print(f"{name:24} {drafted:9,.1f} {plain:9,.1f} {drafted / plain:6.0%} {per_pass:9.2f}")
    print("What limits it:")
    print_limits(table, drafting, sum(w.nbytes for ws in matrices(model.params) for w in ws))


if __name__ == "__main__":
    run(main)
