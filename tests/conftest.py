"""For all tests: no waiting for the disk, and none for what macOS says in vain."""

import os
import signal

import pytest

if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # started by a shell with & behind it
    signal.signal(signal.SIGINT, signal.default_int_handler)

from picogpt.tools.accelerate import ignore_spurious_warnings


@pytest.fixture(autouse=True)
def no_waiting_for_the_disk(monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda _: None)


@pytest.fixture(autouse=True)
def no_spurious_warnings():  # pytest has put its own filters before the package's
    ignore_spurious_warnings()
