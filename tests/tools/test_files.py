"""Files that are there whole or not at all, alone or together, and folders that one run owns."""

import os
import stat
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from picogpt.tools import files
from picogpt.tools.errors import CheckpointError, FolderInUseError, OutputError
from picogpt.tools.files import (
    cache_folder,
    locked,
    read_json,
    try_lock,
    unlock,
    write_text,
    written_beside,
    written_together,
)

ROOT = Path(__file__).parents[2]
POSIX = pytest.mark.skipif(os.name == "nt", reason="Windows has other modes, links and pipes")


def in_another_process(code):
    """Run Python code that may import picogpt; give back its process, with pipes."""
    words = [sys.executable, "-c", code]
    pipe = subprocess.PIPE
    return subprocess.Popen(words, cwd=ROOT, stdin=pipe, stdout=pipe, stderr=pipe, text=True)


def test_a_file_comes_into_place_whole_and_its_old_self_stays_with_who_has_it(tmp_path):
    path = tmp_path / "file"
    write_text(path, "old\n")
    os.link(path, tmp_path / "second name")
    with written_beside(path) as partial:
        partial.write_bytes(b"new")
        assert path.read_bytes() == b"old\n"
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


@POSIX
def test_mode_and_link_stay_and_a_new_file_has_the_usual_mode(tmp_path):
    path, link = tmp_path / "file", tmp_path / "folder" / "link"
    write_text(path, "old")
    usual = os.umask(0)
    os.umask(usual)
    assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~usual
    path.chmod(0o600)
    link.parent.mkdir()
    link.symlink_to("../file")
    write_text(link, "new")
    assert link.is_symlink() and path.read_text() == "new"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(link.parent.iterdir()) == [link]


@POSIX
def test_pipes_and_devices_are_written_and_stay(tmp_path):
    pipe, read = tmp_path / "pipe", []
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: read.append(pipe.read_text()), daemon=True)
    reader.start()
    write_text(pipe, "through")
    reader.join(10)
    assert read == ["through"] and stat.S_ISFIFO(pipe.stat().st_mode)
    write_text("/dev/null", "away")
    assert stat.S_ISCHR(Path("/dev/null").stat().st_mode)


def test_a_file_is_on_the_disk_before_it_has_its_name(tmp_path, monkeypatch):
    steps, rename = [], Path.replace

    def renamed(part, path):
        steps.append("renamed")
        return rename(part, path)

    monkeypatch.setattr(os, "fsync", lambda _: steps.append("on the disk"))
    monkeypatch.setattr(Path, "replace", renamed)
    write_text(tmp_path / "file", "text")
    assert steps[:2] == ["on the disk", "renamed"]


def test_a_rename_waits_for_who_looks_at_the_file_but_not_for_ever(tmp_path, monkeypatch):
    waits, rename = [], Path.replace

    def refused(part, path):
        if len(waits) < n_refused:
            raise PermissionError(13, "Permission denied")
        return rename(part, path)

    monkeypatch.setattr(files.time, "sleep", waits.append)
    monkeypatch.setattr(Path, "replace", refused)
    n_refused = 3
    write_text(tmp_path / "file", "text")
    assert len(waits) == 3 and (tmp_path / "file").read_text() == "text"
    n_refused = 1000
    with pytest.raises(OutputError, match=r"file can't be written \(Permission denied\)"):
        write_text(tmp_path / "file", "new")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert (tmp_path / "file").read_text() == "text"


def test_numpy_on_a_full_disk_is_one_sentence(tmp_path):
    path = tmp_path / "ids.npy"
    with pytest.raises(OutputError, match=r"written \(is the disk full\?\)"), written_beside(path):
        raise OSError("73141 requested and 12224 written")


def test_what_a_killed_writer_left_is_cleaned_and_a_living_ones_stays(tmp_path):
    code = f"""
import os, sys
from picogpt.tools.files import written_beside
with written_beside({str(tmp_path / "file")!r}) as part:
    part.write_text("half")
    print("half", flush=True)
    sys.stdin.readline()
    os._exit(9)
"""
    process = in_another_process(code)
    assert process.stdout.readline() == "half\n"
    write_text(tmp_path / "file", "mine")
    left = [path for path in tmp_path.iterdir() if path.name != "file"]
    assert "half" in [path.read_text() for path in left[0].iterdir()]
    process.communicate("\n")
    write_text(tmp_path / "other", "mine")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "other"]


def test_a_folder_belongs_to_one_process_until_that_is_killed(tmp_path):
    out = tmp_path / "out"
    code = f"""
import sys
from picogpt.tools.files import locked
with locked({str(out)!r}):
    print("mine", flush=True)
    sys.stdin.readline()
"""
    process = in_another_process(code)
    assert process.stdout.readline() == "mine\n"
    with pytest.raises(FolderInUseError, match="another run is writing to .*out"), locked(out):
        pass
    with pytest.raises(FolderInUseError), written_together(out, "b"):
        pass
    process.kill()
    process.communicate()
    with locked(out), locked(out):  # the same process may ask again
        write_text(out / "file", "text")
    assert [path.name for path in out.iterdir()] == ["file"]


def test_a_file_system_without_locks_is_no_reason_to_stop(tmp_path, monkeypatch):
    def no_locks(*_):
        raise OSError(95, "Operation not supported")

    if files.fcntl:
        monkeypatch.setattr(files.fcntl, "flock", no_locks)
    else:
        monkeypatch.setattr(files.msvcrt, "locking", no_locks)
    assert try_lock(tmp_path) is None
    unlock(tmp_path, None)
    with locked(tmp_path), written_together(tmp_path, "a") as made:
        write_text(made / "a", "text")
    assert (tmp_path / "a").read_text() == "text"


def group(folder, text, names=("a", "b", "last")):
    with written_together(folder, "last", outdated=["older"]) as made:
        for name in names:
            write_text(made / name, text)


@pytest.mark.parametrize("n_done", range(4))
def test_a_group_killed_half_way_leaves_no_mixture(tmp_path, monkeypatch, n_done):
    group(tmp_path, "old")
    write_text(tmp_path / "older", "older")
    done, rename = [], files.rename

    def killed(part, path):
        if path.parent == tmp_path:
            if len(done) == n_done:
                raise KeyboardInterrupt
            done.append(path.name)
        rename(part, path)

    monkeypatch.setattr(files, "rename", killed)
    if n_done < 3:
        with pytest.raises(KeyboardInterrupt):
            group(tmp_path, "new")
        assert not (tmp_path / "last").exists()
    monkeypatch.setattr(files, "rename", rename)
    group(tmp_path, "new")
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == dict.fromkeys(
        ["a", "b", "last"], "new"
    )


def test_a_group_that_fails_while_it_is_made_leaves_the_old_one(tmp_path):
    group(tmp_path, "old")
    with pytest.raises(ZeroDivisionError), written_together(tmp_path, "last") as made:
        write_text(made / "a", "new")
        raise ZeroDivisionError
    assert {path.read_text() for path in tmp_path.iterdir()} == {"old"}


def test_a_file_of_a_group_that_cant_be_written_is_told_by_its_own_place(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files, "sync", full)
    with pytest.raises(OutputError) as caught:
        group(tmp_path, "new")
    assert str(caught.value) == f"{tmp_path / 'a'} can't be written (No space left on device)"
    assert list(tmp_path.iterdir()) == []


def test_what_stands_in_a_groups_way_is_told_by_its_own_place(tmp_path):
    (tmp_path / "b").mkdir()
    with pytest.raises(OutputError, match="can't be written") as caught:
        group(tmp_path, "new")
    assert str(caught.value).startswith(f"{tmp_path / 'b'} ")


def test_a_path_that_can_be_no_folder_is_one_sentence(tmp_path):
    write_text(tmp_path / "file", "text")
    for path in (tmp_path / "file", tmp_path / "file" / "folder"):
        with pytest.raises(OutputError, match="can't be a folder") as caught, locked(path):
            pass
        assert str(path) in str(caught.value) and "Errno" not in str(caught.value)


def test_one_changed_file_of_a_group_is_one_rename(tmp_path):
    group(tmp_path, "old")
    before = {path.name: path.stat().st_ino for path in tmp_path.iterdir()}
    with written_together(tmp_path, "last") as made:
        write_text(made / "a", "new")
        write_text(made / "last", "old")
    after = {path.name: path.stat().st_ino for path in tmp_path.iterdir()}
    assert [name for name in after if after[name] != before[name]] == ["a"]


def test_a_model_that_is_mapped_from_a_folder_can_be_saved_over_it(tmp_path, monkeypatch):
    """Under Windows' rule: a file that is mapped can't be replaced. This process's maps tell."""
    from models import small_folder

    from picogpt.model import load, save

    if not Path("/proc/self/maps").exists():
        pytest.skip("only Linux tells which files are mapped")
    rename = Path.replace

    def windows_replace(part, path):
        if str(path) in Path("/proc/self/maps").read_text():
            raise PermissionError(13, "Permission denied")
        return rename(part, path)

    model = load(small_folder(tmp_path / "model"))
    monkeypatch.setattr(Path, "replace", windows_replace)
    monkeypatch.setattr(files.time, "sleep", lambda _: None)
    assert str(tmp_path) in Path("/proc/self/maps").read_text()
    model.params["wte"] += 1
    save(model, tmp_path / "model")
    assert np.array_equal(load(tmp_path / "model").params["wte"], model.params["wte"])
