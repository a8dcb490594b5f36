"""Byte-level BPE: from text to GPT-2's token ids and back (Radford et al. 2019, section 2.2).

Encoding takes three steps. A pattern cuts the text into pre-tokens: roughly words, each with the
space before it. A pre-token becomes its UTF-8 bytes, one symbol each: 256 symbols can write every
text there is. Then merges join neighbours: the merge "l o" says that the symbols l and o, side by
side, become the symbol lo. Merges are ranked in the order in which they were learned
(learn_merges.py), and as long as one applies, the one of lowest rank goes first; where it applies
at several places, the leftmost goes first. The symbols that are left are the tokens.

Merges are kept in a text file, so every byte needs a symbol that can be seen and is no space:
itself where Latin-1 has such a character, else one from U+0100 on. The space becomes Ġ. Pattern and
symbols are those of OpenAI's own code (github.com/openai/gpt-2, src/encoder.py).
"""

import heapq
from dataclasses import replace
from functools import lru_cache

import regex

from picogpt.tokenizer.added_tokens import AddedToken, AddedTokenSplitter
from picogpt.tools.errors import TextError

END_OF_TEXT = "<|endoftext|>"

# A pre-token: the end of a contraction; letters, digits or other signs, with the space before them;
# white space, the last character of which is left to the pre-token that follows.
PRE_TOKENS = regex.compile(
    r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
)

_VISIBLE = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), 256)]
_HIDDEN = [byte for byte in range(256) if byte not in _VISIBLE]
SYMBOL_OF_BYTE = {byte: chr(byte) for byte in _VISIBLE}
SYMBOL_OF_BYTE |= {byte: chr(256 + i) for i, byte in enumerate(_HIDDEN)}
BYTE_OF_SYMBOL = {symbol: bytes([byte]) for byte, symbol in SYMBOL_OF_BYTE.items()}
# for str.translate, from a symbol to the Latin-1 character of its byte; a Latin-1 character that is
# no symbol becomes one that Latin-1 lacks, so that encoding it fails
_LATIN1_OF_SYMBOL = dict.fromkeys(range(256), "\uffff")
_LATIN1_OF_SYMBOL |= {ord(symbol): chr(byte) for byte, symbol in SYMBOL_OF_BYTE.items()}

CACHED_LENGTH = 64  # characters: a shorter pre-token may come again, so its ids are kept
WINDOW = 1024  # symbols: a longer pre-token is merged in windows of this length
MARGIN = 8  # tokens at the end of a window that are merged again with what follows them


def to_symbols(text):
    """Write the UTF-8 bytes of a text as one visible symbol each.

    >>> to_symbols(" low é")
    'ĠlowĠÃ©'
    """
    return text.encode("utf-8").decode("latin-1").translate(SYMBOL_OF_BYTE)


def to_bytes(token):
    """The bytes that a token stands for: one for each of its symbols.

    A token with any other character in it stands for itself, in UTF-8.
    """
    try:
        return token.translate(_LATIN1_OF_SYMBOL).encode("latin-1")
    except UnicodeEncodeError:
        return token.encode("utf-8")


class Encoder:
    """A vocabulary, {token: id}, and its merges, ["a b", ...], the lowest rank first.

    Added tokens stay whole where a text holds them. The special ones among them mark what is no
    text: in a text they are plain text, unless asked for. `roles` says what they are for, under
    Hugging Face's names: {"pad_token": "[PAD]", ...}. `chat_template` is kept for transformers.
    `end_of_text` is the id of <|endoftext|>, else of the token in the role eos_token, else None.
    `n_vocab` is one more than the highest id.

    >>> encoder = Encoder.from_merges(["l o", "lo w"])
    >>> encoder.encode("low lower")  # low; then Ġ, low, e, r: no merge joins Ġ, e or r
    [257, 220, 257, 68, 81]
    >>> encoder.decode([257, 68, 81])
    'lower'
    """

    def __init__(
        self,
        vocab,
        merges,
        added_tokens=(),
        add_prefix_space=False,
        roles=(),
        chat_template=None,
    ):
        self.vocab = vocab
        self.merges = merges
        self.added = {token.content: token for token in added_tokens}
        if END_OF_TEXT in self.added:
            self.added[END_OF_TEXT] = replace(self.added[END_OF_TEXT], special=True)
        elif END_OF_TEXT in vocab:
            self.added[END_OF_TEXT] = AddedToken(END_OF_TEXT, vocab[END_OF_TEXT], special=True)
        self.added_tokens = {token.content: token.id for token in self.added.values()}
        self.special = {token.content for token in self.added.values() if token.special}
        self.add_prefix_space = add_prefix_space
        self.roles = dict(roles)
        self.chat_template = chat_template
        eos = self.added_tokens.get(self.roles.get("eos_token"))
        self.end_of_text = self.added_tokens.get(END_OF_TEXT, eos)
        self._tokens = {id: token for token, id in vocab.items()}
        self._tokens |= {id: to_symbols(token) for token, id in self.added_tokens.items()}
        self.n_vocab = max(self._tokens) + 1
        self.n_usable = self.n_vocab  # `encode` refuses ids from here on
        self.gaps = []  # ids below n_usable that no token has; `fit_to` finds them
        self._ranks = {merge: rank for rank, merge in enumerate(merges)}
        self._splitter = AddedTokenSplitter(self.added.values())
        self.tokens_across_gaps = self._splitter.across_gaps()  # for training.data.read_chunks
        self._make_caches()

    def _make_caches(self):
        """Keep the tokens of what has been read, since words come again."""
        self._cached_ids = lru_cache(2**15)(self._ids_of_pre_token)  # a novel has up to 18,000
        self._cached_merge = lru_cache(2**8)(self._merge)  # of windows: many repeat a sign

    def __getstate__(self):
        """What pickle takes to another process: all but the caches, which it can't."""
        return {name: value for name, value in vars(self).items() if "_cached_" not in name}

    def __setstate__(self, state):
        """Be what __getstate__ gave, with empty caches."""
        vars(self).update(state)
        self._make_caches()

    @classmethod
    def from_merges(cls, merges):
        """Number the tokens in GPT-2's order: 256 bytes, what the merges make, <|endoftext|>."""
        tokens = [*BYTE_OF_SYMBOL, *(merge.replace(" ", "") for merge in merges), END_OF_TEXT]
        return cls({token: id for id, token in enumerate(dict.fromkeys(tokens))}, merges)

    def encode(self, text, allow_special=False, is_start=True):
        """Turn a text into a list of token ids.

        <|endoftext|> and other special tokens in it are plain text unless allow_special.
        With is_start False the text goes on from another, and gets no space put before it by a
        tokenizer that begins texts so (add_prefix_space). Raises TextError for a lone surrogate,
        which UTF-8 can't write, for a byte that the vocabulary has no token for, and for a token
        that the model has no embedding for (fit_to).
        """
        try:
            text.encode("utf-8")
        except UnicodeEncodeError as error:
            raise TextError(surrogate_told(text[error.start], error.start + 1)) from None
        ids = []
        for i, (added, part) in enumerate(self._splitter.split(text, allow_special)):
            if added:
                ids.append(added.id)
                continue
            if self.add_prefix_space and not part.startswith(" ") and (is_start or i > 0):
                part = " " + part
            for pre_token in PRE_TOKENS.findall(part):
                if len(pre_token) < CACHED_LENGTH:
                    ids += self._cached_ids(pre_token)
                else:
                    ids += self._ids_of_pre_token(pre_token)
        if self.n_usable < self.n_vocab and max(ids, default=0) >= self.n_usable:
            id = next(id for id in ids if id >= self.n_usable)
            said = f"The text holds {self.decode([id])!r}, token {id}"
            raise TextError(f"{said}, and the model's last token is {self.n_usable - 1}.")
        return ids

    def fit_to(self, n_vocab):
        """Refuse, from here on, the ids for which a model of n_vocab embeddings has none.

        A [PAD] that was added to the tokenizer and not to the model is such a one. Where
        end_of_text is, it becomes None. `gaps` are, from here on, the ids of the model that stand
        between the tokenizer's and belong to none of its tokens.
        """
        self.n_usable = min(self.n_vocab, n_vocab)
        self.gaps = [id for id in range(self.n_usable) if id not in self._tokens]
        if self.end_of_text is not None and self.end_of_text >= n_vocab:
            self.end_of_text = None

    def encode_chunks(self, chunks, allow_special=False):
        """Turn a text in chunks, as `training.data.read_chunks` cuts it, into ids: yield lists.

        Raises TextError as `encode` does.
        """
        for i, chunk in enumerate(chunks):
            yield self.encode(chunk, allow_special, is_start=i == 0)

    def decode_bytes(self, ids):
        """Turn token ids into bytes, which may end within a character.

        Raises TextError for an id that the vocabulary doesn't have.
        """
        try:
            tokens = [self._tokens[id] for id in ids]
        except KeyError as error:
            id = error.args[0]
            gaps = "" if len(self._tokens) == self.n_vocab else ", with gaps"
            said = f"There is no token {id}: the ids are 0 to {self.n_vocab - 1}{gaps}."
            raise TextError(said) from None
        return b"".join(map(to_bytes, tokens))

    def decode(self, ids):
        """Turn token ids into text as decode_bytes does; what is no UTF-8 becomes U+FFFD."""
        return self.decode_bytes(ids).decode("utf-8", errors="replace")

    def _ids_of_pre_token(self, pre_token):
        """The token ids of one pre-token; TextError for a byte without a token."""
        symbols = to_symbols(pre_token)
        tokens = self._merge(symbols) if len(symbols) <= WINDOW else self._merge_long(symbols)
        try:
            return [self.vocab[token] for token in tokens]
        except KeyError:
            missing = next(token for token in tokens if token not in self.vocab)
            said = f"The tokenizer has no token for the byte {BYTE_OF_SYMBOL[missing][0]:#04x}"
            raise TextError(f"{said} in {pre_token[:40]!r}: take that out.") from None

    def _merge_long(self, symbols):
        """What `_merge` makes of a long string, window by window: time and memory stay linear.

        Whether two tokens T and U stay apart where they meet depends on T and U alone, whatever
        stands before and behind: until something joins them, each grows by merges of its own
        symbols. So the tokens of two neighbouring windows are those of the whole if `_merge` keeps
        the last token of the first and the first token of the second apart. Else the first window
        was cut at a wrong place: it is read anew, twice as long.
        """
        tokens = []
        windows = []  # (start, size, how many tokens came before), of those that are merged
        start, size = 0, WINDOW
        while start < len(symbols):
            found = self._cached_merge(symbols[start : start + size])
            if tokens and self._cached_merge(tokens[-1] + found[0])[0] != tokens[-1]:
                start, size, n_tokens = windows.pop()
                size *= 2
                del tokens[n_tokens:]
                continue
            windows.append((start, size, len(tokens)))
            if start + size < len(symbols):
                found = found[: max(1, len(found) - MARGIN)]
            tokens += found
            start += sum(map(len, found))
            size = WINDOW
        return tokens

    def _merge(self, symbols):
        """The tokens that merges make of a string of symbols, in time n log n for its length n.

        A heap holds the pairs of neighbours that can be merged, each as one number that sorts by
        rank, then from left to right. A merge lengthens the left symbol and empties the right one.
        """
        ranks = self._ranks
        symbols = [*symbols, ""]  # no merge has an empty part: "" ends the string
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
        return [symbol for symbol in symbols if symbol]


def surrogate_told(character, place):
    """What a lone surrogate in a text means: half a character, or a byte that Python didn't know.

    Python decodes the shell's words by the locale; under LC_ALL=C that is ASCII, and any other byte
    becomes one of U+DC80 to U+DCFF (PEP 383).
    """
    if "\udc80" <= character <= "\udcff":
        said = f"The locale has no such character as the one at {place}"
        return f"{said}: set PYTHONUTF8=1, or LC_ALL to a locale of UTF-8."
    where = f"U+{ord(character):04X} at character {place}"
    return f"The text holds half a character, {where}: take it out."
