"""The machine's cores: how many this process may use, and how many of them the BLAS uses."""

import ctypes
import os
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np


def openblas(function):
    """A C function of NumPy's OpenBLAS, as set_num_threads; None for any other BLAS.

    Wheels bring the library along; elsewhere, as on Debian or with conda, it is one that NumPy's
    own module depends on, where the system's loader finds it.
    """
    package = Path(np.__file__).parent
    found = [*package.parent.glob("numpy.libs/*openblas*"), *package.glob(".dylibs/*openblas*")]
    for path in [*found, *package.glob("*core/_multiarray_umath*")]:
        with suppress(OSError):  # no library, whatever its name says
            if named := openblas_function(ctypes.CDLL(str(path)), function):
                return named
    return None


def openblas_function(library, function):
    """A function by any of its names: builds put scipy_ before it, or 64_ (wide ints) behind."""
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


def keep_freed_memory():
    """Ask glibc, for good, to keep freed memory for the next array; elsewhere nothing happens.

    It gives large arrays back to the system, which clears every page that it hands out again: up to
    a sixth of a training step. The options are M_ARENA_MAX, M_MMAP_MAX and M_TRIM_THRESHOLD.
    """
    library = ctypes.CDLL(None) if os.name == "posix" else None
    if mallopt := getattr(library, "mallopt", None):
        for option, value in ((-8, 1), (-4, 0), (-1, 2**31 - 1)):
            mallopt(option, value)


def cores():
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
