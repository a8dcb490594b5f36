"""Files that are there whole or not at all."""

import os

import pytest

from picogpt.tools.errors import CheckpointError
from picogpt.tools.files import cache_folder, read_json, write_text, written_beside


def test_a_file_comes_into_place_whole_and_its_old_self_stays_with_who_has_it(tmp_path):
    path = tmp_path / "file"
    write_text(path, "old\n")
    os.link(path, tmp_path / "second name")
    with written_beside(path) as partial:
        partial.write_bytes(b"new")
        assert path.read_bytes() == b"old\n" and partial.parent == tmp_path
    assert path.read_bytes() == b"new"
    assert (tmp_path / "second name").read_bytes() == b"old\n"
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
def test_what_fails_half_way_leaves_the_old_file_and_no_part(tmp_path, error):
    path = tmp_path / "file"
    write_text(path, "old")
    with pytest.raises(error), written_beside(path) as partial:
        partial.write_bytes(b"half of the n")
        raise error
    assert path.read_bytes() == b"old" and list(tmp_path.iterdir()) == [path]
    with pytest.raises(OSError):
        write_text(tmp_path / "no folder" / "file", "text")


def test_text_is_utf8_with_plain_newlines(tmp_path):
    write_text(tmp_path / "file", "é\n日本\r\n")
    assert (tmp_path / "file").read_bytes() == "é\n日本\r\n".encode()


def test_json_files_hold_an_object_or_are_refused(tmp_path):
    path = tmp_path / "file.json"
    path.write_bytes(b'\xef\xbb\xbf{"a": 1}')
    assert read_json(path) == {"a": 1}
    for text in (b"", b"{", b"\xff", b"[]", b"5", b"[" * 100_000):
        path.write_bytes(text)
        with pytest.raises(CheckpointError, match=r"file.json (can't be read|is no JSON object)"):
            read_json(path)
    with pytest.raises(CheckpointError, match="can't be read"):
        read_json(tmp_path / "nowhere")


@pytest.mark.skipif(os.name == "nt", reason="Windows keeps homes elsewhere")
def test_the_cache_is_in_the_home_or_there_is_none(monkeypatch):
    monkeypatch.setenv("HOME", "/home/someone")
    assert cache_folder().as_posix() == "/home/someone/.cache/picogpt"
    monkeypatch.delenv("HOME")
    monkeypatch.setattr("pwd.getpwuid", {}.__getitem__)  # a user whom the system doesn't know
    assert cache_folder() is None
