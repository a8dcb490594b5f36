"""Features of sentences beside transformers: python tests/benchmarks/features.py --model FOLDER

SST's dev sentences through a model's blocks to the last token's activations: packed batches here,
padded batches of 16 sorted by length there. They take turns; the table holds medians.
"""

import argparse
import os
import statistics
import sys
import time
from pathlib import Path

N_THREADS = 2
os.environ.setdefault("OMP_NUM_THREADS", str(N_THREADS))
os.environ.setdefault("OPENBLAS_NUM_THREADS", str(N_THREADS))
sys.path.insert(0, str(Path(__file__).parents[2]))

import numpy as np  # noqa: E402

import picogpt  # noqa: E402
from picogpt.tasks.course_files import load_task, task_text  # noqa: E402
from picogpt.tasks.features import encode_texts, features  # noqa: E402
from picogpt.tools.cores import blas_kernel  # noqa: E402

BATCH = 16


def padded_features(gpt2, sequences):
    """What enters GPT2Model's output at each sequence's last token `[n_sequences, n_embd]`."""
    import torch

    rows = np.empty((len(sequences), gpt2.config.n_embd), np.float32)
    order = sorted(range(len(sequences)), key=lambda i: len(sequences[i]))
    for start in range(0, len(order), BATCH):
        batch = order[start : start + BATCH]
        lengths = torch.tensor([len(sequences[i]) for i in batch])
        n = int(lengths.max())
        ids = torch.tensor([sequences[i] + [0] * (n - len(sequences[i])) for i in batch])
        mask = (torch.arange(n) < lengths[:, None]).long()
        with torch.inference_mode():
            x = gpt2(ids, attention_mask=mask, use_cache=False).last_hidden_state
            rows[batch] = x[torch.arange(len(batch)), lengths - 1].numpy()
    return rows


def main():
    import torch
    from transformers import GPT2Model

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, help="the course's files")
    parser.add_argument("--model", type=Path, required=True, help="a folder with GPT-2's tokenizer")
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    torch.set_num_threads(N_THREADS)
    model, gpt2 = picogpt.load(args.model), GPT2Model.from_pretrained(args.model).eval()
    _, examples = load_task("sst", args.data)
    sequences = encode_texts(model, [task_text(row.sentences, False) for row in examples["dev"]])
    runs = {
        "picoGPT": lambda: features(model, sequences),
        "transformers": lambda: padded_features(gpt2, sequences),
    }
    seconds, rows = {name: [] for name in runs}, {}
    for _ in range(args.rounds):
        for name, run in runs.items():
            time.sleep(0.3)  # threads of the one before go to sleep
            start = time.perf_counter()
            rows[name] = run()
            seconds[name].append(time.perf_counter() - start)
    print(f"NumPy's BLAS kernel: {blas_kernel()}; {len(sequences)} sentences")
    for name, taken in seconds.items():
        speed = len(sequences) / statistics.median(taken)
        ratio = statistics.median(taken) / statistics.median(seconds["picoGPT"])
        print(f"{name:15} {speed:7.1f} sentences/s  {ratio:5.2f} x picoGPT's time")
    print(f"largest difference: {np.abs(rows['picoGPT'] - rows['transformers']).max():.1e}")


if __name__ == "__main__":
    main()
