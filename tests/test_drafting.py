"""Drafts change how often the model runs and nothing else, whatever they say."""

import numpy as np
import pytest
from models import small_model
from reciter import reciter

from picogpt import generate, generate_batch, generation
from picogpt.drafting import FIRST_NEEDED, MAX_NEEDED, MAX_ROWS, MIN_ROWS, N_KEY, Drafter
from picogpt.generation import Tally, stream

PROMPTS = ["the rain in", "a", "one on the other, there and then at", "on on on on on on"]


class Silent:
    """A drafter that never says anything, and keeps the texts that it was shown."""

    texts = []

    def draft(self, ids, n_max):  # noqa: ARG002
        if not any(ids is text for text in self.texts):
            self.texts.append(ids)
        return []


class Guesser:
    """A drafter that knows the texts, and says now less, now something else."""

    def __init__(self, texts, rng, n_vocab):
        self.texts, self.rng, self.n_vocab = texts, rng, n_vocab
        self.verdicts = []

    def draft(self, ids, n_max):
        text = next(text for text in self.texts if text[: len(ids)] == ids)
        guess = text[len(ids) :][: self.rng.integers(0, max(n_max, 0) + 1)]
        return [
            int(self.rng.integers(self.n_vocab)) if self.rng.random() < 0.1 else id for id in guess
        ]

    def judge(self, n_drafted, n_right):
        self.verdicts.append((n_drafted, n_right))


def pieces_of(model, prompts, n_tokens, **options):
    """What comes out of the decode loop: for every prompt, the list of its pieces."""
    pieces = [[] for _ in prompts]
    for i, piece in stream(model, prompts, n_tokens, **options):
        pieces[i].append(piece)
    return pieces


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize(
    ("options", "generation_config"),
    [
        ({}, {}),
        ({"temperature": 1.0, "seed": 3}, {}),
        ({"temperature": 0.7, "top_k": 5, "top_p": 0.8, "seed": 4}, {}),
        ({"stop": "the|||at|||x"}, {}),
        ({"temperature": 1.0, "seed": 5, "stop": ["er", "q"]}, {}),
        ({}, {"eos_token_id": [7, 31, 257, 259]}),
        ({}, {"repetition_penalty": 1.3, "no_repeat_ngram_size": 2}),
        ({"temperature": 1.0, "seed": 6}, {"repetition_penalty": 1.2}),
    ],
    ids=str,
)
def test_the_text_is_the_same_whatever_is_drafted(monkeypatch, options, generation_config, seed):
    model = small_model(seed, generation={"eos_token_id": None} | generation_config)
    Silent.texts = []
    monkeypatch.setattr(generation, "Drafter", Silent)
    expected = pieces_of(model, PROMPTS, 90, **options)  # past the model's 32 positions
    texts = [list(text) for text in Silent.texts]
    assert len(texts) == len(PROMPTS)
    assert expected == pieces_of(model, PROMPTS, 90, draft=False, **options)

    rng = np.random.default_rng(seed)
    guesser = Guesser(texts, rng, model.encoder.n_vocab)
    monkeypatch.setattr(generation, "Drafter", lambda: guesser)
    tally = Tally()
    assert pieces_of(model, PROMPTS, 90, tally=tally, **options) == expected
    if sum(map(len, texts)) > 200:  # not ended at once: drafts of all kinds were among them
        verdicts = guesser.verdicts
        assert any(right == drafted > 2 for drafted, right in verdicts)
        assert any(0 < right < drafted for drafted, right in verdicts)
        assert any(right == 0 < drafted for drafted, right in verdicts)


def test_a_draft_goes_neither_past_the_models_positions_nor_past_the_last_token(monkeypatch):
    asked = []

    class Recorder(Silent):
        def draft(self, ids, n_max):
            asked.append((len(ids), n_max))
            return []

    monkeypatch.setattr(generation, "Drafter", Recorder)
    model = small_model(generation={"eos_token_id": None})
    "".join(generate(model, "x" * 20, 15))  # at 32 tokens the model is full
    assert asked == [(n, min(34 - n, 32 - n)) for n in range(21, 33)] + [(34, 0)]


def test_a_looping_text_takes_fewer_passes_and_is_the_same():
    model = reciter("round and round and " * 12)
    tally, without = Tally(), Tally()
    text = "".join(generate(model, "x", 200, tally=tally))
    assert text == "".join(generate(model, "x", 200, draft=False, tally=without))
    assert without.n_written == tally.n_written == 200
    assert without.n_passes == 200
    assert tally.n_passes < 60
    assert generate_batch(model, ["x", "y"], 200) == [text, text]


def test_a_prompt_that_holds_the_answer_is_copied_from():
    line = "what was said once is said again"
    model = small_model(n_ctx=128)
    ids = model.encoder.encode(line * 2)
    drafter = Drafter()
    assert drafter.draft(ids, 100) == (ids * 2)[len(ids) :][: MIN_ROWS - 1]


def draft_after(ids, n_max=100):
    return Drafter().draft(ids, n_max)


def test_a_draft_is_what_followed_the_last_time():
    # 1 2 3 4 5 6 stood twice before: the newest place counts
    ids = [*range(1, 20), 1, 2, 3, 4, 5, 6, 77, 78, 79, 80, 81, 82, 83, 84, 1, 2, 3, 4, 5, 6]
    assert draft_after(ids) == [77, 78, 79, 80, 81, 82, 83]
    assert draft_after(ids, n_max=4) == [77, 78, 79, 80]
    assert draft_after(ids, n_max=2) == []  # costs more than it could bring
    assert draft_after(ids, n_max=-1) == []


def test_a_loop_goes_round_in_the_draft():
    assert draft_after([1, 2, 3] * 5) == [1, 2, 3, 1, 2, 3, 1]
    assert draft_after([9] * 20) == [9] * 7


def test_nothing_is_drafted_before_the_text_has_repeated_itself_for_long_enough():
    text = list(range(100, 130))
    for n in range(FIRST_NEEDED):
        assert draft_after(text + text[:n]) == []
    assert draft_after(text + text[:FIRST_NEEDED]) == text[FIRST_NEEDED:][:7]
    assert draft_after(list(range(300))) == draft_after([]) == draft_after([5]) == []


@pytest.mark.parametrize("step", [1, 2, 5, 40])
def test_the_look_up_goes_on_where_it_stopped(step):
    rng = np.random.default_rng(0)
    ids = rng.integers(0, 3, 300).tolist()
    drafter = Drafter()
    for n in range(1, len(ids), step):
        assert drafter.draft(ids[:n], 100) == draft_after(ids[:n]), n


def naive_source(ids):
    """The rule spelled out by a search: (place of what comes next, tokens in common)."""
    source, n_agreed = None, 0
    for i in range(N_KEY - 1, len(ids)):
        if source is not None and ids[source] == ids[i]:
            source, n_agreed = source + 1, n_agreed + 1
            continue
        newest = ids[i + 1 - N_KEY : i + 1]
        places = [j + N_KEY for j in range(i - N_KEY + 1) if ids[j : j + N_KEY] == newest]
        source, n_agreed = (places[-1], N_KEY) if places else (None, 0)
    return source, n_agreed


def test_the_look_up_finds_what_a_search_finds():
    rng = np.random.default_rng(1)
    for _ in range(50):
        ids = rng.integers(0, 3, rng.integers(1, 80)).tolist()
        source, n_agreed = naive_source(ids)
        expected = []
        if n_agreed >= FIRST_NEEDED:
            expected = (ids[source:] * 7)[:7]
        assert draft_after(ids) == expected


def test_drafts_grow_while_they_hold_and_wait_after_they_failed():
    drafter, text = Drafter(), list(range(200)) * 2
    lengths = []
    for n in (250, 260, 270):
        lengths.append(len(drafter.draft(text[:n], 100)))
        drafter.judge(lengths[-1], lengths[-1])
    assert lengths == [MIN_ROWS - 1, 2 * MIN_ROWS - 1, MAX_ROWS - 1]
    drafter.judge(31, 12)  # it paid, though it didn't hold
    assert len(drafter.draft(text[:280], 100)) == MIN_ROWS - 1

    drafter = Drafter()
    drafter.judge(7, 1)
    assert drafter.draft(text[: 200 + 2 * FIRST_NEEDED - 1], 100) == []
    assert drafter.draft(text[: 200 + 2 * FIRST_NEEDED], 100) != []
    for _ in range(20):
        drafter.judge(7, 0)
    assert drafter.n_needed == MAX_NEEDED
    for _ in range(20):
        drafter.judge(7, 7)
    assert drafter.n_needed == N_KEY
