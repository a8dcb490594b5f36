"""Ctrl-C while nothing is at work that could lose something: the process ends, without a traceback.

While Python imports the project, picogpt/__init__.py does the same.
"""

import os
import signal

# a shell ignores Ctrl-C for what a script starts with & behind it: then it stays ignored
IGNORED_FROM_THE_START = signal.getsignal(signal.SIGINT) == signal.SIG_IGN


def on_interrupt(handler):
    """Set what Ctrl-C does in this process, unless whoever started it had it ignored."""
    if not IGNORED_FROM_THE_START:
        signal.signal(signal.SIGINT, handler)


def exit_on_interrupt():
    """Let Ctrl-C end the process at once, with exit code 130."""
    on_interrupt(lambda *_: os._exit(130))
