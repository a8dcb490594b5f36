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
# (model, int8, times wpe, sampling, drafts, what the row is called), each group beside its first
GROUPS = {
    "greedy, repeats itself": [
        ("124M", False, 1, GREEDY, False, "without drafts"),
        ("124M", False, 1, GREEDY, True, "with drafts"),
    ],
    "greedy, never repeats itself": [
        ("124M", False, 100, GREEDY, False, "without drafts"),
        ("124M", False, 100, GREEDY, True, "with drafts"),
    ],
    "sampled": [
        ("124M", False, 1, SAMPLED, False, "without drafts"),
        ("124M", False, 1, SAMPLED, True, "with drafts"),
    ],
    "124M": [
        ("124M", False, 1, GREEDY, False, "float32"),
        ("124M", True, 1, GREEDY, False, "int8"),
    ],
    "tiny": [
        ("tiny", False, 1, GREEDY, False, "float32"),
        ("tiny", True, 1, GREEDY, False, "int8"),
    ],
    "1558M": [
        ("1558M", False, 1, GREEDY, False, "float32"),
        ("1558M", True, 1, GREEDY, False, "int8"),
    ],
}  # fmt: skip


def write_folders(folder, names):
    """Make the models that are not there yet, each in a process of its own."""
    for name in names:
        if name in SHAPES and not (folder / name).exists():
            code = f"import engines; engines.write_model({str(folder / name)!r}, {SHAPES[name]})"
            subprocess.run([sys.executable, "-c", code], cwd=BENCHMARKS, check=True)


def serve(connection, folder, row):
    """Load a model; then write a text whenever asked: (tokens a second, tokens a pass, peak MB)."""
    import picogpt
    from picogpt.generation import Tally

    name, int8, wpe_factor, sampling, draft, _ = row
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


def measure(folder, rows, n_rounds):
    """Each row's process, by turns: (seconds to load, tokens/s, tokens a pass, peak MB) of each."""
    spawn, connections, loads = multiprocessing.get_context("spawn"), [], []
    for row in rows:
        ours, its = spawn.Pipe()
        spawn.Process(target=serve, args=(its, folder, row), daemon=True).start()
        connections.append(ours)
        loads.append(ours.recv())
    results = [[] for _ in rows]
    for _ in range(n_rounds):
        for row, connection, its_results in zip(rows, connections, results):
            connection.send(N_TOKENS[row[0]])
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
        write_folders(folder, {row[0] for rows in groups.values() for row in rows})
        from picogpt.tools.cores import blas_kernel

        print(f"medians of {args.rounds}; NumPy's BLAS kernel: {blas_kernel()}")
        print(f"{'':46} tokens/s        tokens a pass  s to load  peak MB")
        for group, rows in groups.items():
            results = measure(folder, rows, args.rounds)
            for row, (load, speed, per_pass, peak) in zip(rows, results):
                name = f"{group}: {row[-1]}"
                ratio = f"{speed / results[0][1]:6.2f} x"
                print(f"{name:46} {speed:8.1f} {ratio} {per_pass:13.2f} {load:10.1f} {peak:8.0f}")


if __name__ == "__main__":
    main()
