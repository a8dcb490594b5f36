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

CHUNK_BYTES = 2**20
N_CRC = 4  # bytes of a CRC-32
# up to the last space that follows a word; without any, to the last such end of a line
LAST_GAP = re.compile(r".*\S(?= )|.*\S(?=[\r\n])", re.DOTALL)


def find_files(patterns):
    """The text files of a folder (*.txt), of a glob pattern, or of several with commas between.

    Sorted by path; a pattern that is given twice gives its files twice. Raises DataError where
    one gives none.
    """
    found = []
    for pattern in patterns.split(","):
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


def read_chunks(path, n_bytes=CHUNK_BYTES):
    """Yield a UTF-8 file in chunks of about n_bytes, cut only where white space follows a word.

    No token of GPT-2's tokenizer crosses such a place, so the chunks' ids are the text's. A
    byte-order mark, with which Notepad begins a file, is no part of the text and is left out.
    Raises DataError where the file can't be read or is not UTF-8.
    """
    rest, line = "", 1
    try:
        with Path(path).open("rb") as file:
            blocks = iter(partial(file.read, n_bytes), b"")
            for i, text in enumerate(codecs.iterdecode(blocks, "utf-8")):
                line += text.count("\n")
                rest += text.removeprefix("\ufeff") if i == 0 else text
                if gap := LAST_GAP.match(rest):
                    yield gap.group()
                    rest = rest[gap.end() :]
    except UnicodeDecodeError as error:
        line += error.object[: error.start].count(b"\n")
        raise DataError(f"{path} is not UTF-8 in line {line}: save it as UTF-8") from None
    except OSError as error:
        raise DataError(f"{path} can't be read: {error}") from None
    if rest:
        yield rest


def encode_files(encoder, files, path, special_tokens=True):
    """The ids of all files as one array `[n_tokens]`, each file after <|endoftext|>.

    <|endoftext|> in a file, which many corpora have between documents, is the token itself, as are
    the tokenizer's other special tokens; with special_tokens False they are plain text.
    Kept at `path`, a .npy file with a checksum behind its numbers, from which it is mapped into
    memory; where that is there already, and sound, nothing is encoded. Raises DataError for a file
    that can't be read, OutputError where `path` can't be written.
    """
    from tqdm import tqdm

    if (ids := kept_ids(path)) is not None:
        return ids
    dtype = np.uint16 if encoder.n_vocab <= 2**16 else np.uint32
    start = [] if encoder.end_of_text is None else [encoder.end_of_text]
    pieces = []
    for file in tqdm(files, "encoding", unit="file", disable=None):
        pieces.append(np.array(start, dtype))
        for text in read_chunks(file):
            pieces.append(np.array(encoder.encode(text, special_tokens), dtype))
    with written_beside(path) as partial:
        with partial.open("wb") as file:
            np.save(file, np.concatenate(pieces))
        with partial.open("r+b") as file:
            crc = zlib.crc32(np.memmap(file, mode="r"))
            file.seek(0, os.SEEK_END)
            file.write(crc.to_bytes(N_CRC, "little"))
    return np.load(path, mmap_mode="r")


def kept_ids(path):
    """The ids in a file that encode_files wrote; None where it is missing or damaged."""
    with suppress(OSError, ValueError):
        data = np.memmap(path, mode="r")
        if zlib.crc32(data[:-N_CRC]).to_bytes(N_CRC, "little") == data[-N_CRC:].tobytes():
            return np.load(path, mmap_mode="r")
    return None
