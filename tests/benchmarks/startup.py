"""From process start to the first token, and peak memory: python tests/benchmarks/startup.py

124M's shapes with random weights, in a file whose numbers are aligned and in one whose numbers are
not, as in the hub's own; then 355M's shapes. Files come from the page cache. Medians, by turns.
"""

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]
PROMPT = "Alan Turing theorized that computers would one day become"
SIZES = {"124M": "", "355M": "n_embd=1024, n_layer=24, n_head=16"}


def write_folders(folder):
    """The models' folders by name; a process of its own keeps this one small."""
    for name, shape in SIZES.items():
        if not (folder / name).exists():
            code = f"import engines; engines.write_model({str(folder / name)!r}, {shape})"
            subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parent, check=True)
    unaligned = folder / "124M unaligned"
    if not unaligned.exists():
        shutil.copytree(folder / "124M", unaligned)
        with (
            (folder / "124M" / "model.safetensors").open("rb") as source,
            (unaligned / "model.safetensors").open("wb") as target,
        ):
            n_header = int.from_bytes(source.read(8), "little")
            header = source.read(n_header) + b"   "  # JSON may end in spaces
            target.write(len(header).to_bytes(8, "little") + header)
            shutil.copyfileobj(source, target)  # piece by piece: this process must stay small
    return {name: folder / name for name in ("124M", "124M unaligned", "355M")}


def command(folder, n_tokens):
    script = [sys.executable, ROOT / "gpt2.py", PROMPT, "--model_size", folder]
    return [*script, "--n_tokens_to_generate", str(n_tokens)]


def first_byte(words):
    """Seconds from the start of a process to the first byte it prints."""
    start = time.perf_counter()
    with subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE) as process:
        process.stdout.read(1)
        seconds = time.perf_counter() - start
        process.stdout.read()
    return seconds


def peak_memory(words):
    """MB of a process at its peak."""
    process = subprocess.Popen(words, cwd=ROOT, stdout=subprocess.DEVNULL)
    usage = os.wait4(process.pid, 0)[2]
    return usage.ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--folder", type=Path, help="where the models' files are kept")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folders = write_folders(args.folder or Path(temporary))
        runs = {
            f"import {name}": [sys.executable, "-c", f"import {name}; print(1)"]
            for name in ("numpy", "picogpt")
        }
        runs |= {f"first token, {name}": command(path, 1) for name, path in folders.items()}
        seconds = {name: [] for name in runs}
        for i in range(args.rounds + 1):
            for name, words in runs.items():
                taken = first_byte(words)
                if i:  # the first fills the page cache
                    seconds[name].append(taken)
        print(f"seconds from process start, medians of {args.rounds}")
        for name, times in seconds.items():
            ratio = statistics.median(t / n for t, n in zip(times, seconds["import numpy"]))
            print(f"{name:28} {statistics.median(times):6.3f}  {ratio:5.1f} x import numpy")
        print("peak memory of 40 tokens, MB")
        for name, path in folders.items():
            weights = (path / "model.safetensors").stat().st_size / 2**20
            peak = peak_memory(command(path, 40))
            print(f"{name:28} {peak:6.0f} = weights {weights:.0f} + {peak - weights:.0f}")


if __name__ == "__main__":
    main()
