"""The page that answers, in a browser and with a real server: type, grow, silence, patch, learn."""

import re
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest
from models import small_model
from oracles import oracle
from serving import serving
from test_page import WILD, check, number, troubles_of_axe

import picogpt
from picogpt.kernels import softmax

playwright = oracle("playwright.sync_api")
expect = playwright.expect
ONE, TWO = "This morning, there was a tiny mouse", "I prefer a wireless mouse"


@pytest.fixture(scope="module")
def model():
    return small_model(n_ctx=128, n_layer=3)


@pytest.fixture(scope="module")
def server(model):
    with serving(model, ONE) as server:
        yield server


@pytest.fixture
def visit(browser, server):
    """Open an address of the server; nothing may go wrong, and nobody else be asked."""
    contexts, troubles, home = [], [], f"http://{server.address}/"

    def open_it(address="", width=1280, theme="light", language="en-US"):
        context = browser.new_context(
            viewport={"width": width, "height": 900}, color_scheme=theme, locale=language
        )
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(60_000)
        page.on("console", lambda message: message.text.startswith("Failed to load resource")
                or troubles.append(message.text))  # a refusal, which a test provokes  # fmt: skip
        page.on("pageerror", lambda error: troubles.append(str(error)))
        page.on("request", lambda request: request.url.startswith((home, "data:,"))
                or troubles.append(request.url))  # fmt: skip
        page.goto(home + address)
        return page

    expect.set_options(timeout=60_000)
    yield open_it
    for context in contexts:
        context.close()
    assert troubles == []


def shown(page):
    return "".join(page.locator("blockquote").first.evaluate("node => node.firstChild.data"))


def query(page):
    return {name: texts[0] for name, texts in parse_qs(urlsplit(page.url).query).items()}


def next_tokens(model, ids, edit=None):
    """The probabilities of what follows, and the ids with the likeliest first."""
    p = softmax(picogpt.trace(model, ids, edit)["logits"][-1].astype(np.float64))
    return p, np.argsort(-p, kind="stable")


def percents(page, where):
    return page.locator(f"{where} .num").all_inner_texts()


def test_a_typed_sentence_is_answered_and_stands_in_the_address(visit, model):
    page = visit()
    assert shown(page) == ONE
    page.locator("#text").fill(TWO)
    page.locator("#text").press("Enter")
    expect(page.locator("blockquote")).to_have_text(TWO)
    assert query(page) == {"text": TWO}
    p, order = next_tokens(model, model.encoder.encode(TWO))
    check(percents(page, '[data-next="0"]'), p[order[:15]])
    assert page.evaluate("document.activeElement.id") == "text"
    page.locator("#text").fill("mice")
    page.locator("#language").click()  # what is typed stays
    page.locator("#send").click()
    expect(page.locator("blockquote")).to_have_text("mice")
    page.go_back()
    expect(page.locator("blockquote")).to_have_text(TWO)
    page.go_back()
    expect(page.locator("blockquote")).to_have_text(ONE)
    page.go_forward()
    expect(page.locator("#text")).to_have_value(TWO)
    page.reload()  # the address alone gives the whole page
    expect(page.locator("blockquote")).to_have_text(TWO)


def test_generation_by_hand(visit, model):
    page, ids = visit(), model.encoder.encode(ONE)
    for n in (1, 2, 3):  # the likeliest each time, by keyboard alone
        chosen = int(next_tokens(model, ids)[1][0])
        page.locator("#candidate-0-0").focus()
        page.keyboard.press("Enter")
        ids.append(chosen)
        expect(page.locator("mark")).to_have_count(n)
        expect(page.locator("[data-token]")).to_have_count(len(ids))
        assert page.evaluate("document.activeElement.id") == "candidate-0-0"
        assert page.locator("#token-0").input_value() == str(len(ids) - 1)
    assert query(page)["then"] == ".".join(map(str, ids[-3:]))
    page.locator("#draw").click()
    drawn = page.evaluate("state.drawn[0]")
    page.locator("#append-drawn-0").click()
    expect(page.locator("mark")).to_have_count(4)
    assert query(page)["then"].endswith(f".{drawn}")
    page.locator("#undo").click()
    expect(page.locator("mark")).to_have_count(0)
    assert query(page) == {"text": ONE}


def test_a_silenced_head_moves_the_prediction(visit, model):
    page, ids = visit("?text=" + ONE), model.encoder.encode(ONE)
    page.locator("#block").fill("1")
    page.locator("#head").fill("2")

    def silence(name, x):
        if name == "blocks.1.heads":
            x[2] = 0
        return x

    page.locator("#change-silence-0").click()
    expect(page.locator("#changes")).to_contain_text("block 1, head 2 silenced")
    p, order = next_tokens(model, ids)
    q, after = next_tokens(model, ids, silence)
    assert np.abs(p - q).max() > 0.001
    reading = page.locator('[data-reading="0"]').inner_text()
    now, before = re.search(r"silenced: .* with ([\d.]+) % now, ([\d.]+) % with", reading).groups()
    check([now, before], [100 * q[order[0]], 100 * p[order[0]]])
    check(percents(page, '[data-change="0-before"]'), p[order[:8]])
    check(percents(page, '[data-change="0-after"]'), q[after[:8]])
    assert page.locator("#block-out").inner_text() == "1"  # where the reader was
    heads = page.locator('[data-vec="heads"] li').all_inner_texts()
    assert [number(cell) for cell in heads] == [0] * 8
    assert query(page)["silence"] == "1.2"
    page.locator("#silence-joined-0-0").focus()
    page.keyboard.press("Space")
    expect(page.locator("#changes")).to_contain_text("block 1, head 0 silenced")
    assert page.evaluate("document.activeElement.id") == "silence-joined-0-0"
    page.locator("#silence-way-0-").click()  # the picked head speaks again
    expect(page.locator("#changes")).not_to_contain_text("head 2 silenced")
    page.locator("#unchange-0").click()
    expect(page.locator("#changes")).to_have_count(0)
    check(percents(page, '[data-next="0"]'), p[order[:15]])


def test_one_sentence_is_patched_into_the_other(visit, model):
    page = visit()
    page.locator("#and").fill(TWO)
    page.locator("#and").press("Enter")
    expect(page.locator("#token-1")).to_be_visible()
    assert query(page) == {"text": ONE, "and": TWO}
    page.locator("#block").fill("1")
    page.locator("#token-0").select_option("5")
    page.locator("#token-1").select_option("3")
    page.locator("#patch").click()
    expect(page.locator("#changes")).to_contain_text("after block 1")
    donor = picogpt.trace(model, model.encoder.encode(TWO))

    def patch(name, x):
        if name == "blocks.1.y":
            x[5] = donor[name][3]
        return x

    p, order = next_tokens(model, model.encoder.encode(ONE), patch)
    check(percents(page, '[data-change="0-after"]'), p[order[:8]])
    assert query(page)["patch"] == "1.3.5"
    assert page.locator('[data-change="1-before"]').count() == 0  # the giver stays as it is


def test_learning_and_the_lecture_by_a_button(visit):
    page = visit()
    page.locator("#learn").click()
    expect(page.locator("#s-learn-more")).to_be_visible()
    assert page.locator("#learn").get_attribute("aria-pressed") == "true"
    assert page.evaluate("document.activeElement.id") == "h-learn-loss"  # far below the button
    assert 0 < page.locator("#h-learn-loss").bounding_box()["y"] < 450
    page.locator("#lecture").click()
    expect(page.locator("#s-cross")).to_be_visible()
    assert query(page) == {"lecture": "1"}
    assert not page.locator("#main-scores").is_visible()
    page.locator("#lecture").click()
    expect(page.locator("#s-cross")).to_have_count(0)


def test_learning_takes_what_has_been_typed_and_not_sent_yet(visit):
    page = visit()
    page.locator("#text").fill("A new one")
    page.locator("#learn").click()
    expect(page.locator("#s-learn-more")).to_be_visible()
    assert shown(page) == "A new one"
    assert query(page) == {"text": "A new one", "learn": "1"}


@pytest.mark.parametrize("text, said", [
    ("", "Type a sentence"), ("   ", "Type a sentence"), ("mouse " * 100, "a page holds 128"),
    ("mouse " * 20_000, "far more than a page holds"),
])  # fmt: skip
def test_a_refusal_is_a_sentence_on_the_page(visit, text, said):
    page = visit()
    page.locator("#text").fill(text)
    page.locator("#text").press("Enter")
    expect(page.locator("#answer")).to_contain_text(said)
    assert shown(page) == ONE and page.locator("section").count() == 18  # what was there stays
    assert page.locator("#text").input_value() == text  # and what was typed, too
    if len(text) > 10_000:
        return
    page.goto(page.url.split("?")[0] + "?text=" + text)
    expect(page.locator("#refused")).to_contain_text(said)
    assert page.locator("section").count() == 0
    page.locator("#text").fill(TWO)
    page.locator("#text").press("Enter")
    expect(page.locator("blockquote")).to_have_text(TWO)
    assert page.locator("#refused").count() == 0


@pytest.mark.parametrize("text", [WILD, "<img src=x onerror=alert(1)>", "{{data}} \\u003c &amp;"])
def test_any_text_shows_as_itself(visit, text):
    page = visit()
    page.on("dialog", lambda _: pytest.fail("a text ran"))
    page.locator("#text").fill(text)
    page.locator("#text").press("Enter")
    expect(page.locator("#token-0 option").first).to_be_attached()
    expect(page.locator("blockquote")).to_have_text(text)
    assert page.locator("blockquote *").count() == 0
    page.reload()
    expect(page.locator("#text")).to_have_value(text)


def test_a_writing_that_the_tokens_cut_into_bytes_is_told(visit):
    page = visit()
    assert page.locator("#bytes").count() == 0
    page.locator("#text").fill("안녕하세요")
    page.locator("#text").press("Enter")
    expect(page.locator("#bytes")).to_contain_text("only parts of a letter")


def test_a_server_that_has_gone_is_told(visit):
    page = visit()
    page.route("**/data*", lambda route: route.abort())
    page.locator("#text").fill(TWO)
    page.locator("#text").press("Enter")
    expect(page.locator("#answer")).to_contain_text("still running?")
    page.unroute("**/data*")
    page.locator("#text").press("Enter")
    expect(page.locator("blockquote")).to_have_text(TWO)


def test_a_page_elsewhere_gets_nothing(browser, server):
    page = browser.new_page()
    link = f"<a href='http://{server.address}/?text=x'>x</a>"
    page.route("http://elsewhere.example/",
               lambda route: route.fulfill(body=link, content_type="text/html"))  # fmt: skip
    page.goto("http://elsewhere.example/")
    with page.expect_navigation():
        page.locator("a").click()
    assert "opened by a page from elsewhere" in page.locator("body").inner_text()
    page.close()


def test_every_control_by_keyboard(visit):
    page = visit("?text=mouse+one&and=mouse+two&silence=0.0&learn=1")
    page.evaluate("""() => {
        const all = [...document.querySelectorAll("button, input, select, a, canvas")];
        window.missed = new Set(all.filter((control) => control.tabIndex >= 0));
        document.addEventListener("focusin", (event) => missed.delete(event.target)); }""")
    page.locator(".skip").focus()
    for _ in range(500):
        page.keyboard.press("Tab")
        if page.evaluate("missed.size === 0"):
            break
    assert page.evaluate("[...missed].map((control) => control.outerHTML)") == []


@pytest.mark.parametrize("address, width, theme, language", [
    ("", 1280, "light", "en-US"), ("", 390, "dark", "ko-KR"),
    ("?text=one+mouse&and=a+mouse&silence=0.0&patch=1.1.1", 390, "light", "en-US"),
    ("?text=one+mouse&and=a+mouse&silence=0.0&then=5", 1280, "dark", "ko-KR"),
    ("?text=one+mouse&learn=1", 390, "light", "ko-KR"), ("?text=", 390, "dark", "en-US"),
    ("?lecture=1", 1280, "light", "ko-KR"),
])  # fmt: skip
def test_axe_finds_nothing_and_it_fits(visit, address, width, theme, language):
    page = visit(address, width, theme, language)
    page.evaluate("if (texts.length) { state.drawn = texts.map(() => 0); update('next'); }")
    page.evaluate("for (const b of document.querySelectorAll('[id^=reveal-]')) b.click()")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert troubles_of_axe(page) == []
