"""What is kept of features: sound or made anew, bounded, and no reason to stop."""

import os

import numpy as np
import pytest
from systems import WINDOWS_RULES

from picogpt.tasks import feature_cache
from picogpt.tasks.feature_cache import FeatureCache

NAMES = ["a" * 64, "b" * 64, "c" * 64]
X = np.arange(12, dtype=np.float32).reshape(3, 4)


def files(folder):
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


def test_a_batch_is_kept_under_its_checksum(tmp_path):
    cache = FeatureCache(tmp_path, NAMES[0])
    assert cache.load(7, (3, 4)) is None
    np.testing.assert_array_equal(cache.save(7, X), X)
    (name,) = files(tmp_path)
    assert name.startswith("7-") and name.endswith(".npy")
    np.testing.assert_array_equal(cache.load(7, (3, 4)), X)
    assert cache.load(77, (3, 4)) is None


def test_damaged_batches_are_made_anew(tmp_path):
    """Every byte of the file changed once, cut off, added to, emptied, made a folder."""
    cache = FeatureCache(tmp_path, NAMES[0])
    cache.save(0, X)
    (path,) = cache.place.iterdir()
    good = path.read_bytes()
    damaged = [good[:i] + bytes([good[i] ^ 1]) + good[i + 1 :] for i in range(len(good))]
    for data in [*damaged, good[:-1], good + b"x", b""]:
        path.write_bytes(data)
        assert cache.load(0, (3, 4)) is None
        assert not path.exists()
    path.mkdir()
    assert cache.load(0, (3, 4)) is None


def test_a_sound_file_of_another_shape_or_kind_is_not_taken(tmp_path):
    cache = FeatureCache(tmp_path, NAMES[0])
    cache.save(0, X)
    assert cache.load(0, (4, 3)) is None
    cache.save(0, X.astype(np.float64))
    assert cache.load(0, (3, 4)) is None


def test_what_was_longest_unused_goes_first_and_nothing_of_others(tmp_path):
    for age, name in enumerate(NAMES):
        FeatureCache(tmp_path, name).save(0, X)
        os.utime(tmp_path / name, (1000 - age, 1000 - age))  # c is the oldest
    (tmp_path / f"{'d' * 64}.npy").write_bytes(bytes(500))  # as version 1.0 kept them
    os.utime(tmp_path / f"{'d' * 64}.npy", (1, 1))
    (tmp_path / "thesis.npy").write_bytes(bytes(5000))
    size = 128 + X.nbytes
    cache = FeatureCache(tmp_path, NAMES[2], max_bytes=2 * size)  # c is in use now
    assert sorted(path.name for path in tmp_path.iterdir()) == [NAMES[0], NAMES[2], "thesis.npy"]
    for batch in range(1, 5):
        cache.save(batch, X)
    cache.trim()  # what is in use stays, though it alone is too much
    assert sorted(path.name for path in tmp_path.iterdir()) == [NAMES[2], "thesis.npy"]
    assert len(files(tmp_path / NAMES[2])) == 5


def test_a_disk_that_refuses_is_told_once_and_stops_nothing(tmp_path, monkeypatch, capsys):
    (tmp_path / "file").write_text("no folder")
    cache = FeatureCache(tmp_path / "file", NAMES[0])
    for batch in range(3):
        assert cache.save(batch, X) is X
        assert cache.load(batch, (3, 4)) is None
    (line,) = capsys.readouterr().err.splitlines()
    assert line == f"features aren't kept in {tmp_path / 'file'}: Not a directory"

    def full(path, synced):  # noqa: ARG001
        raise OSError(28, "No space left on device")

    cache = FeatureCache(tmp_path, NAMES[0])
    monkeypatch.setattr(feature_cache, "written_beside", full)
    assert cache.save(0, X) is X
    assert "No space left on device" in capsys.readouterr().err


@pytest.mark.skipif(WINDOWS_RULES, reason="Windows keeps what is mapped")
def test_what_is_mapped_stays_readable_when_it_is_trimmed(tmp_path):
    kept = FeatureCache(tmp_path, NAMES[0]).save(0, X)
    FeatureCache(tmp_path, NAMES[1], max_bytes=0)
    assert not files(tmp_path)
    np.testing.assert_array_equal(kept, X)
