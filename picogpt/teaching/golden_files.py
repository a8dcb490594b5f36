"""An exercise's golden calls in a file: what a student's folder has in the place of solutions."""

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np

from picogpt.checkpoint.config import Config
from picogpt.teaching import exercise_calls
from picogpt.teaching.check import check_with_needs
from picogpt.teaching.golden import GoldenCall

NUMBERS = Path(__file__).parent / "numbers"  # in a student's copy
FUNCTIONS = {"tanh": np.tanh, "cos_backward": exercise_calls.cos_backward}  # given as arguments


def save_golden(path, calls, lang):
    """Write the calls of one function and the language of its hints to a file."""
    values = {"lang": lang, "calls": [to_json(list(call)) for call in calls]}
    path.write_text(json.dumps(values, ensure_ascii=False), encoding="utf-8", newline="\n")


def load_golden(path):
    """The GoldenCalls in a file that `save_golden` wrote, and the language of their hints."""
    values = json.loads(path.read_text(encoding="utf-8"))
    return [GoldenCall(*from_json(call)) for call in values["calls"]], values["lang"]


def check_golden(function, numbers=NUMBERS, name=None):
    """Check a function by the numbers in its file; raises as `check_with_needs` does.

    `name` is what the exercise is called, where the function has another name.
    """
    __tracebackhide__ = True

    def calls_of(name):
        path = numbers / f"{name}.json"
        return load_golden(path)[0] if path.exists() else None

    name = name or function.__name__
    lang = load_golden(numbers / f"{name}.json")[1]
    check_with_needs(function, calls_of, lang, name)


def to_json(value):
    """A value as JSON can hold it.

    What JSON has no form for becomes a dict whose only key, or keys, say what it was: an array, a
    tuple, a function, a Config, or a dict with keys that are no text.
    """
    if isinstance(value, np.ndarray):
        dtype = "O" if value.dtype.kind in "UO" else value.dtype.str
        return {"array": value.tolist(), "dtype": dtype}
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, tuple):
        return {"tuple": [to_json(part) for part in value]}
    if isinstance(value, dict) and not all(isinstance(key, str) for key in value):
        return {"items": [[to_json(key), to_json(part)] for key, part in value.items()]}
    if isinstance(value, dict):
        return {key: to_json(part) for key, part in value.items()}
    if isinstance(value, list):
        return [to_json(part) for part in value]
    if callable(value):
        return {"function": value.__name__}
    if isinstance(value, Config):
        return {"config": asdict(value)}
    return value


def from_json(value):
    """What `to_json` was given."""
    if isinstance(value, list):
        return [from_json(part) for part in value]
    if not isinstance(value, dict):
        return value
    if value.keys() == {"array", "dtype"}:
        return np.asarray(value["array"], None if value["dtype"] == "O" else value["dtype"])
    if value.keys() == {"tuple"}:
        return tuple(from_json(part) for part in value["tuple"])
    if value.keys() == {"items"}:
        return {from_json(key): from_json(part) for key, part in value["items"]}
    if value.keys() == {"config"}:
        return Config(**value["config"])
    if value.keys() == {"function"}:
        return FUNCTIONS[value["function"]]
    return {key: from_json(part) for key, part in value.items()}
