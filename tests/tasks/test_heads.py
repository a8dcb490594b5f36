"""A head's file: what was written comes back, and nothing else passes for it."""

import numpy as np
import pytest

from picogpt.tasks.heads import load_head, new_head, save_head
from picogpt.tools.errors import CheckpointError
from picogpt.training.state import save_state

FACTS = {
    "task": "sst", "checkpoint": "0" * 64, "model": "/models/tiny", "layer": None, "pool": "mean",
    "course": False, "trained_on": "8,544 examples",
}  # fmt: skip


def test_a_head_comes_back(tmp_path):
    path, head = tmp_path / "head.safetensors", new_head(24, 5, seed=0)
    save_head(path, head, FACTS)
    got, facts = load_head(path, "sst", 5)
    assert facts == FACTS
    np.testing.assert_array_equal(got["w"], head["w"])
    np.testing.assert_array_equal(got["b"], head["b"])


@pytest.mark.parametrize(
    ("changes", "facts"),
    [
        ({"w": np.zeros((24, 4), np.float32)}, {}), ({"b": np.zeros(4, np.float32)}, {}),
        ({"w": np.zeros(24, np.float32)}, {}), ({"w": np.full((24, 5), np.nan)}, {}),
        ({"more": np.zeros(1)}, {}), ({"w": [np.zeros((24, 5))]}, {}), ({}, {"layer": "1"}),
        ({}, {"course": None}), ({}, {"model": 5}), ({}, {"more": 1}),
    ],
)  # fmt: skip
def test_what_is_no_head_is_refused(tmp_path, changes, facts):
    path = tmp_path / "head.safetensors"
    save_head(path, new_head(24, 5, seed=0) | changes, FACTS | facts)
    with pytest.raises(CheckpointError, match="holds no head of sst: delete it"):
        load_head(path, "sst", 5)


def test_a_head_of_another_task_is_refused(tmp_path):
    path, head = tmp_path / "head.safetensors", new_head(24, 2, seed=0)
    save_head(path, head, FACTS | {"task": "cfimdb"})
    with pytest.raises(CheckpointError, match="is a head for cfimdb, not for quora"):
        load_head(path, "quora", 2)
    save_state(path, head, {})
    with pytest.raises(CheckpointError, match="holds no head of cfimdb: delete it"):
        load_head(path, "cfimdb", 2)
