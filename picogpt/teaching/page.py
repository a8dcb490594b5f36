"""The page about a sentence: its numbers, gathered, and put into the files of web/.

One file comes of it that asks the network for nothing: the numbers of `picogpt.trace` as JSON
(record.py), the source that made them, the style and the scripts.
"""

import ast
import html
import json
import re
from dataclasses import dataclass, field
from importlib import import_module
from inspect import cleandoc, getsourcelines
from pathlib import Path

import numpy as np

from picogpt.generation import prompt_ids
from picogpt.model import Model, load, trace
from picogpt.teaching.record import record, shared_words
from picogpt.tools.errors import TextError

N_TOKENS = 200  # the most on one page, which stays below 20 MB
WEB = Path(__file__).parent / "web"
SCRIPTS = ["numbers", "parts", "attention", "steps", "next_token", "page"]  # in this order
# how the scripts ask for lines of the source
SOURCE = r'src\("([\w.]+)", "(\w+)", "([^"]+)", (\d)\)'


@dataclass
class Explanation:
    """The page's text; a notebook shows it in a frame of its own."""

    html: str = field(repr=False)

    def _repr_html_(self):
        style = "width: 100%; height: 50rem; border: 0"
        return f'<iframe srcdoc="{html.escape(self.html)}" style="{style}"></iframe>'


def explain(text, and_=None, model=None):
    """What a model makes of a text, step by step; `and_` is a second text beside it.

    model is a `Model`, or whatever `load` takes. Raises TextError for texts that are too long.
    """
    if not isinstance(model, Model):
        model = load(model)
    texts = [text] if and_ is None else [text, and_]
    return Explanation(render(about_model(model) | about_texts(model, texts)))


def about_model(model):
    """The part of the page's data that is the same for every text."""
    config, encoder = model.config, model.encoder
    tokens = dict.fromkeys(range(encoder.n_vocab), "")
    for id in {**encoder.vocab, **encoder.added_tokens}.values():
        tokens[id] = encoder.decode_bytes([id]).decode("latin-1")  # a character for each byte
    places = re.findall(SOURCE, script())
    return {
        "name": model.name,
        "config": vars(config) | {"d_inner": config.d_inner, "scales": config.scales},
        "act": config.act(np.linspace(-4, 4, 65, dtype=np.float32)).tolist(),
        "vocab": list(tokens.values()),
        "source": {"|".join(place): source(*place) for place in places},
    }


def about_texts(model, texts):
    """The part of the page's data that the texts make; TextError where they are too long."""
    ids = [prompt_ids(model, text) for text in texts]
    n_tokens, limit = sum(map(len, ids)), min(N_TOKENS, model.config.n_ctx)
    if n_tokens > limit:
        raise TextError(f"This is {n_tokens} tokens, and a page holds {limit}: give a shorter text")
    activations = [trace(model, part) for part in ids]
    return {
        "texts": [record(model, *one) for one in zip(texts, ids, activations)],
        "words": shared_words(model.encoder, ids, activations) if len(texts) > 1 else [],
    }


def render(data):
    """The page's text: web/page.html with style, scripts and data in it."""
    data = json.dumps(data, ensure_ascii=False, separators=(",", ":"), default=np.generic.item)
    parts = {
        "style": (WEB / "page.css").read_text(encoding="utf-8"),
        "script": script(),
        "data": data.replace("<", r"\u003c"),  # no text ends the script
    }
    page = (WEB / "page.html").read_text(encoding="utf-8")
    return re.sub(r"\{\{(\w+)\}\}", lambda place: parts[place[1]], page)


def script():
    """The scripts of web/, one after the other."""
    return "\n".join((WEB / f"{name}.js").read_text(encoding="utf-8") for name in SCRIPTS)


def source(module, function, start, n):
    """n lines of a function from the one that begins with `start`, and where they stand.

    Where none does, as in a student's own kernels, all that comes after the docstring.
    """
    code, first = getsourcelines(getattr(import_module(f"picogpt.{module}"), function))
    own = ast.parse("".join(code)).body[0]
    body = own.body[ast.get_docstring(own) is not None].lineno - 1
    i = next((i for i, line in enumerate(code) if line.strip().startswith(start)), None)
    lines = code[body:] if i is None else code[i : i + int(n)]
    where = first + (body if i is None else i)
    return [f"picogpt/{module.replace('.', '/')}.py:{where}", cleandoc("\n" + "".join(lines))]
