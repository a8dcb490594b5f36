"""A hub that answers like Hugging Face's, and a machine without settings of its user's."""

import json
from types import SimpleNamespace

import pytest
from hub import DATA, MEDIUM, Hub
from models import small_folder
from safetensors.numpy import load_file, save_file

from picogpt.checkpoint import connection, download
from picogpt.checkpoint import hub as models
from picogpt.checkpoint.download import fetch_file

HUB_VARIABLES = (
    "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HOME", "XDG_CACHE_HOME", "HF_ENDPOINT",
    "HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE",
    "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSLKEYLOGFILE",
)  # fmt: skip
PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")


@pytest.fixture(autouse=True)
def clean(monkeypatch, tmp_path):
    """No settings of the user's, no built-in model; waits are recorded instead of waited."""
    for name in (*HUB_VARIABLES, *PROXIES, *map(str.lower, PROXIES)):
        monkeypatch.delenv(name, raising=False)
    for name in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(name, str(tmp_path / "home"))
    monkeypatch.setattr(connection, "ANSWERED", set())
    monkeypatch.setattr(models, "TINY_FOLDERS", [tmp_path / "tiny"])
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
