"""Tokens on one page: learn the merges of byte-level BPE, encode with them, decode again.

The plain way, everything counted anew at every step; tokenizer/ has the same for whole libraries of
text, in GPT-2's own numbering. Here the ids 0 to 255 are the bytes themselves, and each merge makes
the next id: 256, 257, ... `merges` is {(left id, right id): new id}, in the order of learning.

Sennrich, Haddow & Birch 2016, sec. 3.2; on bytes: Radford et al. 2019, sec. 2.2.
"""

from collections import Counter

from picogpt.tokenizer.encoder import PRE_TOKENS  # a pattern that cuts a text into words


def count_pairs(words):
    """How often two ids stand side by side: {word, a tuple of ids: its count} -> {pair: count}.

    >>> count_pairs({(1, 2, 1, 2): 3, (2, 1): 1})
    Counter({(1, 2): 6, (2, 1): 4})
    """
    pairs = Counter()
    for word, count in words.items():
        for pair in zip(word, word[1:]):
            pairs[pair] += count
    return pairs


def join(ids, pair, new):
    """Put `new` in the place of the pair wherever it stands, from left to right: a list of ids.

    >>> join([1, 1, 1, 2], pair=(1, 1), new=256)
    [256, 1, 2]
    """
    joined = []
    i = 0
    while i < len(ids):
        if tuple(ids[i : i + 2]) == pair:
            joined.append(new)
            i += 2
        else:
            joined.append(ids[i])
            i += 1
    return joined


def learn_merges(text, n_merges):
    """Join the pair that comes most often, again and again: {pair: new id}, n_merges of them.

    Pairs don't reach from one pre-token into the next. Of pairs that come equally often
    the lower one is joined; where no pair comes twice, learning ends early.

    >>> learn_merges("low low lot", 2)  # 108 is l, 111 is o
    {(108, 111): 256, (32, 256): 257}
    """
    words = Counter(tuple(pre_token.encode("utf-8")) for pre_token in PRE_TOKENS.findall(text))
    merges = {}
    for new in range(256, 256 + n_merges):
        pairs = count_pairs(words)
        best = min(pairs, key=lambda pair: (-pairs[pair], pair), default=None)
        if best is None or pairs[best] < 2:
            break
        merges[best] = new
        words = {tuple(join(word, best, new)): count for word, count in words.items()}
    return merges


def encode(text, merges):
    """Text -> ids: in each pre-token, what was learned first is joined first.

    >>> encode("low lot", {(108, 111): 256, (32, 256): 257})
    [256, 119, 257, 116]
    """
    ids = []
    for pre_token in PRE_TOKENS.findall(text):
        word = list(pre_token.encode("utf-8"))
        while pairs := [pair for pair in zip(word, word[1:]) if pair in merges]:
            first = min(pairs, key=merges.get)
            word = join(word, first, merges[first])
        ids += word
    return ids


def decode(ids, merges):
    """Ids -> text; bytes that are no UTF-8, as half a character is, become U+FFFD.

    >>> decode([256, 119, 257, 116], {(108, 111): 256, (32, 256): 257})
    'low lot'
    """
    bytes_of = {id: bytes([id]) for id in range(256)}
    for (left, right), new in merges.items():
        bytes_of[new] = bytes_of[left] + bytes_of[right]
    return b"".join(bytes_of[id] for id in ids).decode("utf-8", errors="replace")
