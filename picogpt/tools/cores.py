"""The machine's cores: how many this process may use, and how many of them the BLAS uses."""

import ctypes
import os
from collections import deque
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from threading import Lock

import numpy as np

M_ARENA_MAX, M_MMAP_MAX, M_TRIM_THRESHOLD = -8, -4, -1  # of glibc's malloc.h


def openblas(function):
    """A C function of NumPy's OpenBLAS, as set_num_threads; None for any other BLAS."""
    return find_openblas(np.__file__, function)


@cache
def find_openblas(numpy_file, function):
    """What `openblas` gives, for the NumPy of which this is the __init__.py.

    Wheels bring the library along; elsewhere, as on Debian or with conda, it is one that NumPy's
    own module depends on, where the system's loader finds it.
    """
    package = Path(numpy_file).parent
    found = [*package.parent.glob("numpy.libs/*openblas*"), *package.glob(".dylibs/*openblas*")]
    for path in [*found, *package.glob("*core/_multiarray_umath*")]:
        with suppress(OSError):  # no library, whatever its name says
            if named := openblas_function(ctypes.CDLL(str(path)), function):
                return named
    return None


def openblas_function(library, function):
    """A function by any of its names: builds put scipy_ before it, or 64_ (wide ints) behind.

    None where the library, perhaps another BLAS, has no such function.
    """
    for prefix in ("scipy_", ""):
        for suffix in ("64_", ""):
            if named := getattr(library, f"{prefix}openblas_{function}{suffix}", None):
                return named
    return None


def blas_kernel():
    """The processor that NumPy's OpenBLAS computes for, like Haswell; None for any other BLAS."""
    name = openblas("get_corename")
    if name is None:
        return None
    name.restype = ctypes.c_char_p
    return name().decode()


@contextmanager
def blas_threads(n):
    """Keep NumPy's OpenBLAS to n threads; yields False, with no effect, for any other BLAS."""
    set_threads = openblas("set_num_threads")
    if set_threads is None:
        yield False
        return
    before = openblas("get_num_threads")()
    set_threads(n)
    try:
        yield True
    finally:
        set_threads(before)


@cache
def threads(process_id):  # noqa: ARG001  a forked process has none of its parent's threads
    """Threads that wait for jobs, as many as there are cores beside the one that asks."""
    # else glibc gives these threads a heap of their own (an "arena"), which training's threads take
    # over later: from it large arrays go back to the system, and a step takes a quarter longer
    mallopt(M_ARENA_MAX, 1)
    return ThreadPoolExecutor(max(1, cores() - 1))


dealing = Lock()  # how many threads the BLAS uses is the whole process's affair


def deal_to_cores(f, jobs):
    """[f(job) for job in jobs], on as many threads as the BLAS has, which keeps to one meanwhile.

    The BLAS spreads each of its products over the cores; this is for what stands between products,
    where NumPy lets go of Python's lock. The results are the same for any number of threads. Where
    the BLAS uses one thread (on one core, in workers, beside training's threads) or can't be told
    to, or where another thread is dealing just now, the jobs run in turn.
    """
    count = openblas("get_num_threads")
    n_threads = min(count(), cores(), len(jobs)) if count else 1
    if n_threads < 2 or not dealing.acquire(blocking=False):
        return [f(job) for job in jobs]
    results = [None] * len(jobs)
    left = deque(enumerate(jobs))

    def work():
        while left:
            try:
                i, job = left.popleft()
            except IndexError:  # another thread was faster
                return
            results[i] = f(job)

    try:
        with blas_threads(1):
            others = [threads(os.getpid()).submit(work) for _ in range(n_threads - 1)]
            try:
                work()
            finally:
                others = [other for other in others if not other.cancel()]  # those that have begun
                wait(others)
        for other in others:
            other.result()  # raises what it has raised
    finally:
        dealing.release()
    return results


def keep_freed_memory():
    """Ask glibc, for good, to keep freed memory for the next array; elsewhere nothing happens.

    It gives large arrays back to the system, which clears every page that it hands out again: up to
    a sixth of a training step.
    """
    mallopt(M_ARENA_MAX, 1)
    mallopt(M_MMAP_MAX, 0)
    mallopt(M_TRIM_THRESHOLD, 2**31 - 1)


def mallopt(option, value):
    """Set an option of glibc's malloc (man 3 mallopt); elsewhere nothing happens."""
    library = ctypes.CDLL(None) if os.name == "posix" else None
    if function := getattr(library, "mallopt", None):
        function(option, value)


def cores():
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
