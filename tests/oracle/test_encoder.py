"""Ids beside those of transformers, on every character that both sides' Unicode tables class alike.

Plain texts are compared as GPT2TokenizerFast.from_pretrained(folder, split_special_tokens=True) has
them: its constructor would ignore the files and hand back an empty vocabulary.
"""

import json
import unicodedata
from collections import defaultdict
from pathlib import Path

import pytest
from oracles import oracle
from texts import NASTY, prose

from picogpt.tokenizer.encoder import PRE_TOKENS, Encoder, to_symbols
from picogpt.tokenizer.learn_merges import train_encoder
from picogpt.tokenizer.tokenizer_files import load_encoder, save_encoder

tokenizers = oracle("tokenizers")
transformers = oracle("transformers")
hypothesis = oracle("hypothesis")
st = oracle("hypothesis.strategies")
DATA = Path(__file__).parents[2] / "../shared/data"
FOLDERS = ["gpt2", "trained", "saved whole", "saved whole, old", "prefix space", "added",
           "added, beside", "added, old", "no end"]  # fmt: skip


def is_alike(characters):
    """Whether both sides cut the characters alike between signs that tell their classes apart."""
    probe = "".join(f"a{c}1{c}!" for c in characters)
    split = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False).pre_tokenize_str
    return [piece for piece, _ in split(probe)] == list(map(to_symbols, PRE_TOKENS.findall(probe)))


@pytest.fixture(scope="module")
def alike():
    """{category: the characters that both sides class alike}; newer letters are left out."""
    characters = [chr(i) for i in range(0x110000) if not 0xD800 <= i < 0xE000]
    found = defaultdict(list)
    for start in range(0, len(characters), 256):
        block = characters[start : start + 256]
        for c in block if is_alike(block) else filter(is_alike, block):
            found[unicodedata.category(c)].append(c)
    return found


def test_nearly_all_characters_are_classed_alike(alike):
    assert len(alike) == 29  # all categories but surrogates
    n_known = sum(len(chars) for category, chars in alike.items() if category != "Cn")
    assert n_known > 280_000
    classes = {category[0] for category in alike}
    assert classes == set("LMNPSZC")


def write_texts(folder):
    """A file to train on."""
    folder.mkdir()
    (folder / "texts.txt").write_text(prose(4000) + "\n".join(NASTY), encoding="utf-8")
    return [folder / "texts.txt"]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Tokenizer folders of every kind by name; None where the data are missing."""
    root = tmp_path_factory.mktemp("tokenizers")
    encoder = train_encoder(write_texts(root / "texts"), 1200, progress=False)
    paths = {name: root / name for name in FOLDERS}
    paths["gpt2"] = DATA / "gpt2-bpe" if (DATA / "gpt2-bpe").exists() else None
    save_encoder(encoder, paths["trained"])
    theirs = reference(paths["trained"])
    theirs.save_pretrained(paths["saved whole"])
    theirs.save_pretrained(paths["saved whole, old"])
    path = paths["saved whole, old"] / "tokenizer.json"
    whole = json.loads(path.read_text(encoding="utf-8"))
    whole["model"]["merges"] = encoder.merges  # strings, as tokenizers before 0.20 wrote them
    path.write_text(json.dumps(whole), encoding="utf-8")
    prefixing = Encoder(encoder.vocab, encoder.merges, add_prefix_space=True)
    save_encoder(prefixing, paths["prefix space"])
    theirs.add_tokens(["<new>", "lo w", "한국", "qu"])  # the vocabulary has qu
    theirs.add_special_tokens({"pad_token": "<pad>"})
    theirs.save_pretrained(paths["added"])
    save_encoder(encoder, paths["added, beside"])
    theirs.save_pretrained(paths["added, beside"])  # tokenizer.json, and the pair of before
    assert (paths["added, beside"] / "merges.txt").exists()
    save_encoder(encoder, paths["added, old"])  # as transformers 4.0 wrote it
    added = theirs.get_added_vocab().items() - encoder.vocab.items()
    roles = {"eos_token": "<|endoftext|>", "pad_token": {"content": "<pad>"}}
    for name, said in (("added_tokens", dict(added)), ("special_tokens_map", roles),
                       ("tokenizer_config", {"model_max_length": 1024})):  # fmt: skip
        file = paths["added, old"] / f"{name}.json"
        file.write_text(json.dumps(said), encoding="utf-8")
    vocab = {token: id for token, id in encoder.vocab.items() if token != "<|endoftext|>"}
    save_encoder(Encoder(vocab, encoder.merges), paths["no end"])
    return paths


def reference(folder, split=True):
    """transformers' tokenizer of a folder, its vocabulary not empty."""
    load = transformers.GPT2TokenizerFast.from_pretrained
    theirs = load(folder, split_special_tokens=split)
    assert len(theirs) > 900
    return theirs


@pytest.fixture(scope="module", params=FOLDERS)
def pair(request, folders):
    """Our tokenizer of a folder, and theirs."""
    folder = folders[request.param]
    if folder is None:
        pytest.skip("needs ../shared/data/gpt2-bpe")
    return load_encoder(folder), reference(folder)


def check(pair, text):
    """Equal ids, and the text comes back from them (with its prefix space)."""
    ours, theirs = pair
    ids = ours.encode(text)
    assert ids == theirs(text)["input_ids"]
    if not ours.add_prefix_space:
        assert ours.decode(ids) == text
    assert ours.decode(ids) == theirs.decode(ids)


def test_nasty_texts(pair):
    for text in [*NASTY, prose(500, seed=5), "<new>lo wlo w <new> <pad>한국어", "<new", "requiem"]:
        check(pair, text)


FRAGMENTS = ["'s", "'ll", "'re", " ", "  ", "\r\n", "\n\n", "\t", "<|endoftext|>", " the", "한국"]


def test_random_texts(pair, alike):
    categories = sorted(alike)
    character = st.sampled_from(categories).flatmap(lambda name: st.sampled_from(alike[name]))
    fragment = character | st.text("abc ", max_size=4) | st.sampled_from([*FRAGMENTS, "<new>"])

    @hypothesis.settings(max_examples=200, deadline=None, derandomize=True)
    @hypothesis.given(st.lists(fragment, max_size=40).map("".join))
    def run(text):
        check(pair, text)

    run()


@hypothesis.settings(max_examples=300, deadline=None, derandomize=True)
@hypothesis.given(st.text(), st.sampled_from([*range(5)]))
def test_every_text_comes_back(text, n):
    encoder = Encoder.from_merges(["a a", "Ġ a", "Ã ©", "í ķ", "Ġ Ġ"][:n])
    assert encoder.decode(encoder.encode(text)) == text


def test_all_characters_at_once(pair, alike):
    for characters in alike.values():
        check(pair, "".join(characters[:20_000]))
        check(pair, "x ".join(characters[:2_000]))


def test_a_megabyte_of_one_letter(folders):
    folder = folders["gpt2"] or folders["trained"]
    check((load_encoder(folder), reference(folder)), "a" * 1_000_000)


def test_special_tokens_where_asked_for(folders):
    ours = load_encoder(folders["added"])
    theirs = reference(folders["added"], split=False)
    for text in ["a<|endoftext|> <pad>b<new>", "<|endoftext|>" * 3, "<pad", *NASTY]:
        assert ours.encode(text, allow_special=True) == theirs(text)["input_ids"]


@pytest.mark.parametrize("name", ["gpt2", "added", "prefix space", "no end"])
def test_what_is_saved_is_what_transformers_loads(folders, tmp_path, name):
    if folders[name] is None:
        pytest.skip("needs ../shared/data/gpt2-bpe")
    ours = load_encoder(folders[name])
    save_encoder(ours, tmp_path)
    theirs = reference(tmp_path)
    again = load_encoder(tmp_path)
    assert again.vocab == ours.vocab
    assert again.added_tokens == ours.added_tokens
    assert again.special >= ours.special
    for text in [*NASTY, "<new>lo wlo w <new> <pad>한국어"]:
        check((again, theirs), text)
        assert again.encode(text) == ours.encode(text)
    assert len(theirs) == ours.n_vocab
    if ours.end_of_text is not None:
        assert theirs.eos_token_id == theirs.bos_token_id == ours.end_of_text
        theirs = reference(tmp_path, split=False)
        text = "<pad>a<|endoftext|> <pad>b<new>"
        assert ours.encode(text, allow_special=True) == theirs(text)["input_ids"]


@pytest.mark.skipif(not DATA.exists(), reason="needs ../shared/data")
def test_books(folders):
    folder = folders["gpt2"]
    ours, theirs = load_encoder(folder), reference(folder)
    text = (DATA / "stories/valid-ozma-of-oz.txt").read_text(encoding="utf-8")
    check((ours, theirs), text)
