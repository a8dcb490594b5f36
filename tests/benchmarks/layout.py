"""Which order in memory suits a matrix: python tests/benchmarks/layout.py

The products of 124M's blocks, by how many rows are multiplied at once and how the matrices are
stored: by rows, as the checkpoint has them, or by columns, as params.py lays them out. GB of
weights read a second; medians, by turns.
"""

import sys
import time
from pathlib import Path
from statistics import median

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2]))

from picogpt.tools.cores import blas_kernel

SHAPES = [(768, 2304), (768, 768), (768, 3072), (3072, 768)]  # c_attn, c_proj, c_fc, c_proj
N_LAYER, N_ROUNDS = 12, 7
WAYS = {
    "by rows, x @ w": ("C", lambda x, w: x @ w),
    "by columns, x @ w": ("F", lambda x, w: x @ w),
    "by columns, (w.T @ x.T).T": ("F", lambda x, w: (w.T @ x.T).T),
}


def main():
    """Print the table."""
    rng = np.random.default_rng(0)
    ws = [rng.standard_normal(shape, np.float32) for shape in SHAPES * N_LAYER]
    stored = {order: [w.copy(order) for w in ws] for order in "CF"}
    n_bytes = sum(w.nbytes for w in ws)
    print(f"NumPy {np.__version__}, BLAS kernel: {blas_kernel() or 'unknown'}")
    print("GB/s".ljust(6), *(f"{name:>26}" for name in WAYS))
    for n_rows in (1, 2, 4, 8, 16, 32, 64, 128):
        x = {n: rng.standard_normal((n_rows, n), np.float32) for n in (768, 3072)}
        seconds = {name: [] for name in WAYS}
        for _ in range(N_ROUNDS):
            for name, (order, product) in WAYS.items():
                start = time.perf_counter()
                for w in stored[order]:
                    product(x[len(w)], w)
                seconds[name].append(time.perf_counter() - start)
        speeds = (n_bytes / median(times) / 1e9 for times in seconds.values())
        print(f"{n_rows:<6}", *(f"{speed:26.1f}" for speed in speeds))


if __name__ == "__main__":
    main()
