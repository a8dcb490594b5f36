"""Processes that compute features beside this one, and never outlive it."""

import multiprocessing
import os
import signal
import threading
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager, suppress
from multiprocessing.connection import wait

from picogpt.tools.cores import cores
from picogpt.tools.errors import PicoGPTError, UsageError

THREADS = "OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS"
MOST_ON_WINDOWS = 61  # processes that one call of Windows can wait for


def processes(n):
    """An executor of n processes on this machine, each with its share of the cores for BLAS.

    Each ends by itself when this process has ended, in whatever way. Raises UsageError for more
    than Windows can have.
    """
    if os.name == "nt" and n > MOST_ON_WINDOWS:
        raise UsageError(f"Windows can have {MOST_ON_WINDOWS} workers at most, not {n}")
    context = multiprocessing.get_context("spawn")  # the same on every system
    all_here = context.Barrier(n)
    executor = ProcessPoolExecutor(n, context, start_worker, [all_here])
    n_threads = str(max(1, cores() // n))
    with ctrl_c_ignored(), environment(dict.fromkeys(THREADS, n_threads)):
        # with every job the executor starts a worker, unless one is free; each waits for all others
        # before its first job, so none is free before all n have started
        for _ in range(n):
            executor.submit(int)
    return executor


def start_worker(all_here):
    """What a worker does first: watch its parent, leave Ctrl-C to it, wait for the others."""
    threading.Thread(target=leave_with_parent, daemon=True).start()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    all_here.wait()


def leave_with_parent():
    """End this process as soon as its parent has ended, by kill -9 as well."""
    wait([multiprocessing.parent_process().sentinel])
    os._exit(1)


@contextmanager
def ctrl_c_ignored():
    """Processes that are started within ignore Ctrl-C from their first moment on."""
    before = signal.getsignal(signal.SIGINT)
    with suppress(ValueError):  # outside the main thread
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        with suppress(ValueError):
            signal.signal(signal.SIGINT, before)


@contextmanager
def environment(variables):
    """Processes that are started within have these environment variables; ours stay as they are."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def run_all(executor, f, calls):
    """Yield (key, f(*args)) for each of calls, {key: args}, in the order in which they are done.

    A call that fails is made once more. Raises PicoGPTError where it fails again, or at once where
    the error is one of ours; calls that have not begun by then are cancelled.
    """
    futures = {}
    try:
        for key, args in calls.items():
            futures[executor.submit(f, *args)] = key
        for future in as_completed(list(futures)):
            key = futures.pop(future)
            try:
                result = future.result()
            except PicoGPTError:  # of the model: it would be the same once more
                raise
            except Exception:  # a cluster may take what a lost worker had done for a failure
                again = executor.submit(f, *calls[key])
                futures[again] = key
                result = again.result()
                del futures[again]
            yield key, result
    except Exception as error:
        said = f"{type(error).__name__} {error}".strip()
        raise PicoGPTError(f"a worker failed ({said}): run this again to go on") from error
    finally:
        for future in futures:
            future.cancel()
