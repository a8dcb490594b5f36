"""From text files of any size to token ids, in bounded memory."""

import codecs
import glob
import os
import re
import zlib
from contextlib import suppress
from functools import partial
from pathlib import Path

import numpy as np

from picogpt.tools.errors import DataError
from picogpt.tools.files import written_beside
from picogpt.tools.progress import hidden

CHUNK_BYTES = 2**20  # of a file that are read at a time
N_CRC = 4  # bytes of a CRC-32
# a text up to the last space behind a word; where there is no such space, up to the last end of a
# line behind a word
LAST_GAP = re.compile(r".*\S(?= )|.*\S(?=[\r\n])", re.DOTALL)


def find_files(patterns):
    """The text files of a folder (*.txt), of a glob pattern, or of several with commas between.

    Sorted by path; a pattern that is given twice gives its files twice. Raises DataError where one
    gives none.
    """
    found = []
    for pattern in split_names(patterns):
        names = glob.glob(pattern, recursive=True)  # noqa: PTH207 - pathlib's takes no absolute one
        path = Path(pattern)
        if path.is_file():
            names = [path]  # in a pattern the brackets of "book [2].txt" mean something else
        elif pattern and path.is_dir():  # an empty path is the current folder
            names = path.glob("*.txt")
        files = sorted(filter(Path.is_file, map(Path, names)))
        if not files:
            said = f'"{pattern}" holds no text'
            raise DataError(f"{said}: name a file, a folder of *.txt or a pattern")
        found += files
    return found


def split_names(names):
    """The names between commas; a comma inside the name of what is there parts nothing."""
    parts = names.split(",")
    found = []
    while parts:
        n_parts = len(parts)  # of the longest name that is there, else one
        while n_parts > 1 and not Path(",".join(parts[:n_parts])).exists():
            n_parts -= 1
        found.append(",".join(parts[:n_parts]))
        del parts[:n_parts]
    return found


def read_chunks(path, n_bytes=CHUNK_BYTES, encoder=None):
    """Yield a UTF-8 file in chunks of about n_bytes, cut only where white space follows a word.

    No token of GPT-2's tokenizer crosses such a place: the ids of the chunks, one after the other,
    are those of the whole text. With an `encoder`, no added token of its own is cut either. A
    byte-order mark, with which Notepad begins a file, is no part of the text and is left out.
    Raises DataError where the file can't be read or is not UTF-8.
    """
    rest = ""
    line = 1
    try:
        with Path(path).open("rb") as file:
            blocks = iter(partial(file.read, n_bytes), b"")
            for i, text in enumerate(codecs.iterdecode(blocks, "utf-8")):
                line += text.count("\n")
                rest += text.removeprefix("\ufeff") if i == 0 else text
                if n := last_gap(rest, encoder):
                    yield rest[:n]
                    rest = rest[n:]
    except UnicodeDecodeError as error:
        line += error.object[: error.start].count(b"\n")
        raise DataError(f"{path} is not UTF-8 in line {line}: save it as UTF-8") from None
    except OSError as error:
        raise DataError(f"{path} can't be read: {error.strerror or error}") from None
    if rest:
        yield rest


def last_gap(text, encoder=None):
    """Where a text that goes on can be cut: how many of its characters come before; 0 is nowhere.

    No added token is cut, and none that takes the white space behind it along is parted from it.
    """
    pattern = encoder.tokens_across_gaps if encoder else None
    if pattern is None:
        gap = LAST_GAP.match(text)
        return gap.end() if gap else 0
    end = len(text) - max(map(len, encoder.added_tokens))  # the last may not be complete yet
    while gap := LAST_GAP.match(text, 0, max(0, end + 1)):
        crossed = (
            token.start()
            for token in pattern.finditer(text, overlapped=True)
            if token.start() < gap.end() < token.end()
        )
        end = next(crossed, None)
        if end is None:
            return gap.end()
    return 0


def encode_files(encoder, files, path, special_tokens=True):
    """The ids of all files as one array `[n_tokens]`, each file after <|endoftext|>.

    <|endoftext|> in a file, which many corpora have between documents, is the token itself, as are
    the tokenizer's other special tokens; with special_tokens False they are plain text.

    The ids are kept at `path`, a .npy file with a checksum behind its numbers, and mapped into
    memory from there. Where a sound one is there already, it is taken, whatever `files` hold: the
    caller knows that they are the same. Raises DataError for a file that can't be read, OutputError
    where `path` can't be written.
    """
    from tqdm import tqdm

    if (ids := load_ids(path)) is not None:
        return ids
    dtype = np.uint16 if encoder.n_vocab <= 2**16 else np.uint32
    start = [] if encoder.end_of_text is None else [encoder.end_of_text]
    arrays = []
    for file in tqdm(files, "encoding", unit="file", disable=hidden()):
        arrays.append(np.array(start, dtype))
        chunks = read_chunks(file, encoder=encoder)
        for ids in encoder.encode_chunks(chunks, special_tokens):
            arrays.append(np.array(ids, dtype))
    with written_beside(path) as part:
        with part.open("wb") as file:
            np.save(file, np.concatenate(arrays))
        with part.open("r+b") as file:
            crc = zlib.crc32(np.memmap(file, mode="r"))
            file.seek(0, os.SEEK_END)
            file.write(crc.to_bytes(N_CRC, "little"))
    return np.load(path, mmap_mode="r")


def load_ids(path):
    """The ids in a file that encode_files wrote; None where it is missing or damaged."""
    with suppress(OSError, ValueError):
        data = np.memmap(path, mode="r")
        if zlib.crc32(data[:-N_CRC]).to_bytes(N_CRC, "little") == data[-N_CRC:].tobytes():
            return np.load(path, mmap_mode="r")
    return None


def line_starts(encoder, ids):
    """Where lines begin among the ids of a text, `[n_tokens]`: places in order, `[n_lines]`.

    A line begins behind every token that holds the end of one, whatever else it holds (GPT-2 has a
    token of two line ends), and behind every <|endoftext|>. The first id of all is not looked at:
    the text's first line is not among the places. The last may be n_tokens, the end of the text.
    """
    known = {*encoder.vocab.values(), *encoder.added_tokens.values()}
    ends = [id for id in known if b"\n" in encoder.decode_bytes([id])]
    if encoder.end_of_text is not None:
        ends.append(encoder.end_of_text)
    return np.flatnonzero(np.isin(ids[1:], ends)) + 2


def document_starts(encoder, ids):
    """Where documents begin among the ids `[n_tokens]` of a text, each at its <|endoftext|>."""
    return np.flatnonzero(ids == encoder.end_of_text)
