"""What a test must know of the system that it runs on, or of the stand-in for it."""

import os
from pathlib import Path

from picogpt.tools import files

WINDOWS_RULES = files.fcntl is None  # Windows, or the shim of its rules in tests/windows
# for processes that a test starts: this package, and whatever it was itself started with
PYTHON_PATH = os.pathsep.join(
    [str(Path(__file__).parents[1]), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
).rstrip(os.pathsep)
