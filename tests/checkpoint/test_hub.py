"""Finding models and fetching them, against a real HTTP server that answers like the hub."""

import io
import json
import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import requests
from hub import Hub, silent_server
from models import small_folder
from safetensors.numpy import load_file, save_file

import picogpt
from picogpt.checkpoint import hub as download
from picogpt.checkpoint.hub import CHUNK_BYTES, fetch_file, find_model, resolve_model
from picogpt.tools.errors import CheckpointError, DownloadError, UsageError

ROOT = Path(__file__).resolve().parents[2]
DATA = np.random.default_rng(0).bytes(300_000)  # five chunks
MEDIUM = "openai-community/gpt2-medium"
HUB_VARIABLES = ("HF_HUB_CACHE", "HF_HOME", "HF_TOKEN", "HF_HUB_OFFLINE", "HF_ENDPOINT")
PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")


@pytest.fixture(autouse=True)
def clean(monkeypatch, tmp_path):
    """No settings of the user's, no built-in model; waits are recorded instead of waited."""
    for name in (*HUB_VARIABLES, "XDG_CACHE_HOME", *PROXIES, *map(str.lower, PROXIES)):
        monkeypatch.delenv(name, raising=False)
    for name in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(name, str(tmp_path / "home"))
    monkeypatch.setattr(download, "TINY_FOLDERS", [tmp_path / "tiny"])
    waits = []
    monkeypatch.setattr(download, "time", SimpleNamespace(sleep=waits.append))
    return waits


@pytest.fixture(scope="session")
def files(tmp_path_factory):
    """A small model's files, {name: bytes}."""
    folder = small_folder(tmp_path_factory.mktemp("model"), generation={"do_sample": False})
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture(scope="session")
def sharded(files, tmp_path_factory):
    """The same model with its weights in two files and an index."""
    folder = tmp_path_factory.mktemp("shards")
    (folder / "whole").write_bytes(files["model.safetensors"])
    tensors, shards, weight_map = load_file(folder / "whole"), {}, {}
    for i in range(2):
        name = f"model-0000{i + 1}-of-00002.safetensors"
        part = dict(list(tensors.items())[i::2])
        save_file(part, folder / name, {"format": "pt"})
        shards[name] = (folder / name).read_bytes()
        weight_map |= dict.fromkeys(part, name)
    index = json.dumps({"weight_map": weight_map}).encode()
    rest = {name: data for name, data in files.items() if name != "model.safetensors"}
    return {**rest, **shards, "model.safetensors.index.json": index}


@pytest.fixture
def hub(monkeypatch, files):
    """A hub with the small model as gpt2-medium, and a few loose files in a/b."""
    loose = {"big.safetensors": DATA, "small.txt": b"a few words"}
    hub = Hub({MEDIUM: dict(files), "a/b": loose})
    monkeypatch.setenv("HF_ENDPOINT", hub.url + "/")
    yield hub
    hub.close()


@pytest.fixture
def fetch(hub, tmp_path):
    """Fetch one of the loose files to the folder `to`, where no part of it should be left."""

    def fetch(file="big.safetensors", **options):
        path = tmp_path / "to" / file
        fetch_file(f"{hub.url}/a/b/resolve/main/{file}", path, **options)
        assert not list(path.parent.glob("*.part"))
        return path.read_bytes()

    return fetch


def sentence(error):
    """The error's text, which is one line."""
    text = str(error.value)
    assert "\n" not in text
    return text


def write(folder, files):
    folder.mkdir(parents=True)
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return folder


# Which model


def test_a_size_is_fetched_once_and_found_from_then_on(hub, files, tmp_path, clean):
    folder = find_model("355M", tmp_path / "models")
    assert folder == tmp_path / "models" / "355M"
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == files
    n_requests = len(hub.seen)
    assert find_model("355M", tmp_path / "models") == folder
    assert find_model(MEDIUM, tmp_path / "models") == folder
    assert find_model("gpt2-medium", str(tmp_path / "models")) == folder
    assert len(hub.seen) == n_requests
    assert clean == []


def test_load_takes_a_hub_id(hub, sharded, tmp_path):
    hub.repos["some.one/their-gpt2"] = sharded
    model = picogpt.load("some.one/their-gpt2", tmp_path)
    assert np.isfinite(picogpt.logits(model, [1, 2, 3])).all()
    assert (tmp_path / "some.one--their-gpt2").is_dir()


def test_a_renamed_model_is_followed(hub, files, tmp_path):
    hub.moved["old/name"] = MEDIUM
    folder = find_model("old/name", tmp_path)
    assert {path.name for path in folder.iterdir()} == files.keys()


def test_a_tokenizer_json_will_do(hub, tmp_path):
    del hub.repos[MEDIUM]["merges.txt"]
    hub.repos[MEDIUM]["tokenizer.json"] = b"{}"
    assert (find_model("355M", tmp_path) / "tokenizer.json").exists()


def test_a_folder_is_itself_and_the_home_directory_is_known(tmp_path):
    (tmp_path / "home" / "mine").mkdir(parents=True)
    assert find_model("~/mine") == tmp_path / "home" / "mine"
    assert find_model(tmp_path) == tmp_path


def test_a_relative_folder_of_models(files, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = write(tmp_path / "124M", files)
    assert resolve_model(None, ".") == folder  # not 124M, which would be looked for again
    assert picogpt.load(find_model("124M", "."), tmp_path / "none")


def test_tiny_is_the_built_in_model_wherever_one_stands(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny").mkdir()
    with pytest.raises(CheckpointError, match="tiny, the built-in model, is missing"):
        find_model("tiny")


@pytest.mark.parametrize("name", ["125M", "gpt-2", "", "a/b c", "a\0b", "x" * 5000, "../a/b"])
def test_a_name_that_is_nothing(hub, tmp_path, name):
    with pytest.raises((UsageError, CheckpointError)) as error:
        find_model(name, tmp_path)
    assert "owner/name" in sentence(error)
    assert not hub.seen


def test_a_path_to_no_folder_is_no_wrong_usage(tmp_path):
    with pytest.raises(CheckpointError, match="no folder"):
        find_model(f"{tmp_path}/none")


@pytest.mark.parametrize(
    "variable, value, cache",
    [
        ("HF_HUB_CACHE", "{}/x", "x"),
        ("HF_HOME", "{}/y", "y/hub"),
        ("XDG_CACHE_HOME", "{}/z", "z/huggingface/hub"),
        ("HF_HOME", "~/h", "home/h/hub"),
        (None, None, "home/.cache/huggingface/hub"),
    ],
)
@pytest.mark.parametrize("kept_as", ["models--openai-community--gpt2", "models--gpt2"])
def test_the_users_cache_comes_first(files, tmp_path, monkeypatch, variable, value, cache, kept_as):
    if variable:
        monkeypatch.setenv(variable, value.format(tmp_path))
    repo = tmp_path / cache / kept_as
    folder = write(repo / "snapshots" / "607a30d", files)
    write(repo / "refs", {"main": b"607a30d\n"})
    assert resolve_model(None, tmp_path / "models") == folder
    assert find_model("124M", tmp_path / "models") == folder


def test_the_nearest_variable_counts(files, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "y"))
    repo = tmp_path / "y" / "hub" / "models--gpt2"
    folder = write(repo / "snapshots" / "1", files)
    write(repo / "refs", {"main": b"1"})
    assert find_model("124M", tmp_path) == folder
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "empty"))
    with pytest.raises(DownloadError):
        find_model("124M", tmp_path)


@pytest.mark.parametrize(
    "missing", ["config.json", "merges.txt", "model-00002-of-00002.safetensors", "refs/main"]
)
def test_an_incomplete_cache_is_not_used(sharded, tmp_path, monkeypatch, missing):
    monkeypatch.setenv("HF_HUB_OFFLINE", "yes")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    repo = tmp_path / "models--gpt2"
    folder = write(repo / "snapshots" / "1", sharded)
    write(repo / "refs", {"main": b"1"})
    assert find_model("124M", tmp_path) == folder
    (repo if "/" in missing else folder).joinpath(missing).unlink()
    with pytest.raises(DownloadError, match="HF_HUB_OFFLINE"):
        find_model("124M", tmp_path)


# The built-in model


def test_without_a_name_124m_is_fetched(hub, files, tmp_path, capsys):
    hub.repos["openai-community/gpt2"] = files
    assert resolve_model(None, tmp_path) == tmp_path / "124M"
    assert capsys.readouterr().err == ""


def takes_over(tmp_path, capsys):
    """Check that tiny takes over, and give back the line that says so."""
    tiny = small_folder(tmp_path / "tiny")
    assert resolve_model(None, tmp_path / "models") == tiny
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.count("\n") == 1
    assert "tiny" in printed.err and '"Once upon a time"' in printed.err
    return printed.err


def test_without_a_network_tiny_takes_over_at_once(tmp_path, monkeypatch, capsys, clean):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")  # nobody listens there
    assert "check the network" in takes_over(tmp_path, capsys)
    assert clean == []


def test_a_server_that_never_answers_is_given_up(tmp_path, monkeypatch, capsys):
    with silent_server(5) as url:  # who waits for it gets a model and fails this test
        monkeypatch.setenv("HF_ENDPOINT", url)
        assert "TimeoutError" in takes_over(tmp_path, capsys)


def test_offline_tiny_takes_over(hub, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("HF_HUB_OFFLINE", "True")
    assert "HF_HUB_OFFLINE" in takes_over(tmp_path, capsys)
    assert not hub.seen


def test_a_hub_in_trouble_lets_tiny_take_over(hub, files, tmp_path, capsys):
    assert "no such model" in takes_over(tmp_path, capsys)
    hub.repos["openai-community/gpt2"] = files
    hub.faults["model.safetensors"] = [503] * 4
    assert "in trouble" in takes_over(tmp_path, capsys)
    assert resolve_model(None, tmp_path / "models") == tmp_path / "models" / "124M"


@pytest.mark.usefixtures("hub")
def test_a_model_asked_for_by_name_never_falls_back(tmp_path, capsys):
    small_folder(tmp_path / "tiny")
    with pytest.raises(DownloadError, match="no such model, or private"):
        resolve_model("774M", tmp_path)
    assert capsys.readouterr().err == ""


@pytest.mark.usefixtures("hub")
def test_where_even_tiny_is_missing(tmp_path):
    with pytest.raises(DownloadError, match="no such model.*; tiny, .*, is missing too"):
        resolve_model(None, tmp_path)
    with pytest.raises(CheckpointError, match="tiny, the built-in model, is missing"):
        resolve_model("tiny", tmp_path)
    tiny = small_folder(tmp_path / "tiny")
    assert resolve_model("tiny") == tiny


def test_the_command_says_one_sentence(tmp_path):
    words = [sys.executable, "gpt2.py", "--model_size=355M", f"--models_dir={tmp_path}", "x"]
    env = {**os.environ, "HF_ENDPOINT": "http://127.0.0.1:9"}
    done = subprocess.run(words, cwd=ROOT, env=env, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.count("\n") == 1 and "check the network" in done.stderr


# What the hub refuses, and what it lacks


@pytest.mark.parametrize(
    "status, said",
    [
        (401, "no such model, or private: check the name or set HF_TOKEN"),
        (403, "accept the model's terms"),
        (418, "the server refuses it (HTTP 418)"),
    ],
)
def test_refusals(hub, tmp_path, clean, status, said):
    hub.faults["config.json"] = [status]
    with pytest.raises(DownloadError) as error:
        find_model("355M", tmp_path)
    assert said in sentence(error)
    assert clean == [] and not list(tmp_path.glob("355M/*"))


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_busy_server_is_asked_again(hub, tmp_path, clean, status):
    hub.faults["config.json"] = [(status, {"Retry-After": "3"}), status, status]
    assert find_model("355M", tmp_path)
    assert clean == [3, 1, 2]


@pytest.mark.parametrize("status, said", [(429, "too many requests"), (502, "in trouble")])
def test_a_server_that_stays_busy(hub, tmp_path, clean, status, said):
    hub.faults["model.safetensors"] = [status] * 9
    with pytest.raises(DownloadError) as error:
        find_model("355M", tmp_path)
    assert said in sentence(error)
    assert clean == list(download.RETRY_WAITS)


def test_a_server_that_asks_for_an_hour_is_left_alone(hub, tmp_path, clean):
    hub.faults["config.json"] = [(429, {"Retry-After": "3600"})]
    with pytest.raises(DownloadError, match="too many requests"):
        find_model("355M", tmp_path)
    assert clean == []


@pytest.mark.parametrize("missing", ["config.json", "merges.txt", "model.safetensors"])
def test_a_model_that_lacks_a_file(hub, tmp_path, missing):
    del hub.repos[MEDIUM][missing]
    with pytest.raises(DownloadError, match="check the name.*save_pretrained") as error:
        find_model("355M", tmp_path)
    sentence(error)


@pytest.mark.parametrize("page", [b"<html>please log in</html>", b""])
@pytest.mark.parametrize("file", ["config.json", "vocab.json"])
def test_a_page_to_log_in_is_not_kept(hub, tmp_path, file, page):
    right, hub.repos[MEDIUM][file] = hub.repos[MEDIUM][file], page
    with pytest.raises(DownloadError, match=f"{file} came damaged .* and was deleted"):
        find_model("355M", tmp_path)
    hub.repos[MEDIUM][file] = right
    assert find_model("355M", tmp_path)


def test_what_an_older_tokenizer_adds_is_fetched_too(hub, tmp_path):
    added = {"added_tokens.json": b"{}", "special_tokens_map.json": b"{ }"}
    hub.repos[MEDIUM] |= added
    folder = find_model("355M", tmp_path)
    assert {name: (folder / name).read_bytes() for name in added} == added


def test_an_empty_file_is_one(hub, fetch):
    hub.repos["a/b"]["big.safetensors"] = b""
    assert fetch("big.safetensors") == b""


def test_a_file_that_is_not_optional(fetch):
    with pytest.raises(DownloadError, match=r"none.txt can't be fetched: no such file.*\(HTTP 404"):
        fetch("none.txt")


def test_another_architecture_is_refused_before_its_weights_come(hub, tmp_path):
    hub.repos[MEDIUM]["config.json"] = b'{"model_type": "llama"}'
    with pytest.raises(CheckpointError, match="llama"):
        find_model("355M", tmp_path)
    assert not hub.got("model.safetensors")


@pytest.mark.parametrize("name", ["../evil.safetensors", "..\\evil.safetensors", "C:evil", "/evil"])
def test_a_shard_never_leads_outside_the_folder(hub, sharded, tmp_path, name):
    index = json.dumps({"weight_map": {"wte.weight": name}}).encode()
    hub.repos["e/vil"] = {**sharded, "model.safetensors.index.json": index, name: b"evil"}
    with pytest.raises(CheckpointError, match="lacks the shard"):
        find_model("e/vil", tmp_path / "models")
    assert not [seen for seen in hub.seen if "evil" in seen.file]
    assert not [path for path in tmp_path.rglob("*") if "evil" in path.name]


def test_a_missing_shard(hub, sharded, tmp_path):
    hub.repos["a/b"] = {**sharded}
    del hub.repos["a/b"]["model-00002-of-00002.safetensors"]
    with pytest.raises(DownloadError, match="a/b lacks"):
        find_model("a/b", tmp_path)


@pytest.mark.parametrize("endpoint", ["huggingface.co", "http://[::1", "http://" + "a" * 70 + ".b"])
def test_an_endpoint_that_is_no_address(tmp_path, monkeypatch, endpoint):
    monkeypatch.setenv("HF_ENDPOINT", endpoint)
    with pytest.raises(DownloadError, match="no web address") as error:
        find_model("355M", tmp_path)
    sentence(error)


# The token


def test_the_token_stays_with_the_hub(hub, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", " hf_secret\n")
    find_model("355M", tmp_path)
    at_the_hub = [seen for seen in hub.seen if seen.server != "cdn" and seen.method == "GET"]
    assert {seen.headers["Authorization"] for seen in at_the_hub} == {"Bearer hf_secret"}
    assert {seen.server for seen in at_the_hub} == {"hub", "cache"}
    assert "Authorization" not in hub.got("model.safetensors")[0].headers  # it is another port


def test_the_token_goes_before_netrc(hub, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    netrc = write(tmp_path / "etc", {"netrc": b"machine 127.0.0.1 login me password other"})
    monkeypatch.setenv("NETRC", str(netrc / "netrc"))
    find_model("355M", tmp_path)
    asked = hub.got("model.safetensors", server="hub")
    assert asked[0].headers["Authorization"] == "Bearer hf_secret"


@pytest.mark.usefixtures("hub")
@pytest.mark.parametrize("token", ["two\nlines", "비밀"])
def test_a_token_that_is_none_is_not_repeated(tmp_path, monkeypatch, token):
    monkeypatch.setenv("HF_TOKEN", token)
    with pytest.raises(DownloadError, match="HF_TOKEN is no token") as error:
        find_model("355M", tmp_path)
    assert "lines" not in sentence(error) and "비밀" not in sentence(error)


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


# Other processes


def start(code, hub, tmp_path):
    """Run a line of Python in a process of its own: `fetch()` fetches the large file to `to`."""
    url = f"{hub.url}/a/b/resolve/main/big.safetensors"
    path = tmp_path / "to" / "big.safetensors"
    setup = "import sys; from pathlib import Path; from picogpt.checkpoint.hub import fetch_file\n"
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
        fetch_file(url, path)
        inode = path.stat().st_ino
        go_on.set()
        assert slow.result() is True
    assert fetch() == DATA
    assert path.stat().st_ino == inode  # who maps it into memory keeps the file


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
