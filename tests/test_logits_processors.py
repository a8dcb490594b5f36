"""What a generation config asks of the logits; tests/oracle/test_generation.py has transformers."""

import numpy as np
import pytest

from picogpt.logits_processors import (
    ban,
    penalize_repetition,
    process_logits,
    repeated_ngram_ends,
)
from picogpt.tools.errors import CheckpointError

LOGITS = np.array([2, -2, 0, 1, -1], np.float32)
OUT = -np.inf


def test_what_the_text_holds_becomes_less_likely_once():
    before = LOGITS.copy()
    assert penalize_repetition(LOGITS, [0, 1, 0, 2], 2).tolist() == [1, -4, 0, 1, -1]
    assert penalize_repetition(LOGITS, [4, 99], 0.5).tolist() == [2, -2, 0, 1, -0.5]
    assert penalize_repetition(LOGITS, [0], 1.3).dtype == np.float32
    assert np.array_equal(LOGITS, before)


@pytest.mark.parametrize(
    ("ids", "n", "ends"),
    [
        ([1, 2, 3, 1, 2], 3, [3]),
        ([1, 2, 3, 1, 2, 4, 1, 2], 3, [3, 4]),
        ([1, 2, 3], 3, []),
        ([1, 2], 3, []),
        ([7, 7, 7], 2, [7, 7]),
        ([1, 2, 3], 1, [1, 2, 3]),
    ],
)
def test_no_group_of_tokens_comes_twice(ids, n, ends):
    assert repeated_ngram_ends(ids, n) == ends


def test_ban_passes_over_what_is_no_token():
    before = LOGITS.copy()
    assert ban(LOGITS, [1, 4, 5, -1]).tolist() == [2, OUT, 0, 1, OUT]
    assert np.array_equal(LOGITS, before)


@pytest.mark.parametrize(
    ("ids", "settings", "banned"),
    [
        ([3], {}, []),
        ([3], {"suppress_tokens": [1, 3]}, [1, 3]),
        ([3], {"begin_suppress_tokens": [0]}, [0]),
        ([3, 1], {"begin_suppress_tokens": [0]}, []),
        ([3], {"bad_words_ids": [[2]]}, [2]),
        ([3], {"bad_words_ids": [[3, 1], [1, 3, 0], [2, 0]]}, [1]),
        ([3, 3], {"bad_words_ids": [[3, 3, 0], [3, 4]]}, [0, 4]),
        ([3], {"bad_words_ids": [[4], [3, 4]], "eos_token_id": [4]}, [4]),
        ([3], {"bad_words_ids": [[4]], "eos_token_id": [4]}, []),  # the end is no bad word
        ([3], {"min_length": 2, "eos_token_id": [4]}, [4]),
        ([3, 1], {"min_length": 2, "eos_token_id": [4]}, []),
        ([3, 1], {"min_new_tokens": 2, "eos_token_id": [4, 0]}, [0, 4]),
        ([3, 1, 1], {"min_new_tokens": 2, "eos_token_id": [4, 0]}, []),
        ([3], {"min_length": 5, "min_new_tokens": 0, "eos_token_id": [4]}, []),
        ([3, 2, 3], {"no_repeat_ngram_size": 2}, [2]),
    ],
    ids=str,
)
def test_what_is_forbidden(ids, settings, banned):
    changed = process_logits(LOGITS, ids, 1, **settings)
    assert np.flatnonzero(changed == OUT).tolist() == banned
    kept = changed > OUT
    assert np.array_equal(changed[kept], LOGITS[kept])


def test_where_no_token_is_left():
    with pytest.raises(CheckpointError, match="forbids every token"):
        process_logits(LOGITS, [0], 1, suppress_tokens=list(range(5)))
