"""python -m picogpt, and the command picogpt that pip installs: gpt2.py, from any folder."""

from gpt2 import main
from picogpt.tools.cli import run


def command():
    """Continue a prompt and leave the process with an exit code."""
    run(main)


if __name__ == "__main__":
    command()
