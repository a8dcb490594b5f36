"""Learning the merges of byte-level BPE from text (Sennrich, Haddow and Birch 2016, section 3.2).

Count how often each piece comes, write the pieces as bytes, then again and again join the pair of
neighbours that comes most often. A merge changes only the words that hold its pair, so the counts
of pairs are kept and corrected instead of counted anew. The heap of pairs is lazy: counts that
have sunk since are put right when their pair comes to the top.
"""

import heapq
from collections import Counter, defaultdict
from pathlib import Path

from picogpt.tokenizer.encoder import BYTE_OF_SYMBOL, END_OF_TEXT, PIECES, Encoder, to_symbols
from picogpt.tools.errors import DataError, UsageError


def train_encoder(files, vocab_size, min_frequency=2, progress=True, special_tokens=False):
    """Learn a tokenizer of vocab_size tokens, 256 bytes and <|endoftext|> among them, from files.

    There are fewer tokens where no pair is left that comes min_frequency times. Merges are those
    of tokenizers.ByteLevelBPETokenizer().train(files, vocab_size, min_frequency,
    special_tokens=["<|endoftext|>"]). With special_tokens, <|endoftext|> in a file is the token:
    no merge is spent on its letters. Raises DataError for a file that can't be read as UTF-8.
    """
    n_merges = vocab_size - 257
    if n_merges < 0:
        raise UsageError(f"A byte-level vocabulary has 257 tokens or more, not {vocab_size}.")
    pieces = count_pieces(files, progress, special_tokens)
    return Encoder.from_merges(learn_merges(pieces, n_merges, min_frequency, progress))


def count_pieces(files, progress=True, special_tokens=False):
    """Count the pieces of the files, {piece: count}, line by line: memory holds no whole file.

    With special_tokens, <|endoftext|> is no text: it is left out, and ends what stands before it.
    """
    from tqdm import tqdm

    pieces = Counter()
    for file in tqdm(files, "counting words", disable=None if progress else True):
        try:
            with Path(file).open("rb") as lines:  # in bytes a line ends at \n alone, and keeps it
                for n, line in enumerate(lines, 1):  # noqa: B007 - told below
                    text = line.decode("utf-8")
                    for part in text.split(END_OF_TEXT) if special_tokens else [text]:
                        pieces.update(PIECES.findall(part))
        except UnicodeDecodeError as error:
            raise DataError(f"{file} is not UTF-8 in line {n}: save it as UTF-8") from error
        except OSError as error:
            raise DataError(f"{file} can't be read: {error}") from error
    return pieces


def learn_merges(pieces, n_merges, min_frequency=2, progress=True):
    """Find up to n_merges merges, ["a b", ...]; of pairs that come equally often, the lower ids.

    >>> learn_merges({"low": 5, " slow": 2, " lot": 1}, 4)
    ['l o', 'lo w', 's low', 'Ġ slow']
    """
    from tqdm import tqdm

    tokens = list(BYTE_OF_SYMBOL)
    id_of = {token: id for id, token in enumerate(tokens)}
    words = [[id_of[symbol] for symbol in to_symbols(piece)] for piece in pieces]
    counts = list(pieces.values())
    pair_counts = defaultdict(int)
    heap = []  # (-count, pair, the words it stands in), the count as it was when it was put here
    merges = []
    changes = ((pair, 1, w) for w, word in enumerate(words) for pair in zip(word, word[1:]))
    for _ in tqdm(range(n_merges), "merging", disable=None if progress else True):
        found = defaultdict(set)
        for pair, change, w in changes:
            pair_counts[pair] += change * counts[w]
            if change > 0:
                found[pair].add(w)
        for pair, where in found.items():
            heapq.heappush(heap, (-pair_counts[pair], pair, where))
        while heap and -heap[0][0] != pair_counts[heap[0][1]]:  # it has sunk: put it in its place
            _, pair, where = heap[0]
            heapq.heapreplace(heap, (-pair_counts[pair], pair, where))
        if not heap or -heap[0][0] < max(min_frequency, 1):
            break
        _, pair, where = heapq.heappop(heap)
        a, b = tokens[pair[0]], tokens[pair[1]]
        new = len(tokens)
        tokens.append(a + b)
        merges.append(f"{a} {b}")
        changes = [(*change, w) for w in where for change in _join(words[w], pair, new)]
    return merges


def _join(word, pair, new):
    """Join the pair wherever it stands in the word; yield the pairs that go (-1) and come (1)."""
    old = word[:]
    word.clear()
    i = 0
    while i < len(old):
        if tuple(old[i : i + 2]) != pair:
            word.append(old[i])
            i += 1
            continue
        if word:
            yield (word[-1], pair[0]), -1
            yield (word[-1], new), 1
        if i + 2 < len(old):
            yield (pair[1], old[i + 2]), -1
            yield (new, old[i + 2]), 1
        word.append(new)
        i += 2
