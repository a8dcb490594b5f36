"""The BLAS's functions by any of their names, and jobs dealt out to cores."""

import os
import subprocess
import sys
import threading
from types import SimpleNamespace

import pytest
from systems import PYTHON_PATH

from picogpt.tools import cores
from picogpt.tools.cores import (
    blas_kernel,
    blas_threads,
    deal_to_cores,
    openblas,
    openblas_function,
)


@pytest.mark.parametrize(
    "name",
    ["openblas_set_num_threads", "openblas_set_num_threads64_", "scipy_openblas_set_num_threads",
     "scipy_openblas_set_num_threads64_"],
)  # fmt: skip
def test_openblas_functions_have_many_names(name):
    library = SimpleNamespace(**{name: len})
    assert openblas_function(library, "set_num_threads") is len
    assert openblas_function(library, "get_num_threads") is None


def test_threads_are_set_and_set_back():
    get = openblas("get_num_threads")
    if get is None:
        pytest.skip("this NumPy computes by another BLAS")
    before = get()
    with blas_threads(before + 1) as alone:
        assert alone and get() == before + 1
    assert get() == before and blas_kernel()


@pytest.fixture
def two_cores(monkeypatch):
    """Two cores, whatever the machine has, and a BLAS with two threads, which are set back."""
    if openblas("get_num_threads") is None:
        pytest.skip("this NumPy computes by another BLAS")
    monkeypatch.setattr(cores, "cores", lambda: 2)
    cores.threads.cache_clear()
    with blas_threads(2):
        yield
    cores.threads.cache_clear()


@pytest.mark.usefixtures("two_cores")
def test_dealt_jobs_run_on_two_threads_and_their_results_keep_their_order():
    both_work = threading.Barrier(2)
    seen = set()

    def job(i):
        assert openblas("get_num_threads")() == 1
        seen.add(threading.get_ident())
        if i < 2:
            both_work.wait(timeout=60)  # neither goes on before the other has begun
        return i * i

    assert deal_to_cores(job, range(20)) == [i * i for i in range(20)]
    assert len(seen) == 2
    assert openblas("get_num_threads")() == 2
    assert deal_to_cores(job, []) == []


@pytest.mark.usefixtures("two_cores")
@pytest.mark.parametrize("bad", [0, 1, 5, 19])
def test_what_a_job_raises_is_raised_and_the_next_jobs_are_dealt_out_again(bad):
    def job(i):
        if i == bad:
            raise ValueError(f"job {i}")
        return i

    with pytest.raises(ValueError, match=f"job {bad}"):
        deal_to_cores(job, range(20))
    assert openblas("get_num_threads")() == 2
    assert not cores.dealing.locked()
    assert deal_to_cores(lambda i: i, range(20)) == list(range(20))


@pytest.mark.usefixtures("two_cores")
def test_jobs_run_in_turn_where_the_blas_has_one_thread_or_another_thread_deals():
    def thread_of(_):
        return threading.get_ident()

    here = [threading.get_ident()] * 9
    with blas_threads(1):  # in workers, and beside training's threads
        assert deal_to_cores(thread_of, range(9)) == here
    with cores.dealing:
        assert deal_to_cores(thread_of, range(9)) == here
    assert deal_to_cores(thread_of, [0]) == here[:1]


@pytest.mark.usefixtures("two_cores")
def test_jobs_run_in_turn_beside_another_blas(monkeypatch):
    monkeypatch.setattr(cores, "openblas", lambda function: None)  # noqa: ARG005
    assert deal_to_cores(lambda _: threading.get_ident(), range(9)) == [threading.get_ident()] * 9


@pytest.mark.parametrize("value", [None, "7"])
def test_an_import_leaves_the_environment_as_it_was(value):
    env = {name: text for name, text in os.environ.items() if name != "OPENBLAS_THREAD_TIMEOUT"}
    env |= {"OPENBLAS_THREAD_TIMEOUT": value} if value else {}
    script = "import os; before = dict(os.environ); import picogpt; assert os.environ == before"
    env["PYTHONPATH"] = PYTHON_PATH
    subprocess.run([sys.executable, "-c", script], env=env, check=True)
