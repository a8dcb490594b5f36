"""Who sees a progress bar."""

import sys


def hidden():
    """What tqdm gets as `disable`: a terminal shows the bar, and a notebook, whose stderr is none.

    None leaves it to tqdm to ask whether stderr is a terminal.
    """
    return False if "ipykernel" in sys.modules else None
