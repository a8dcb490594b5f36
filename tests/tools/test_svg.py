"""The drawings: round ticks, and nothing that is cut or stands on something else."""

import math
import xml.etree.ElementTree as ET

import pytest

from picogpt.tools.svg import line_chart, matrix_chart, number, text_width, ticks

SENTIMENTS = ("very negative", "negative", "neutral", "positive", "very positive")
CURVES = {
    "loss": {
        "training": [(step, 8 * math.exp(-step / 900) + 3) for step in range(37, 3701, 37)],
        "validation": [(step, 8 * math.exp(-step / 800) + 3.2) for step in range(74, 3701, 74)],
    },
    "epochs": {"train": [(1, 0.41), (2, 0.6)], "dev": [(1, 0.4), (2, 0.4)], "validation": [(1, 1)]},
    "one point": {"train": [(1, 0.5)]},
    "level": {"train": [(1, 0), (40, 0)]},
    "tiny": {"a name of many words & <signs>": [(0.001, 2e-9), (0.002, 5e-9)]},
    "large": {"train": [(10**6, 1e12), (2 * 10**6, -3e12)]},
}
MATRICES = {
    "five": (SENTIMENTS, [[i * j for i in range(5)] for j in range(5)]),
    "two": (("no", "yes"), [[120000, 3], [0, 99]]),
    "nothing": (("no", "yes"), [[0, 0], [0, 0]]),
}


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0.41, 0.61], [0.4, 0.45, 0.5, 0.55, 0.6, 0.65]), ([3.1, 10.2], [2, 4, 6, 8, 10, 12]),
        ([0, 1], [0, 0.2, 0.4, 0.6, 0.8, 1]), ([0.37], [0, 0.2, 0.4, 0.6, 0.8]),
        ([-5, 5], [-6, -4, -2, 0, 2, 4, 6]), ([37, 3700], [0, 1000, 2000, 3000, 4000]),
    ],
)  # fmt: skip
def test_ticks_are_round_and_enclose_the_values(values, expected):
    assert ticks(values) == pytest.approx(expected)


def test_ticks_of_whole_numbers_are_whole():
    assert ticks([1, 3], whole=True) == [1, 2, 3]
    assert ticks([1], whole=True) == [0, 1, 2]
    assert ticks([1, 40], whole=True) == [0, 10, 20, 30, 40]


def test_numbers_have_the_decimals_that_tell_ticks_apart():
    for values in ([0.41, 0.61], [1e-4, 3e-4], [3, 10], [12345, 99999], [0.5, 20]):
        chosen = ticks(values)
        assert len({number(x, chosen) for x in chosen}) == len(chosen)
    assert [number(x, [0, 0.5]) for x in (0, 0.5)] == ["0.0", "0.5"]
    assert number(20000, [0, 10000]) == "20,000"


def boxes(path):
    """The picture's size and, of every text in it, (left, top, right, bottom, words)."""
    root = ET.parse(path).getroot()
    found = []
    for element in root.iter("{http://www.w3.org/2000/svg}text"):
        x, y, size = (float(element.get(name)) for name in ("x", "y", "font-size"))
        width = text_width(element.text, size)
        x -= {"start": 0, "middle": width / 2, "end": width}[element.get("text-anchor")]
        found.append((x, y - 0.8 * size, x + width, y + 0.1 * size, element.text))
    return float(root.get("width")), float(root.get("height")), found


def check_texts(path):
    """No text is cut by the edge or stands on another."""
    width, height, found = boxes(path)
    for left, top, right, bottom, words in found:
        assert left >= 0 and top >= 0 and right <= width and bottom <= height, words
    for i, one in enumerate(found):
        for other in found[:i]:
            apart = one[0] >= other[2] or other[0] >= one[2] or one[1] >= other[3]
            assert apart or other[1] >= one[3], (one, other)


@pytest.mark.parametrize("name", CURVES)
def test_curves_have_no_text_that_is_cut_or_covered_and_none_on_them(tmp_path, name):
    line_chart(tmp_path / "a.svg", CURVES[name], "a title", "step", "nats per token")
    check_texts(tmp_path / "a.svg")
    text = (tmp_path / "a.svg").read_text()
    root = ET.fromstring(text)
    lines = root.iter("{http://www.w3.org/2000/svg}polyline")
    places = [place.split(",") for line in lines for place in line.get("points").split()]
    assert len(places) == sum(map(len, CURVES[name].values()))
    legend = min(box[0] for box in boxes(tmp_path / "a.svg")[2] if box[4] in CURVES[name])
    assert max(float(x) for x, _ in places) < legend - 36
    assert all(50 <= float(y) <= 360 for _, y in places)


def test_without_a_point_nothing_is_drawn(tmp_path):
    line_chart(tmp_path / "a.svg", {"train": []}, "title", "x", "y")
    assert not (tmp_path / "a.svg").exists()


@pytest.mark.parametrize("name", MATRICES)
@pytest.mark.parametrize("title", ["short", "quora, last-linear-layer-cloze, a long title: dev"])
def test_a_matrix_has_no_text_that_is_cut_or_covered(tmp_path, name, title):
    labels, counts = MATRICES[name]
    matrix_chart(tmp_path / "a.svg", counts, labels, title)
    check_texts(tmp_path / "a.svg")
    words = [box[4] for box in boxes(tmp_path / "a.svg")[2]]
    assert [words.count(str(n)) >= 1 for row in counts for n in row] == [True] * len(labels) ** 2
