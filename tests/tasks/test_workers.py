"""Worker processes: Ctrl-C, the environment, and what becomes of them when their parent dies."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from systems import PYTHON_PATH

from picogpt.tasks import workers
from picogpt.tasks.workers import THREADS, processes, run_all
from picogpt.tools.errors import CheckpointError, PicoGPTError, UsageError


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGINT to send")
def test_workers_leave_ctrl_c_alone_from_their_start():
    handler = signal.getsignal(signal.SIGINT)
    with processes(2) as executor:
        future = executor.submit(int, "7")
        for process in multiprocessing.active_children():  # as yet they import NumPy
            os.kill(process.pid, signal.SIGINT)
        assert future.result() == 7
    assert signal.getsignal(signal.SIGINT) is handler


def test_only_the_workers_have_their_share_of_the_cores(monkeypatch):
    monkeypatch.setattr(workers, "cores", lambda: 6)
    monkeypatch.setenv(THREADS[0], "5")
    monkeypatch.delenv(THREADS[1], raising=False)
    before = dict(os.environ)
    with processes(2) as executor:
        assert len(multiprocessing.active_children()) == 2
        assert dict(os.environ) == before
        assert [executor.submit(os.getenv, name).result() for name in THREADS] == ["3"] * 4
    assert dict(os.environ) == before


PARENT = """
import os, sys, multiprocessing
from picogpt.tasks.workers import processes
if __name__ == "__main__":
    with processes(2) as executor:
        early = sys.argv[1] == "early"
        futures = [executor.submit(int) for _ in range(2)]
        if not early:
            [future.result() for future in futures]
        from multiprocessing.resource_tracker import _resource_tracker as tracker
        print(tracker._pid, *[child.pid for child in multiprocessing.active_children()], flush=True)
        sys.stdin.read()
"""


def alive(pid):
    """Whether a process of this number still runs; one that nobody has waited for does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks processes up in /proc")
@pytest.mark.parametrize("number", ["SIGTERM", "SIGKILL"])
@pytest.mark.parametrize("when", ["early", "working"])
def test_nobody_outlives_a_parent_that_is_killed(tmp_path, number, when):
    (tmp_path / "parent.py").write_text(PARENT)
    parent = subprocess.Popen(
        [sys.executable, "parent.py", when], env=os.environ | {"PYTHONPATH": PYTHON_PATH},
        cwd=tmp_path, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    pids = [int(pid) for pid in parent.stdout.readline().split()]
    assert len(pids) == 3 and all(map(alive, pids))
    parent.send_signal(getattr(signal, number))
    parent.wait()
    for _ in range(600):  # a minute at most: as a rule a moment
        if not any(map(alive, pids)):
            break
        time.sleep(0.1)
    assert not any(map(alive, pids))
    _, errors = parent.communicate()
    if when == "working":  # a worker that still reads what it is to do may well complain
        assert b"Traceback" not in errors


def test_windows_can_have_so_many_at_most(monkeypatch):
    monkeypatch.setattr(workers.os, "name", "nt")
    with pytest.raises(UsageError, match="61 workers at most, not 62"):
        processes(62)


def failing(error, n_times):
    """Twice a number, but for 3, which fails n_times; and how often each number was tried."""
    n_tries = Counter()

    def twice(number):
        n_tries[number] += 1
        if number == 3 and n_tries[number] <= n_times:
            raise error
        return 2 * number

    return twice, n_tries


def test_a_call_that_fails_is_given_out_once_more():
    """A cluster that loses a worker may say of a call that was done that it has failed."""
    twice, n_tries = failing(AttributeError("no attribute 'with_traceback'"), 1)
    with ThreadPoolExecutor(2) as executor:
        done = dict(run_all(executor, twice, {i: (i,) for i in range(9)}))
    assert done == {i: 2 * i for i in range(9)}
    assert n_tries == Counter({i: 2 if i == 3 else 1 for i in range(9)})


@pytest.mark.parametrize(
    "error, most", [(OSError("no room"), 2), (CheckpointError("another model"), 1)]
)
def test_a_call_that_fails_again_or_for_good_is_an_error(error, most):
    twice, n_tries = failing(error, 9)
    with (
        ThreadPoolExecutor(1) as executor,
        pytest.raises(PicoGPTError, match=f"a worker failed .*{error}.*again to go on"),
    ):
        list(run_all(executor, twice, {i: (i,) for i in range(9)}))
    assert n_tries[3] == most
