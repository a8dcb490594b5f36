"""Where models are looked for, and whether the hub is asked, against huggingface_hub."""

import importlib
from pathlib import Path

import pytest
from oracles import oracle

from picogpt.checkpoint.hub import forbidden_by, hugging_face_cache

constants = oracle("huggingface_hub.constants")
PLACES = ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HOME", "XDG_CACHE_HOME")
OFFLINE = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")


@pytest.fixture
def environment(monkeypatch, tmp_path):
    """Set variables, and let huggingface_hub read them anew."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("DATA", "/data")

    def change(**variables):
        for name in (*PLACES, *OFFLINE):
            monkeypatch.delenv(name, raising=False)
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        importlib.reload(constants)

    yield change
    monkeypatch.undo()
    importlib.reload(constants)


@pytest.mark.parametrize("place", ["/x", "~/x", "$DATA/x", "${DATA}/~/x", "$NOTHING/x", "x"])
@pytest.mark.parametrize("variable", PLACES)
def test_the_cache_is_theirs(environment, variable, place):
    environment(**{variable: place})
    assert hugging_face_cache() == Path(constants.HF_HUB_CACHE)


def test_the_nearest_variable_counts_as_with_them(environment):
    for n in range(len(PLACES) + 1):
        environment(**{name: f"/{name}" for name in PLACES[n:]})
        assert hugging_face_cache() == Path(constants.HF_HUB_CACHE)


VALUES = ["1", "0", "true", "TRUE", "yes", "no", "on", "off", "", "2"]


@pytest.mark.parametrize("said", [{}, *({name: v} for name in OFFLINE for v in VALUES)], ids=str)
def test_offline_is_theirs(environment, said):
    environment(**said)
    assert bool(forbidden_by()) == constants.HF_HUB_OFFLINE
    for value in VALUES:
        environment(**said, **{name: value for name in OFFLINE if name not in said})
        assert bool(forbidden_by()) == constants.HF_HUB_OFFLINE
