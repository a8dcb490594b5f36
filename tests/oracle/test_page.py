"""The page of `picogpt.explain` in a browser: its numbers, its controls, and that all can read it.

Chromium is the system's own; axe-core comes with axe-playwright-python. PAGE_SCREENSHOTS=FOLDER
keeps pictures of the page, to be looked at.
"""

import os
import re
from importlib.resources import files

import numpy as np
import pytest
from models import small_model
from oracles import CHROMIUM, oracle

import picogpt
from picogpt.explain import explain
from picogpt.generation import distribution
from picogpt.kernels import softmax
from picogpt.teaching.page import explain_request
from picogpt.teaching.record import head_effects, predictions
from picogpt.teaching.request import Request

playwright = oracle("playwright.sync_api")
axe = files(oracle("axe_playwright_python")) / "axe.min.js"
if not CHROMIUM and os.environ.get("ORACLES_REQUIRED") != "1":
    pytest.skip("there is no Chromium", allow_module_level=True)

ONE = "This morning, there was a tiny mouse under my bed"
TWO = "I prefer a wireless mouse for my computer"
WILD = """A 🐭 said "안녕" & 'bye' </script><b>x</b>  é"""


@pytest.fixture(scope="module")
def model():
    return small_model(n_ctx=256, n_layer=3)


@pytest.fixture(scope="module")
def pages(model, tmp_path_factory):
    """One text, two, one token, 200 tokens, an odd one, a lesson and the lecture, as files."""
    folder = tmp_path_factory.mktemp("pages")
    texts = {"one": (ONE,), "two": (ONE, TWO), "token": ("a",), "long": ("ab" * 100,),
             "wild": (WILD,)}  # fmt: skip
    pages = {name: explain(*parts, model=model) for name, parts in texts.items()}
    pages["learn"] = explain(ONE, model=model, learn=True)
    pages["lecture"] = explain_request(Request(lecture=True), model)
    for name, page in pages.items():
        (folder / f"{name}.html").write_text(page.html, encoding="utf-8")
    return folder


@pytest.fixture
def visit(browser, pages):
    """Open one of the pages; at the end, nothing may have gone wrong or out."""
    contexts, troubles = [], []

    def open_it(name, width=1280, theme="light", language="en-US", **options):
        context = browser.new_context(
            viewport={"width": width, "height": 900}, color_scheme=theme, locale=language,
            offline=True, **options,
        )  # fmt: skip
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(60_000)
        url = (pages / f"{name}.html").as_uri()
        page.on("console", lambda message: troubles.append(message.text))
        page.on("pageerror", lambda error: troubles.append(str(error)))
        page.on("request", lambda request: request.url.split("#")[0] in (url, "data:,")
                or troubles.append(request.url))  # fmt: skip
        page.goto(url)
        return page

    yield open_it
    for context in contexts:
        context.close()
    assert troubles == []


def number(text):
    """What the page writes: a proper minus sign, thousands' commas, per cent."""
    text = text.strip().replace("−", "-").replace(",", "")
    return float(text[:-2]) / 100 if text.endswith(" %") else float(text)


def unit(text):
    """One unit of the last digit that is shown."""
    digits = text.replace(" %", "").partition(".")[2]
    return 10.0 ** -(len(digits) + (2 if text.endswith("%") else 0))


def check(texts, values):
    """The shown numbers are the true ones, rounded to their last digit (and packed before that)."""
    assert len(texts) == len(values)
    for text, value in zip(texts, values):
        if value <= -1e9:
            assert text == "−1e10"
        else:
            error = abs(number(text) - float(value))
            assert error <= 0.51 * unit(text) + 2e-4 * abs(value), (text, value)


def pick(page, block=None, head=None, tokens=()):
    for name, value in [("block", block), ("head", head)]:
        if value is not None:
            page.locator(f"#{name}").fill(str(value))
    for t, i in enumerate(tokens):
        page.locator(f"#token-{t}").select_option(str(i))


def vector(page, step, name, t=0):
    """The components and the norm that the page shows."""
    place = page.locator(f'#fill-{step}-{t} [data-vec="{name}"]')
    return place.locator("li").all_inner_texts(), place.locator("[data-norm]").inner_text()


SECTIONS = {"two": 18, "learn": 22, "lecture": 19}
STEPS = {
    "norm": ["x", "ln_1"], "qkv": ["q", "k", "v"], "heads": ["heads"], "joined": ["joined", "attn"],
    "x_mid": ["x", "attn", "x_mid"], "ffn": ["ln_2", "c_fc", "act", "mlp"],
    "y": ["x_mid", "mlp", "y"],
}  # fmt: skip


@pytest.mark.parametrize("block, head, i", [(0, 0, 0), (1, 2, 5), (2, 1, 11)])
def test_vectors_are_the_traces(visit, model, block, head, i):
    page, seen = visit("one"), picogpt.trace(model, model.encoder.encode(ONE))
    pick(page, block, head, [i])
    for name, true in [("wte", seen["wte"]), ("wpe", seen["wpe"]), ("x", seen["blocks.0.x"])]:
        components, norm = vector(page, "embed", name)
        check([*components, norm], [*true[i, :16], np.linalg.norm(true[i])])
    for step, names in STEPS.items():
        for name in names:
            true = seen[f"blocks.{block}.{name}"]
            true = true[head, i] if true.ndim == 3 else true[i]
            components, norm = vector(page, step, name)
            check([*components, norm], [*true[:16], np.linalg.norm(true)])
    heads = seen[f"blocks.{block}.heads"][:, i]
    bars = page.locator('[data-heads="0"] .num').all_inner_texts()
    check(bars, np.linalg.norm(heads, axis=-1))


@pytest.mark.parametrize("block, head, i", [(0, 1, 3), (2, 2, 11)])
def test_attention_is_the_traces(visit, model, block, head, i):
    page, seen = visit("one"), picogpt.trace(model, model.encoder.encode(ONE))
    pick(page, block, head, [i])
    for step in ("scores", "scaled", "masked", "weights"):
        true = seen[f"blocks.{block}.{step}"][head]
        keys = page.locator(f'[data-row="{step}-0"] li')
        shown = [int(key) for key in keys.evaluate_all("all => all.map(li => li.dataset.key)")]
        check(keys.locator(".num").all_inner_texts(), true[i, shown])
        canvas = page.locator(f'[data-matrix="{step}-0"]')
        canvas.focus()
        page.keyboard.press("ArrowRight")  # the row of the token that is picked, its first key
        check(canvas.locator("+ .read .num").all_inner_texts(), [true[i, 0]])
        for key, *cell in [("ArrowRight", i, 1), ("ArrowUp", i - 1, 1), ("ArrowLeft", i - 1, 0)]:
            page.keyboard.press(key)
            check(canvas.locator("+ .read .num").all_inner_texts(), [true[tuple(cell)]])
    q, k = seen[f"blocks.{block}.q"][head, i], seen[f"blocks.{block}.k"][head]
    j = seen[f"blocks.{block}.weights"][head, i].argmax()
    worked = page.locator("[data-worked]").inner_text()
    sizes = np.linalg.norm(q), np.linalg.norm(k[j])
    cosine = q @ k[j] / (sizes[0] * sizes[1])
    check(re.findall(r"−?\d+\.\d+", worked.split("cos")[1]), [*sizes, cosine, q @ k[j]])


def test_the_weighted_sum_names_the_greatest_weights(visit, model):
    page, seen = visit("one"), picogpt.trace(model, model.encoder.encode(ONE))
    pick(page, 1, 1, [9])
    weights, v = seen["blocks.1.weights"][1, 9], seen["blocks.1.v"][1]
    best = np.argsort(-weights)[:4]
    names = page.locator("#fill-heads-0 [data-vec] b").all_inner_texts()[:4]
    check([name.split(" ")[0] for name in names], weights[best])
    for place, j in zip(page.locator("#fill-heads-0 [data-vec]").all(), best):
        check(place.locator("li").all_inner_texts(), weights[j] * v[j])
        check([place.locator("[data-norm]").inner_text()], [weights[j] * np.linalg.norm(v[j])])


def test_the_lens_and_the_cosines(visit, model):
    page = visit("two")
    seen = [picogpt.trace(model, model.encoder.encode(text)) for text in (ONE, TWO)]
    upto = [text[: text.index("mouse") + 5] for text in (ONE, TWO)]
    places = [len(model.encoder.encode(text)) - 1 for text in upto]
    assert page.locator("#word").input_value() == "0"
    assert page.locator("#word option").all_inner_texts() == ["mouse", "my", "a"]
    cosines = []
    for name in ["blocks.0.x", *(f"blocks.{i}.y" for i in range(3))]:
        a, b = (part[name][i] for part, i in zip(seen, places))
        cosines.append(a @ b / np.linalg.norm(a) / np.linalg.norm(b))
    check(page.locator("[data-cosines] td").all_inner_texts(), cosines)
    assert [page.locator(f"#token-{t}").input_value() for t in (0, 1)] == [*map(str, places)]
    for t, text in enumerate((ONE, TWO)):
        p = distribution(picogpt.logits(model, model.encoder.encode(text), last_only=True)[0])
        best = np.argsort(-p)[:5]
        cells = page.locator(f'[data-lens="{t}"] tbody tr').last.locator("td").all_inner_texts()
        check([cells[0], *(cell.split("\n")[-1] for cell in cells[2:])], [p[best[0]], *p[best]])
        assert cells[1] == "1"


@pytest.mark.parametrize(
    "temperature, top_k, top_p",
    [(1, 0, 1), (0.5, 0, 1), (1, 3, 1), (1, 0, 0.5), (1.5, 20, 0.9), (0, 0, 1)],
)
def test_the_next_token_is_drawn_as_generation_draws(visit, model, temperature, top_k, top_p):
    page = visit("one")
    for name, value in [("temperature", temperature), ("top_k", top_k), ("top_p", top_p)]:
        page.locator(f"#{name}").fill(str(value))
    scores = picogpt.logits(model, model.encoder.encode(ONE), last_only=True)[0]
    p = distribution(scores, temperature, top_k, top_p)
    assert page.locator("[data-stay]").inner_text().startswith(f"{(p > 0).sum()} of 267 tokens")
    best = np.argsort(-scores)[:15]
    shown = page.locator('[data-next="0"] .num').all_inner_texts()
    for text, value in zip(shown, p[best]):
        if value == 0:
            assert text == "out"
        else:
            check([text], [value])
    likeliest_first = np.argsort(-p, kind="stable")
    for chance in (0.0, 0.3, 0.6, 0.9, 0.999999):
        page.evaluate(f"Math.random = () => {chance}")
        page.locator("#draw").click()
        wanted = likeliest_first[np.searchsorted(p[likeliest_first].cumsum(), chance)]
        drawn = page.locator("[data-drawn] b").inner_text()
        assert drawn == page.evaluate(f"visible({wanted})")


def test_every_control_by_keyboard(visit):
    page = visit("two")
    page.evaluate("""() => {
        const all = [...document.querySelectorAll("button, input, select, a, canvas")];
        window.missed = new Set(all.filter((control) => control.tabIndex >= 0));
        document.addEventListener("focusin", (event) => missed.delete(event.target)); }""")
    for _ in range(400):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.id") == "reset":
            break
    assert page.evaluate("[...missed].map((control) => control.outerHTML)") == []

    def press(where, *keys):
        page.locator(where).focus()
        for key in keys:
            page.keyboard.press(key)

    press("#block", "Home", "ArrowRight", "ArrowRight")
    assert page.locator("#block-out").inner_text() == "2"
    press('[data-strip="0-2"]', "ArrowDown", "ArrowLeft", "ArrowLeft", "ArrowLeft")
    assert page.locator("#block-out").inner_text() == "1"
    assert page.locator("#head-out").inner_text() == "0"
    assert page.evaluate("document.activeElement.dataset.strip") == "0-1"
    page.keyboard.press("ArrowUp")
    assert page.locator("#block-out").inner_text() == "2"
    press('[data-way="1"] [data-block="1"]', "Enter")
    assert page.locator("#block-out").inner_text() == "1"
    press("#block", "End")
    press("#head", "End")
    assert page.locator("#head-out").inner_text() == "2"
    assert "block 2, head 2" in page.locator("#inside").inner_text()
    press("#token-0", "Home")
    assert page.locator('[data-token="0-0"]').get_attribute("aria-pressed") == "true"
    press('[data-token="0-3"]', "Enter")
    assert page.locator("#token-0").input_value() == "3"
    press('[data-arc-token="1-2"]', "Space")
    assert page.locator("#token-1").input_value() == "2"
    press('[data-matrix="scaled-1"]', "ArrowDown", "ArrowDown", "Enter")
    assert page.locator("#token-1").input_value() == "3"
    press("#word", "ArrowDown")
    assert page.locator("[data-cosines]").get_attribute("data-cosines") == "my"
    press("#temperature", "Home")
    assert page.locator("#temperature-out").inner_text() == "0.00"
    press("#top_k", "ArrowRight", "ArrowRight")
    assert page.locator("#top_k-out").inner_text() == "2"
    press("#top_p", "ArrowLeft")
    assert page.locator("#top_p-out").inner_text() == "0.99"
    press("#find", "t", "h", "e")
    assert "the: rank" in page.locator("#fill-next-0").inner_text()
    press("#draw", "Enter")
    assert page.locator("[data-drawn]").count() == 2
    press("#reset", "Enter")
    outs = [page.locator(f"#{name}-out").inner_text() for name in ("temperature", "top_k", "top_p")]
    assert outs == ["1.00", "all", "1.00"]
    assert page.locator("[data-drawn]").count() == 0 and page.locator("#find").input_value() == ""
    press("#theme", "Enter")
    assert page.locator("html").get_attribute("data-theme") == "dark"
    press("#language", "Enter")
    assert page.locator("html").get_attribute("lang") == "ko"
    assert page.locator("h1").inner_text() == "문장 하나가 GPT\u20112를 통과하는 과정"
    assert page.evaluate("document.activeElement.id") == "language"


def test_the_language_changes_while_blocks_play(visit):
    page = visit("one")
    page.evaluate("window.setInterval = () => 7")  # it plays on, however slow this machine is
    page.locator("#play").click()
    page.locator("#language").click()
    assert page.locator("#play").get_attribute("aria-pressed") == "true"
    assert page.locator("#play").inner_text() == "❚❚"


def test_blocks_that_play_stop_at_the_last_wherever_the_reader_has_gone_meanwhile(visit, model):
    page = visit("one")
    page.evaluate("window.setInterval = (step) => { window.tick = step; return 7; }")
    page.locator("#play").click()
    last = model.config.n_layer - 1
    page.evaluate("n => { state.block = n; update(); }", last)
    page.evaluate("tick()")
    assert page.locator("#block-out").inner_text() == str(last)
    assert page.locator("#play").get_attribute("aria-pressed") == "false"
    page.locator("#play").click()
    page.locator("#block").fill(str(last))  # who takes the slider stops it
    assert page.locator("#play").get_attribute("aria-pressed") == "false"


def test_a_word_of_other_tokens_is_not_said_to_start_as_one_row(visit, model, pages):
    page = explain("a Tiny mouse", "the tinY mouse", model=model)
    (pages / "other.html").write_text(page.html, encoding="utf-8")
    page = visit("other")
    assert "starts as the same row" in page.locator("#text-word").inner_text()
    page.locator("#word").select_option(label="tiny")
    assert "starts as two rows" in page.locator("#text-word").inner_text()


def test_a_head_of_its_own_is_not_called_wte(visit, pages):
    untied = small_model(n_ctx=256, tie_word_embeddings=False)
    (pages / "untied.html").write_text(explain("a mouse", model=untied).html, encoding="utf-8")
    page = visit("untied")
    assert "times lm_head." in page.locator("#text-lens").inner_text()
    assert "lm_head" in page.locator('[data-formula="lens"]').text_content()
    assert "ln_f(y) · lm_headᵀ" in page.locator('[data-way="0"]').inner_text()


def test_every_control_by_mouse(visit, model):
    page = visit("two")
    width = page.locator("#block").bounding_box()["width"]
    page.locator("#block").click(position={"x": width - 2, "y": 8})
    assert page.locator("#block-out").inner_text() == "2"
    width = page.locator("#head").bounding_box()["width"]
    page.locator("#head").click(position={"x": width / 2, "y": 8})
    assert page.locator("#head-out").inner_text() == "1"
    page.locator("#token-0").select_option("1")
    page.locator('[data-token="1-3"]').click()
    assert page.locator("#token-1").input_value() == "3"
    page.locator('[data-arc-token="0-4"]').click()
    assert page.locator("#token-0").input_value() == "4"
    canvas = page.locator('[data-matrix="weights-0"]')
    box = canvas.bounding_box()
    weights = picogpt.trace(model, model.encoder.encode(ONE))["blocks.2.weights"][1]
    canvas.hover(position={"x": box["width"] * 0.35, "y": box["height"] - 8})
    shown = canvas.locator("+ .read .num").inner_text()
    assert min(abs(weights[-1] - number(shown))) <= 0.006
    canvas.click(position={"x": box["width"] * 0.35, "y": box["height"] - 8})
    assert page.locator("#token-0").input_value() == str(len(weights) - 1)
    page.locator("#word").select_option("1")
    assert page.locator("[data-cosines]").get_attribute("data-cosines") == "my"
    for name in ("temperature", "top_k", "top_p"):
        before = page.locator(f"#{name}-out").inner_text()
        page.locator(f"#{name}").click(position={"x": 30, "y": 8})
        assert page.locator(f"#{name}-out").inner_text() != before
    page.locator("#draw").click()
    assert page.locator("[data-drawn]").count() == 2
    page.locator("#reset").click()
    assert page.locator("#top_p-out").inner_text() == "1.00"
    page.locator('nav a[href="#s-weights"]').click()
    assert 0 <= page.locator("#s-weights").bounding_box()["y"] < 200
    page.locator("#theme").click()
    assert page.locator("html").get_attribute("data-theme") == "dark"
    page.locator("#language").click()
    assert "단어" in page.locator("#h-word").inner_text()


def test_nothing_moves_unless_asked(visit):
    page = visit("one")
    opened = page.locator("#block-out").inner_text()
    page.wait_for_timeout(1500)
    assert page.locator("#block-out").inner_text() == opened
    pick(page, block=0)
    assert page.evaluate("document.getAnimations().length") == 0
    page.evaluate("""() => {
        window.blocks = [], window.states = [];
        const watch = (id, note, what) =>
            new MutationObserver(() => note()).observe(document.getElementById(id), what);
        watch("block-out", () => blocks.push(document.getElementById("block-out").textContent),
            { childList: true });
        watch("play", () => states.push(document.getElementById("play").ariaPressed),
            { attributes: true }); }""")
    page.locator("#play").click()
    page.wait_for_function("states.at(-1) === 'false'")
    assert page.evaluate("blocks") == ["1", "2"]
    assert page.evaluate("states") == ["true", "false"]
    page.evaluate("for (const _ of [1, 2]) document.getElementById('play').click()")
    assert page.locator("#play").get_attribute("aria-pressed") == "false"  # stopped at once
    assert page.locator("#block-out").inner_text() == "0"
    assert page.evaluate("document.getAnimations().length") == 0


@pytest.mark.parametrize("name", ["one", "two", "token", "long", "wild", "learn", "lecture"])
@pytest.mark.parametrize("width", [360, 390, 1280, 2560])
def test_it_fits_the_screen(visit, name, width):
    page = visit(name, width)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.locator("section").count() == SECTIONS.get(name, 17)


def troubles_of_axe(page):
    page.evaluate(axe.read_text(encoding="utf-8"))
    found = page.evaluate("async () => (await axe.run()).violations")
    return [(one["id"], [node["html"] for node in one["nodes"][:3]]) for one in found]


@pytest.mark.parametrize("name, width, theme, language", [
    ("two", 1280, "light", "en-US"), ("two", 1280, "dark", "ko-KR"),
    ("two", 360, "dark", "en-US"), ("one", 360, "light", "ko-KR"),
    ("one", 1280, "light", "ko-KR"), ("wild", 1280, "dark", "en-US"),
    ("learn", 1280, "light", "en-US"), ("learn", 390, "dark", "ko-KR"),
    ("lecture", 1280, "dark", "ko-KR"), ("lecture", 390, "light", "en-US"),
])  # fmt: skip
def test_axe_finds_nothing(visit, name, width, theme, language):
    page = visit(name, width, theme, language)
    assert page.locator("html").get_attribute("data-theme") == theme
    assert page.locator("html").get_attribute("lang") == language[:2]
    page.evaluate("for (const b of document.querySelectorAll('[id^=reveal-]')) b.click()")
    assert troubles_of_axe(page) == []
    if folder := os.environ.get("PAGE_SCREENSHOTS"):
        page.screenshot(path=f"{folder}/{name}-{width}-{theme}-{language}.png", full_page=True)


def test_it_opens_on_the_head_with_most_to_tell(visit, model):
    ids = model.encoder.encode(ONE)
    best = int(picogpt.logits(model, ids, last_only=True)[0].argmax())
    effects = np.array(head_effects(model, picogpt.trace(model, ids), best))
    block, head = np.unravel_index(effects.argmax(), effects.shape)
    page = visit("one")
    assert page.locator("#block-out").inner_text() == str(block)
    assert page.locator("#head-out").inner_text() == str(head)
    reading = page.locator('[data-reading="0"]').inner_text()
    assert f"Block {block}, head {head}" in reading
    p = softmax(picogpt.logits(model, ids, last_only=True)[0])[best]
    without, now = re.search(r"with ([\d.]+) % without .* of ([\d.]+) %", reading).groups()
    check([without, now], [100 * p * np.exp(-effects.max()), 100 * p])


def test_the_last_tokens_own_weight_is_not_cut_off(visit):
    page = visit("one", 390)
    left, wide, whole = page.evaluate("""() => {
        const box = document.querySelector("#arcs-0").parentNode;
        return [box.scrollLeft, box.clientWidth, box.scrollWidth]; }""")
    assert whole > wide
    assert left + wide >= whole - 1  # its number stands behind it, at the very end


def test_the_whole_at_a_glance_leads_to_the_steps(visit):
    page = visit("one")
    assert page.locator("[data-strip]").count() == 3
    box = page.locator('[data-strip="0-1"]').bounding_box()
    page.locator('[data-strip="0-1"]').click(position={"x": box["width"] - 6, "y": 6})
    assert page.locator("#block-out").inner_text() == "1"
    assert page.locator("#head-out").inner_text() == "2"
    for step in ("tokens", "embed", "lens", "next"):
        page.locator(f'[data-way] a[href="#s-{step}"]').click()
        playwright.expect(page.locator(f"#h-{step}")).to_be_in_viewport()
        assert page.evaluate("document.activeElement.id") == f"h-{step}"


@pytest.mark.parametrize("width", [390, 1280])
def test_a_jump_shows_the_heading(visit, width):
    page = visit("two", width)
    for step in ("ffn", "weights", "lens"):
        page.locator(f'nav a[href="#s-{step}"]').click()
        below = page.locator(".picker").bounding_box()
        assert page.locator(f"#h-{step}").bounding_box()["y"] >= below["y"] + below["height"]


def test_the_losses_are_the_logits(visit, model):
    page, ids = visit("one"), model.encoder.encode(ONE)
    rows = predictions(picogpt.logits(model, ids), ids)
    cells = page.locator('[data-loss="0"] tbody tr').all()
    assert len(cells) == len(ids)
    for row, (p, rank, _, p_best) in zip(cells, rows):
        texts = row.locator(".num").all_inner_texts()
        check([texts[0], texts[1], texts[3]], [p, -np.log(p), p_best])
        assert int(texts[2].replace(",", "")) == rank
    assert "____" in cells[-1].inner_text()
    mean = -np.mean(np.log([row[0] for row in rows]))
    numbers = re.findall(r"\d+\.?\d*", page.locator('[data-mean="0"]').inner_text())
    check(numbers[:2], [mean, np.exp(mean)])


def test_a_file_says_what_a_server_adds_and_shows_nothing_of_it(visit):
    page = visit("two")
    assert "picogpt.explain --serve" in page.locator("#offline").inner_text()
    for control in ("form", ".append", ".silence", "#patch", "#s-change"):
        assert page.locator(control).count() == 0


def test_every_step_has_its_formula_beside_its_code(visit):
    for name in ("lecture", "learn"):
        for step in visit(name).locator("section").all():
            assert step.locator("pre").count() >= 1 and step.locator("math").count() == 1
            assert step.locator(".goes code").count() == 2


def test_a_korean_word_stands_over_its_bytes(visit, model, pages):
    (pages / "korean.html").write_text(explain("쥐 한 마리", model=model).html, encoding="utf-8")
    page = visit("korean")
    words = page.locator("#s-tokens .bytes > b").all_inner_texts()
    assert words == ["쥐", "한", "마리"]
    assert page.locator("#s-tokens [data-token]").count() == len(model.encoder.encode("쥐 한 마리"))


def test_the_lecture_asks_before_it_shows(visit):
    page = visit("lecture")
    assert page.locator("#s-weights .ask").inner_text().startswith("Guess")
    assert not page.locator("#main-weights").is_visible()
    assert page.locator("#tell-weights").inner_text() == ""
    page.locator("#reveal-weights").focus()
    page.keyboard.press("Enter")
    assert page.locator("#main-weights canvas").first.is_visible()
    told = page.locator("#tell-weights").inner_text()
    weights = re.findall(r"mouse → (?:wireless|tiny): ([\d.]+)", told)
    mean = np.mean([float(weight) for weight in weights])
    assert abs(mean - page.evaluate("DATA.lecture.weight")) <= 0.0051
    assert page.locator("#reveal-weights").get_attribute("aria-expanded") == "true"
    page.locator("#language").click()
    assert page.locator("#main-weights canvas").first.is_visible()  # what is revealed stays so
    row = page.locator("[data-cross] li")
    assert not row.first.is_visible()
    page.locator("#reveal-cross").click()
    assert row.first.is_visible() and row.count() == page.evaluate("texts[1].ids.length")


def test_one_step_of_learning_shows_its_numbers(visit, model):
    page, ids = visit("learn"), model.encoder.encode(ONE)
    lesson = page.evaluate("DATA.learning")
    table = page.locator('[data-table="learned"] tbody tr')
    assert table.count() == len(ids) - 1
    for row, before, after in zip(table.all(), *lesson["losses"][:2]):
        p_before, l_before, p_after, l_after = row.locator(".num").all_inner_texts()
        check([l_before, l_after], [before, after])
        if "<" not in p_before + p_after:
            check([p_before, p_after], [np.exp(-before), np.exp(-after)])
    grid = page.locator('[data-table="gradients"] td .num').all_inner_texts()
    norms = lesson["step"]["norms"]["blocks"][::-1]  # the last block on top
    check([text for text in grid if "e" not in text],
          [x for text, x in zip(grid, np.ravel(norms)) if "e" not in text])  # fmt: skip
    worked = page.locator("[data-worked-step]").inner_text().replace("−", "-")
    assert float(re.findall(r"[\d.e-]+$", worked.strip())[0]) == pytest.approx(
        lesson["step"]["after"]["w"][0], rel=1e-4
    )
    slope, entry = page.locator("[data-checked] b").all_inner_texts()
    numbers = [float(text.replace("−", "-")) for text in (slope, entry)]
    assert numbers[0] == pytest.approx(numbers[1], rel=5e-3)


def test_a_wild_text_shows_as_itself(visit, model):
    page = visit("wild")
    assert page.locator("blockquote").text_content() == WILD
    assert page.locator("blockquote *").count() == 0
    ids = model.encoder.encode(WILD)
    bytes_shown = page.locator("[data-token] small:nth-child(2)").all_inner_texts()
    assert b"".join(map(bytes.fromhex, bytes_shown)).decode("utf-8") == WILD
    assert page.locator("[data-token] small:nth-child(3)").all_inner_texts() == [
        f"id {id}" for id in ids
    ]


def test_one_token_and_two_hundred(visit, model):
    page = visit("token")
    assert page.locator('[data-row="weights-0"] .num').all_inner_texts() == ["1.00"]
    page = visit("long")
    pick(page, 0, 0)
    weights = picogpt.trace(model, model.encoder.encode("ab" * 100))["blocks.0.weights"][0]
    assert page.locator("[data-token]").count() == 200
    rows = page.locator('[data-row="weights-0"] li')
    assert rows.count() == 24
    keys = [int(key) for key in rows.evaluate_all("all => all.map(li => li.dataset.key)")]
    assert sorted(keys) == sorted(np.argsort(-weights[-1], kind="stable")[:24])
    for shown, true in zip(rows.locator(".num").all_inner_texts(), weights[-1, keys]):
        assert abs(number(shown) - true) <= 0.00006 + 0.01 * true  # two signs a score


def test_print(visit):
    page = visit("one", theme="dark")
    page.emulate_media(media="print")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert page.locator("html").get_attribute("data-theme") == "light"
    assert not page.locator(".picker").is_visible() and not page.locator("nav").is_visible()
    assert page.locator("#fill-y-0 .cells").first.is_visible()
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert page.locator("html").get_attribute("data-theme") == "dark"
    assert page.pdf().startswith(b"%PDF")


def test_in_a_notebook(browser, model):
    page = browser.new_page()
    page.set_content(explain(ONE, model=model)._repr_html_())
    frame = page.frame_locator("iframe")
    assert frame.locator("blockquote").text_content() == ONE
    assert frame.locator("section").count() == 17
    frame.locator('nav a[href="#s-weights"]').click()  # scrolls, and loads nothing into the frame
    playwright.expect(frame.locator("#h-weights")).to_be_in_viewport()
    assert frame.locator("section").count() == 17
    page.close()
