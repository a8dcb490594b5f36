"""Whole characters while a text is written, and where it ends: at a stop string."""

import numpy as np
import pytest
from reciter import reciter

from picogpt import generate, generate_batch
from picogpt.text_stream import TextStream


@pytest.mark.parametrize(
    ("stop", "text"),
    [
        ("never", "tell me a tale, then stop"),
        ("tale", "tell me a "),
        ("tale!|||then", "tell me a tale, "),  # begins, and doesn't go on
        ("stop|||then", "tell me a tale, "),  # the first one in the text, not in the list
        (["then", ", "], "tell me a tale"),
        ("t", ""),
        ("p", "tell me a tale, then sto"),
        ("stop it", "tell me a tale, then stop"),  # held back, then let go at the end
        ("", "tell me a tale, then stop"),
        ("|||", "tell me a tale, then stop"),
        ([], "tell me a tale, then stop"),
    ],
    ids=str,
)
def test_a_text_ends_before_a_stop_string(stop, text):
    model = reciter("tell me a tale, then stop")
    assert "".join(generate(model, "x", stop=stop)) == text
    assert generate_batch(model, ["x", "y"], stop=stop) == [text, text]


def test_what_may_begin_a_stop_string_waits_until_it_is_clear():
    pieces = list(generate(reciter("a-b--c---d"), "x", stop="---"))
    assert pieces == ["a", "-b", "--c"]
    pieces = list(generate(reciter("a-b--c--d"), "x", stop="---"))
    assert pieces == ["a", "-b", "--c", "--d"]
    assert list(generate(reciter("aab--"), "x", stop="ab-ab|||b---")) == ["a", "a", "b--"]


def test_random_texts_and_stop_strings():
    rng = np.random.default_rng(0)
    for _ in range(300):
        text, *stops = ("".join(rng.choice(list("ab"), n)) for n in rng.integers(1, [40, 5, 6]))
        text_stream = TextStream(stops)
        printed = ""
        for i, letter in enumerate(text):
            printed += text_stream.feed(letter.encode(), final=i == len(text) - 1)
            assert not any(stop in printed for stop in stops)
            if text_stream.done:
                break
        seen = text[: i + 1]
        found = [seen.index(stop) for stop in stops if stop in seen]
        assert printed == seen[: min(found, default=None)]
        assert not any(stop in text[:i] for stop in stops)  # and it stopped at once


@pytest.mark.parametrize("text", ["한국어는 어렵다", "naïve 🤖👩‍👩‍👧 text", "\u200b日本\n語"])
def test_pieces_are_whole_characters(text):
    pieces = list(generate(reciter(text), "x", 100))
    assert pieces == list(text)


def test_half_a_character_at_the_end_becomes_a_replacement_character():
    robot = "🤖"
    assert list(generate(reciter("a" + robot), "x", 3)) == ["a", "\ufffd"]
    half = robot.encode()[:2]
    assert list(generate(reciter(b"a" + half), "x")) == ["a", "\ufffd"]  # <|endoftext|> comes
    assert list(generate(reciter(half + b"a"), "x")) == ["\ufffda"]
    assert list(generate(reciter("한한"), "x", stop="한")) == []
