"""Files that are there whole or not at all, and JSON files that hold what they should."""

import json
import os
from contextlib import contextmanager
from pathlib import Path

from picogpt.tools.errors import CheckpointError, PicoGPTError


@contextmanager
def written_beside(path):
    """Give a path beside `path` to write to, which is renamed to `path` once all went well.

    Who has the old file open, or mapped into memory, keeps it as it was.
    """
    path = Path(path)
    partial = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        partial.touch()
        mode = partial.stat().st_mode
        yield partial
        partial.chmod(mode)  # safetensors writes files that only their owner may read
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def write_text(path, text):
    r"""Write a whole text file in UTF-8, with \n at the ends of lines on every system."""
    with written_beside(path) as partial:
        partial.write_text(text, encoding="utf-8", newline="\n")


def write_arrays(path, arrays, metadata):
    """Write a safetensors file of {name: array} and {name: text}; PicoGPTError where that fails."""
    from safetensors import SafetensorError
    from safetensors.numpy import save_file

    with written_beside(path) as partial:
        try:
            save_file(arrays, partial, metadata)
        except SafetensorError as error:
            raise PicoGPTError(f"{path} can't be written ({error}): is there space?") from None


def cache_folder():
    """~/.cache/picogpt, for what can be had again; None where the user has no home."""
    home = os.path.expanduser("~")  # noqa: PTH111 - pathlib's raises where there is none
    return None if home == "~" else Path(home, ".cache", "picogpt")


def read_json(path):
    """The object in a model's JSON file; raises CheckpointError where it is damaged."""
    try:
        values = json.loads(Path(path).read_bytes())
    except OSError as error:
        raise unreadable(path, error) from None
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} can't be read ({error}): get it again") from None
    if not isinstance(values, dict):
        raise CheckpointError(f"{path} is no JSON object: get it again")
    return values


def unreadable(path, error):
    """The CheckpointError for a file that the system doesn't give out."""
    why = error.strerror or error
    return CheckpointError(f"{path} can't be read ({why}): check its permissions")
