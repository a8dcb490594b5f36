"""The page about a sentence: its numbers, gathered, and put into the files of web/.

One file comes of it that asks the network for nothing: the numbers of `picogpt.trace` as JSON
(record.py), the source that made them, the style and the scripts.
"""

import ast
import html
import json
import re
from base64 import b64encode
from dataclasses import dataclass, field
from functools import cache
from hashlib import sha256
from importlib import import_module
from inspect import cleandoc, getsourcelines
from pathlib import Path

import numpy as np

from picogpt.model import Model, load, logits, trace
from picogpt.teaching import learning
from picogpt.teaching.lecture import SENTENCES, cross_example, lecture_head, lecture_places
from picogpt.teaching.record import head_effects, pack, record, shared_words
from picogpt.teaching.request import Request
from picogpt.tools.errors import CheckpointError

OTHER_SENTENCE = SENTENCES[0]  # what one step of learning is tried on where there is one text
WEB = Path(__file__).parent / "web"
# web/*.js, in the order in which one needs the other
SCRIPTS = ["numbers", "parts", "formulas", "attention", "way", "next_token", "learning", "steps",
           "page"]  # fmt: skip
# how the scripts ask for lines of the source: module, function, beginning of the first line, lines
SOURCE = r'src\("([\w.]+)", "(\w+)", "([^"]+)", (\d)\)'


@dataclass
class Explanation:
    """The page's text; a notebook shows it in a frame of its own."""

    html: str = field(repr=False)

    def _repr_html_(self):
        style = "width: 100%; height: 50rem; border: 0"
        return f'<iframe srcdoc="{html.escape(self.html)}" style="{style}"></iframe>'


def explain(text, and_=None, model=None, *, learn=False):
    """What a model makes of a text, step by step: an Explanation, which notebooks show.

    `and_` is a second text beside it; model is a `Model`, or whatever `load` takes; `learn` adds
    one step of learning, and what twenty do. Raises TextError for texts that are too long,
    UsageError for learning with int8 weights, CheckpointError where the model computes NaN or
    infinity, and what `load` raises.
    """
    if not isinstance(model, Model):
        model = load(model, needs_text=True)
    texts = (text,) if and_ is None else (text, and_)
    return explain_request(Request(texts, learn=learn), model)


def explain_request(request, model):
    """The whole page for a `Request`, as a file that needs no server."""
    request.ids(model)  # what can't be shown is told first
    return Explanation(render(about_model(model) | about_texts(model, request)))


def about_model(model):
    """The part of the page's data that is the same for every text."""
    config, encoder = model.config, model.encoder
    tokens = dict.fromkeys(range(encoder.n_vocab), "")
    for id in {**encoder.vocab, **encoder.added_tokens}.values():
        tokens[id] = encoder.decode_bytes([id]).decode("latin-1")  # a character for each byte
    places = re.findall(SOURCE, script(served=True))
    return {
        "name": model.name,
        "config": vars(config) | {"d_inner": config.d_inner, "scales": config.scales},
        "act": config.act(np.linspace(-4, 4, 65, dtype=np.float32)).tolist(),
        "vocab": list(tokens.values()),
        "source": {"|".join(place): source(*place) for place in places},
    }


def about_texts(model, request):
    """The part of the page's data that the request makes; TextError for what can't be shown."""
    ids = request.ids(model)
    plain = [trace(model, part) for part in ids]
    if not all(np.isfinite(one["logits"]).all() for one in plain):
        raise CheckpointError("the model computes NaN or infinity: are its weights damaged?")
    edits = [request.edit(t, donor=plain[-1]) for t in range(len(ids))]
    changed = [one if edit is None else trace(model, part, edit)
               for part, one, edit in zip(ids, plain, edits)]  # fmt: skip
    texts = SENTENCES if request.lecture else request.texts
    data = {
        "request": vars(request),
        "texts": [record(model, *one) for one in zip(texts, ids, changed)],
        "words": shared_words(model.encoder, ids, changed) if len(ids) > 1 else [],
        "disagreement": disagreement(model, ids[0], plain[0]),
    }
    for shown, before, edit, more in zip(data["texts"], plain, edits, request.appended):
        shown["appended"] = list(more)
        last_logits = before["logits"][-1, : model.encoder.n_vocab]
        shown["effects"] = head_effects(model, before, best=int(last_logits.argmax()))
        if edit is not None:
            shown["before"] = pack(last_logits, 4)
    if request.lecture:
        data["lecture"] = about_lecture(model, ids, plain)
    if request.learn:
        second = ids[1] if len(ids) > 1 else []
        other = second if len(second) > 1 else model.encoder.encode(OTHER_SENTENCE)
        data["learning"] = learning.learn(model, ids[0], other[: model.config.n_ctx])
    return data


def about_lecture(model, ids, activations):
    """The head that looks where the lecture's picture does, and cross-attention by that head."""
    places = lecture_places(model.encoder, ids)
    (block, head), weight = lecture_head(model, places, activations)
    cross = cross_example(model, activations, block, head)
    return {"head": [block, head], "weight": weight, "places": places, "cross": cross}


def disagreement(model, ids, activations):
    """How far the last logits of kernels.gpt2 and of trace lie apart, beside how large they are.

    Both compute the same by themselves. They differ where someone has kernels of their own.
    """
    written, shown = logits(model, ids, last_only=True)[0], activations["logits"][-1]
    apart = np.abs(written - shown).max() / max(np.abs(shown).max(), 1e-9)
    return float(apart) if np.isfinite(apart) else 1.0  # JSON has no NaN


def to_json(data):
    """The page's data as JSON, as short as it gets."""
    return json.dumps(data, ensure_ascii=False, separators=(",", ":"), default=np.generic.item)


def render(data, served=False):
    """The page's text: web/page.html with style, scripts and data in it."""
    parts = {
        "style": style(),
        "script": script(served),
        "data": to_json(data).replace("<", r"\u003c"),  # no text ends the script
    }
    page = (WEB / "page.html").read_text(encoding="utf-8")
    return re.sub(r"\{\{(\w+)\}\}", lambda place: parts[place[1]], page)


@cache
def style():
    """The style sheet of web/."""
    return (WEB / "page.css").read_text(encoding="utf-8")


@cache
def script(served=False):
    """The scripts of web/, one after the other; only a served page has one that asks a server."""
    names = [*SCRIPTS[:-1], *(["server"] if served else []), SCRIPTS[-1]]
    return "\n".join((WEB / f"{name}.js").read_text(encoding="utf-8") for name in names)


@cache
def policy():
    """The Content-Security-Policy of a served page: its own style and scripts, its own server.

    Both are named by their SHA-256, so that a sentence that got into the page as HTML could still
    run nothing.
    """

    def own(text):
        return f"'sha256-{b64encode(sha256(text.encode()).digest()).decode()}'"

    return (
        f"default-src 'none'; script-src {own(script(served=True))}; style-src {own(style())}; "
        "img-src data:; connect-src 'self'; form-action 'self'; base-uri 'none'; "
        "frame-ancestors 'none'"
    )


def source(module, function, start, n):
    """[where, lines]: n lines of a function, from the first that begins with `start`.

    Where no line does, as in a student's own kernels, they are all that comes after the docstring.
    `where` is the file and the number of the first line.
    """
    code, first = getsourcelines(getattr(import_module(f"picogpt.{module}"), function))
    own = ast.parse("".join(code)).body[0]
    first_statement = own.body[1 if ast.get_docstring(own) is not None else 0]
    body = first_statement.lineno - 1
    i = next((i for i, line in enumerate(code) if line.strip().startswith(start)), None)
    lines = code[body:] if i is None else code[i : i + int(n)]
    where = first + (body if i is None else i)
    return [f"picogpt/{module.replace('.', '/')}.py:{where}", cleandoc("\n" + "".join(lines))]
