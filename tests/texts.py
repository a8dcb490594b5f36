"""Texts that tokenizers get wrong, and corpora to train one on."""

import numpy as np

NASTY = [
    "",
    " ",
    "Hello, world!",
    "I'm sure they've said we'll go; he'd 'tis, don't, DON'T, it's 's 're'llve",
    "’s isn’t a contraction's",
    "low lower lowest slowly",
    "a  b   c    d\t\te \t f",
    "  two before, two behind  ",
    "line\nline\n\nline\n\n\n  indented\n",
    "line\r\nline\r\n\r\nline\rlone",
    "\n",
    " \n \n ",
    "nul \0 and \x01\x02\x7f controls \x1b[0m",
    "\x0b\x0c\x1c\x1d\x1e\x1f\x85\u00a0\u1680\u2000\u2009\u200b\u2028\u2029\u202f\u205f\u3000x",
    "3.14159 1,000,000 ½ ² ٣٤ 五 Ⅷ 𝟙𝟚",
    "f(x)=x**2; // {\"a\": [1, 2]} <b>&amp;</b> #!/bin/sh --flag=~/x\\y",
    "____ ---- ==== ....... !?!?!? “quotes” …",
    "naïve café señor Ærø Straße ﬁ Ĳ Ġ Ċ ĠĠ Âł",
    "cafe\u0301 vs caf\u00e9, a\u0300\u0301\u0302\u0303 Z͑ͫ̓ͪ̂ͫ̽͏̴̙̤̞͉͚̯̞̠͍A̴̵̜̰͔ͫ͗͢L",
    "한국어 문장입니다. 대한민국",
    "\u1112\u1161\u11ab\u1100\u116e\u11a8\u110b\u1165 decomposed",
    "日本語の文章、カタカナ。中文字符",
    "שלום עולם، مرحبا بالعالم \u202bRTL\u202c \u200f",
    "हिन्दी में नमस्ते ไทยไม่มีช่องว่าง",
    "👨‍👩‍👧‍👦 👩🏽‍💻 🏳️‍🌈 🇰🇷 1️⃣ ❤️",
    "\ufeffbyte-order mark \ufeff in the middle",
    "\u0378\ufdd0\ufffe\uffff\U0001fffe\U0010ffff\ue000\U000f0000 unassigned, private",
    "\ufffd\ufffc\u00ad\u2060\u180e\u061c",
    "<|endoftext|>",
    "text<|endoftext|>text <|endoftext|> <|endoftext| |endoftext|>",
    "supercalifragilisticexpialidocious" * 40,
    "a" * 3000,
    "ab" * 500 + "ba" * 500,
    " " * 1000 + "x",
    "\n" * 777,
    "!" * 500,
    "1234567890" * 100,
]


def prose(n_words, seed=0):
    """Words of a made-up language, some common and some rare, in sentences and paragraphs."""
    rng = np.random.default_rng(seed)
    syllables = ["ba", "the", "ing", "o", "re", "st", "an", "mu", "é", "한", "국", "qu", "er", "l"]
    lengths = rng.integers(1, 5, 400)
    words = ["".join(syllables[i] for i in rng.integers(0, len(syllables), n)) for n in lengths]
    ends = [" ", " ", " ", " ", " ", " ", ", ", ". ", "'s ", "; ", "?\n", ".\n", "  ", " 42 "]
    chosen = (400 * rng.random(n_words) ** 4).astype(int)  # the first of them come often
    return "".join(words[i] + ends[j] for i, j in zip(chosen, rng.integers(0, 14, n_words)))


def random_letters(letters, n, seed):
    """Words of up to 12 of the letters, with no pattern at all: many pairs come equally often."""
    rng = np.random.default_rng(seed)
    spaced = [*letters, " "]
    return "".join(spaced[i] for i in rng.integers(0, len(spaced), n))


FEW = "low lower lowest\nnew newer newest wide wider widest"
RUNS = "a aa aaa aaaa aaaaa " + "a" * 100 + " " + "ab" * 30 + "\n" * 50
LINE_ENDS = ["one\r\ntwo\r\n\r\n  three\rfour\n\n five \n", "\ufeffone two", "one two\r\n"]
CORPORA = {  # name: (the files' contents, vocab_size, min_frequency)
    "prose": ([prose(4000), prose(2000, seed=1)], 557, 2),
    "nasty": (["\n".join(NASTY)] * 2, 700, 2),
    "ties": ([random_letters("abcdefgh", 900, seed=2)], 400, 2),
    "ties of two letters": ([random_letters("ab", 3000, seed=3)], 400, 2),
    "all that there is": ([FEW], 1000, 1),
    "twice or more": ([FEW], 1000, 2),
    "four times or more": ([FEW], 1000, 4),
    "repeated letters": ([RUNS], 300, 1),
    "line ends": (LINE_ENDS, 330, 1),
    "files that end in a line": (["the end", "the end", " the end\n", "\n\nthe end"], 300, 2),
    "special token": (["<|endoftext|> a <|endoftext|>b<|endoftext|>\n" * 3], 300, 2),
    "nothing": (["", "x"], 300, 1),
    "bytes alone": (["so low"], 257, 1),
}


def write_corpus(name, folder):
    """Write a corpus to files of a folder, byte for byte, and give them back."""
    files = []
    for i, text in enumerate(CORPORA[name][0]):
        files.append(folder / f"{i}.txt")
        files[-1].write_bytes(text.encode("utf-8"))
    return files
