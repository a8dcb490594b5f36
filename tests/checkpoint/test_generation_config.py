"""Which settings of a generation config are followed, refused or named."""

import json

import pytest
from models import small_config, small_folder, small_model

import picogpt
from picogpt.checkpoint.generation_config import (
    NOT_FOLLOWED,
    end_token_ids,
    load_generation_config,
    not_followed,
    processor_settings,
    stop_strings,
)
from picogpt.tools.errors import CheckpointError

FOLLOWED = {
    "do_sample": True,
    "temperature": 0.5,
    "repetition_penalty": 1.2,
    "no_repeat_ngram_size": 3,
    "bad_words_ids": [[1], [2, 3]],
    "min_length": 4,
    "min_new_tokens": 3,
    "suppress_tokens": [-1, 5],
    "begin_suppress_tokens": [6],
    "stop_strings": ["the end"],
}


@pytest.mark.parametrize("file", ["generation_config.json", "config.json"])
def test_settings_of_either_file_survive_load_and_save(tmp_path, file):
    folder = small_folder(tmp_path / "model")
    path = folder / file
    values = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps(values | FOLLOWED | {"typical_p": 0.9, "num_beams": None}))
    model = picogpt.load(folder)
    assert model.generation["typical_p"] == 0.9
    assert all(model.generation[name] == value for name, value in FOLLOWED.items())
    picogpt.save(model, tmp_path / "copy")
    assert picogpt.load(tmp_path / "copy").generation == model.generation


def test_a_config_without_settings_has_no_generation_config(tmp_path):
    folder = small_folder(tmp_path / "model")
    values = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(values | {"num_beams": None}))
    assert load_generation_config(folder, small_config()) == {}


def test_nothing_to_follow():
    assert processor_settings({"do_sample": True, "min_length": None}, [266]) == {}
    assert stop_strings({}) == stop_strings({"stop_strings": None}) == []


def test_processors_know_the_ends():
    expected = {"min_length": 4, "eos_token_id": [266]}
    assert processor_settings({"min_length": 4}, [266, None]) == expected


@pytest.mark.parametrize(
    "bad",
    [
        {"repetition_penalty": 0}, {"repetition_penalty": "1.2"}, {"repetition_penalty": -1},
        {"no_repeat_ngram_size": 2.5}, {"no_repeat_ngram_size": -1}, {"min_new_tokens": True},
        {"min_length": [3]}, {"suppress_tokens": 3}, {"suppress_tokens": ["a"]},
        {"begin_suppress_tokens": {}}, {"bad_words_ids": [3]}, {"bad_words_ids": [[]]},
    ],
    ids=str,
)  # fmt: skip
def test_a_setting_that_makes_no_sense_is_refused_by_its_name(bad):
    with pytest.raises(CheckpointError, match=f"{next(iter(bad))} must be"):
        processor_settings(bad, [])


def test_a_setting_is_not_said_to_be_in_a_file_that_is_not_there(tmp_path):
    folder = small_folder(tmp_path / "model")
    values = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(values | {"min_length": "x"}))
    model = picogpt.load(folder)
    with pytest.raises(CheckpointError, match="or, without that file, in config.json$"):
        processor_settings(model.generation, [])


def test_a_message_repeats_no_long_list():
    with pytest.raises(CheckpointError) as error:
        processor_settings({"suppress_tokens": ["a"] * 50_000}, [])
    assert len(str(error.value)) < 300


@pytest.mark.parametrize("bad", ["266", True, 266.0, [[266]], [1, "a"], {"a": 1}])
def test_ends_that_are_no_ids(bad):
    with pytest.raises(CheckpointError, match="eos_token_id must be a token id, a list of them or"):
        end_token_ids({"eos_token_id": bad})
    with pytest.raises(CheckpointError, match="eos_token_id must be"):
        picogpt.generate(small_model(generation={"eos_token_id": bad}), "a")


def test_ends_are_a_list():
    assert end_token_ids({}) == end_token_ids({"eos_token_id": None}) == [None]
    assert end_token_ids({"eos_token_id": 3}) == [3]
    assert end_token_ids({"eos_token_id": [3, None]}) == [3, None]


@pytest.mark.parametrize("bad", ["false", "true", [], 2])
def test_do_sample_is_true_or_false(bad):
    with pytest.raises(CheckpointError, match="do_sample must be true or false, not"):
        picogpt.generate(small_model(generation={"do_sample": bad}), "a")


@pytest.mark.parametrize("bad", [3, [3], {"a": "b"}])
def test_stop_strings_that_are_no_texts(bad):
    with pytest.raises(CheckpointError, match="stop_strings must be"):
        stop_strings({"stop_strings": bad})


@pytest.mark.parametrize("name", NOT_FOLLOWED)
def test_a_setting_that_is_not_followed_is_named_where_it_says_something(name):
    for neutral in (None, *NOT_FOLLOWED[name]):
        assert not_followed({name: neutral}) == []
    assert not_followed({name: 0.37}) == [name]
