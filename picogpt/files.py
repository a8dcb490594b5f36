"""Files that are there whole or not at all."""

import os
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def written_beside(path):
    """Give a path beside `path` to write to, which is renamed to `path` once all went well.

    Who has the old file open, or mapped into memory, keeps it as it was.
    """
    path = Path(path)
    partial = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        yield partial
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def write_text(path, text):
    r"""Write a whole text file in UTF-8, with \n at the ends of lines on every system."""
    with written_beside(path) as partial:
        partial.write_text(text, encoding="utf-8", newline="\n")
