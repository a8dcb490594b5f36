"""What a row times 124M's matrices costs, done in many ways: python tests/benchmarks/one_row.py

Writing a token is little else than one row times every matrix of every block, and takes the time
that the memory needs to hand these over. The first line is the wall: every number is looked at once
(the largest of each half, a thread for each half) and nothing computed. The others are ways to
compute the products. GB of weights read a second; medians, by turns. "One thread for each half"
goes through all matrices without waiting for the other thread in between, as no model could: where
that isn't faster, nothing that is built on it will be.

`OPENBLAS_CORETYPE=Haswell` has NumPy's OpenBLAS compute as on a processor without AVX-512.
"""

import mmap
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).parents[2]))

# first of all, for what it tells the BLAS: see picogpt/__init__.py
from picogpt.tools.cores import blas_kernel, blas_threads  # isort: skip

import numpy as np

SHAPES = [(768, 2304), (768, 768), (768, 3072), (3072, 768)]  # c_attn, c_proj, c_fc, c_proj
N_LAYER, N_ROUNDS = 12, 15
ROWS = {n: np.random.default_rng(n).standard_normal((1, n), np.float32) for n in (768, 3072)}
EIGHT = {n: np.concatenate([row, np.zeros((7, n), np.float32)]) for n, row in ROWS.items()}


def row_of(w):
    """The row `[1, n_in]` that w `[n_in, n_out]` is multiplied by."""
    return ROWS[len(w)]


def largest(w):
    """Look at every number of a matrix stored by columns, and compute nothing."""
    return w.T.max()


def by_rows(w):
    """x @ w, for a matrix stored by rows: as a checkpoint has it."""
    return row_of(w) @ w


def by_columns(w):
    """The same for one stored by columns: what kernels.linear does."""
    return (w.T @ row_of(w).T).T


def by_columns_as_vectors(w):
    """The same with vectors instead of matrices of one column: gemv instead of gemm."""
    return w.T @ row_of(w)[0]


def eight_rows(w):
    """Seven rows of zeros beside the one: gemm has kernels of its own for so many."""
    return (w.T @ EIGHT[len(w)].T).T


def dot_products(w):
    """A dot product for each column."""
    return np.vecdot(w.T, row_of(w)[0])


def einsum(w):
    """The same by einsum."""
    return np.einsum("ij,j->i", w.T, row_of(w)[0])


def few_columns(w, n_numbers=2**16):
    """64 k numbers at a time."""
    n = n_numbers // len(w)
    x = row_of(w)[0]
    return [w.T[start : start + n] @ x for start in range(0, w.shape[1], n)]


def half_of_outputs(w, half):
    """One thread's half of the columns of a matrix stored by columns."""
    n = w.shape[1] // 2
    return w.T[half * n : (half + 1) * n] @ row_of(w)[0]


def half_of_inputs(w, half):
    """One thread's half of the rows of a matrix stored by rows; the halves are to be added."""
    n = len(w) // 2
    return row_of(w)[0, half * n : (half + 1) * n] @ w[half * n : (half + 1) * n]


def half_of_dot_products(w, half):
    """One thread's half of `dot_products`."""
    n = w.shape[1] // 2
    return np.vecdot(w.T[half * n : (half + 1) * n], row_of(w)[0])


def half_of_einsum(w, half):
    """One thread's half of `einsum`."""
    n = w.shape[1] // 2
    return np.einsum("ij,j->i", w.T[half * n : (half + 1) * n], row_of(w)[0])


def half_of_columns_max(w, half):
    """One thread's half of `largest`."""
    n = w.shape[1] // 2
    return w.T[half * n : (half + 1) * n].max()


def every_other_few(w, half, n_numbers=2**16):
    """One thread's every other 64 k numbers of a matrix stored by columns: neighbours in memory."""
    n = n_numbers // len(w)
    x = row_of(w)[0]
    return [w.T[start : start + n] @ x for start in range(half * n, w.shape[1], 2 * n)]


# name: (how the matrices are stored, how many of them a thread computes, the product)
WAYS = {
    "read and nothing else": ("columns", "halves", half_of_columns_max),
    "read by one thread": ("columns", "one", largest),
    "by rows": ("rows", "blas", by_rows),
    "by columns: today's": ("columns", "blas", by_columns),
    "by columns, gemv": ("columns", "blas", by_columns_as_vectors),
    "by columns, one thread": ("columns", "one", by_columns),
    "by columns, one array a block": ("one array", "blas", by_columns),
    "by columns, huge pages": ("huge pages", "blas", by_columns),
    "by columns, 64 k numbers at a time": ("columns", "blas", few_columns),
    "by columns, seven rows of zeros": ("columns", "blas", eight_rows),
    "halves of the outputs": ("columns", "halves", half_of_outputs),
    "halves of the inputs, by rows": ("rows", "halves", half_of_inputs),
    "every other 64 k numbers": ("columns", "halves", every_other_few),
    "dot products, one thread": ("columns", "one", dot_products),
    "dot products, halves": ("columns", "halves", half_of_dot_products),
    "einsum, one thread": ("columns", "one", einsum),
    "einsum, halves": ("columns", "halves", half_of_einsum),
}


def in_one_array(ws):
    """Copies of a block's matrices, by columns, one behind the other in one array."""
    copies = []
    for i in range(0, len(ws), len(SHAPES)):
        block = ws[i : i + len(SHAPES)]
        flat = np.concatenate([w.ravel("F") for w in block])
        ends = np.cumsum([w.size for w in block])
        for w, end in zip(block, ends):
            copies.append(flat[end - w.size : end].reshape(w.T.shape).T)
    return copies


def in_huge_pages(ws):
    """Copies, by columns, in memory for which Linux is asked to use pages of 2 MB."""
    memory = mmap.mmap(-1, sum(w.nbytes for w in ws))
    if hasattr(mmap, "MADV_HUGEPAGE"):
        memory.madvise(mmap.MADV_HUGEPAGE)
    flat, start, copies = np.frombuffer(memory, np.float32), 0, []
    for w in ws:
        copy = flat[start : start + w.size].reshape(w.T.shape).T
        copy[:] = w
        copies.append(copy)
        start += w.size
    return copies


def run(pool, ws, threads, product):
    """The seconds that a product takes with every matrix."""
    alone = nullcontext() if threads == "blas" else blas_threads(1)
    with alone:
        start = time.perf_counter()
        if threads == "halves":
            list(pool.map(lambda half: [product(w, half) for w in ws], (0, 1)))
        else:
            for w in ws:
                product(w)
        return time.perf_counter() - start


def main():
    """Print the table."""
    rng = np.random.default_rng(0)
    ws = [rng.standard_normal(shape, np.float32) for shape in SHAPES * N_LAYER]
    stored = {
        "rows": ws,
        "columns": [w.copy("F") for w in ws],
        "one array": in_one_array(ws),
        "huge pages": in_huge_pages(ws),
    }
    n_bytes = sum(w.nbytes for w in ws)
    print(f"NumPy {np.__version__}, BLAS kernel: {blas_kernel() or 'unknown'}")
    seconds = {name: [] for name in WAYS}
    with ThreadPoolExecutor(2) as pool:
        for _ in range(N_ROUNDS):
            for name, (order, threads, product) in WAYS.items():
                seconds[name].append(run(pool, stored[order], threads, product))
    for name, times in seconds.items():
        print(f"{name:<36}{n_bytes / median(times) / 1e9:8.1f} GB/s")


if __name__ == "__main__":
    main()
