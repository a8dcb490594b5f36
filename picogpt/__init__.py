"""GPT-2 in plain NumPy: read it, run it, train it."""

from picogpt.generation import generate, generate_batch
from picogpt.model import (
    Model,
    load,
    logits,
    loss_and_gradients,
    new_caches,
    save,
    trace,
)

__all__ = [
    "Model",
    "generate",
    "generate_batch",
    "load",
    "logits",
    "loss_and_gradients",
    "new_caches",
    "save",
    "trace",
]
