"""Finding models and fetching them, against a real HTTP server that answers like the hub."""

import builtins
import json
import os
import socket
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import requests
from hub import MEDIUM, sentence, silent_server, write
from models import small_folder

import picogpt
from picogpt.checkpoint.download import RETRY_WAITS, within
from picogpt.checkpoint.hub import find_model, resolve_model
from picogpt.tools.errors import (
    CheckpointError,
    DownloadError,
    UnsupportedTokenizerError,
    UsageError,
)

ROOT = Path(__file__).resolve().parents[2]


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


@pytest.mark.parametrize("name", ["124M", None])
def test_an_empty_folder_of_models_is_not_the_current_one(tmp_path, monkeypatch, name):
    """As --models_dir "$MODELS" where the variable is not set."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match="^--models_dir must be a folder, not ''$"):
        resolve_model(name, "")
    assert list(tmp_path.iterdir()) == []


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


def test_a_file_of_a_model_is_no_hub_id(hub, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("model").mkdir()
    Path("model", "config.json").write_text("{}")
    with pytest.raises(CheckpointError, match="config.json is a file: name the folder that it is"):
        find_model("model/config.json")
    assert not hub.seen


@pytest.mark.parametrize("name", [124, b"tiny", ["tiny"], 1.5])
def test_a_name_that_is_no_text(name):
    with pytest.raises(UsageError, match="^a model's name is a text or a path, not "):
        find_model(name)


def test_a_path_to_no_folder_is_no_wrong_usage(tmp_path):
    with pytest.raises(CheckpointError, match="no folder"):
        find_model(f"{tmp_path}/none")


@pytest.mark.parametrize(
    "variable, value, cache",
    [
        ("HF_HUB_CACHE", "{}/x", "x"),
        ("HF_HUB_CACHE", "~/x", "home/x"),
        ("HF_HUB_CACHE", "$HOME/x", "home/x"),
        ("HUGGINGFACE_HUB_CACHE", "{}/x", "x"),
        ("HUGGINGFACE_HUB_CACHE", "~/x", "home/x"),
        ("HF_HOME", "$HOME/y", "home/y/hub"),
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


@pytest.mark.parametrize("kept_as", ["models--distilbert--distilgpt2", "models--distilgpt2"])
def test_distilgpt2_is_known_by_the_name_it_had_before_models_had_owners(
    hub, files, tmp_path, monkeypatch, kept_as
):
    hub.repos["distilbert/distilgpt2"] = files
    folder = find_model("distilgpt2", tmp_path / "models")
    assert folder == tmp_path / "models" / "distilbert--distilgpt2"
    assert find_model("distilbert/distilgpt2", tmp_path / "models") == folder
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "cache"))
    cached = write(tmp_path / "cache" / kept_as / "snapshots" / "1", files)
    write(tmp_path / "cache" / kept_as / "refs", {"main": b"1"})
    assert find_model("distilgpt2", tmp_path / "others") == cached


def test_what_killed_processes_left_of_a_complete_model_is_deleted(files, tmp_path):
    folder = write(tmp_path / "355M", files)
    (folder / "model.safetensors@%22x%22.part").write_bytes(b"half")
    (folder / "mine.part").write_bytes(b"mine")
    assert find_model("355M", tmp_path) == folder
    assert {path.name for path in folder.iterdir()} == {*files, "mine.part"}


def test_a_model_without_a_tokenizer_of_gpt2s_kind_comes_all_the_same(hub, files, tmp_path):
    tokenizer = {"vocab.json", "merges.txt", "tokenizer_config.json"}
    hub.repos["pro/teins"] = {name: files[name] for name in files.keys() - tokenizer}
    folder = find_model("pro/teins", tmp_path)
    assert {path.name for path in folder.iterdir()} == hub.repos["pro/teins"].keys()
    n_requests = len(hub.seen)
    assert find_model("pro/teins", tmp_path) == folder and len(hub.seen) == n_requests


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
    assert printed.err.count("\n") == 1 and len(printed.err) <= 120
    assert printed.err.endswith("the built-in tiny takes over; --model_size tiny is quiet\n")
    assert "://" not in printed.err
    return printed.err


def test_without_a_network_tiny_takes_over_at_once(tmp_path, monkeypatch, capsys, clean):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")  # nobody listens there
    assert "124M can't be had (no connection): " in takes_over(tmp_path, capsys)
    assert clean == []


def test_a_server_that_never_answers_is_given_up(tmp_path, monkeypatch, capsys):
    with silent_server(5) as url:  # who waits for it gets a model and fails this test
        monkeypatch.setenv("HF_ENDPOINT", url)
        assert "(no connection)" in takes_over(tmp_path, capsys)


@pytest.mark.parametrize("variable", ["HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"])
@pytest.mark.parametrize("value", ["True", "1", "on"])
def test_offline_tiny_takes_over(hub, tmp_path, monkeypatch, capsys, variable, value):
    monkeypatch.setenv(variable, value)
    assert f"({variable} is set)" in takes_over(tmp_path, capsys)
    with pytest.raises(DownloadError, match=f"774M.*: unset {variable}|gpt2-large.*: unset"):
        find_model("774M", tmp_path)
    assert not hub.seen


def test_the_hubs_own_variable_for_offline_goes_first(hub, tmp_path, monkeypatch):
    monkeypatch.setenv("TRANSFORMERS_OFFLINE", "1")
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    assert find_model("355M", tmp_path) and hub.seen


@pytest.mark.parametrize(
    "variables, reason",
    [
        ({"REQUESTS_CA_BUNDLE": "/no/such/ca.pem"}, "the trusted certificates can't be read"),
        ({"CURL_CA_BUNDLE": __file__}, "the trusted certificates can't be read"),
        ({"SSLKEYLOGFILE": "/no/such/keys"}, "the trusted certificates can't be read"),
        ({"ALL_PROXY": "socks5h://127.0.0.1:9"}, "a SOCKS proxy is set without PySocks"),
        ({"HTTPS_PROXY": "http://127.0.0.1:9"}, "the proxy gives no connection"),
        ({"HTTPS_PROXY": "fax://127.0.0.1:9"}, "the proxy gives no connection"),
        ({"HTTPS_PROXY": "http://[::1"}, "that is no web address"),
        ({"HF_ENDPOINT": "huggingface.co"}, "that is no web address"),
        ({"HF_TOKEN": "비밀"}, "HF_TOKEN is no token"),
    ],
    ids=str,
)
def test_tiny_takes_over_and_the_real_cause_is_named(
    tmp_path, monkeypatch, capsys, variables, reason
):
    if "PySocks" in reason and find_spec("socks"):
        pytest.skip("PySocks is here")
    if "SSLKEYLOGFILE" in variables and hasattr(requests.adapters, "_preloaded_ssl_context"):
        pytest.skip("this version of requests has read it by now")
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setenv("HF_ENDPOINT", f"https://127.0.0.1:{server.getsockname()[1]}")
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        assert f"124M can't be had ({reason}" in takes_over(tmp_path, capsys)
        with pytest.raises(DownloadError, match=reason) as error:
            find_model("774M", tmp_path)
    sentence(error)


@pytest.mark.usefixtures("hub")
def test_tiny_takes_over_where_requests_cannot_be_imported(tmp_path, monkeypatch, capsys):
    import_module = builtins.__import__

    def fails(name, *rest):
        if name == "requests":  # as 2.32.3 does where SSLKEYLOGFILE is in no folder
            raise FileNotFoundError(2, "No such file or directory", "/no/such/keys")
        return import_module(name, *rest)

    monkeypatch.setattr(builtins, "__import__", fails)
    assert "the trusted certificates can't be read" in takes_over(tmp_path, capsys)


@pytest.mark.usefixtures("hub")
def test_a_machine_without_shared_memory_or_threads_to_spare(tmp_path, monkeypatch):
    class NoSemaphore:
        SEM_VALUE_MAX = 1

        def __init__(self, *_):
            raise OSError(38, "Function not implemented")

    def no_thread(_):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr("_multiprocessing.SemLock", NoSemaphore)
    assert resolve_model("355M", tmp_path / "a")
    monkeypatch.setattr("threading.Thread.start", no_thread)
    done = []
    within(5, lambda: done.append("all the same"))
    assert done


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
        (418, "the server refuses it: try again later (HTTP 418)"),
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
    assert clean == list(RETRY_WAITS)


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
    said = f"{file} can't be fetched: a web page came in its place: log in to the network"
    if not page:
        said = f"{file} came damaged .* and was deleted"
    with pytest.raises(DownloadError, match=said):
        find_model("355M", tmp_path)
    assert not list(tmp_path.rglob("*.part")) and not list(tmp_path.rglob(file))
    hub.repos[MEDIUM][file] = right
    assert find_model("355M", tmp_path)


def test_what_an_older_tokenizer_adds_is_fetched_too(hub, tmp_path):
    added = {"added_tokens.json": b"{}", "special_tokens_map.json": b"{ }"}
    hub.repos[MEDIUM] |= added
    folder = find_model("355M", tmp_path)
    assert {name: (folder / name).read_bytes() for name in added} == added


def test_a_tokenizer_of_another_kind_is_refused_before_the_weights_come_where_text_is_needed(
    hub, tmp_path
):
    files = hub.repos[MEDIUM]
    words = {"model": {"type": "WordLevel", "vocab": {"M": 0}}, "pre_tokenizer": None}
    kept = {name: files[name] for name in ("config.json", "model.safetensors")}
    hub.repos["me/proteins"] = kept | {"tokenizer.json": json.dumps(words).encode()}
    with pytest.raises(UnsupportedTokenizerError, match="its model is WordLevel"):
        picogpt.load("me/proteins", tmp_path, needs_text=True)
    assert not hub.got("model.safetensors")
    assert picogpt.load("me/proteins", tmp_path).encoder is None


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


@pytest.mark.parametrize("name", ["HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"])
def test_a_token_that_has_expired_is_left_out(hub, files, tmp_path, monkeypatch, capsys, name):
    monkeypatch.setenv(name, "hf_expired")
    hub.habits = {"bad_token": True}
    folder = find_model("355M", tmp_path)
    assert {path.name for path in folder.iterdir()} == files.keys()
    assert capsys.readouterr().err == "HF_TOKEN is wrong or has expired: going on without it\n"
    refused = [seen for seen in hub.seen if seen.method == "GET" and seen.status == 401]
    assert len(refused) == 1  # and not for each of the files
    with pytest.raises(DownloadError, match="private and HF_TOKEN is wrong or has expired"):
        find_model("pri/vate", tmp_path)


@pytest.mark.usefixtures("hub")
@pytest.mark.parametrize("token", ["two\nlines", "비밀"])
def test_a_token_that_is_none_is_not_repeated(tmp_path, monkeypatch, token):
    monkeypatch.setenv("HF_TOKEN", token)
    with pytest.raises(DownloadError, match="HF_TOKEN is no token") as error:
        find_model("355M", tmp_path)
    assert "lines" not in sentence(error) and "비밀" not in sentence(error)
