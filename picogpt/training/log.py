"""The log of a training, a JSON object for each step, and the curve that is drawn of it.

Such an entry has the step (1 for the first), the loss before it (the mean, in nats a token) and
tokens_per_second; after some steps also valid_loss (nats a token) and bits_per_byte, both on the
validation text.
"""

import json
import math
import sys
from contextlib import suppress
from statistics import fmean

from picogpt.tools.errors import OutputError
from picogpt.tools.files import write_text
from picogpt.tools.svg import line_chart

NUMBERS = ("loss", "tokens_per_second", "valid_loss", "bits_per_byte")


class Log:
    """log.jsonl of a run that goes on after n_steps: its entries, and the file.

    Lines about later steps are taken out: a killed run took them after its last checkpoint, and
    they are taken again. So are damaged lines, as a kill or a full disk leaves them; stderr tells
    how many. Raises OutputError where the file can't be written.
    """

    def __init__(self, path, n_steps):
        self.path = path
        self.entries = read_log(path, n_steps)
        write_text(path, "".join(json.dumps(entry) + "\n" for entry in self.entries))

    def append(self, entry):
        """Write a step's entry, at once, so that a plot can follow; OutputError where it can't."""
        self.entries.append(entry)
        try:
            with self.path.open("a", encoding="utf-8", newline="\n") as file:
                file.write(json.dumps(entry) + "\n")
        except OSError as error:
            raise OutputError(f"{self.path} can't be written ({error.strerror})") from error

    def draw(self, path):
        """Draw the losses of all steps, if that works: a curve is no reason to stop a training."""
        try:
            draw_curve(self.entries, path)
        except OSError as error:
            print(f"the curve isn't drawn: {error}", file=sys.stderr)


def read_log(path, n_steps):
    """The entries of the first n_steps in a log, less damaged ones, which stderr tells of."""
    if not path.exists():
        return []
    entries, n_damaged, last = [], 0, 0
    for line in path.read_bytes().splitlines():
        entry = parse_entry(line)
        if entry is None or entry["step"] <= last:
            n_damaged += 1
        elif entry["step"] <= n_steps:
            entries.append(entry)
            last = entry["step"]
    if n_damaged:
        print(f"{path}: damaged lines are left out, {n_damaged} in all", file=sys.stderr)
    return entries


def parse_entry(line):
    """The entry that a line (bytes) holds; None where it is damaged."""
    with suppress(ValueError, RecursionError, OverflowError):  # not JSON, too deep, or too large
        entry = json.loads(line)
        if isinstance(entry, dict) and type(entry.get("step")) is int and "loss" in entry:
            numbers = [entry[name] for name in NUMBERS if name in entry]
            if all(type(n) in (int, float) and math.isfinite(n) for n in numbers):
                return {name: entry[name] for name in ("step", *NUMBERS) if name in entry}
    return None


def draw_curve(entries, path):
    """Draw the training loss, a mean for every 1 % of the steps, and the validation loss."""
    size = max(1, len(entries) // 100)
    groups = [entries[i : i + size] for i in range(0, len(entries), size)]
    series = {
        "training": [(group[-1]["step"], fmean(e["loss"] for e in group)) for group in groups],
        "validation": [(e["step"], e["valid_loss"]) for e in entries if "valid_loss" in e],
    }
    line_chart(path, series, "loss while training", "step", "nats per token")
