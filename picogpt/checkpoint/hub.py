"""Find a model on this machine; else fetch it from the Hugging Face hub, resume and verify it.

A file on its way is NAME@ETAG.part: the ETag is the server's name for one version of a file, so two
processes that fetch the same version write the same bytes to the same places, and need no lock.
"""

import hashlib
import math
import os
import re
import sys
import time
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote, unquote

import numpy as np

from picogpt.checkpoint.config import load_config
from picogpt.checkpoint.weights import INDEX, WEIGHTS, shard_names, weight_files
from picogpt.tools.errors import CheckpointError, DownloadError, PicoGPTError, UsageError

MODEL_IDS = {
    "124M": "openai-community/gpt2",
    "355M": "openai-community/gpt2-medium",
    "774M": "openai-community/gpt2-large",
    "1558M": "openai-community/gpt2-xl",
}
SIZES = {hub_id: size for size, hub_id in MODEL_IDS.items()}
SIZES |= {hub_id.split("/")[1]: size for hub_id, size in SIZES.items()}  # gpt2: its old name
PACKAGE = Path(__file__).resolve().parents[1]
TINY_FOLDERS = [PACKAGE.parent / "weights" / "tiny", PACKAGE / "tiny"]  # checkout, installed
TIMEOUTS = (10, 30)  # seconds to connect, and between two pieces of an answer
RETRY_WAITS = (0.5, 1, 2)  # seconds, or more if the server asks for it
LONGEST_WAIT = 10  # seconds; a server that asks for more is not asked again
CHUNK_BYTES = 2**16  # all that a download that breaks or is killed can lose
REASONS = {
    401: "no such model, or private: check the name or set HF_TOKEN",
    403: "access refused: accept the model's terms on its page and set HF_TOKEN",
    404: "no such file: check the name",
    429: "too many requests: wait a few minutes and try again",
    500: "the server is in trouble: try again later",
}


def resolve_model(name=None, models_dir=None):
    """The folder of the model that a command uses: the one named, else 124M, else the built-in.

    A model asked for by name is found, fetched or refused (find_model says how). Without a name,
    124M is found or fetched; where that fails, tiny takes over and one line on stderr says so.
    """
    if name is not None:
        return find_model(name, models_dir)
    try:
        return find_model("124M", models_dir, patience=2)
    except PicoGPTError as error:
        tiny = next(filter(is_complete, TINY_FOLDERS), None)
        if tiny is None:
            raise DownloadError(f"{error}; tiny, the built-in model, is missing too") from None
        notice = f"124M can't be had ({error}), so the built-in model, tiny, takes its place; "
        print(notice + 'it tells stories: try the prompt "Once upon a time"', file=sys.stderr)
        return tiny


def find_model(name, models_dir=None, patience=10):
    """The folder of a model: given, found on this machine, or else fetched from the hub.

    `name` is a size, tiny, a folder, or a hub id; models live in `models_dir` (weights/ of a
    checkout, else ~/.cache/picogpt) and in the user's Hugging Face cache. Raises UsageError for a
    name that is none of these, CheckpointError for a path to nothing, and fetch_model's errors.
    """
    name = os.fspath(name)
    path = os.path.expanduser(name)  # noqa: PTH111 - pathlib's raises on an unknown ~user
    if name not in (*MODEL_IDS, "tiny") and os.path.isdir(path):  # noqa: PTH112 - on a long name
        return Path(path)
    name = SIZES.get(name, name)
    hub_id = MODEL_IDS.get(name, name)
    if name != "tiny" and not re.fullmatch(r"\w[\w.-]*/\w[\w.-]*", hub_id, re.ASCII):
        wrong = CheckpointError if re.search(r"^[.~]|[/\\]", name) else UsageError
        sizes = ", ".join([*MODEL_IDS, "tiny"])
        raise wrong(f"{name!r} is no folder, no size ({sizes}) and no hub id like owner/name")
    checkout = (PACKAGE.parent / "setup.cfg").is_file()
    models_dir = models_dir or (PACKAGE.parent / "weights" if checkout else "~/.cache/picogpt")
    ours = Path(os.path.expanduser(models_dir)).absolute() / name.replace("/", "--")  # noqa: PTH111
    folders = TINY_FOLDERS if name == "tiny" else [ours, *cached_folders(hub_id)]
    if folder := next(filter(is_complete, folders), None):
        return folder
    if name == "tiny":
        raise CheckpointError(f"tiny, the built-in model, is missing from {TINY_FOLDERS[0]}")
    return fetch_model(hub_id, ours, patience)


def cached_folders(hub_id):
    """Where the user's Hugging Face cache may hold a model, under its new and its old name."""
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    home = os.environ.get("HF_HOME") or f"{cache}/huggingface"
    hub = os.path.expanduser(os.environ.get("HF_HUB_CACHE") or f"{home}/hub")  # noqa: PTH111
    for name in [hub_id, hub_id.split("/")[1]] if hub_id in SIZES else [hub_id]:
        folder = Path(hub, "models--" + name.replace("/", "--"))
        with suppress(OSError, ValueError):
            yield folder / "snapshots" / (folder / "refs" / "main").read_text("utf-8").strip()


def is_complete(folder):
    """Whether a folder holds config, tokenizer and every shard."""
    with suppress(OSError, CheckpointError):
        weight_files(folder)
        files = {path.name for path in folder.iterdir() if path.is_file()}
        tokenizer = files & {"tokenizer.json"} or {"vocab.json", "merges.txt"}
        return {"config.json", *tokenizer} <= files
    return False


def fetch_model(hub_id, folder, patience=10):
    """Fetch what the hub has of a GPT-2 into `folder`, and return it; files that are there stay.

    The hub has `patience` seconds for a first answer. Honours HF_ENDPOINT, HF_TOKEN and
    HF_HUB_OFFLINE. Raises DownloadError, CheckpointError for a model that is no GPT-2.
    """
    endpoint = os.environ.get("HF_ENDPOINT") or "https://huggingface.co"
    url = f"{endpoint.rstrip('/')}/{hub_id}/resolve/main/"
    token = os.environ.get("HF_TOKEN", "").strip()

    def fetch(file):
        return fetch_file(url + file, folder / file, token, optional=True)

    if os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE"):
        raise DownloadError(f"{hub_id} is not on this machine: unset HF_HUB_OFFLINE to fetch it")
    expect_answer(url + "config.json", patience)
    if fetch("config.json"):
        load_config(folder)  # before gigabytes of another architecture come
        (fetch("vocab.json") and fetch("merges.txt")) or fetch("tokenizer.json")
        fetch("tokenizer_config.json")
        fetch("added_tokens.json") and fetch("special_tokens_map.json")  # older tokenizers'
        fetch("generation_config.json")
        if not fetch(WEIGHTS) and fetch(INDEX):
            all(map(fetch, shard_names(folder / INDEX)))
    if not is_complete(folder):
        raise DownloadError(
            f"{hub_id} lacks a config, a tokenizer or weights as safetensors: check the name, or, "
            "where only a pickle is, convert it with transformers' save_pretrained to a folder"
        )
    return folder


def expect_answer(url, patience=10):
    """Raise DownloadError unless the server answers within `patience` seconds, whatever it says."""
    from multiprocessing import TimeoutError, pool

    import requests

    try:
        with pool.ThreadPool(1) as thread:  # nothing else limits the look-up of a host's name
            thread.apply_async(requests.head, [url], {"timeout": TIMEOUTS}).get(patience)
    except (requests.RequestException, ValueError, TimeoutError) as error:
        raise DownloadError(f"{url} can't be fetched: {explain(error)[1]}") from None


def fetch_file(url, path, token="", optional=False):
    """Fetch `url` to the Path `path`, going on where an earlier try ended; True once it is there.

    A file that is there already stays; a new one comes into place only whole and right. The token
    goes to no host or port but that of `url`. Raises DownloadError; `optional` makes 404 a False.
    """
    import requests

    for wait in (*RETRY_WAITS, math.inf):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.exists() or receive(url, path, token)
            for part in parts_of(path).values():  # of other versions, and of slower processes
                part.unlink(missing_ok=True)
            return True
        except (requests.RequestException, ValueError) as error:
            status, reason, least_wait = explain(error)
            if status == 404 and optional:
                return False
            if max(wait, least_wait) > LONGEST_WAIT:
                raise DownloadError(f"{url} can't be fetched: {reason}") from None
            time.sleep(max(wait, least_wait))
        except OSError as error:
            for part in parts_of(path).values():  # it is wrong, or fills the disk
                part.unlink(missing_ok=True)
            if path.exists():  # another process was faster, with the part that both of us wrote
                return True
            hint = "check the free space and the permissions there"
            said = DownloadError(f"{path} can't be written ({error.strerror}): {hint}")
            raise (error if isinstance(error, DownloadError) else said) from None


def explain(error):
    """What requests ran into: the HTTP status, a reason, and how many seconds to wait at least."""
    if isinstance(error, ValueError):
        return None, "that is no web address, or HF_TOKEN is no token", math.inf
    if (response := getattr(error, "response", None)) is None:
        return None, f"no connection ({type(error).__name__}): check the network and try again", 0
    status, asked = response.status_code, response.headers.get("Retry-After", "")
    reason = f"{REASONS.get(min(status, 500), 'the server refuses it')} (HTTP {status})"
    wait = int(asked[:9]) if asked.isdecimal() else 0
    return status, reason, wait if status == 429 or status >= 500 else math.inf


def receive(url, path, token):
    """One try: what comes goes to the part of its version, and that into place if it is right."""
    import requests
    from tqdm import tqdm

    etag, part = [("", path), *parts_of(path).items()][-1]
    start = max(part.stat().st_size - 1, 0) if etag else 0  # a byte again: no range may be empty
    headers = {"Accept-Encoding": "identity"}
    headers |= {"Authorization": f"Bearer {token}"} if token else {}
    headers |= {"Range": f"bytes={start}-", "If-Range": etag} if start else {}
    how = {"stream": True, "timeout": TIMEOUTS, "auth": lambda request: request}  # not ~/.netrc's
    with requests.get(url, headers=headers, **how) as response:
        said = {} if "Content-Encoding" in response.headers else response.headers
        goes_on = start and response.status_code == 206
        if response.status_code == 416 or (goes_on and said.get("ETag") != etag):
            part.unlink(missing_ok=True)
            raise requests.ConnectionError("a piece of another version")
        response.raise_for_status()
        if not goes_on:  # all of it, perhaps of another version
            etag = re.search(r'^("[^"]{1,64}")?', said.get("ETag", ""))[0]  # a weak one won't do
            start, part = 0, path.with_name(f"{path.name}@{quote(etag, '')}.part")
            part.touch()
        total = start + int(said["Content-Length"]) if "Content-Length" in said else None
        bar = tqdm(None, path.name, total, initial=start, unit="B", unit_scale=True, disable=None)
        with bar, part.open("r+b") as file:
            file.seek(start)
            for piece in response.iter_content(CHUNK_BYTES):
                file.write(piece)
                bar.update(len(piece))
            file.truncate()  # what may be left of another version without an ETag
    hops = [*response.history, response]  # the hub itself says what its CDN should give
    hub = next((hop.headers for hop in hops if "X-Linked-ETag" in hop.headers), {})
    size, sha256 = part.stat().st_size, hub.get("X-Linked-ETag", "").strip('"')
    if size < (total or 0):  # which urllib3 1 doesn't notice
        raise requests.ConnectionError("the end is missing")
    right = size == int(hub.get("X-Linked-Size", total or size))
    if right and size and len(sha256) == 64:  # else it is of a small file, and git's SHA-1
        right = hashlib.sha256(np.memmap(part, mode="r")).hexdigest() == sha256
    text = part.read_bytes().strip() if path.suffix == ".json" else b"{}"
    if not right or text[:1] + text[-1:] != b"{}":  # a page to log in is no JSON object
        raise DownloadError(f"{url} came damaged (size, sha256 or JSON) and was deleted: try again")
    path.exists() or part.replace(path)  # else what is called part may be a slower process's


def parts_of(path):
    """The unfinished files of `path`, the newest last: {ETag: where}."""
    found = sorted(path.parent.glob(f"{path.name}@*.part"), key=lambda part: part.stat().st_mtime)
    return {unquote(part.name[len(path.name) + 1 : -len(".part")]): part for part in found}
