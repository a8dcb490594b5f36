"""Learning the merges of byte-level BPE from text (Sennrich, Haddow and Birch 2016, section 3.2).

Count how often each pre-token comes, write it as bytes, then again and again join the pair of
neighbours that comes most often. A merge changes only the places where its pair stands, so these
places are kept, and the counts of pairs are corrected instead of counted anew. The heap of pairs is
lazy: counts that have sunk since are put right when their pair comes to the top.
"""

import heapq
from array import array
from collections import Counter, defaultdict
from pathlib import Path

from picogpt.tokenizer.encoder import (
    BYTE_OF_SYMBOL,
    END_OF_TEXT,
    PRE_TOKENS,
    Encoder,
    to_symbols,
)
from picogpt.tools.errors import DataError, UsageError
from picogpt.tools.progress import hidden

NO_TOKEN = -1  # stands between pre-tokens, and where a token was joined to the one before it


def train_encoder(files, vocab_size, min_frequency=2, progress=True, special_tokens=False):
    """Learn a tokenizer of vocab_size tokens, 256 bytes and <|endoftext|> among them, from files.

    There are fewer tokens where no pair is left that comes min_frequency times. The end of a line
    is always a token of its own, so that lines can be told from tokens. Merges are else those of
    tokenizers.ByteLevelBPETokenizer().train(files, vocab_size, min_frequency,
    special_tokens=["<|endoftext|>"]). With special_tokens, <|endoftext|> in a file is the token:
    no merge is spent on its letters. Raises UsageError for fewer than 257 tokens, DataError for a
    file that can't be read as UTF-8.
    """
    n_merges = vocab_size - 257
    if n_merges < 0:
        raise UsageError(f"A byte-level vocabulary has 257 tokens or more, not {vocab_size}.")
    pre_tokens = count_pre_tokens(files, progress, special_tokens)
    return Encoder.from_merges(learn_merges(pre_tokens, n_merges, min_frequency, progress))


def count_pre_tokens(files, progress=True, special_tokens=False):
    """Count the pre-tokens of the files, {pre-token: count}, a line at a time, without its end.

    With special_tokens, <|endoftext|> is no text: it is left out, and ends what stands before it.
    Raises DataError for a file that can't be read, or not as UTF-8.
    """
    from tqdm import tqdm

    counts = Counter()
    for file in tqdm(files, "counting words", disable=hidden() if progress else True):
        try:
            with Path(file).open("rb") as lines:  # in bytes a line ends at \n alone
                for n, line in enumerate(lines, 1):
                    text = line.decode("utf-8-sig" if n == 1 else "utf-8").removesuffix("\n")
                    for part in text.split(END_OF_TEXT) if special_tokens else [text]:
                        counts.update(PRE_TOKENS.findall(part))
        except UnicodeDecodeError as error:
            raise DataError(f"{file} is not UTF-8 in line {n}: save it as UTF-8") from error
        except OSError as error:
            raise DataError(f"{file} can't be read: {error}") from error
    return counts


def learn_merges(pre_tokens, n_merges, min_frequency=2, progress=True):
    """Find up to n_merges merges, ["a b", ...], in the order in which they are learned.

    `pre_tokens` is {text: how often it comes}. Of pairs that come equally often the one of lower
    ids goes first; when no pair is left that comes min_frequency times, that is the end. The work
    is in proportion to the symbols and to how many of them are joined, however long a pre-token is.

    >>> learn_merges({"low": 5, " slow": 2, " lot": 1}, 4)
    ['l o', 'lo w', 's low', 'Ġ slow']
    """
    from tqdm import tqdm

    tokens = list(BYTE_OF_SYMBOL)
    words = LinkedWords(pre_tokens, {token: id for id, token in enumerate(tokens)})
    heap = []  # (-count, pair), the count as it was when it was put here
    merges = []
    new_pairs = words.pairs()
    for _ in tqdm(range(n_merges), "merging", disable=hidden() if progress else True):
        for pair in new_pairs:
            heapq.heappush(heap, (-words.pair_counts[pair], pair))
        while heap and -heap[0][0] != words.pair_counts[heap[0][1]]:  # it has sunk since
            _, pair = heap[0]
            heapq.heapreplace(heap, (-words.pair_counts[pair], pair))
        if not heap or -heap[0][0] < max(min_frequency, 1):
            break
        _, pair = heapq.heappop(heap)
        a, b = tokens[pair[0]], tokens[pair[1]]
        merges.append(f"{a} {b}")
        new_pairs = words.join(pair, len(tokens))
        tokens.append(a + b)
    return merges


class LinkedWords:
    """All pre-tokens in a row, as token ids, each place linked with the next and the one before.

    `pair_counts` is {(id, id): how often the two stand side by side in the text}. `places` is
    {(id, id): where the left one of the two stands}; places where the pair stood once are left in
    it, and `join` passes over them.
    """

    def __init__(self, pre_tokens, id_of):
        self.ids = array("i", [NO_TOKEN])
        self.counts = array("q", [0])  # at each place, how often its pre-token comes
        for pre_token, count in pre_tokens.items():
            symbols = to_symbols(pre_token)
            self.ids.extend([id_of[symbol] for symbol in symbols])
            self.ids.append(NO_TOKEN)
            self.counts.extend([count] * (len(symbols) + 1))
        n = len(self.ids)
        self.after = array("q", range(1, n + 1))
        self.before = array("q", range(-1, n - 1))
        self.pair_counts = defaultdict(int)
        self.places = defaultdict(lambda: array("q"))

    def pairs(self):
        """Count all pairs, note their places, and give them back."""
        for i in range(1, len(self.ids) - 1):
            if NO_TOKEN not in (self.ids[i], self.ids[i + 1]):
                self._note((self.ids[i], self.ids[i + 1]), i)
        return list(self.places)

    def join(self, pair, new):
        """Put the id `new` in the pair's place, from left to right; give back the new pairs.

        The right one of a pair that is joined becomes NO_TOKEN, and no link leads to it any more.
        """
        ids, after, before, counts = self.ids, self.after, self.before, self.counts
        new_pairs = {}  # a dict for its order
        for i in self.places.pop(pair):
            j = after[i]
            if (ids[i], ids[j]) != pair:
                continue  # one of them was joined with its other neighbour
            left, right = before[i], after[j]
            if ids[left] != NO_TOKEN:
                self.pair_counts[ids[left], ids[i]] -= counts[i]
                new_pairs[ids[left], new] = None
                self._note((ids[left], new), left)
            if ids[right] != NO_TOKEN:
                self.pair_counts[ids[j], ids[right]] -= counts[i]
                new_pairs[new, ids[right]] = None
                self._note((new, ids[right]), i)
            ids[i], ids[j] = new, NO_TOKEN
            after[i], before[right] = right, i
        return new_pairs

    def _note(self, pair, place):
        self.pair_counts[pair] += self.counts[place]
        self.places[pair].append(place)
