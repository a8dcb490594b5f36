"""A tree of arrays in one file: what is written comes back, to the order in memory."""

import signal
import subprocess
import sys

import numpy as np
import pytest

from picogpt.tools.errors import CheckpointError
from picogpt.training.state import load_state, save_state


def test_arrays_come_back_as_they_were_stored(tmp_path):
    w = np.random.default_rng(0).standard_normal((3, 5), np.float32)
    tree = {"blocks": [{"w": w}, {"w": np.asfortranarray(w), "b": w[0]}], "empty": np.ones((0, 2))}
    save_state(tmp_path / "state", tree, {"step": 7, "history": [1.5]})
    back, meta = load_state(tmp_path / "state")
    assert meta == {"step": 7, "history": [1.5]}
    assert list(back) == ["blocks", "empty"] and back["empty"].shape == (0, 2)
    (by_rows, by_columns), (first, second) = back["blocks"], tree["blocks"]
    for found, stored in ((by_rows, first), (by_columns, second)):
        assert found.keys() == stored.keys()
        for name, array in stored.items():
            assert np.array_equal(found[name], array) and found[name].dtype == np.float32
            assert found[name].flags.c_contiguous == array.flags.c_contiguous
            assert found[name].flags.f_contiguous == array.flags.f_contiguous


def test_an_array_with_gaps_is_written_right(tmp_path):
    w = np.arange(24.0).reshape(4, 6)
    save_state(tmp_path / "state", {"w": w[:, ::2], "b": w[0, ::2]}, {})
    back, _ = load_state(tmp_path / "state")
    assert np.array_equal(back["w"], w[:, ::2]) and np.array_equal(back["b"], w[0, ::2])


@pytest.mark.parametrize("n_bytes", [0, 4, 100, -1])
def test_a_damaged_file_is_refused_in_one_sentence(tmp_path, n_bytes):
    path = tmp_path / "state"
    save_state(path, {"w": np.ones((3, 5))}, {})
    path.write_bytes(path.read_bytes()[:n_bytes])
    with pytest.raises(CheckpointError, match="damaged") as caught:
        load_state(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.skipif(not hasattr(signal, "SIGXFSZ"), reason="limits of a file's size are POSIX")
def test_a_full_disk_is_one_sentence_and_leaves_what_was_there(tmp_path):
    """A file may grow no further, as on a full disk; in a process of its own."""
    path = tmp_path / "state.safetensors"
    save_state(path, {"w": np.zeros(3)}, {"step": 1})
    code = f"""
import resource, signal
import numpy as np
from picogpt.training.state import save_state
from picogpt.tools.errors import PicoGPTError
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
try:
    save_state({str(path)!r}, {{"w": np.zeros(10_000)}}, {{"step": 2}})
except PicoGPTError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert f"{path} can't be written" in done.stdout
    assert load_state(path)[1] == {"step": 1}
    assert list(tmp_path.iterdir()) == [path]
