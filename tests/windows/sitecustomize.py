"""Windows' rules about files and clocks, on Linux: PYTHONPATH=tests/windows pytest.

Python imports a module of this name in every process that it starts. What a process has open or
mapped into memory can then be neither replaced nor renamed nor removed by it; the clocks tick 64
times a second; the system has no fcntl and doesn't say which cores a process may use; no folder can
be opened. It is a shim for finding what would fail there, not Windows.
"""

import errno
import math
import os
import shutil
import subprocess  # noqa: F401 - before there is a msvcrt, by which it would go
import sys
import tempfile
import time
from fcntl import LOCK_EX, LOCK_NB, flock
from pathlib import Path
from types import SimpleNamespace

TICKS = 64  # a second

real = {name: getattr(os, name) for name in ("replace", "rename", "unlink", "remove", "open")}
clocks = {name: getattr(time, name) for name in ("time", "monotonic", "perf_counter")}


def is_held(path):
    """Whether this process has the file open or mapped."""
    path = os.path.realpath(path)
    for link in Path("/proc/self/fd").iterdir():
        try:
            if str(link.readlink()) == path:
                return True
        except OSError:  # the one that listed the folder is closed by now
            continue
    lines = Path("/proc/self/maps").read_text(errors="surrogateescape").splitlines()
    return any(line.endswith(f" {path}") for line in lines)


def refuse_held(*paths):
    """Raise PermissionError, as Windows does, for a file that is open or mapped."""
    for path in paths:
        if Path(path).name.startswith("pym-"):  # Python's shared memory, no file on Windows
            continue
        if Path(path).is_file() and is_held(path):
            said = "The process cannot access the file because it is being used by another process"
            raise PermissionError(errno.EACCES, said, str(path))


def replace(source, target, **options):
    """os.replace by Windows' rules."""
    refuse_held(source, target)
    real["replace"](source, target, **options)


def rename(source, target, **options):
    """os.rename by Windows' rules: what is there is not replaced."""
    refuse_held(source)
    if Path(target).exists():
        raise FileExistsError(errno.EEXIST, "Cannot create a file when that file already exists")
    real["rename"](source, target, **options)


def unlink(path, **options):
    """os.unlink by Windows' rules."""
    if not options:
        refuse_held(path)
    real["unlink"](path, **options)


def open_file(path, *args, **options):
    """os.open by Windows' rules: a folder can't be opened."""
    if not options and Path(path).is_dir():
        raise PermissionError(errno.EACCES, "Permission denied", str(path))
    return real["open"](path, *args, **options)


def ticking(clock):
    """A clock that moves on 64 times a second."""
    return lambda: math.floor(clock() * TICKS) / TICKS



def locking(file, mode, n_bytes):  # noqa: ARG001 - msvcrt's signature
    """msvcrt.locking, of a whole file: by flock, which other processes see too."""
    flock(file, LOCK_EX | LOCK_NB)


os.replace, os.rename, os.unlink, os.remove = replace, rename, unlink, unlink
os.open = open_file
shutil._use_fd_functions = False  # as on Windows: by names
tempfile.TemporaryFile = tempfile.NamedTemporaryFile  # as on Windows
for name, clock in clocks.items():
    setattr(time, name, ticking(clock))
del os.sched_getaffinity
if "PYTHONPATH" in os.environ:  # for processes that are started in other folders
    paths = os.environ["PYTHONPATH"].split(os.pathsep)
    os.environ["PYTHONPATH"] = os.pathsep.join(map(os.path.abspath, paths))
sys.modules["fcntl"] = None  # importing it raises ImportError
sys.modules["msvcrt"] = SimpleNamespace(locking=locking, LK_NBLCK=2)
