"""GPT-2 in plain NumPy: read it, run it, train it."""

import os
import sys
from _signal import SIG_IGN, SIGINT, getsignal, signal  # all of `signal` that needs no imports

# python -m picogpt.NAME and the installed command picogpt begin here: they end at once on Ctrl-C,
# until the command answers it in its own way
if (
    os.path.split("".join(sys.argv[:1]))[1].removesuffix(".exe") in ("-m", "picogpt")
    and getsignal(SIGINT) != SIG_IGN
):
    signal(SIGINT, lambda *_: os._exit(130))

from importlib import import_module

from picogpt.generation import generate, generate_batch
from picogpt.model import Model, load, logits, loss_and_gradients, new_caches, save, trace
from picogpt.tools.accelerate import ignore_spurious_warnings

ignore_spurious_warnings()

__version__ = "2.0.0"

__all__ = [
    "Model",
    "explain",
    "generate",
    "generate_batch",
    "load",
    "logits",
    "loss_and_gradients",
    "new_caches",
    "save",
    "trace",
]


def __dir__():
    """What help and completion show: `explain` too, which is imported when it is asked for."""
    return sorted({*globals(), *__all__})


def __getattr__(name):
    """picogpt.explain comes when it is asked for, so that python -m picogpt.explain can run it."""
    if name == "explain":
        return import_module("picogpt.explain")
    raise AttributeError(f"module picogpt has no attribute {name!r}")
