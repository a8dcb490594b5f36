"""Find a model on this machine; else fetch it from the Hugging Face hub, resume, verify, put in place.

A file on its way is NAME.ETAG.part: the ETag is the server's name for one version of a file, so two
processes that fetch the same version write the same bytes to the same places, and need no lock.
"""

import functools
import hashlib
import json
import os
import re
import shutil
import sys
import threading
import time
from pathlib import Path
from urllib.parse import quote, unquote, urljoin, urlsplit

from picogpt.errors import CheckpointError, DownloadError, UsageError

MODEL_IDS = {
    "124M": "openai-community/gpt2",
    "355M": "openai-community/gpt2-medium",
    "774M": "openai-community/gpt2-large",
    "1558M": "openai-community/gpt2-xl",
}
OLD_NAMES = {hub_id.split("/")[1]: size for size, hub_id in MODEL_IDS.items()}  # gpt2 is 124M
HUB_ID = re.compile(r"(?!.*(--|\.\.))\w([\w.-]{0,94}\w)?/\w([\w.-]{0,94}\w)?", re.ASCII)
SHARD_NAME = re.compile(r"\w[\w.-]*\.safetensors", re.ASCII)  # no slash: it stays in its folder
WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
PACKAGE = Path(__file__).resolve().parent
TINY_FOLDERS = [PACKAGE.parent / "weights" / "tiny", PACKAGE / "tiny"]  # checkout, installed

FIRST_ANSWER_SECONDS = 2  # then the built-in model takes over
TIMEOUTS = (10, 30)  # seconds to connect, and between two pieces of an answer
RETRY_WAITS = (0.5, 1, 2)  # seconds, unless the server asks for another time
LONGEST_WAIT = 30  # seconds, whatever it asks for
CHUNK_BYTES = 4096  # all that a download that breaks or is killed can lose
REASONS = {
    401: "no such model, or private: check the name or set HF_TOKEN",
    403: "access refused: accept the model's terms on its page and set HF_TOKEN",
    404: "no such file: check the name",
    429: "too many requests: wait a few minutes and try again",
    500: "the server is in trouble: try again later",
}


def models_dir_default():
    """Where models live: weights/ of a checkout, else ~/.cache/picogpt."""
    if any((PACKAGE.parent / name).is_file() for name in ("setup.cfg", "pyproject.toml")):
        return PACKAGE.parent / "weights"
    return Path.home() / ".cache" / "picogpt"


def resolve_model(name=None, models_dir=None):
    """The folder of the model that a command uses: the one named, else 124M, else the built-in.

    A model asked for by name is found, fetched or refused. Without a name, 124M is taken from disk
    or fetched; where that fails, tiny takes over and one line on stderr says so. Raises what
    find_model and fetch_model raise.
    """
    if name is not None:
        return find_model(name, models_dir) or fetch_model(name, models_dir)
    if folder := find_model("124M", models_dir):
        return folder
    try:
        _expect_answer(_hub_url(MODEL_IDS["124M"], "config.json"))
        return fetch_model("124M", models_dir)
    except DownloadError as error:
        if not (tiny := find_model("tiny")):
            raise
        notice = f"124M can't be had ({error}), so the built-in model, tiny, takes its place; "
        print(notice + 'it tells stories: try the prompt "Once upon a time"', file=sys.stderr)
        return tiny


def find_model(name, models_dir=None):
    """The folder of a complete model on this machine, or None.

    `name` is a size, tiny, a folder (returned as it is), or a hub id, looked for in `models_dir`
    and then in the user's Hugging Face cache. Raises UsageError for a name that is none of these,
    CheckpointError for a path to no folder.
    """
    name = os.fspath(name)
    path = os.path.expanduser(name)  # noqa: PTH111 - pathlib's raises on an unknown ~user
    if name == "tiny":
        folders = TINY_FOLDERS
    elif name not in MODEL_IDS and os.path.isdir(path):  # noqa: PTH112 - and on an overlong name
        return Path(path)
    else:
        hub_id, folder_name = _identify(name)
        folders = [Path(models_dir or models_dir_default()) / folder_name, *_cached(hub_id)]
    return next(filter(_is_complete, folders), None)


def fetch_model(name, models_dir=None):
    """Fetch a model from the hub into a folder of `models_dir`, and return that folder.

    `name` is a size or a hub id; files that are there already stay. Honours HF_ENDPOINT, HF_TOKEN
    and HF_HUB_OFFLINE. Raises DownloadError, and find_model's errors for a name that is no hub id.
    """
    import requests

    hub_id, folder_name = _identify(os.fspath(name))
    folder = Path(models_dir or models_dir_default()) / folder_name

    def fetch(file):  # False: the repository has no such file
        url = _hub_url(hub_id, file)
        if not (folder / file).exists():
            if (announced := _look_up(url, session)) is None:
                return False
            fetch_file(url, folder / file, _token(), *announced, session)
        return True

    with requests.Session() as session:
        if not fetch("config.json"):
            raise DownloadError(f"{hub_id} holds no config.json, or is not there: check the name")
        if not (fetch("vocab.json") and fetch("merges.txt") or fetch("tokenizer.json")):
            raise DownloadError(f"{hub_id} holds no vocab.json and merges.txt, nor tokenizer.json")
        fetch("generation_config.json")
        if fetch(WEIGHTS):
            return folder
        if not fetch(INDEX):
            raise DownloadError(
                f"{hub_id} holds no {WEIGHTS}; if it holds a pickle (pytorch_model.bin), which is "
                "never opened here because it can run code, convert it with transformers, "
                'GPT2LMHeadModel and GPT2TokenizerFast, each with .from_pretrained("'
                f'{hub_id}").save_pretrained("NEW_FOLDER"), and name that folder'
            )
        for shard in _shard_names(folder / INDEX):
            if not fetch(shard):
                raise DownloadError(f"{hub_id} lacks {shard}, which its index names")
    return folder


def fetch_file(url, path, token=None, expected_size=None, expected_sha256=None, session=None):
    """Fetch `url` to `path`, going on where an earlier try ended; a `path` that is there stays.

    It comes into place only whole and as expected (bytes, hex digits). The token goes to no host
    but that of `url`. Raises DownloadError; what came so far is kept unless it is wrong.
    """
    path, failures = Path(path), 0
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        while not path.exists():
            before = _partial(path)[1]
    except DownloadError:
        raise
    except OSError as error:
        raise DownloadError(
            f"{path} could not be written ({error.strerror or error}): check the free space and "
            "the permissions of its folder, then run this again"
        ) from error
