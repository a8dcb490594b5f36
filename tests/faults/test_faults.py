"""A few of the mutations, kills and interrupts that the scripts beside do by the thousand."""

import os

import pytest
from faults import kills, mutations


@pytest.mark.parametrize("name", mutations.READERS)
def test_a_damaged_file_is_read_right_or_refused_in_a_sentence(name):
    counts = mutations.run(name, 60, seed=1)
    assert counts["wrong"] == 0
    assert counts["read"] + counts["refused"] == 60


@pytest.mark.skipif(os.name == "nt" or not os.path.exists("/proc"), reason="needs Linux' /proc")  # noqa: PTH110
def test_what_is_killed_or_interrupted_ends_as_if_it_were_not():
    failed, _ = kills.run(1, 1, seed=1, names=["train"])
    assert failed == []
