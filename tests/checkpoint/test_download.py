"""A file on its way: resumed, verified, refused; against a real HTTP server."""

import io
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import requests
from hub import DATA, sentence
from systems import WINDOWS_RULES

from picogpt.checkpoint.download import CHUNK_BYTES, fetch_file
from picogpt.tools.errors import DownloadError

ROOT = Path(__file__).resolve().parents[2]


# A file on its way


@pytest.mark.parametrize("file, data", [("big.safetensors", DATA), ("small.txt", b"a few words")])
def test_a_file_is_fetched_once(hub, fetch, file, data):
    assert fetch(file) == fetch(file) == data
    assert len(hub.got(file)) == 1
    assert hub.got(file)[0].headers["Accept-Encoding"] == "identity"


def test_a_broken_download_goes_on_where_it_ended(hub, fetch, clean):
    hub.faults["big.safetensors"] = [{"drop": 200_000}, {"drop": 50_000}]
    assert fetch() == DATA
    first, second, third = hub.got("big.safetensors")
    assert "Range" not in first.headers
    start = 3 * CHUNK_BYTES - 1  # the last byte again
    assert second.headers["Range"] == third.headers["Range"] == f"bytes={start}-"
    assert second.headers["If-Range"].startswith('"cdn-')
    assert second.status == third.status == 206
    assert clean == [0.5, 1]


def test_what_came_is_kept_for_the_next_run(hub, fetch, tmp_path):
    hub.faults["big.safetensors"] = [{"drop": 100_000}] * 4
    with pytest.raises(DownloadError, match="no connection.*check the network and try again"):
        fetch()
    [part] = (tmp_path / "to").iterdir()
    assert part.read_bytes() == DATA[: part.stat().st_size] != b""
    assert fetch() == DATA
    assert hub.got("big.safetensors")[-1].status == 206


def test_all_came_but_it_was_killed_before_the_end(hub, fetch, tmp_path):
    hub.faults["big.safetensors"] = [{"drop": 200_000}, 403]
    with pytest.raises(DownloadError):
        fetch()
    [part] = (tmp_path / "to").iterdir()
    part.write_bytes(DATA)
    assert fetch() == DATA
    assert hub.got("big.safetensors")[-1].headers["Range"] == f"bytes={len(DATA) - 1}-"


@pytest.mark.parametrize("if_range", [True, False])  # a server that doesn't know If-Range
@pytest.mark.parametrize("file", ["big.safetensors", "small.txt"])
def test_the_file_changes_between_two_tries(hub, fetch, if_range, file):
    hub.habits = {"if_range": if_range}
    hub.repos["a/b"][file] = DATA
    hub.faults[file] = [{"drop": 200_000}, 403]
    with pytest.raises(DownloadError):
        fetch(file)
    hub.repos["a/b"][file] = new = DATA[::-1]
    assert fetch(file) == new


def test_the_file_becomes_shorter_between_two_tries(hub, fetch):
    hub.habits = {"if_range": False}
    hub.repos["a/b"]["small.txt"] = DATA
    hub.faults["small.txt"] = [{"drop": 200_000}, 403]
    with pytest.raises(DownloadError):
        fetch("small.txt")
    hub.repos["a/b"]["small.txt"] = DATA[:1000]  # the range that is left does not exist: HTTP 416
    assert fetch("small.txt") == DATA[:1000]


@pytest.mark.parametrize(
    "habits",
    [
        {"ranges": False},
        {"ranges": "unasked"},
        {"etag": ""},
        {"etag": 'W/"{}"'},
        {"etag": '"' + "x" * 300 + '"'},
        {"etag": '"../../{}:?"'},
        {"gzip": True},
        {"gzip": True, "etag": ""},
        {"length": False},
        {"length": False, "etag": ""},
    ],
)
@pytest.mark.parametrize("file", ["big.safetensors", "small.txt"])
def test_servers_of_other_habits(hub, fetch, habits, file):
    hub.habits = habits
    hub.repos["a/b"][file] = DATA
    hub.faults[file] = [{"drop": 200_000}]
    assert fetch(file) == DATA
    assert len(hub.got(file)) == 2


def test_an_older_file_without_an_etag_leaves_no_end_behind(hub, fetch):
    hub.habits = {"etag": "", "length": False}
    hub.faults["small.txt"] = [{"drop": 200_000}] * 4
    hub.repos["a/b"]["small.txt"] = DATA
    with pytest.raises(DownloadError):
        fetch("small.txt")
    hub.repos["a/b"]["small.txt"] = DATA[:1000]
    assert fetch("small.txt") == DATA[:1000]


@pytest.mark.parametrize("habits", [{"corrupt": True}, {"linked": {"X-Linked-Size": 299_999}}])
def test_a_wrong_file_is_deleted(hub, fetch, tmp_path, clean, habits):
    hub.habits = habits
    with pytest.raises(DownloadError, match="damaged .* and was deleted") as error:
        fetch()
    sentence(error)
    assert not list((tmp_path / "to").iterdir()) and clean == []
    hub.habits = {}
    assert fetch() == DATA


@pytest.mark.parametrize(
    "page", [b"<!DOCTYPE html><p>Log in", b"\xef\xbb\xbf\n <HTML>", b"<?xml ?>", b"<!-- --><p>"]
)
@pytest.mark.parametrize("file", ["small.txt", "big.safetensors"])
def test_a_web_page_in_place_of_a_file(hub, fetch, tmp_path, file, page):
    hub.repos["a/b"][file] = page
    with pytest.raises(DownloadError, match="a web page came in its place: log in") as error:
        fetch(file)
    sentence(error)
    assert not list((tmp_path / "to").iterdir())


def test_a_web_page_does_no_harm_to_what_came_before_it(hub, fetch, tmp_path):
    hub.faults["big.safetensors"] = [{"drop": 200_000}, 403]
    with pytest.raises(DownloadError):
        fetch()
    [part] = (tmp_path / "to").iterdir()
    hub.repos["a/b"]["big.safetensors"] = b"<html>Log in</html>"
    with pytest.raises(DownloadError, match="a web page came in its place"):
        fetch()
    assert list((tmp_path / "to").iterdir()) == [part]
    hub.repos["a/b"]["big.safetensors"] = DATA
    assert fetch() == DATA
    assert hub.got("big.safetensors")[-1].status == 206


@pytest.mark.parametrize("habits", [{"length": False}, {"gzip": True}, {}])
def test_a_file_larger_than_it_may_be_is_given_up_on_its_way(hub, fetch, tmp_path, habits):
    hub.habits = habits
    hub.repos["a/b"]["small.txt"] = bytes(10**6)
    with pytest.raises(DownloadError, match="(more than 70,000 bytes|came damaged)") as error:
        fetch("small.txt", largest=70_000)
    sentence(error)
    assert not list((tmp_path / "to").iterdir())
    assert len(hub.got("small.txt")) == 1


@pytest.mark.parametrize("more", [-1, 1])
def test_a_body_that_is_not_as_long_as_the_hub_said(hub, fetch, tmp_path, more):
    hub.habits = {"linked": {"X-Linked-Size": len(DATA) + more}, "length": False}
    with pytest.raises(DownloadError):
        fetch()
    assert more == 1 or not list((tmp_path / "to").iterdir())


@pytest.mark.parametrize("habits", [{"length": False}, {"gzip": True}, {}])
def test_so_is_one_whose_size_nobody_told(hub, tmp_path, habits):
    hub.habits = habits
    hub.repos["a/b"]["small.txt"] = bytes(10**6)
    path = tmp_path / "to" / "small.txt"
    with pytest.raises(DownloadError, match="more than 70,000 bytes, which no such file should"):
        fetch_file(f"{hub.url}/cache/a/b/small.txt", path, largest=70_000)  # a plain server's
    assert not list(path.parent.iterdir())


def test_a_length_that_is_no_number_is_none(hub, fetch):
    hub.habits = {"linked": {"X-Linked-Size": "many"}}
    assert fetch() == DATA


def test_a_file_in_the_folders_place(fetch, tmp_path):
    (tmp_path / "to").write_bytes(b"")
    with pytest.raises(DownloadError, match="big.safetensors can't be written") as error:
        fetch()
    sentence(error)


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_the_bar_shows_bytes_and_only_on_a_terminal(hub, fetch, monkeypatch, capsys):
    hub.faults["big.safetensors"] = [{"drop": 200_000}]
    monkeypatch.setattr(sys, "stderr", Terminal())
    fetch()
    assert "big.safetensors: 100%" in sys.stderr.getvalue()
    assert "300k/300k" in sys.stderr.getvalue()
    assert " 197k/300k" in sys.stderr.getvalue()  # where the second try begins
    monkeypatch.undo()
    fetch("small.txt")
    assert capsys.readouterr().err == ""


def test_an_empty_file_is_one(hub, fetch):
    hub.repos["a/b"]["big.safetensors"] = b""
    assert fetch("big.safetensors") == b""


def test_a_file_that_is_not_optional(fetch):
    with pytest.raises(DownloadError, match=r"none.txt can't be fetched: no such file.*\(HTTP 404"):
        fetch("none.txt")


# Other processes


def start(code, hub, tmp_path):
    """Run a line of Python in a process of its own: `fetch()` fetches the large file to `to`."""
    url = f"{hub.url}/a/b/resolve/main/big.safetensors"
    path = tmp_path / "to" / "big.safetensors"
    setup = "import sys; from pathlib import Path\n"
    setup += "from picogpt.checkpoint.download import fetch_file\n"
    setup += f"fetch = lambda: fetch_file({url!r}, Path({str(path)!r}))\n"
    words = [sys.executable, "-c", setup + code]
    return subprocess.Popen(words, cwd=ROOT, stderr=subprocess.PIPE, text=True)


def wait_for(condition):
    for _ in range(12000):
        if condition():
            return
        time.sleep(0.01)
    raise AssertionError("it never came")


def part_size(tmp_path):
    return sum(part.stat().st_size for part in (tmp_path / "to").glob("*.part"))


def test_kill_9_then_resume(hub, fetch, tmp_path):
    held = threading.Event()
    hub.faults["big.safetensors"] = [{"drop": 200_000, "hold": held}]
    process = start("fetch()", hub, tmp_path)
    wait_for(lambda: part_size(tmp_path) >= 2 * CHUNK_BYTES)
    process.kill()
    process.communicate()
    held.set()
    assert not (tmp_path / "to" / "big.safetensors").exists()
    assert fetch() == DATA
    assert hub.got("big.safetensors")[-1].status == 206


@pytest.mark.parametrize("etag", ['"cdn-{}"', ""])
def test_two_processes_at_once(hub, fetch, tmp_path, etag):
    hub.habits = {"etag": etag}
    held = threading.Event()
    hub.faults["big.safetensors"] = [{"drop": n, "hold": held} for n in (100_000, 200_000)]
    processes = [start("fetch()", hub, tmp_path) for _ in range(2)]
    wait_for(lambda: len(hub.got("big.safetensors")) == 2)
    wait_for(lambda: part_size(tmp_path) >= CHUNK_BYTES)
    held.set()
    assert [process.communicate()[1] for process in processes] == ["", ""]
    assert [process.returncode for process in processes] == [0, 0]
    assert fetch() == DATA
    assert len(hub.got("big.safetensors")) == 2


@pytest.mark.parametrize("etag", ['"cdn-{}"', ""])
@pytest.mark.parametrize(
    "fault",
    [
        {"drop": 200_000, "hold": True},  # writes its end to a file that has its name by then
        {"wait": True},  # writes all to a file that is not needed any more
        {"wait": True, "drop": 200_000},  # ... and fails
    ],
)
def test_one_overtakes_the_other(hub, fetch, tmp_path, fault, etag):
    hub.habits = {"etag": etag}
    go_on, path = threading.Event(), tmp_path / "to" / "big.safetensors"
    hub.faults["big.safetensors"] = [{k: go_on if v is True else v for k, v in fault.items()}]
    url = f"{hub.url}/a/b/resolve/main/big.safetensors"
    with ThreadPoolExecutor() as pool:
        slow = pool.submit(fetch_file, url, path)
        wait_for(lambda: hub.got("big.safetensors"))
        wait_for(lambda: "wait" in fault or part_size(tmp_path) >= 2 * CHUNK_BYTES)
        if WINDOWS_RULES and "wait" not in fault:  # there, what is open can't be renamed
            with pytest.raises(DownloadError, match="nothing else uses it"):
                fetch_file(url, path)
        else:
            fetch_file(url, path)
        inode = path.exists() and path.stat().st_ino
        go_on.set()
        assert slow.result() is True
    assert fetch() == DATA
    assert inode in (False, path.stat().st_ino)  # who maps it into memory keeps the file


def test_the_part_is_taken_away_before_it_is_opened(hub, fetch, tmp_path, monkeypatch):
    hub.faults["small.txt"] = [{"drop": 200_000}, 403]
    hub.repos["a/b"]["small.txt"] = DATA
    with pytest.raises(DownloadError):
        fetch("small.txt")

    def another_process_finishes(*_, **__):
        [part] = (tmp_path / "to").glob("*.part")
        part.write_bytes(DATA)
        part.rename(tmp_path / "to" / "small.txt")
        monkeypatch.undo()
        return real(*_, **__)

    real = requests.get
    monkeypatch.setattr(requests, "get", another_process_finishes)
    assert fetch("small.txt") == DATA


def test_no_space_left(hub, fetch, tmp_path):
    pytest.importorskip("resource")
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))\n"
    code = "try: fetch()\nexcept OSError as error: print(type(error), error, file=sys.stderr)"
    error = start(limit + code, hub, tmp_path).communicate()[1]
    assert "DownloadError" in error and "big.safetensors can't be written" in error
    assert "check the free space" in error and error.count("\n") == 1
    assert not list((tmp_path / "to").iterdir())
    assert fetch() == DATA
