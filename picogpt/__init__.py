"""GPT-2 in plain NumPy: read it, run it, train it.

reference.py          GPT-2 on one page
kernels.py            the forward pass: causal mask, attention, blocks, KV cache, batches
gradients.py          the derivative of each formula, and the chain rule through a block
backprop.py           the chain rule through the stack; the loss
optim.py              AdamW, Muon, learning rates, clipping
model.py              load, save, logits, loss_and_gradients, trace
generation.py         temperature, top-k, top-p, and the loop from token to token
logits_processors.py  repetition penalty and whatever else a generation config asks for
drafting.py           a guess at the next tokens, which the model confirms
text_stream.py        whole characters, stop strings
activations.py        the activations beside gelu
quantization.py       int8
tokenizer/            byte-level BPE
checkpoint/           config.json and safetensors files, and the hub they come from
training/             the loop, a step's windows, several cores, what a run keeps on disk
tasks/                the course's tasks: files, features, heads, metrics
teaching/             the page about a sentence, the exercises
tools/                command lines, errors, files, drawings

The other .py files are commands: python -m picogpt.NAME. mistakes.json: the exercises' usual ones.
"""

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

# after a product the threads of NumPy's OpenBLAS keep their cores busy, waiting for the next one,
# while ours need these (tools/cores.py): for 2^20 cycles now, not for 2^26. This import reads it
if "OPENBLAS_THREAD_TIMEOUT" not in os.environ:
    os.environ["OPENBLAS_THREAD_TIMEOUT"] = "20"
    import numpy  # noqa: F401

    del os.environ["OPENBLAS_THREAD_TIMEOUT"]

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
