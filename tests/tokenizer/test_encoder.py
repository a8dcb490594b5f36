"""The tokenizer beside ids that transformers gave, and beside the naive loop, on odd texts."""

import json
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from texts import NASTY

from picogpt.tokenizer import encoder as encoding
from picogpt.tokenizer.added_tokens import AddedToken
from picogpt.tokenizer.encoder import BYTE_OF_SYMBOL, Encoder, to_symbols
from picogpt.tokenizer.learn_merges import learn_merges
from picogpt.tokenizer.tokenizer_files import load_encoder
from picogpt.tools.errors import TextError

GOLDEN = json.loads((Path(__file__).parents[1] / "golden/encoder.json").read_text(encoding="utf-8"))
GPT2 = Path(__file__).parents[2] / "../shared/data/gpt2-bpe"


def random_texts(n, seed=0):
    """Texts of characters from the whole of Unicode, half of them from its first 1,000."""
    rng = np.random.default_rng(seed)
    for _ in range(n):
        size = rng.integers(1, 60)
        codes = rng.integers(0, np.where(rng.random(size) < 0.5, 1000, 0x110000))
        yield "".join(chr(code) for code in codes if not 0xD800 <= code < 0xE000)


@pytest.fixture(scope="module")
def encoder():
    return Encoder(GOLDEN["vocab"], GOLDEN["merges"])


def test_ids_are_those_of_transformers(encoder):
    assert len(GOLDEN["ids"]) == len(NASTY) > 30
    for text, ids in zip(NASTY, GOLDEN["ids"]):
        assert encoder.encode(text) == ids, text


@pytest.mark.skipif(not GPT2.exists(), reason="needs ../shared/data/gpt2-bpe")
def test_ids_of_gpt2_itself():
    gpt2 = load_encoder(GPT2)
    assert (gpt2.n_vocab, gpt2.end_of_text) == (50257, 50256)
    assert gpt2.encode("Hello world") == [15496, 995]  # from transformers' documentation
    assert gpt2.encode("The dog") == [464, 3290]
    assert gpt2.encode(" Hello world<|endoftext|>", allow_special=True) == [18435, 995, 50256]
    assert Encoder.from_merges(gpt2.merges).vocab == gpt2.vocab


def test_every_text_comes_back(encoder):
    for text in [*NASTY, *random_texts(300)]:
        assert encoder.decode(encoder.encode(text)) == text


def test_every_byte_has_a_symbol_that_is_no_space():
    symbols = "".join(BYTE_OF_SYMBOL)
    assert len(set(symbols)) == 256
    assert symbols.isprintable()
    assert not any(symbol.isspace() for symbol in symbols)
    assert to_symbols(" \n\0\u00ad~¡") == "ĠĊĀÂŃ~Â¡"


def test_all_bytes_can_be_decoded(encoder):
    ids = [encoder.vocab[symbol] for symbol in BYTE_OF_SYMBOL]
    assert encoder.decode_bytes(ids) == b"".join(BYTE_OF_SYMBOL.values())
    emoji = "👩🏽‍💻".encode()
    parts = [ids[list(BYTE_OF_SYMBOL.values()).index(bytes([byte]))] for byte in emoji]
    assert encoder.decode(parts) == "👩🏽‍💻"
    assert encoder.decode(parts[:3]) == "\ufffd"
    assert encoder.decode_bytes(parts[:3]) == emoji[:3]
    assert encoder.decode(np.array(parts)) == "👩🏽‍💻"
    assert encoder.decode([]) == ""


@pytest.mark.parametrize("id", [1000, -1, 10**20, np.int64(1000)])
def test_an_unknown_id_is_refused(encoder, id):
    with pytest.raises(TextError, match=rf"^There is no token {id}: the ids are 0 to 999\.$"):
        encoder.decode([5, id])


def test_ids_that_are_left_out_are_not_said_to_be_there():
    with pytest.raises(TextError, match=r"^There is no token 5: the ids are 0 to 9, with gaps\.$"):
        Encoder({"a": 0, "b": 9}, []).decode([5])


def test_half_a_character_is_refused(encoder):
    with pytest.raises(TextError, match=r"^The text holds half a character, U\+D83D at"):
        encoder.encode("ab\ud83d")
    with pytest.raises(TextError, match=r"U\+DE00 at character 3: take it out\.$"):
        encoder.encode("가b" + "\ude00" * 100)
    with pytest.raises(TextError, match="^The locale has no such character as the one at 2: set"):
        encoder.encode("a\udcc3\udca9")


def test_end_of_text_is_plain_text_unless_asked_for(encoder):
    text = "a<|endoftext|> b<|endoftext|><|endoftext|>"
    plain = encoder.encode(text)
    assert encoder.end_of_text not in plain
    a, b = encoder.encode("a"), encoder.encode(" b")
    end = [encoder.end_of_text]
    special = encoder.encode(text, allow_special=True)
    assert special == a + end + b + end + end
    assert encoder.decode(plain) == encoder.decode(special) == text


def test_the_pair_of_lowest_rank_goes_first_and_the_leftmost_of_equals():
    encoder = Encoder.from_merges(["b c", "a b", "bc d", "a bc", "x x"])
    tokens = {id: token for token, id in encoder.vocab.items()}
    pieces = [[tokens[id] for id in encoder.encode(text)] for text in ("abc", "abcd", "xxxxx")]
    # in abcd, a and b could be joined until b is taken; a and bc come after bc and d
    assert pieces == [["abc"], ["a", "bcd"], ["xx", "xx", "x"]]


def test_two_merges_may_make_the_same_token():
    encoder = Encoder.from_merges(["b c", "a bc", "d a", "a b", "ab c"])
    assert encoder.n_vocab == 257 + 4
    assert sorted(encoder.vocab.values()) == list(range(261))


def test_merging_is_what_the_naive_loop_does(encoder):
    def naive(piece):
        symbols = list(to_symbols(piece))
        while pairs := [pair for pair in zip(symbols, symbols[1:]) if " ".join(pair) in ranks]:
            best = min(pairs, key=lambda pair: ranks[" ".join(pair)])
            i = 0
            while i < len(symbols) - 1:
                if (symbols[i], symbols[i + 1]) == best:
                    symbols[i : i + 2] = ["".join(best)]
                i += 1
        return [encoder.vocab[symbol] for symbol in symbols]

    ranks = {merge: rank for rank, merge in enumerate(encoder.merges)}
    rng = np.random.default_rng(1)
    for n in [*range(1, 70), 200]:
        piece = "".join("abreqsté국"[i] for i in rng.integers(0, 9, n))
        assert encoder.encode(piece) == naive(piece)


class CountedDict(dict):
    """A dict that counts how often it is asked for anything."""

    n_looks = 0

    def __contains__(self, key):
        self.n_looks += 1
        return super().__contains__(key)

    def get(self, key, default=None):
        self.n_looks += 1
        return super().get(key, default)


@pytest.mark.parametrize("letters", ["a", "ab", "b a", " ", "\n", "é"])
def test_a_long_word_costs_no_more_per_letter_than_a_short_one(letters):
    doubling = [f"{'a' * 2**i} {'a' * 2**i}" for i in range(8)]
    encoder = Encoder.from_merges([*doubling, "a b", "ab ab", "Ġ Ġ", "Ġ a", "Ċ Ċ", "Ã ©"])
    encoder._ranks = CountedDict(encoder._ranks)
    per_letter = []
    for n in (100, 60_000 // len(letters)):
        encoder._ranks.n_looks = 0
        text = letters * n
        assert encoder.decode(encoder.encode(text)) == text
        per_letter.append(encoder._ranks.n_looks / len(text))
    assert max(per_letter) < 10
    assert per_letter[1] < 1.1 * per_letter[0]


def test_long_words_are_not_kept(encoder):
    n = encoder._cached_ids.cache_info().currsize
    encoder.encode("z" * 64)
    assert encoder._cached_ids.cache_info().currsize == n
    assert encoder.encode("z" * 63) + encoder.encode("z") == encoder.encode("z" * 64)


@pytest.mark.parametrize("seed", range(6))
def test_a_long_word_read_in_windows_has_the_tokens_of_the_whole(monkeypatch, seed):
    monkeypatch.setattr(encoding, "WINDOW", 12 + seed)
    monkeypatch.setattr(encoding, "MARGIN", 1 + seed % 2)
    rng = np.random.default_rng(seed)
    n_anew = 0
    for n in range(40):
        letters = "ab" if n % 2 else "abc"
        words = {"".join(rng.choice(list(letters), 30)): 1 for _ in range(5)}
        merges = learn_merges(words, 30, 1, progress=False)
        rng.shuffle(merges)  # their ranks say nothing of how long they are
        encoder = Encoder.from_merges(merges)
        symbols = "".join(rng.choice(list(letters), 200))
        windows = []
        encoder._cached_merge = lambda part, e=encoder, w=windows: w.append(part) or e._merge(part)
        assert encoder._merge_long(symbols) == encoder._merge(symbols)
        n_anew += max(map(len, windows)) > encoding.WINDOW
    assert n_anew > 0  # some windows were cut at a wrong place, and read anew


def test_a_megabyte_of_one_sign_takes_little_time_and_memory():
    doubling = [f"{'!' * 2**i} {'!' * 2**i}" for i in range(4)]
    encoder = Encoder.from_merges(doubling)
    encoder._ranks = CountedDict(encoder._ranks)
    text = "!" * 2**20
    tracemalloc.start()
    ids = encoder.encode(text)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert ids == encoder.encode("!" * 16) * 2**16
    assert encoder._ranks.n_looks < 2**16  # windows that are alike are merged once
    assert peak < 12 * len(text)


def test_a_word_without_any_pattern_takes_memory_for_a_window():
    letters = "".join(np.random.default_rng(0).choice(list("abcdefgh"), 40_000))
    merges = learn_merges({letters[:4000]: 1}, 200, 1, progress=False)
    encoder = Encoder.from_merges(merges)
    encoder._ranks = CountedDict(encoder._ranks)
    tracemalloc.start()
    ids = encoder.encode(letters)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert encoder.decode(ids) == letters
    assert encoder._ranks.n_looks < 6 * len(letters)
    assert peak < 40 * len(letters)


@pytest.fixture(scope="module")
def with_added():
    tokens = [
        AddedToken("cat", 261, single_word=True),
        AddedToken("<sep>", 262, lstrip=True, rstrip=True),
        AddedToken("<mask>", 263, special=True, lstrip=True),
        AddedToken("<se", 264, normalized=True),
        AddedToken("en", 265, normalized=True),
    ]
    merges = ["l o", "lo w", "Ġ t"]
    return Encoder(Encoder.from_merges(merges).vocab, merges, tokens)


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("concatenate the cat", ["concat", 265, "ate the ", 261]),
        ("cat cats _cat cat-cat", [261, " cats _cat ", 261, "-", 261]),
        ("low \t<sep> \n low", ["low", 262, "low"]),
        ("<sep> <sep>", [262, 262]),
        (" <sep>", [262]),
        ("<se p>", [264, " p>"]),
        ("<sep", [264, "p"]),
        ("a <mask> b", ["a <mask> b"]),
        ("<|endoftext|>", ["<|", 265, "doftext|>"]),
    ],
)
def test_flags_of_added_tokens(with_added, text, pieces):
    plain = Encoder(with_added.vocab, with_added.merges)
    ids = [[p] if isinstance(p, int) else plain.encode(p) for p in pieces]
    assert with_added.encode(text) == sum(ids, [])


def test_special_tokens_with_flags_are_found_where_asked_for(with_added):
    end, low = with_added.end_of_text, with_added.encode("low")
    ids = with_added.encode("low \n<mask> low<|endoftext|>", allow_special=True)
    assert ids == [*low, 263, *with_added.encode(" low"), end]


def test_a_text_in_chunks_gets_one_prefix_space():
    encoder = Encoder(Encoder.from_merges([]).vocab, [], add_prefix_space=True)
    chunks = ["low", "\nlow", " low"]
    assert sum(encoder.encode_chunks(chunks), []) == encoder.encode("".join(chunks))
