"""One forward pass, recorded and shown as a page: python -m picogpt.explain "a sentence"."""

import sys
import webbrowser
from pathlib import Path
from types import ModuleType

from picogpt.teaching.page import explain
from picogpt.tools.cli import run
from picogpt.tools.errors import UsageError
from picogpt.tools.files import write_text


class _Callable(ModuleType):
    def __call__(self, *args, **options):
        return explain(*args, **options)


sys.modules[__name__].__class__ = _Callable  # picogpt.explain(text), although it is a module


def main(
    text: str = "This morning, there was a tiny mouse under my bed",
    *,
    and_: str | None = None,
    model_size: str | None = None,
    out: Path = Path("explain.html"),
    open: bool = False,
):
    """Write a page that shows a sentence on its way through GPT-2, and print where it is.

    Args:
        text: the sentence.
        and_: a second sentence, shown beside it; a word they share is followed through the blocks.
        model_size: 124M, 355M, 774M, 1558M, tiny, a model's folder or its id on the hub.
        out: the file to write.
        open: open it in the browser.
    """
    if out.is_dir() or not out.parent.is_dir():
        raise UsageError(f"--out {out} can't be written: name a file in a folder that is there")
    write_text(out, explain(text, and_, model_size).html)
    print(out.resolve())
    if open:
        webbrowser.open(out.resolve().as_uri())


if __name__ == "__main__":
    run(main)
