"""Tokenizer files: what can be read, what is written, and what is refused."""

import json

import pytest

from picogpt.tokenizer.encoder import BYTE_OF_SYMBOL, Encoder
from picogpt.tokenizer.tokenizer_files import load_encoder, save_encoder
from picogpt.tools.errors import CheckpointError, TextError

MERGES = ["l o", "lo w", "Ġ low", "e r", "Ġ Ġ"]
ENCODER = Encoder.from_merges(MERGES)
OTHER = Encoder.from_merges(["a b"])
VOCAB = ENCODER.vocab
TEXT = "\n".join(["#version: 0.2", *MERGES, ""])


def write_pair(folder, vocab=VOCAB, merges=TEXT):
    """Write vocab.json and merges.txt, and give the folder back."""
    (folder / "vocab.json").write_text(json.dumps(vocab), encoding="utf-8")
    (folder / "merges.txt").write_text(merges, encoding="utf-8", newline="")
    return folder


def tokenizer_json(encoder, **changes):
    """What tokenizer.json holds, as transformers writes it; `changes` go to its first level."""
    merges = [merge.split(" ") for merge in encoder.merges]
    model = {"type": "BPE", "vocab": encoder.vocab, "merges": merges, "ignore_merges": False}
    splitter = {"type": "ByteLevel", "add_prefix_space": False, "use_regex": True}
    whole = {"added_tokens": [], "normalizer": None, "pre_tokenizer": splitter, "model": model}
    return whole | changes


def write_whole(folder, whole):
    """Write tokenizer.json, and give the folder back."""
    (folder / "tokenizer.json").write_text(json.dumps(whole), encoding="utf-8")
    return folder


def test_vocab_and_merges(tmp_path):
    encoder = load_encoder(write_pair(tmp_path))
    assert (encoder.vocab, encoder.merges, encoder.end_of_text) == (VOCAB, MERGES, 261)
    windows = TEXT.replace("\n", "\r\n")
    assert load_encoder(write_pair(tmp_path, merges=windows)).merges == MERGES


def test_tokenizer_json_alone(tmp_path):
    whole = tokenizer_json(ENCODER)
    encoder = load_encoder(write_whole(tmp_path, whole))
    assert (encoder.vocab, encoder.merges, encoder.end_of_text) == (VOCAB, MERGES, 261)
    whole["model"]["merges"] = MERGES  # as older versions of transformers wrote them
    assert load_encoder(write_whole(tmp_path, whole)).merges == MERGES
    (tmp_path / "merges.txt").write_text("left over\n")  # without vocab.json
    assert load_encoder(tmp_path).merges == MERGES


def test_the_two_files_go_before_tokenizer_json(tmp_path):
    write_whole(tmp_path, tokenizer_json(OTHER))
    assert load_encoder(write_pair(tmp_path)).merges == MERGES


def test_merges_of_the_number_sign(tmp_path):
    save_encoder(Encoder.from_merges(["# #", "## #", "Ġ #"]), tmp_path)
    assert load_encoder(tmp_path).encode("### #") == [257, 258]


def test_save_and_load(tmp_path):
    for first in (ENCODER, OTHER, Encoder.from_merges([])):
        save_encoder(first, tmp_path / "new/folder")
        second = load_encoder(tmp_path / "new/folder")
        assert (second.vocab, second.merges) == (first.vocab, first.merges)
        assert second.end_of_text == first.end_of_text == first.vocab["<|endoftext|>"]
    names = [file.name for file in (tmp_path / "new/folder").iterdir()]
    assert sorted(names) == ["merges.txt", "tokenizer_config.json", "vocab.json"]


def test_save_leaves_no_other_tokenizer_behind(tmp_path):
    write_whole(tmp_path, tokenizer_json(OTHER))
    save_encoder(ENCODER, tmp_path)
    assert not (tmp_path / "tokenizer.json").exists()
    assert load_encoder(tmp_path).merges == MERGES


def test_a_vocabulary_without_end_of_text(tmp_path):
    vocab = {symbol: id for id, symbol in enumerate(BYTE_OF_SYMBOL)}
    encoder = load_encoder(write_pair(tmp_path, vocab, "#version: 0.2\n"))
    assert (encoder.end_of_text, encoder.n_vocab) == (None, 256)
    text = "a<|endoftext|>"
    assert encoder.encode(text, allow_special=True) == encoder.encode(text)


def test_prefix_space(tmp_path):
    save_encoder(Encoder(VOCAB, MERGES, add_prefix_space=True), tmp_path)
    encoder = load_encoder(tmp_path)
    assert encoder.encode("low\nlow") == ENCODER.encode(" low\nlow")
    assert encoder.encode(" low") == ENCODER.encode(" low")
    assert encoder.encode("\nlow") == ENCODER.encode(" \nlow")
    assert encoder.encode("") == []
    end = [encoder.end_of_text]
    special = encoder.encode("<|endoftext|>low<|endoftext|>", allow_special=True)
    assert special == end + ENCODER.encode(" low") + end


def added_folders(folder):
    """The same added tokens in either kind of folder."""
    tokens = [(261, "<|endoftext|>", True), (262, "<pad>", True)]
    tokens += [(263, "<né>", False), (264, "<né> 한", False)]
    save_encoder(ENCODER, folder / "two")
    added = {id: {"content": token, "special": special} for id, token, special in tokens}
    config = json.dumps({"added_tokens_decoder": added})
    (folder / "two/tokenizer_config.json").write_text(config)
    (folder / "one").mkdir()
    added = [{"id": id, "content": token, "special": special} for id, token, special in tokens]
    write_whole(folder / "one", tokenizer_json(ENCODER, added_tokens=added))
    return folder / "two", folder / "one"


def test_added_tokens(tmp_path):
    two, one = added_folders(tmp_path)
    save_encoder(load_encoder(two), tmp_path / "saved")
    for folder in (two, one, tmp_path / "saved"):
        encoder = load_encoder(folder)
        assert (encoder.n_vocab, encoder.end_of_text) == (265, 261)
        special = "<pad><|endoftext|>"
        assert encoder.encode(special) == ENCODER.encode(special)
        assert encoder.encode(special, allow_special=True) == [262, 261]
        ids = encoder.encode("low<né>low <né> 한<né> <pad>")
        assert ids == [257, 263, 257, 220, 264, 263, *ENCODER.encode(" <pad>")]
        assert encoder.decode(ids) == "low<né>low <né> 한<né> <pad>"


def test_an_added_token_that_the_vocabulary_has_keeps_its_id(tmp_path):
    save_encoder(ENCODER, tmp_path)
    config = json.dumps({"added_tokens_decoder": {"999": {"content": "low"}}})
    (tmp_path / "tokenizer_config.json").write_text(config)
    assert load_encoder(tmp_path).encode("slower") == [82, 257, 259]
    assert load_encoder(tmp_path).n_vocab == 262


def test_a_vocabulary_with_a_gap_and_a_token_that_is_not_in_symbols(tmp_path):
    encoder = load_encoder(write_pair(tmp_path, VOCAB | {"<한 국>": 300}))
    assert encoder.n_vocab == 301
    assert encoder.decode([257, 300]) == "low<한 국>"
    with pytest.raises(TextError, match="There is no token 299"):
        encoder.decode([299])


def drop(mapping, key):
    return {k: v for k, v in mapping.items() if k != key}


DAMAGED_PAIRS = {
    "no byte": (drop(VOCAB, "a"), TEXT, "vocab.json can't be used .no vocabulary with a token for"),
    "a list": ([*VOCAB], TEXT, "vocab.json can't be used .no vocabulary"),
    "nothing": (None, TEXT, "vocab.json can't be used .no vocabulary"),
    "two of one id": (VOCAB | {"low": 0}, TEXT, "vocab.json can't be used .its tokens don't have"),
    "negative": (VOCAB | {"low": -1}, TEXT, "vocab.json can't be used .its tokens don't have"),
    "a float": (VOCAB | {"low": 1.5}, TEXT, "vocab.json can't be used .its tokens don't have"),
    "true for 1": (VOCAB | {'"': True}, TEXT, "vocab.json can't be used .its tokens don't have"),
    "a list of ids": (VOCAB | {"low": [1]}, TEXT, "vocab.json is not what GPT-2's looks like"),
    "no name": (VOCAB | {"": 999}, TEXT, "vocab.json can't be used .its tokens don't have"),
    "half a character": (VOCAB | {"\ud800": 999}, TEXT, "vocab.json can't be used"),
    "one part": (VOCAB, TEXT + "l\n", "merges.txt can't be used .'l' is no merge"),
    "three parts": (VOCAB, TEXT + "l o w\n", "merges.txt can't be used .'l o w' is no merge"),
    "an empty part": (VOCAB, TEXT + "l \n", "merges.txt can't be used .'l ' is no merge"),
    "no such token": (VOCAB, TEXT + "w l\n", "merges.txt can't be used .'w l' is no merge"),
    "no such part": (VOCAB | {"xyz": 999}, TEXT + "xy z\n", "merges.txt can't be used .'xy z' is"),
    "cut off": (VOCAB, TEXT[:-3], "merges.txt can't be used .'Ġ' is no merge"),
    "cut off at a line": (VOCAB, TEXT[:-4], "merges.txt can't be used .no merge makes 'ĠĠ' of"),
    "empty": (VOCAB, "", "merges.txt can't be used .no merge makes 'Ġlow'"),
}


@pytest.mark.parametrize("name", DAMAGED_PAIRS)
def test_damaged_vocab_or_merges(tmp_path, name):
    vocab, merges, message = DAMAGED_PAIRS[name]
    refused(write_pair(tmp_path, vocab, merges), message)


def refused(folder, message):
    """Loading the folder must end in one sentence that holds the message."""
    with pytest.raises(CheckpointError, match=message) as caught:
        load_encoder(folder)
    sentence = str(caught.value)
    assert "\n" not in sentence
    assert sentence.endswith(".")
    assert str(folder) in sentence


@pytest.mark.parametrize("name", ["vocab.json", "merges.txt", "tokenizer_config.json"])
@pytest.mark.parametrize("content", [b"{\"a\": ", b"\xff\xfe\xfd", b"[" * 100_000, b"\x93NUMPY\0"])
def test_bytes_that_are_no_such_file(tmp_path, name, content):
    save_encoder(ENCODER, tmp_path)
    (tmp_path / name).write_bytes(content)
    refused(tmp_path, f"{name} (can't be used|is not what GPT-2's looks like)")
    for file in ("vocab.json", "merges.txt", "tokenizer_config.json"):
        (tmp_path / file).unlink()
    (tmp_path / "tokenizer.json").write_bytes(content)
    refused(tmp_path, "tokenizer.json (can't be used|is not what GPT-2's looks like)")


def test_missing_files(tmp_path):
    refused(tmp_path / "none", "has no vocab.json: a GPT-2 tokenizer is vocab.json and merges.txt,")
    save_encoder(ENCODER, tmp_path)
    (tmp_path / "merges.txt").unlink()
    refused(tmp_path, "has no merges.txt: ")
    (tmp_path / "merges.txt").mkdir()
    refused(tmp_path, "merges.txt can't be used .*directory|ermission")


KIND = "tokenizer.json can't be used .not GPT-2's byte-level BPE.: get it again.$"
FORM = "tokenizer.json is not what GPT-2's looks like: get it again.$"
SMALL = tokenizer_json(ENCODER)
MODEL = SMALL["model"]
DAMAGED_WHOLES = {
    "another model": (SMALL | {"model": MODEL | {"type": "Unigram"}}, KIND),
    "another splitter": (SMALL | {"pre_tokenizer": {"type": "Metaspace"}}, KIND),
    "no splitter": (SMALL | {"pre_tokenizer": None}, FORM),
    "no regex": (SMALL | {"pre_tokenizer": {"type": "ByteLevel", "use_regex": False}}, KIND),
    "a normalizer": (SMALL | {"normalizer": {"type": "NFC"}}, KIND),
    "words go first": (SMALL | {"model": MODEL | {"ignore_merges": True}}, KIND),
    "no model": (drop(SMALL, "model"), FORM),
    "a list": ([SMALL], FORM),
    "no merges": (SMALL | {"model": drop(MODEL, "merges")}, FORM),
    "merges of numbers": (SMALL | {"model": MODEL | {"merges": [[1, 2]]}}, FORM),
    "a merge of three": (SMALL | {"model": MODEL | {"merges": [["l", "o", "w"]]}}, "'l o w' is no"),
    "no added tokens": (drop(SMALL, "added_tokens"), FORM),
    "an added number": (SMALL | {"added_tokens": [{"id": 999, "content": 5}]}, FORM),
    "an added nothing": (SMALL | {"added_tokens": [{"id": 999, "content": ""}]}, "tokenizer.json"),
    "an id that is taken": (SMALL | {"added_tokens": [{"id": 0, "content": "<x>"}]}, "don't have"),
}


@pytest.mark.parametrize("name", DAMAGED_WHOLES)
def test_damaged_tokenizer_json(tmp_path, name):
    whole, message = DAMAGED_WHOLES[name]
    refused(write_whole(tmp_path, whole), message)


@pytest.mark.parametrize(
    "config",
    [
        [],
        {"added_tokens_decoder": [1]},
        {"added_tokens_decoder": {"x": {"content": "<x>"}}},
        {"added_tokens_decoder": {"999": {}}},
        {"added_tokens_decoder": {"999": {"content": 5}}},
        {"added_tokens_decoder": {"999": None}},
        {"added_tokens_decoder": {"0": {"content": "<x>"}}},
        {"added_tokens_decoder": {"-5": {"content": "<x>"}}},
    ],
)
def test_damaged_tokenizer_config(tmp_path, config):
    save_encoder(ENCODER, tmp_path)
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    refused(tmp_path, "tokenizer_config.json (can't be used|is not what GPT-2's looks like)")


def test_a_token_before_every_text_is_refused(tmp_path):
    save_encoder(ENCODER, tmp_path)
    (tmp_path / "tokenizer_config.json").write_text('{"add_bos_token": true}')
    refused(tmp_path, "tokenizer_config.json can't be used .add_bos_token")
    for file in ("vocab.json", "merges.txt", "tokenizer_config.json"):
        (tmp_path / file).unlink()
    text, start = {"Sequence": {"id": "A"}}, {"SpecialToken": {"id": "<|endoftext|>"}}
    template = {"type": "TemplateProcessing", "single": [start, text]}
    refused(write_whole(tmp_path, tokenizer_json(ENCODER, post_processor=template)), "byte-level")
    write_whole(tmp_path, tokenizer_json(ENCODER, post_processor=template | {"single": [text]}))
    assert load_encoder(tmp_path).vocab == VOCAB
