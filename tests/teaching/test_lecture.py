"""The lecture's example: the head that looks where the slide does, and attention across."""

import numpy as np
import pytest
from models import small_model

import picogpt
from picogpt.teaching import lecture
from picogpt.teaching.page import about_texts
from picogpt.teaching.request import Request


@pytest.fixture(scope="module")
def model():
    return small_model(n_ctx=128)


@pytest.fixture(scope="module")
def traced(model):
    ids = [model.encoder.encode(text) for text in lecture.SENTENCES]
    return ids, [picogpt.trace(model, part) for part in ids]


def test_the_places_of_a_word_write_it(model, traced):
    for ids, words in zip(traced[0], [("mouse", "wireless", "I"), ("mouse", "tiny", "bed")]):
        for word in words:
            places = lecture.places_of(model.encoder, ids, word)
            written = model.encoder.decode([ids[i] for i in places])
            assert written.strip() == word and places == list(range(places[0], places[-1] + 1))


def test_the_chosen_head_looks_most_at_what_tells_the_mice_apart(model, traced):
    ids, activations = traced
    means = {}
    for block in range(model.config.n_layer):
        for head in range(model.config.n_head):
            looks = []
            for part, seen, telling in zip(ids, activations, ("wireless", "tiny")):
                mouse = lecture.places_of(model.encoder, part, "mouse")[-1]
                weights = seen[f"blocks.{block}.weights"][head, mouse]
                places = lecture.places_of(model.encoder, part, telling)
                looks.append(sum(weights[i] for i in places))
            means[block, head] = sum(looks) / 2
    chosen = lecture.lecture_places(model.encoder, ids)
    (block, head), weight = lecture.lecture_head(model, chosen, activations)
    assert (block, head) == max(means, key=means.get)
    assert weight == pytest.approx(means[block, head])


def test_cross_attention_by_loops():
    rng = np.random.default_rng(0)
    x, other = rng.standard_normal((3, 4)), rng.standard_normal((5, 4))
    parts = [{"w": rng.standard_normal((4, 2)), "b": rng.standard_normal(2)} for _ in range(3)]
    y = lecture.cross_attention(x, other, *parts)
    for i in range(3):
        q = x[i] @ parts[0]["w"] + parts[0]["b"]
        e = [np.exp(q @ (row @ parts[1]["w"] + parts[1]["b"]) / 2**0.5) for row in other]
        values = [row @ parts[2]["w"] + parts[2]["b"] for row in other]
        np.testing.assert_allclose(y[i], sum(a * v for a, v in zip(e, values)) / sum(e))


def test_the_page_has_it(model, traced):
    shown = about_texts(model, Request(lecture=True))
    assert [text["text"] for text in shown["texts"]] == list(lecture.SENTENCES)
    cross = np.array(shown["lecture"]["cross"]["weights"])
    assert cross.shape == tuple(map(len, traced[0]))
    np.testing.assert_allclose(cross.sum(axis=1), 1, atol=1e-3)
    assert len(shown["lecture"]["cross"]["norms"]) == len(traced[0][0])
