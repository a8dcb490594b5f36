"""Steps that run over threads keep their memory."""

import platform
import subprocess
import sys

import pytest

STEPS = """
import resource
import numpy as np
from picogpt.training.parallel import summed_over_threads

def step(_):
    return 0.0, {"w": np.ones(2**24, np.float32) + 1}  # two arrays of 64 MB

def faults(summed, n_steps):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(n_steps):
        summed(step, [0, 1])
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

with summed_over_threads(2) as summed:
    print(faults(summed, 2), faults(summed, 4))
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc is asked to keep it")
def test_later_steps_take_no_fresh_memory_from_the_system():
    run = subprocess.run([sys.executable, "-c", STEPS], capture_output=True, text=True, check=True)
    first, later = map(int, run.stdout.split())
    assert later < first / 4
