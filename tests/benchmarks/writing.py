"""What drafts and int8 change in writing: python tests/benchmarks/writing.py

Random weights in the shapes of 124M and 1558M, and the built-in model. Each row is a process of its
own; they take turns, and the table holds medians. The texts of the rows about drafts: with random
weights a greedy text comes to repeat a token for ever, which it does when the clock starts; with
position embeddings 100 times as large as usual it never repeats itself; and one is sampled from all
tokens. 1558M takes 6.3 GB on disk, and some minutes to be made: --folder keeps it.
"""

import argparse
import multiprocessing
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

BENCHMARKS = Path(__file__).parent
sys.path.insert(0, str(BENCHMARKS.parents[1]))

SHAPES = {"124M": "", "1558M": "n_embd=1600, n_layer=48, n_head=25"}
PROMPT = [*range(1000, 1010)]
N_FIRST = {"124M": 48, "1558M": 4, "tiny": 4}  # tokens that are written before the clock starts
N_TOKENS = {"124M": 96, "1558M": 50, "tiny": 160}
GREEDY, SAMPLED = {"temperature": 0}, {"temperature": 1, "top_k": 0, "seed": 0}
DRAFTS = {"without drafts": {"draft": False}, "with drafts": {"draft": True}}
NUMBERS = {"float32": {"int8": False}, "int8": {"int8": True}}
# group: (model, its rows and what differs in each, what they share), each row beside the first
GROUPS = {
    "greedy, repeats itself": ("124M", DRAFTS, {"sampling": GREEDY}),
    "greedy, never repeats itself": ("124M", DRAFTS, {"sampling": GREEDY, "wpe_factor": 100}),
    "sampled": ("124M", DRAFTS, {"sampling": SAMPLED}),
    "124M": ("124M", NUMBERS, {"sampling": GREEDY}),
    "tiny": ("tiny", NUMBERS, {"sampling": GREEDY}),
    "1558M": ("1558M", NUMBERS, {"sampling": GREEDY}),
}


def write_folders(folder, names):
    """Make the models that are not there yet, each in a process of its own."""
    for name in names:
        if name in SHAPES and not (folder / name).exists():
            code = f"import engines; engines.write_model({str(folder / name)!r}, {SHAPES[name]})"
            subprocess.run([sys.executable, "-c", code], cwd=BENCHMARKS, check=True)


def serve(connection, folder, name, sampling, draft=False, int8=False, wpe_factor=1):
    """Load a model; then write a text whenever asked: (tokens a second, tokens a pass, peak MB)."""
    import picogpt
    from picogpt.generation import Tally

    start = time.perf_counter()
    model = picogpt.load(folder / name if name in SHAPES else name, int8=int8)
    loaded = time.perf_counter() - start
    params = model.params | {"wpe": model.params["wpe"] * wpe_factor}
    model = model._replace(params=params, generation={"eos_token_id": []})
    options = {**sampling, "draft": draft}
    prompt = PROMPT + list(picogpt.generate(model, PROMPT, N_FIRST[name], **options))
    connection.send(loaded)
    while n_tokens := connection.recv():
        tally = Tally()
        list(picogpt.generate(model, prompt, n_tokens, **options, tally=tally))
        speed = tally.n_written / tally.decode_seconds
        connection.send((speed, tally.n_written / tally.n_passes, peak_memory()))


def peak_memory():
    """MB that this process has had in memory at most; 0 where the system doesn't tell."""
    status = Path("/proc/self/status")
    if not status.exists():
        return 0
    return int(status.read_text().partition("VmHWM:")[2].split()[0]) * 1024 / 1e6


def measure(folder, name, rows, shared, n_rounds):
    """Each row's process, by turns: (seconds to load, tokens/s, tokens a pass, peak MB) of each."""
    spawn = multiprocessing.get_context("spawn")
    connections, loads = [], []
    for row in rows.values():
        ours, its = spawn.Pipe()
        options = shared | row
        spawn.Process(target=serve, args=(its, folder, name), kwargs=options, daemon=True).start()
        connections.append(ours)
        loads.append(ours.recv())
    results = [[] for _ in rows]
    for _ in range(n_rounds):
        for connection, its_results in zip(connections, results):
            connection.send(N_TOKENS[name])
            its_results.append(connection.recv())
    for connection in connections:
        connection.send(0)  # done
    medians = [map(statistics.median, zip(*some)) for some in results]
    return [(load, *figures) for load, figures in zip(loads, medians)]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--groups", default="|".join(GROUPS), help="with | between two")
    parser.add_argument("--folder", type=Path, help="where the models' files are kept")
    args = parser.parse_args()
    groups = {name: GROUPS[name] for name in args.groups.split("|")}
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.folder or Path(temporary)
        write_folders(folder, {model for model, _, _ in groups.values()})
        from picogpt.tools.cores import blas_kernel

        print(f"medians of {args.rounds}; NumPy's BLAS kernel: {blas_kernel()}")
        print(f"{'':46} tokens/s        tokens a pass  s to load  peak MB")
        for group, (model, rows, shared) in groups.items():
            results = measure(folder, model, rows, shared, args.rounds)
            for row, (load, speed, per_pass, peak) in zip(rows, results):
                name = f"{group}: {row}"
                ratio = f"{speed / results[0][1]:6.2f} x"
                print(f"{name:46} {speed:8.1f} {ratio} {per_pass:13.2f} {load:10.1f} {peak:8.0f}")


if __name__ == "__main__":
    main()
