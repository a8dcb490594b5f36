"""One forward pass, recorded and shown as a page: python -m picogpt.explain "a sentence"."""

import sys
import webbrowser
from pathlib import Path
from types import ModuleType

from picogpt.model import load
from picogpt.teaching import server
from picogpt.teaching.page import explain, explain_request
from picogpt.teaching.request import DEFAULT_TEXT, Request
from picogpt.tools.cli import run
from picogpt.tools.errors import UsageError
from picogpt.tools.files import write_text


class _Callable(ModuleType):
    """This module as a function: picogpt.explain("a sentence") is teaching.page.explain."""

    def __call__(self, *args, **options):
        return explain(*args, **options)


sys.modules[__name__].__class__ = _Callable


def main(
    text: str | None = None,
    *,
    and_: str | None = None,
    model_size: str | None = None,
    learn: bool = False,
    lecture: bool = False,
    out: Path | None = None,
    serve: bool = False,
    port: int = 8224,
    open: bool = False,
    int8: bool = False,
):
    """Show a sentence on its way through GPT-2: write a page, or serve one that answers.

    Args:
        text: the sentence; needs no --text. Without it, one whose next word has come before.
        and_: a second sentence, shown beside it; a word they share is followed through the blocks.
        model_size: 124M, 355M, 774M, 1558M, tiny, a model's folder or its id on the hub.
        learn: add one step of learning: losses, gradients, AdamW's step; and what twenty do.
        lecture: the lecture's two sentences and its steps, with questions before the answers.
        out: the file to write; explain.html if nothing is said.
        serve: write nothing, but answer in the browser to sentences that are typed there.
        port: where to serve, on this machine alone; the next free one if it is taken.
        open: open the page in the browser.
        int8: hold the large matrices as whole numbers of one byte; not with --learn.
    """
    if lecture and (text is not None or and_ is not None):
        raise UsageError("--lecture has sentences of its own: leave yours out")
    if learn and int8:
        raise UsageError("--learn trains a model, which can't be in int8: leave out one of the two")
    if serve and out is not None:
        raise UsageError("--serve writes no file: leave out --out, or --serve")
    texts = [DEFAULT_TEXT if text is None else text]
    if and_ is not None:
        texts.append(and_)
    request = Request(tuple(texts), learn=learn, lecture=lecture)
    if serve:
        server.check_port(port)
        model = load(model_size, needs_text=True, int8=int8)
        request.ids(model)  # what can't be shown is told before anything is served
        server.serve(model, request, port, open)
        return
    out = Path("explain.html") if out is None else out
    if out.is_dir() or not out.parent.is_dir():
        raise UsageError(f"--out {out} can't be written: name a file in a folder that is there")
    model = load(model_size, needs_text=True, int8=int8)
    write_text(out, explain_request(request, model).html)
    print(out.resolve())
    if open:
        webbrowser.open(out.resolve().as_uri())


if __name__ == "__main__":
    run(main)
