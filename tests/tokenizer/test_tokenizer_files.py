"""Tokenizer files: what can be read, what is written, and what is refused."""

import json

import pytest

from picogpt.tokenizer.added_tokens import AddedToken
from picogpt.tokenizer.encoder import BYTE_OF_SYMBOL, Encoder
from picogpt.tokenizer.tokenizer_files import load_encoder, save_encoder
from picogpt.tools.errors import CheckpointError, TextError, UnsupportedTokenizerError

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


def test_a_byte_order_mark_is_none_of_the_first_merge(tmp_path):
    write_pair(tmp_path, merges="\ufeff" + TEXT)
    assert load_encoder(tmp_path).merges == MERGES
    write_pair(tmp_path, merges="\ufeff" + TEXT.partition("\n")[2])
    assert load_encoder(tmp_path).merges == MERGES


@pytest.mark.parametrize("at", ["add_prefix_space", "lstrip", "special"])
def test_a_flag_in_quotes_is_refused(tmp_path, at):
    token = {"content": "<x>", "lstrip": False, "special": None} | {at: "false"}
    said = {"add_prefix_space": token.pop("add_prefix_space", 1)}
    config = said | {"added_tokens_decoder": {len(VOCAB): token}}
    (write_pair(tmp_path) / "tokenizer_config.json").write_text(json.dumps(config))
    refused(tmp_path, rf"tokenizer_config.json .*{at} is 'false', neither true nor false")


@pytest.mark.parametrize("file", ["chat_template.jinja", "tokenizer_config.json"])
def test_a_chat_template_stays_with_its_tokenizer(tmp_path, file):
    template = "{% for m in messages %}한\n{{ m }}{% endfor %}"
    write_pair(tmp_path)
    text = json.dumps({"chat_template": template}) if file.endswith("json") else template
    (tmp_path / file).write_text(text, encoding="utf-8", newline="")
    save_encoder(load_encoder(tmp_path), tmp_path / "new")
    assert load_encoder(tmp_path / "new").chat_template == template
    save_encoder(ENCODER, tmp_path)  # another, which has none
    assert load_encoder(tmp_path).chat_template is None


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


def test_a_tokenizer_that_lacks_bytes_refuses_the_texts_that_need_them(tmp_path):
    vocab = {token: id for token, id in VOCAB.items() if len(token) > 1 or token.isascii()}
    vocab |= {"Ġ": 300}
    encoder = load_encoder(write_pair(tmp_path, vocab))
    assert encoder.encode("low low") == [257, 258]
    with pytest.raises(TextError, match=r"no token for the byte 0xc3 in 'lé'"):
        encoder.encode("lé")
    with pytest.raises(TextError, match="no token for the byte 0x0a"):
        encoder.encode("low\nlow")
    save_encoder(encoder, tmp_path / "saved")
    assert load_encoder(tmp_path / "saved").vocab == vocab


@pytest.mark.parametrize(
    ("tokenizer_class", "prefix"),
    [("GPT2Tokenizer", False), ("GPT2TokenizerFast", False), (None, False),
     ("PreTrainedTokenizerFast", True), ("TokenizersBackend", True)],
)  # fmt: skip
def test_which_classes_go_by_tokenizer_jsons_prefix_space(tmp_path, tokenizer_class, prefix):
    pre_tokenizer = SMALL["pre_tokenizer"] | {"add_prefix_space": True}
    write_whole(tmp_path, SMALL | {"pre_tokenizer": pre_tokenizer})
    config = {"tokenizer_class": tokenizer_class} if tokenizer_class else {}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    assert load_encoder(tmp_path).add_prefix_space == prefix


ROLES = {
    "bos_token": "<s>",
    "unk_token": {"content": "<s>"},
    "pad_token": "[PAD]",
    "eos_token": None,
    "additional_special_tokens": ["<|user|>", {"content": "<mask>", "lstrip": True}],
}


@pytest.mark.parametrize("file", ["special_tokens_map.json", "tokenizer_config.json"])
def test_what_has_a_role_is_special_and_gets_an_id(tmp_path, file):
    vocab = VOCAB | {"<s>": 262}
    write_pair(tmp_path, vocab)
    (tmp_path / "added_tokens.json").write_text('{"<|user|>": 263, "<né>": 264}')
    (tmp_path / file).write_text(json.dumps(ROLES | {"add_bos_token": False}))
    encoder = load_encoder(tmp_path)
    ids = {"<s>": 262, "<|user|>": 263, "<né>": 264, "[PAD]": 265, "<mask>": 266}
    assert encoder.added_tokens == {**ids, "<|endoftext|>": 261}
    text = "<s><|user|>low[PAD]"
    assert encoder.encode(text, allow_special=True) == [262, 263, 257, 265]
    assert encoder.encode(text) == ENCODER.encode(text)
    assert encoder.encode("a<né>") == [VOCAB["a"], 264]  # it has no role
    assert encoder.added["<mask>"] == AddedToken("<mask>", 266, special=True, lstrip=True)
    save_encoder(encoder, tmp_path / "saved")
    again = load_encoder(tmp_path / "saved")
    assert (again.added, again.roles) == (encoder.added, encoder.roles)
    assert again.roles["pad_token"] == "[PAD]"
    said = json.loads((tmp_path / "saved/tokenizer_config.json").read_text())
    assert (said["bos_token"], said["eos_token"]) == ("<s>", None)


@pytest.mark.parametrize("file", ["special_tokens_map.json", "tokenizer_config.json"])
def test_tokens_without_ids_are_numbered_in_transformers_order_of_roles(tmp_path, file):
    order = ["bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token"]
    roles = {"additional_special_tokens": ["<more>"], "mask_token": "<mask_token>"}
    roles |= {name: f"<{name}>" for name in sorted(order)}
    (write_pair(tmp_path) / file).write_text(json.dumps(roles))
    ids = load_encoder(tmp_path).added_tokens
    texts = [*(f"<{name}>" for name in order), "<mask_token>", "<more>"]
    assert [ids[text] for text in texts] == list(range(262, 270))


def test_the_end_of_a_text_is_the_eos_token_where_no_endoftext_is(tmp_path):
    vocab = {token: id for token, id in VOCAB.items() if token != "<|endoftext|>"}
    write_pair(tmp_path, vocab | {"</s>": 261})
    (tmp_path / "tokenizer_config.json").write_text('{"eos_token": "</s>", "bos_token": "</s>"}')
    assert load_encoder(tmp_path).end_of_text == 261


def test_flags_of_added_tokens_survive(tmp_path):
    tokens = [
        AddedToken("cat", 262, single_word=True, normalized=True),
        AddedToken("<sep>", 263, lstrip=True, rstrip=True),
        AddedToken("<mask>", 264, special=True, lstrip=True),
    ]
    encoder = Encoder(VOCAB, MERGES, tokens)
    save_encoder(encoder, tmp_path)
    assert load_encoder(tmp_path).added == encoder.added


def drop(mapping, key):
    return {k: v for k, v in mapping.items() if k != key}


DAMAGED_PAIRS = {
    "empty vocabulary": ({}, TEXT, "vocab.json can't be used .no vocabulary"),
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
    assert str(folder) in sentence


@pytest.mark.parametrize("name", ["vocab.json", "merges.txt", "tokenizer_config.json"])
@pytest.mark.parametrize("content", [b'{"a": ', b"\xff\xfe\xfd", b"[" * 100_000, b"\x93NUMPY\0"])
def test_bytes_that_are_no_such_file(tmp_path, name, content):
    save_encoder(ENCODER, tmp_path)
    (tmp_path / name).write_bytes(content)
    refused(tmp_path, f"{name} (can't be used|is not what GPT-2's looks like)")
    for file in ("vocab.json", "merges.txt", "tokenizer_config.json"):
        (tmp_path / file).unlink()
    (tmp_path / "tokenizer.json").write_bytes(content)
    refused(tmp_path, "tokenizer.json (can't be used|is not what GPT-2's looks like)")


@pytest.mark.parametrize("name", ["vocab.json", "merges.txt", "tokenizer_config.json"])
def test_a_file_that_the_system_does_not_give_out(tmp_path, name):
    write_pair(tmp_path)
    (tmp_path / name).unlink(missing_ok=True)
    (tmp_path / name).mkdir()
    with pytest.raises(CheckpointError, match=rf"{name} can't be read \(.*: check its perm"):
        load_encoder(tmp_path)


def test_missing_files(tmp_path):
    refused(tmp_path / "none", "has no vocab.json: a GPT-2 tokenizer is vocab.json and merges.txt,")
    save_encoder(ENCODER, tmp_path)
    (tmp_path / "merges.txt").unlink()
    refused(tmp_path, "has no merges.txt: ")
    (tmp_path / "merges.txt").mkdir()
    refused(tmp_path, "merges.txt can't be used .*directory|ermission")


KIND = "tokenizer.json is no byte-level BPE like GPT-2's: "
FORM = "tokenizer.json is not what GPT-2's looks like: get it again.$"
SMALL = tokenizer_json(ENCODER)
MODEL = SMALL["model"]
DAMAGED_WHOLES = {
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


WHOLES_OF_OTHER_KINDS = {
    "another model": ({"model": MODEL | {"type": "Unigram"}}, "its model is Unigram"),
    "words": ({"model": {"type": "WordLevel", "vocab": {"M": 0}}}, "its model is WordLevel"),
    "another splitter": ({"pre_tokenizer": {"type": "Metaspace"}}, "pre-tokenizer is Metaspace"),
    "no splitter": ({"pre_tokenizer": None}, "its pre-tokenizer is None"),
    "several": ({"pre_tokenizer": {"type": "Sequence", "pretokenizers": [{}, {}]}}, "is Sequence"),
    "no regex": ({"pre_tokenizer": {"type": "ByteLevel", "use_regex": False}}, "another pattern"),
    "a normalizer": ({"normalizer": {"type": "NFC"}}, "it normalizes texts"),
    "words go first": ({"model": MODEL | {"ignore_merges": True}}, "whole words first"),
    "ends of words": ({"model": MODEL | {"end_of_word_suffix": "</w>"}}, "the parts of a word"),
}


@pytest.mark.parametrize("name", WHOLES_OF_OTHER_KINDS)
def test_a_tokenizer_of_another_kind_is_told_by_what_it_is(tmp_path, name):
    changes, reason = WHOLES_OF_OTHER_KINDS[name]
    write_whole(tmp_path, SMALL | changes)
    with pytest.raises(UnsupportedTokenizerError, match=KIND + ".*" + reason):
        load_encoder(tmp_path)


def test_merges_that_mark_the_ends_of_words_are_another_kind(tmp_path):
    write_pair(tmp_path, {"l": 0, "o</w>": 1, "lo</w>": 2}, "#version: 0.2\nl o</w>\n")
    with pytest.raises(UnsupportedTokenizerError, match="merges.txt .* the ends of words"):
        load_encoder(tmp_path)


@pytest.mark.parametrize("file", [None, "vocab.json", "spiece.model", "vocab.txt"])
def test_a_folder_without_a_tokenizer_that_can_be_read(tmp_path, file):
    if file:
        (tmp_path / file).write_text('{"M": 0, "K": 1}')
    with pytest.raises(UnsupportedTokenizerError, match=r"has no (vocab\.json|merges\.txt): "):
        load_encoder(tmp_path)


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
        {"eos_token": []},
        {"eos_token": {}},
        {"pad_token": 0},
    ],
)
def test_damaged_tokenizer_config(tmp_path, config):
    save_encoder(ENCODER, tmp_path)
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    refused(tmp_path, "tokenizer_config.json (can't be used|is not what GPT-2's looks like)")


def test_tokens_around_every_text_are_refused(tmp_path):
    save_encoder(ENCODER, tmp_path)
    (tmp_path / "tokenizer_config.json").write_text('{"add_bos_token": true}')
    refused(tmp_path, "tokenizer_config.json asks for a token before every text")
    (tmp_path / "tokenizer_config.json").write_text('{"tokenizer_class": "RobertaTokenizerFast"}')
    refused(tmp_path, "tokenizer_config.json names a tokenizer .* tokens around every text")
    (tmp_path / "tokenizer_config.json").write_text("{}")
    text, start = {"Sequence": {"id": "A"}}, {"SpecialToken": {"id": "<|endoftext|>"}}
    template = {"type": "TemplateProcessing", "single": [start, text]}
    byte_level = {"type": "ByteLevel", "trim_offsets": False}
    several = {"type": "Sequence", "processors": [byte_level, template]}
    ends = {"sep": ["</s>", 2], "cls": ["<s>", 0]}
    processors = [template, several, {"type": "RobertaProcessing"} | ends]
    processors.append({"type": "BertProcessing"} | ends)
    harmless = template | {"single": [text]}
    for is_pair in (True, False):  # beside vocab.json and merges.txt, and alone
        for processor in processors:
            write_whole(tmp_path, tokenizer_json(ENCODER, post_processor=processor))
            refused(tmp_path, "tokenizer.json .* around every text")
        for processor in (harmless, byte_level, several | {"processors": [byte_level, harmless]}):
            write_whole(tmp_path, tokenizer_json(ENCODER, post_processor=processor))
            assert load_encoder(tmp_path).vocab == VOCAB
        for file in ("vocab.json", "merges.txt") if is_pair else ():
            (tmp_path / file).unlink()


def test_a_class_that_goes_by_tokenizer_json_goes_by_it_beside_the_two_files(tmp_path):
    write_whole(write_pair(tmp_path), tokenizer_json(ENCODER, normalizer={"type": "Lowercase"}))
    assert load_encoder(tmp_path).encode("LOW") == ENCODER.encode("LOW")  # GPT2Tokenizer's way
    config = '{"tokenizer_class": "PreTrainedTokenizerFast"}'
    (tmp_path / "tokenizer_config.json").write_text(config)
    refused(tmp_path, "tokenizer.json .* it normalizes texts")
