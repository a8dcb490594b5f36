import signal
import sys
import warnings

import numpy as np
import pytest

from picogpt import kernels, reference
from picogpt.tools.accelerate import ignore_spurious_warnings
from picogpt.tools.cli import run

INFINITE = np.full((2, 2), np.inf, np.float32)  # times 0 is invalid, everywhere
ZERO = np.zeros((2, 2), np.float32)


@pytest.fixture
def warned(monkeypatch):
    """What is warned of on macOS, as a list that grows."""
    monkeypatch.setattr(sys, "platform", "darwin")
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        yield found


def test_macos_shows_no_warning_of_the_packages_products(warned):
    kernels.linear(INFINITE, ZERO, ZERO[0])
    assert [str(w.message) for w in warned] == ["invalid value encountered in matmul"]
    warned.clear()
    ignore_spurious_warnings()
    assert np.isnan(kernels.linear(INFINITE, ZERO, ZERO[0])).all()  # the numbers tell
    assert np.isnan(reference.linear(INFINITE, ZERO, ZERO[0])).all()
    assert warned == []


def test_what_else_is_warned_of_is_shown(warned):
    ignore_spurious_warnings()
    INFINITE @ ZERO  # in a user's own module
    kernels.softmax(INFINITE)  # not a product
    assert len(warned) == 2


def test_other_systems_show_everything(warned, monkeypatch):
    monkeypatch.setattr(sys, "platform", "linux")
    ignore_spurious_warnings()
    kernels.linear(INFINITE, ZERO, ZERO[0])
    assert len(warned) == 1


def test_a_command_is_quiet_though_its_module_has_another_name(warned, monkeypatch):
    def command():
        for module in ("__main__", "theirs"):
            said = "overflow encountered in matmul"
            warnings.warn_explicit(said, RuntimeWarning, f"{module}.py", 1, module)

    monkeypatch.setattr(signal, "signal", lambda *_: None)  # `run` ends a process
    with pytest.raises(SystemExit):
        run(command, [])
    assert [w.filename for w in warned] == ["theirs.py"]
