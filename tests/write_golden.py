"""Write the golden files in tests/golden/ from the oracles: python tests/write_golden.py [NAME ...]

One function for each file, called after it. What the files hold is what torch, transformers and
others compute; the plain tests compare with it where no oracle is installed.
"""

import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[1])]  # so that picogpt is found from anywhere

GOLDEN = Path(__file__).parent / "golden"
WRITERS = {}


def golden(write):
    """Register a function that writes one golden file."""
    WRITERS[write.__name__] = write
    return write


if __name__ == "__main__":
    GOLDEN.mkdir(exist_ok=True)
    for name in sys.argv[1:] or WRITERS:
        WRITERS[name]()
        print(f"{name} written")
