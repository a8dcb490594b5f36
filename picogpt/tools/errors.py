"""What can go wrong, one exception type per kind of trouble.

A message is one sentence for people: what was wrong, where, and what to do. Commands print it to
stderr and leave with the class's exit code; nobody sees a traceback.
"""

import re


def printable(text):
    """The text with its control characters spelled out, to be shown on a terminal.

    A message may repeat what a file or a server says, and escape codes in that would be obeyed.
    """
    control = "[\x00-\x1f\x7f-\x9f]"
    return re.sub(control, lambda found: found[0].encode("unicode_escape").decode(), text)


def brief(value):
    """A value of a file as a message shows it: its repr, or how that begins."""
    text = repr(value)
    return text if len(text) <= 60 else text[:60] + "..."


class PicoGPTError(Exception):
    """Anything this project refuses; the base of all the types below."""

    exit_code = 1

    def __str__(self):
        """The message in one line."""
        return printable(super().__str__())

    def _render_traceback_(self):
        """What IPython and notebooks show: the message, and no pages of this project's source."""
        return [f"{type(self).__name__}: {self}"]


class UsageError(PicoGPTError, ValueError):
    """A command was called wrongly: an unknown flag, an extra word, a bad value."""

    exit_code = 2


class CheckpointError(PicoGPTError, ValueError):
    """A model folder that can't be used: a config, a weights file or a tokenizer file."""


class UnsupportedTokenizerError(CheckpointError):
    """A tokenizer that is missing, or another kind than GPT-2's: its model takes ids, no text."""


class TextError(PicoGPTError, ValueError):
    """A text that can't be encoded: a lone surrogate, or more tokens than fit."""


class NotFiniteError(PicoGPTError, ArithmeticError):
    """Numbers of which no result can be made: NaN, or infinite."""


class DownloadError(PicoGPTError, OSError):
    """A file that could not be had from the network, or could not be put in place."""

    reason = None  # why, in a few words without the address, where the network is to blame
    status = None  # HTTP's, where a server refused it


class DataError(PicoGPTError, ValueError):
    """A data set that can't be used: a missing file, a wrong column, label or encoding."""


class OutputError(PicoGPTError, OSError):
    """A file that can't be written: no space, no permission, or another program holds it."""


class FolderInUseError(PicoGPTError, OSError):
    """A folder that another process is writing to."""
