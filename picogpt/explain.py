"""One forward pass, recorded and shown as a page: python -m picogpt.explain "a sentence".

The page is page.html with the numbers of `picogpt.trace` in it, as JSON: one file that asks the
network for nothing. To keep it small, numbers are written in base 64, two to four signs each.
"""

import ast
import html
import json
import re
import sys
import webbrowser
from dataclasses import dataclass, field
from importlib import import_module
from inspect import cleandoc, getsourcelines
from pathlib import Path
from types import ModuleType

import numpy as np

from picogpt.generation import prompt_ids
from picogpt.kernels import layer_norm, softmax
from picogpt.model import Model, load, trace
from picogpt.tools.cli import run
from picogpt.tools.errors import TextError, UsageError
from picogpt.tools.files import write_text

N_TOKENS = 200  # the most on one page, which stays below 20 MB
SIGNS = np.frombuffer(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/", "u1")
VECTORS = ["x", "ln_1", "q", "k", "v", "heads", "joined", "attn", "x_mid", "ln_2", "c_fc", "act",
           "mlp", "y"]  # fmt: skip
# how page.html asks for lines of the source
SOURCE = r'src\("([\w.]+)", "(\w+)", "([^"]+)", (\d)\)'


@dataclass
class Page:
    """The page's text; a notebook shows it in a frame of its own."""

    html: str = field(repr=False)

    def _repr_html_(self):
        style = "width: 100%; height: 50rem; border: 0"
        return f'<iframe srcdoc="{html.escape(self.html)}" style="{style}"></iframe>'


def explain(text, and_=None, model=None):
    """What a model makes of a text, step by step, as a `Page`; `and_` is a second text beside it.

    model is a `Model`, or whatever `load` takes. Raises TextError for texts that are too long.
    """
    if not isinstance(model, Model):
        model = load(model)
    config, encoder = model.config, model.encoder
    texts = [text] if and_ is None else [text, and_]
    ids = [prompt_ids(model, text) for text in texts]
    n_tokens, limit = sum(map(len, ids)), min(N_TOKENS, config.n_ctx)
    if n_tokens > limit:
        raise TextError(f"This is {n_tokens} tokens, and a page holds {limit}: give a shorter text")
    seen = [trace(model, part) for part in ids]
    tokens = dict.fromkeys(range(encoder.n_vocab), "")
    for id in {**encoder.vocab, **encoder.added_tokens}.values():
        tokens[id] = encoder.decode_bytes([id]).decode("latin-1")  # a character for each byte
    page = (Path(__file__).parent / "teaching" / "page.html").read_text(encoding="utf-8")
    data = {
        "name": model.name,
        "config": vars(config) | {"d_inner": config.d_inner, "scales": config.scales},
        "act": config.act(np.linspace(-4, 4, 65, dtype=np.float32)).tolist(),
        "vocab": list(tokens.values()),
        "texts": [record(model, *one) for one in zip(texts, ids, seen)],
        "words": shared_words(encoder, ids, seen) if and_ is not None else [],
        "source": {"|".join(place): source(*place) for place in re.findall(SOURCE, page)},
    }
    data = json.dumps(data, ensure_ascii=False, separators=(",", ":"), default=np.generic.item)
    return Page(page.replace("{{data}}", data.replace("<", r"\u003c")))  # no text ends the script


def record(model, text, ids, seen):
    """What the page shows of one text: the trace, cut to what fits and packed."""

    def vector(name):  # of every token: the first 16 components, and the norm
        x = seen[name]
        return [pack(x[..., :16], 3), pack(np.linalg.norm(x, axis=-1), 4)]

    n_layer = model.config.n_layer
    blocks = [{name: vector(f"blocks.{i}.{name}") for name in VECTORS} for i in range(n_layer)]
    for i, block in enumerate(blocks):
        heads = seen[f"blocks.{i}.scores"]  # [n_head, n_tokens, n_tokens]
        block["scores"] = [pack(head, 3 if len(ids) <= 64 else 2) for head in heads]
    logits = pack(seen["logits"][-1, : model.encoder.n_vocab], 4)
    lens = logit_lens(model, np.stack([x[-1] for x in stream(seen)]))
    ends = {name: vector(name) for name in ("wte", "wpe", "ln_f")}
    return {"text": text, "ids": ids, **ends, "blocks": blocks, "logits": logits, "lens": lens}


def stream(seen):
    """The residual stream: what enters the first block, and what each block hands on."""
    return [seen["wte"] + seen["wpe"], *(seen[name] for name in seen if name.endswith(".y"))]


def logit_lens(model, x):
    """What would come next if the model ended here: `[n_layer + 1, n_embd]` -> a row for each.

    A row is the five likeliest tokens as (id, probability), then probability and rank of the token
    that the whole model puts first. The idea: nostalgebraist 2020, "interpreting GPT".
    """
    x = layer_norm(x, **model.params["ln_f"], eps=model.config.layer_norm_epsilon)
    logits = x @ model.params.get("lm_head", model.params["wte"]).T  # [n_layer + 1, n_vocab]
    rows = softmax(logits[:, : model.encoder.n_vocab].astype(np.float64))
    first = rows[-1].argmax()
    return [
        [*([id, p[id]] for id in np.argsort(-p)[:5]), [p[first], 1 + (p > p[first]).sum()]]
        for p in rows
    ]


def shared_words(encoder, ids, seen):
    """Each word of both texts and its cosine at every depth of the model.

    The longest come first, and those that end in the same token in both before the others.
    """
    places = [last_tokens(encoder, part) for part in ids]
    found = []
    for word in sorted(places[0].keys() & places[1].keys(), key=lambda word: (-len(word), word)):
        at = [place[word] for place in places]
        vectors = [[x[i] for x in stream(one)] for i, one in zip(at, seen)]
        same = ids[0][at[0]] == ids[1][at[1]]  # "The" and " the" are two tokens
        cosines = list(map(cosine, *vectors))
        found.append({"word": word, "at": at, "same": same, "cosines": cosines})
    return sorted(found, key=lambda one: not one["same"])


def last_tokens(encoder, ids):
    """{word: index of its last token, which has seen the others}, of its last place in the text."""
    text = encoder.decode(ids)
    ends = np.cumsum([len(encoder.decode_bytes([id])) for id in ids])
    words = re.finditer(r"\w+", text)
    return {w[0].casefold(): ends.searchsorted(len(text[: w.end()].encode())) for w in words}


def cosine(a, b):
    """a.b / (|a||b|): 1 where two vectors point the same way, 0 where at a right angle.

    >>> q, k = np.array([3, 4]), np.array([4, 3])  # both of length 5
    >>> int(q @ k), float(cosine(q, k))  # q.k = |q||k| cos: 24 = 5 x 5 x 0.96
    (24, 0.96)
    """
    return a @ b / (np.linalg.norm(a) * np.linalg.norm(b))


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


def pack(x, n_signs):
    """Numbers of any shape as whole steps above the lowest, in base 64: [signs, lowest, step]."""
    low = x.min()
    step = (x.max() - low) / (64**n_signs - 1) or 1
    steps = np.rint((x.reshape(-1, 1) - low) / step).astype(int)
    return [SIGNS[steps >> 6 * np.arange(n_signs)[::-1] & 63].tobytes().decode(), low, step]


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
