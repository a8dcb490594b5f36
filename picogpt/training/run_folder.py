"""The folder of a training run: what is kept there, whose it is, and when a run may go on in it.

run.json: the flags of the run; only a command with the same ones goes on with it.
log.jsonl: a JSON object for each step (log.py); curve.svg is drawn of it.
checkpoint.safetensors: all that the next step depends on; in the end only how far the run came.
tokens.npy (or tokens-0.npy, ...), finish.npy, valid.npy: the texts as token ids.
model.safetensors, config.json and the tokenizer's files: the best model so far.
last-step/: the model of a finished run's last step, where an earlier one was the best.
"""

import json
import os
import re
import sys
from contextlib import suppress

from picogpt.tokenizer.tokenizer_files import OTHER_FILES
from picogpt.tools.errors import CheckpointError, UsageError
from picogpt.tools.files import read_json, write_text
from picogpt.training.state import load_meta

RUN, CHECKPOINT, LOG, CURVE = "run.json", "checkpoint.safetensors", "log.jsonl", "curve.svg"
LAST = "last-step"
TOKENS = re.compile(r"(tokens(-\d+)?|finish|valid)\.npy")
TOKENIZER = ("vocab.json", "merges.txt", "tokenizer_config.json")
MODEL = ("model.safetensors", "config.json", "generation_config.json", *TOKENIZER)
MAY_CHANGE = {  # flags that may be others when a run goes on, and what that means
    "n_steps": "from here on the learning rate follows the new length",
    "n_threads": "the numbers differ in their last bits, and dropout drops others",
    "half": "the weights that are written are rounded so",
}
ADDED_LATER = {"by_document": "False"}  # flags that runs of earlier versions lack: what these did


def has_own_name(file):
    """Whether a file is called like one that a training run writes."""
    return file.name in (RUN, CHECKPOINT, LOG, CURVE, *MODEL) or bool(TOKENS.fullmatch(file.name))


def is_own_file(file, out):
    """Whether a training run wrote a file, the one in `out` or another: then it is no data."""
    folder = file.parent.parent if file.parent.name == LAST else file.parent
    is_ours = os.path.realpath(folder) == os.path.realpath(out)  # resolve() fails at a link's loop
    is_run = is_ours or (folder / RUN).exists()
    return is_run and has_own_name(file)


def flags_before(out):
    """The flags of the run that the folder holds; None where there is no run.

    Raises CheckpointError where run.json is damaged.
    """
    path = out / RUN
    if not path.exists():
        return None
    hint = f"it says what {out} was trained with: put it back, or choose another --out"
    try:
        flags = read_json(path)
    except CheckpointError:
        raise CheckpointError(f"{path} is damaged; {hint}") from None
    numbers = [str(flags.get(name)) for name in ("n_steps", "n_threads")]
    if not all(re.fullmatch("[0-9]{1,12}", number) for number in numbers):
        raise CheckpointError(f"{path} is not what training writes; {hint}")
    return flags


def begin_or_go_on(out, flags, start_folder=None):
    """Whether the folder holds this very run already; if not, begin it: write the flags down.

    `flags` are {name: value}; `start_folder` is that of the model to start from, perhaps `out`. A
    run with other flags that was stopped before it saved anything is replaced. Raises UsageError
    where another run has saved something, or where the folder has no run but files that are called
    like one's, and CheckpointError where its run.json is damaged.
    """
    # the folder's own name is left out: it may be moved, or called relative to another place
    flags = {name: str(value) for name, value in flags.items() if name != "out"}
    before = flags_before(out)
    if before is None:
        refuse_foreign_files(out, start_folder)
        write_flags(out, flags)
        return False
    before = ADDED_LATER | before
    changed = [name for name in flags if flags[name] != before.get(name)]
    another = [name for name in changed if name not in MAY_CHANGE]
    # a model in several files has a config.json and no model.safetensors
    has_result = any((out / name).exists() for name in (CHECKPOINT, *MODEL[:2]))
    if another and has_result:
        said = f"{out} holds a run with another {', '.join(another)}"
        raise UsageError(f"{said}: choose another --out, or delete it")
    if another:
        for file in filter(has_own_name, list(out.iterdir())):
            file.unlink()
        write_flags(out, flags)
        return False
    if has_result:
        for name in changed:
            said = f"{out} goes on with --{name} {flags[name]} in place of {before.get(name)}"
            print(f"{said}: {MAY_CHANGE[name]}", file=sys.stderr)
        if not (out / CHECKPOINT).exists():
            print(f"{out} has no {CHECKPOINT}: training begins anew", file=sys.stderr)
    if changed:
        write_flags(out, flags)
    return True


def write_flags(out, flags):
    """Write the flags of the run that the folder holds."""
    write_text(out / RUN, json.dumps(flags, indent=2) + "\n")


def refuse_foreign_files(out, start_folder):
    """Raise UsageError where a folder without a run has files of the names that a run writes."""
    allowed = ()
    if start_folder is not None and start_folder.resolve() == out.resolve():
        allowed = (*MODEL, *OTHER_FILES)
    for file in sorted(out.iterdir()):
        if (has_own_name(file) or file.name in OTHER_FILES) and file.name not in allowed:
            said = f"{out} holds {file.name}, but no {RUN}: no training that can go on wrote it"
            raise UsageError(f"{said}; choose another --out")


def remove_last(out):
    """Delete the model of the last step, if the folder holds one."""
    for name in MODEL:
        (out / LAST / name).unlink(missing_ok=True)
    with suppress(OSError):  # it isn't there, or holds a file of the user's
        (out / LAST).rmdir()


def steps_when_finished(out):
    """How many steps the finished run in the folder has done; None while it is unfinished.

    Raises CheckpointError where the checkpoint is damaged.
    """
    path = out / CHECKPOINT
    values = load_meta(path) if path.exists() else {}
    return values["step"] if values.get("finished") else None
