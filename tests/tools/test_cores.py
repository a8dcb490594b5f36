"""The BLAS's functions by any of their names."""

from types import SimpleNamespace

import pytest

from picogpt.tools.cores import blas_kernel, blas_threads, openblas, openblas_function


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
