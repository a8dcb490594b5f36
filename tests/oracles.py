"""How the tests in tests/oracle get hold of what they compare with."""

import importlib
import os
import shutil
from pathlib import Path

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
         "--disable-background-networking", "--disable-component-update",
         "--disable-sync"]  # fmt: skip


def oracle(name):
    """Import the oracle `name`; a missing one skips the test module, but is an error in CI."""
    if os.environ.get("ORACLES_REQUIRED") == "1":
        return importlib.import_module(name)
    return pytest.importorskip(name)


def learn_merges_by_tokenizers(files, vocab_size, min_frequency, folder):
    """What tokenizers learns as ByteLevelBPETokenizer().train does, as the lines of merges.txt.

    Only that the end of a line is a pre-token of its own, and a byte-order mark no text.
    """
    from tokenizers import ByteLevelBPETokenizer, pre_tokenizers

    folder = Path(folder)
    copies = []
    for i, file in enumerate(files):
        copies.append(folder / f"copy {i}")
        copies[-1].write_bytes(Path(file).read_bytes().removeprefix(b"\xef\xbb\xbf"))
    learned = ByteLevelBPETokenizer()
    line_ends = pre_tokenizers.Split("\n", "isolated")
    bytes_of_words = pre_tokenizers.ByteLevel(add_prefix_space=False)
    learned._tokenizer.pre_tokenizer = pre_tokenizers.Sequence([line_ends, bytes_of_words])
    special = ["<|endoftext|>"]
    learned.train([str(file) for file in copies], vocab_size, min_frequency, False, special)
    learned.save_model(str(folder))
    lines = (folder / "merges.txt").read_text(encoding="utf-8").split("\n")
    assert learned.get_vocab_size() == len(lines) - 2 + 257
    return lines[1:-1]
