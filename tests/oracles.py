"""How the tests in tests/oracle get hold of what they compare with."""

import importlib
import os

import pytest


def oracle(name):
    """Import the oracle `name`; a missing one skips the test module, but is an error in CI."""
    if os.environ.get("ORACLES_REQUIRED") == "1":
        return importlib.import_module(name)
    return pytest.importorskip(name)
