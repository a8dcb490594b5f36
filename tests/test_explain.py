"""The page of `picogpt.explain`: its numbers are the trace's, and any text shows as itself."""

import base64
import json
import os
import re
import subprocess
import sys
from html import unescape
from pathlib import Path

import numpy as np
import pytest
from models import small_config, small_encoder, small_folder, small_model
from systems import PYTHON_PATH

import picogpt
from picogpt import Model, kernels
from picogpt.explain import explain, main
from picogpt.teaching.page import Explanation, about_texts
from picogpt.teaching.record import VECTORS, record
from picogpt.teaching.request import DEFAULT_TEXT, Request
from picogpt.tokenizer.encoder import Encoder
from picogpt.tools.cli import call
from picogpt.tools.errors import TextError

ROOT = Path(__file__).resolve().parent.parent
TEXT = "The cat sat on the mat"
WILD = """A 🐭 said "안녕" & 'bye' </script><!-- <script> {{data}} \u2028 \\u003c \x01 é"""
DATA = re.compile(r'<script type="application/json" id="data">(.*?)</script>', re.DOTALL)


def web_files():
    """The page without its data: everything that is put together in web/."""
    files = sorted((ROOT / "picogpt" / "teaching" / "web").iterdir())
    return "\n".join(file.read_text(encoding="utf-8") for file in files)


def data_of(page):
    return json.loads(DATA.search(page.html)[1])


def unpack(packed, n_signs):
    """What page.html does: base 64, high sign first."""
    signs, low, step = packed
    codes = np.frombuffer(base64.b64decode("".join(signs)), np.uint8)  # 4 signs are 3 bytes
    bits = np.unpackbits(codes).reshape(-1, 6 * n_signs)
    return low + step * (bits @ (1 << np.arange(6 * n_signs)[::-1]))


def vectors(packed):
    """First components `[..., n_shown]` and norms, flat."""
    norms = unpack(pad(packed[1], 4), 4)[: len(packed[1][0]) // 4]
    return unpack(pad(packed[0], 3), 3)[: len(packed[0][0]) // 3].reshape(len(norms), -1), norms


def pad(packed, n_signs):
    """Zeros behind, so that the signs are whole bytes and whole numbers."""
    signs = packed[0]
    whole = 4 * n_signs
    return [signs + "A" * (-len(signs) % whole), packed[1], packed[2]]


def test_every_vector_is_the_traces():
    model = small_model()
    ids = model.encoder.encode(TEXT)
    seen, shown = picogpt.trace(model, ids), data_of(explain(TEXT, model=model))["texts"][0]
    assert shown["ids"] == ids
    places = [("", shown, ["wte", "wpe", "ln_f"])]
    places += [(f"blocks.{i}.", block, VECTORS) for i, block in enumerate(shown["blocks"])]
    for prefix, place, names in places:
        for name in names:
            true = seen[prefix + name].reshape(-1, seen[prefix + name].shape[-1])
            components, norms = vectors(place[name])
            span = np.ptp(true)
            np.testing.assert_allclose(components, true[:, :16], atol=span / 2**18)
            np.testing.assert_allclose(norms, np.linalg.norm(true, axis=-1), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("n_tokens", [1, 64, 65])
def test_scores_are_whole(n_tokens):
    model = small_model(n_ctx=128)
    text = "ab" * (n_tokens // 2) + "c" * (n_tokens % 2)
    shown = data_of(explain(text, model=model))
    seen = picogpt.trace(model, model.encoder.encode(text))
    n_signs = 3 if n_tokens <= 64 else 2
    for i, block in enumerate(shown["texts"][0]["blocks"]):
        assert len(block["scores"]) == model.config.n_head
        for head, packed in zip(seen[f"blocks.{i}.scores"], block["scores"]):
            scores = unpack(pad(packed, n_signs), n_signs)[: n_tokens**2]
            np.testing.assert_allclose(scores, head.ravel(), atol=np.ptp(head) / 64**n_signs + 1e-6)


def test_the_last_distribution_is_whole():
    model = small_model()
    shown = data_of(explain(TEXT, model=model))
    logits = unpack(pad(shown["texts"][0]["logits"], 4), 4)[: len(shown["vocab"])]
    true = picogpt.logits(model, model.encoder.encode(TEXT))[-1]
    np.testing.assert_allclose(logits, true, atol=1e-5)
    bytes_of = [token.encode("latin-1") for token in shown["vocab"]]
    assert bytes_of == [model.encoder.decode_bytes([id]) for id in range(267)]


def test_padded_logits_are_left_out():
    model = small_model(n_vocab=300)
    assert len(data_of(explain(TEXT, model=model))["vocab"]) == 267
    assert all(id < 267 for row in data_of(explain(TEXT, model=model))["texts"][0]["lens"]
               for id, _ in row[:5])  # fmt: skip


@pytest.mark.parametrize("changes", [{}, {"tie_word_embeddings": False}])
def test_the_lens_is_a_model_of_fewer_blocks(changes):
    model = small_model(**changes)
    ids = model.encoder.encode(TEXT)
    lens = data_of(explain(TEXT, model=model))["texts"][0]["lens"]
    choice = lens[-1][0][0]
    assert len(lens) == model.config.n_layer + 1
    for depth, row in enumerate(lens):
        short = model._replace(params=model.params | {"blocks": model.params["blocks"][:depth]})
        p = kernels.softmax(picogpt.logits(short, ids)[-1].astype(np.float64))
        best = np.argsort(-p)
        assert [id for id, _ in row[:5]] == best[:5].tolist()
        np.testing.assert_allclose([at for _, at in row[:5]], p[best[:5]], rtol=1e-4)
        np.testing.assert_allclose(row[5], [p[choice], best.tolist().index(choice) + 1], rtol=1e-4)


def test_what_the_model_is():
    changes = {"activation_function": "relu", "scale_attn_by_inverse_layer_idx": True}
    model = small_model(n_inner=40, **changes)
    shown = data_of(explain(TEXT, model=model))
    assert shown["config"]["scales"] == pytest.approx([8**-0.5, 8**-0.5 / 2])
    assert shown["config"]["d_inner"] == 40
    assert shown["act"] == [max(0, x / 8 - 4) for x in range(65)]


def test_shared_words_are_followed_by_their_last_token():
    model = small_model(n_ctx=64)
    one, two = "the Mouse, and THE 쥐 mouse there", "a mouse; 쥐 the"
    ids = [model.encoder.encode(text) for text in (one, two)]
    seen = [picogpt.trace(model, part) for part in ids]
    words = data_of(explain(one, two, model))["words"]
    assert [word["word"] for word in words] == ["mouse", "쥐", "the"]
    assert [word["same"] for word in words] == [True, True, False]  # THE, the
    ends = {"mouse": ("the Mouse, and THE 쥐 mouse", "a mouse"), "the": ("the Mouse, and THE", two),
            "쥐": ("the Mouse, and THE 쥐", "a mouse; 쥐")}  # fmt: skip
    for word in words:
        at = [len(model.encoder.encode(text)) - 1 for text in ends[word["word"]]]
        assert word["at"] == at
        for depth, cosine in enumerate(word["cosines"]):
            name = f"blocks.{depth - 1}.y" if depth else "blocks.0.x"
            a, b = (part[name][i] for part, i in zip(seen, at))
            assert cosine == pytest.approx(a @ b / (a @ a) ** 0.5 / (b @ b) ** 0.5, rel=1e-5)


def test_half_a_character_moves_no_word():
    model = small_model(n_ctx=64)
    encode = model.encoder.encode
    half = encode("쥐")[0]  # the first of its bytes
    assert model.encoder.decode([half]) == "\ufffd"
    request = Request(("the cat", "a mouse"), appended=((half, *encode(" mouse")), ()))
    [word] = about_texts(model, request)["words"]
    ids = request.ids(model)
    assert (word["word"], word["at"]) == ("mouse", [len(part) - 1 for part in ids])


def test_no_shared_word():
    assert data_of(explain("one", "two", small_model()))["words"] == []
    assert data_of(explain("one", model=small_model()))["words"] == []


@pytest.mark.parametrize("text", [WILD, "</script>", "{{data}}", "\n", "🐭"])
def test_any_text_shows_as_itself(text):
    page = explain(text, model=small_model(n_ctx=200))
    shown = data_of(page)["texts"][0]
    assert shown["text"] == text
    assert page.html.count("</script>") == 2  # the data's and the page's own
    assert "<!--" not in page.html
    vocab = data_of(page)["vocab"]
    assert "".join(vocab[id] for id in shown["ids"]).encode("latin-1").decode("utf-8") == text


def test_an_empty_text_is_an_end_of_text():
    shown = data_of(explain("", model=small_model()))
    assert [shown["vocab"][id] for id in shown["texts"][0]["ids"]] == ["<|endoftext|>"]


def test_too_long_is_refused():
    with pytest.raises(TextError, match="33 tokens, and a page holds 32: give a shorter text"):
        explain("a" * 33, model=small_model())
    with pytest.raises(TextError, match="201 tokens, and a page holds 200"):
        explain("a" * 101, "b" * 100, small_model(n_ctx=300))
    explain("a" * 100, "b" * 100, small_model(n_ctx=300))


def test_source_lines_stand_where_the_page_says():
    page = explain(TEXT, model=small_model())
    places = data_of(page)["source"]
    assert len(places) == len(set(re.findall(r"src\(\"[^)]*\)", web_files()))) > 30
    for key, (where, code) in places.items():
        path, line = where.split(":")
        lines = (ROOT / path).read_text(encoding="utf-8").splitlines()[int(line) - 1 :]
        assert [part.strip() for part in code.splitlines()] == [
            part.strip() for part in lines[: len(code.splitlines())]
        ]
        assert code.startswith(key.split("|")[2])


def test_nothing_comes_from_elsewhere():
    page = web_files()
    links = set(re.findall(r"(?:https?:)?//[\w.-]+\.\w+", page))
    assert links == {"http://www.w3.org"}  # SVG's name
    asks = r"\b(fetch|import|XMLHttpRequest|WebSocket|sendBeacon)\b *\("
    assert not re.search(asks, explain(TEXT, model=small_model()).html)
    assert re.findall(asks, page) == ["fetch"]  # the server's page asks its own server
    assert not re.search(r"<(link|script|img|iframe)[^>]* (href|src)=\"(?!data:)", page)
    assert "@import" not in page and "url(" not in page


def test_a_notebook_shows_it(tmp_path):
    page = picogpt.explain(TEXT, model=small_model())
    frame = page._repr_html_()
    assert unescape(re.search(r'srcdoc="([^"]*)"', frame)[1]) == page.html
    assert len(repr(page)) < 100
    named = picogpt.explain(TEXT, model=small_folder(tmp_path / "mini"))
    assert data_of(named)["name"] == "mini"


@pytest.mark.parametrize("n_tokens, megabytes", [(16, 2), (200, 20)])
def test_size_at_124M_shapes(n_tokens, megabytes):
    """How long numbers are written doesn't depend on what they are: no forward pass is needed."""
    tokens = [f"token{i}" for i in range(50257 - 257)]  # longer than GPT-2's, on average
    vocab = [*list(small_encoder().vocab)[:256], *tokens, "<|endoftext|>"]
    encoder = Encoder({token: i for i, token in enumerate(vocab)}, [])
    config = small_config(n_vocab=50257, n_ctx=1024, n_embd=768, n_head=12, n_layer=1)
    nothing = np.zeros((1, 1), np.float32)
    params = {"wte": np.broadcast_to(nothing, (50257, 768)), "ln_f": {"g": 1, "b": 0}}
    shapes = dict.fromkeys(VECTORS, (n_tokens, 768))
    shapes |= dict.fromkeys(["q", "k", "v", "heads"], (12, n_tokens, 64))
    shapes |= dict.fromkeys(["c_fc", "act"], (n_tokens, 3072))
    shapes = {f"blocks.0.{name}": shape for name, shape in shapes.items()}
    shapes["blocks.0.scores"] = (12, n_tokens, n_tokens)
    shapes |= dict.fromkeys(["wte", "wpe", "ln_f"], (n_tokens, 768))
    seen = {name: np.broadcast_to(nothing, shape) for name, shape in shapes.items()}
    seen["logits"] = np.arange(50257, dtype=np.float32)[None]
    shown = record(Model(params, config, encoder), "", [0] * n_tokens, seen)
    block = json.dumps(shown.pop("blocks"), default=np.generic.item)
    block = len(block) + 50 * block.count("[")  # of real numbers, lowest and step are longer
    rest = json.dumps([shown, vocab], default=np.generic.item)
    page = web_files().encode()
    assert 12 * block + len(rest) + len(page) + 20_000 <= megabytes * 1e6


def run(capsys, *words):
    return call(main, list(words)), *capsys.readouterr()


def test_command(tmp_path, capsys, monkeypatch):
    folder = str(small_folder(tmp_path / "mini", n_ctx=64))
    monkeypatch.chdir(tmp_path)
    code, out, err = run(capsys, "--model_size", folder)
    assert (code, err, Path(out.strip())) == (0, "", (tmp_path / "explain.html").resolve())
    page = Explanation((tmp_path / "explain.html").read_text(encoding="utf-8"))
    assert [one["text"] for one in data_of(page)["texts"]] == [DEFAULT_TEXT]
    opened = []
    monkeypatch.setattr("webbrowser.open", opened.append)
    words = ["one", "--and", "two", "--out", "pair.html", "--model_size", "mini", "--open"]
    assert run(capsys, *words)[0] == 0
    assert opened == [(tmp_path / "pair.html").resolve().as_uri()]
    page = Explanation((tmp_path / "pair.html").read_text(encoding="utf-8"))
    assert [one["text"] for one in data_of(page)["texts"]] == ["one", "two"]


def test_command_with_a_lesson_and_with_the_lecture(tmp_path, capsys, monkeypatch):
    folder = str(small_folder(tmp_path / "mini", n_ctx=128))
    monkeypatch.chdir(tmp_path)
    for words, name in [(["a cat", "--learn"], "learning"), (["--lecture"], "lecture")]:
        assert run(capsys, *words, "--model_size", folder)[0] == 0
        page = Explanation((tmp_path / "explain.html").read_text(encoding="utf-8"))
        assert name in data_of(page)


@pytest.mark.parametrize(
    "words, code, why",
    [
        (["a" * 50], 1, "50 tokens"),
        (["a", "b"], 2, "too many"),
        (["a", "--ou", "x"], 2, "--out"),
        (["a", "--out", "no/folder/x.html"], 2, "no/folder"),
        (["a", "--out", "."], 2, "name a file"),
    ],
)
def test_command_refuses(words, code, why, tmp_path, capsys, monkeypatch):
    folder = str(small_folder(tmp_path / "mini"))
    monkeypatch.chdir(tmp_path)
    done, out, err = run(capsys, *words, "--model_size", folder)
    assert (done, out, len(err.strip().splitlines())) == (code, "", 1)
    assert why in err
    assert not list(tmp_path.glob("*.html"))


def test_as_a_process(tmp_path):
    """It runs without the warning that a module gives which its package has imported already."""
    folder = small_folder(tmp_path / "mini")
    code = "import runpy, sys; runpy.run_module('picogpt.explain', run_name='__main__')"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code, "mouse", "--model_size", folder],
        cwd=tmp_path, env=os.environ | {"PYTHONPATH": PYTHON_PATH}, capture_output=True, text=True,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert Path(done.stdout.strip()).name == "explain.html"
