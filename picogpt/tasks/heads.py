"""A classifier's head {w: [n_embd, n_classes], b: [n_classes]}: a new one, and its file."""

import numpy as np

from picogpt.model import output_matrix
from picogpt.tools.errors import CheckpointError
from picogpt.training.state import load_state, save_state

# what a head's file tells of it, and of which type that must be
FACTS = {
    "task": str,
    "checkpoint": str,  # the fingerprint of the model that it belongs to
    "model": str,  # the folder of that model
    "layer": int | None,
    "pool": str,
    "course": bool,  # whether texts are written as the course writes them
    "trained_on": str,  # in words
}


def new_head(n_embd, n_classes, seed):
    """A head to start from: w as random as torch's nn.Linear has it, b 0.

    That is uniform between -1/sqrt(n_embd) and 1/sqrt(n_embd).
    """
    w = np.random.default_rng(seed).uniform(-1, 1, (n_embd, n_classes)) / n_embd**0.5
    return {"w": w.astype(np.float32), "b": np.zeros(n_classes, np.float32)}


def cloze_head(params, answers):
    """The model's own output matrix as a head: of each class the row of its answer, a token id."""
    w = output_matrix(params)[answers].T  # [n_embd, n_classes]
    return {"w": np.ascontiguousarray(w), "b": np.zeros(len(answers), w.dtype)}


def save_head(path, head, facts):
    """Write a head and what there is to tell of it, {name: value} as FACTS has them.

    Raises OutputError where that fails.
    """
    save_state(path, head, facts)


def load_head(path, task, n_classes):
    """Read what save_head wrote: (head, facts).

    Raises CheckpointError where the file is damaged or holds another task's head.
    """
    head, facts = load_state(path)
    if not are_facts(facts) or not is_head(head, n_classes):
        hint = "delete it, and run the same command without --predict"
        raise CheckpointError(f"{path} holds no head of {task}: {hint}")
    if facts["task"] != task:
        raise CheckpointError(f"{path} is a head for {facts['task']}, not for {task}")
    return head, facts


def are_facts(facts):
    """Whether a file tells what FACTS asks for, and nothing else."""
    if not isinstance(facts, dict) or facts.keys() != FACTS.keys():
        return False
    return all(isinstance(facts[name], kind) for name, kind in FACTS.items())


def is_head(head, n_classes):
    """Whether a tree from a file is a head for so many classes, of finite numbers."""
    if not isinstance(head, dict) or head.keys() != {"w", "b"}:
        return False
    w, b = head["w"], head["b"]
    if not (isinstance(w, np.ndarray) and isinstance(b, np.ndarray)):
        return False
    shapes_fit = w.ndim == 2 and w.shape[1] == n_classes and b.shape == (n_classes,)
    return shapes_fit and bool(np.isfinite(w).all() and np.isfinite(b).all())
