"""Features kept on disk for the next run: a folder for each set of texts, a file for each batch.

All of it can be computed again: what is damaged counts as not there, and where the disk refuses,
features go on without being kept.
"""

import io
import os
import re
import shutil
import sys
import zlib
from contextlib import suppress
from pathlib import Path

import numpy as np

from picogpt.tools.files import written_beside

MAX_BYTES = 2 * 2**30  # of one cache folder: GPT-2 124M's states for 700,000 tokens
OURS = re.compile(r"[0-9a-f]{64}(\.npy)?")  # a folder of batches; in version 1.0 it was a file


class FeatureCache:
    """The finished batches of one call of `features`, in the folder that its fingerprint names.

    A batch's file has its number and its checksum in its name, like 7-89abcdef.npy.
    """

    def __init__(self, folder, name, max_bytes=MAX_BYTES):
        self.place = Path(folder) / name
        self.max_bytes = max_bytes
        self.broken = False  # True once the disk has refused: then nothing more is written
        with suppress(OSError):
            os.utime(self.place)  # used today: the others go first
        self.trim()

    def load(self, batch, shape):
        """The activations of a batch, mapped from its file; None where there is no sound one."""
        for path in sorted(self.place.glob(f"{batch}-*.npy")):
            try:
                if path.name == file_name(batch, path.read_bytes()):
                    array = np.load(path, mmap_mode="r", allow_pickle=False)
                    if array.shape == shape and array.dtype == np.float32:
                        return array
                    del array  # Windows deletes nothing that is mapped
                path.unlink()
            except (OSError, ValueError):
                continue
        return None

    def save(self, batch, array):
        """Keep the activations of a batch; gives them back, mapped from their file where kept."""
        if self.broken:
            return array
        buffer = io.BytesIO()
        np.save(buffer, array)
        path = self.place / file_name(batch, buffer.getbuffer())
        try:
            self.place.mkdir(parents=True, exist_ok=True)
            with written_beside(path, synced=False) as part:
                part.write_bytes(buffer.getbuffer())
            return np.load(path, mmap_mode="r", allow_pickle=False)
        except OSError as error:
            self.broken = True
            why = error.strerror or error
            print(f"features aren't kept in {self.place.parent}: {why}", file=sys.stderr)
            return array

    def trim(self):
        """Delete what was longest unused until max_bytes suffice, but never this call's own."""
        found = []
        with suppress(OSError):
            for path in self.place.parent.iterdir():
                if OURS.fullmatch(path.name):
                    found.append((path.stat().st_mtime, size_of(path), path))
        total = sum(size for _, size, _ in found)
        for _, size, path in sorted(found):
            if total > self.max_bytes and path != self.place:
                remove(path)
                total -= size


def file_name(batch, data):
    """What the file with these bytes is called."""
    return f"{batch}-{zlib.crc32(data):08x}.npy"


def size_of(path):
    """The bytes of a file, or of the files in a folder."""
    files = path.iterdir() if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files)


def remove(path):
    """Delete a file or a folder as far as the system lets us: Windows keeps what is mapped."""
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink()
