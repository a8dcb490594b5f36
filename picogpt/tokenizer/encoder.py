"""Byte-level BPE: from text to GPT-2's token ids and back (Radford et al. 2019, section 2.2).

Encoding takes three steps. A pattern cuts the text into pieces: roughly words, each with the space
before it. A piece becomes its UTF-8 bytes, one symbol each: 256 symbols can write every text there
is. Then merges join neighbours: the merge "l o" says that the symbols l and o, side by side, become
the symbol lo. Merges are ranked in the order in which they were learned (bpe_training.py), and as
long as one applies, the one of lowest rank goes first. The symbols that are left are the tokens.

Merges are kept in a text file, so every byte needs a symbol that can be seen and is no space:
itself where Latin-1 has such a character, else one from U+0100 on. The space becomes Ġ.
"""

import heapq
from functools import lru_cache

import regex

from picogpt.tools.errors import TextError

END_OF_TEXT = "<|endoftext|>"

# A piece: the end of a contraction; letters, digits or other signs, with the space before them;
# white space, the last character of which is left to the piece that follows.
PIECES = regex.compile(
    r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
)

_VISIBLE = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), 256)]
_HIDDEN = [byte for byte in range(256) if byte not in _VISIBLE]
SYMBOL_OF_BYTE = {byte: chr(byte) for byte in _VISIBLE}
SYMBOL_OF_BYTE |= {byte: chr(256 + i) for i, byte in enumerate(_HIDDEN)}
BYTE_OF_SYMBOL = {symbol: bytes([byte]) for byte, symbol in SYMBOL_OF_BYTE.items()}


def to_symbols(text):
    """Write the UTF-8 bytes of a text as one visible symbol each.

    >>> to_symbols(" low é")
    'ĠlowĠÃ©'
    """
    return text.encode("utf-8").decode("latin-1").translate(SYMBOL_OF_BYTE)


class Encoder:
    """A vocabulary, {token: id}, and its merges, ["a b", ...], the lowest rank first.

    Added tokens, {token: id}, stay whole where a text holds them. The special ones among them mark
    what is no text: in a text they are plain text, unless asked for. `end_of_text` is the id of
    <|endoftext|>, or None. `n_vocab` is one more than the highest id.

    >>> encoder = Encoder.from_merges(["l o", "lo w"])
    >>> encoder.encode("low lower")  # low; then Ġ, low, e, r: no merge joins Ġ, e or r
    [257, 220, 257, 68, 81]
    >>> encoder.decode([257, 68, 81])
    'lower'
    """

    def __init__(self, vocab, merges, added_tokens=(), special=(), add_prefix_space=False):
        self.vocab = vocab
        self.merges = merges
        self.added_tokens = dict(added_tokens)
        self.special = {*special, END_OF_TEXT}
        if END_OF_TEXT in vocab:
            self.added_tokens[END_OF_TEXT] = vocab[END_OF_TEXT]
        self.end_of_text = self.added_tokens.get(END_OF_TEXT)
        self.add_prefix_space = add_prefix_space
        self._tokens = {id: token for token, id in vocab.items()}
        self._tokens |= {id: to_symbols(token) for token, id in self.added_tokens.items()}
        self.n_vocab = max(self._tokens) + 1
        self._ranks = {merge: rank for rank, merge in enumerate(merges)}
        self._cached_merge = lru_cache(2**15)(self._merge)  # a novel has up to 18,000 pieces

    @classmethod
    def from_merges(cls, merges):
        """Number the tokens in GPT-2's order: 256 bytes, what the merges make, <|endoftext|>."""
        tokens = [*BYTE_OF_SYMBOL, *(merge.replace(" ", "") for merge in merges), END_OF_TEXT]
        return cls({token: id for id, token in enumerate(dict.fromkeys(tokens))}, merges)

    def encode(self, text, allow_special=False):
        """Turn a text into token ids; "<|endoftext|>" in it is plain text unless allow_special.

        Raises TextError for a lone surrogate, which UTF-8 can't write.
        """
        try:
            text.encode("utf-8")
        except UnicodeEncodeError as error:
            where = f"U+{ord(text[error.start]):04X} at character {error.start + 1}"
            raise TextError(f"The text holds half a character, {where}: take it out.") from None
        whole = self.added_tokens.keys() - (() if allow_special else self.special)
        longest_first = sorted(whole, key=len, reverse=True)
        pattern = f"({'|'.join(map(regex.escape, longest_first))})"
        ids = []
        for part in regex.split(pattern, text) if whole else [text]:
            if part in whole:
                ids.append(self.added_tokens[part])
                continue
            if self.add_prefix_space and part and not part.startswith(" "):
                part = " " + part
            for piece in PIECES.findall(part):
                ids += self._cached_merge(piece) if len(piece) < 64 else self._merge(piece)
        return ids

    def decode_bytes(self, ids):
        """Turn token ids into bytes, which may end within a character.

        Raises TextError for an id that the vocabulary doesn't have.
        """
        try:
            symbols = "".join([self._tokens[id] for id in ids])
        except KeyError as error:
            id, last = error.args[0], self.n_vocab - 1
            raise TextError(f"There is no token {id}: the ids are 0 to {last}.") from None
        # a token may hold characters that are no symbols: they stand for themselves
        return b"".join([BYTE_OF_SYMBOL.get(symbol) or symbol.encode() for symbol in symbols])

    def decode(self, ids):
        """Turn token ids into text as decode_bytes does; what is no UTF-8 becomes U+FFFD."""
        return self.decode_bytes(ids).decode("utf-8", errors="replace")

    def _merge(self, piece):
        """The token ids of one piece, in time n log n for its length n.

        A heap holds the pairs of neighbours that can be merged, each as one number that sorts by
        rank, then from left to right. A merge lengthens the left symbol and empties the right one.
        """
        ranks = self._ranks
        symbols = [*to_symbols(piece), ""]  # no merge has an empty part: "" ends the piece
        n = len(symbols)
        after = list(range(1, n + 1))  # where the right neighbour stands
        before = list(range(-1, n - 1))  # where the left one stands; -1 is the "" at the end
        pairs = enumerate(map("{} {}".format, symbols, symbols[1:]))
        heap = [ranks[pair] * n + i for i, pair in pairs if pair in ranks]
        heapq.heapify(heap)
        while heap:
            rank, i = divmod(heapq.heappop(heap), n)
            j = after[i]
            if ranks.get(f"{symbols[i]} {symbols[j]}") != rank:
                continue  # one of the two has been merged with its other neighbour meanwhile
            symbols[i] += symbols[j]
            symbols[j] = ""
            after[i] = after[j]
            before[after[i]] = i
            for left, right in ((before[i], i), (i, after[i])):
                pair = f"{symbols[left]} {symbols[right]}"
                if pair in ranks:
                    heapq.heappush(heap, ranks[pair] * n + left)
        return [self.vocab[symbol] for symbol in symbols if symbol]
