"""Find a model on this machine; else fetch it from the Hugging Face hub."""

import os
import re
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

from picogpt.checkpoint.config import load_config
from picogpt.checkpoint.download import (
    LARGEST_FILE,
    Cause,
    expect_answer,
    failure,
    fetch_file,
    remove_parts,
)
from picogpt.checkpoint.weights import INDEX, WEIGHTS, largest_file, shard_names, weight_files
from picogpt.tools.errors import CheckpointError, DownloadError, PicoGPTError, UsageError
from picogpt.tools.files import cache_folder

MODEL_IDS = {
    "124M": "openai-community/gpt2",
    "355M": "openai-community/gpt2-medium",
    "774M": "openai-community/gpt2-large",
    "1558M": "openai-community/gpt2-xl",
}
SIZES = {hub_id: size for size, hub_id in MODEL_IDS.items()}
SIZES |= {hub_id.split("/")[1]: size for hub_id, size in SIZES.items()}
# what the hub called its first models, before each had an owner; gpt2 to gpt2-xl are among SIZES
FIRST_NAMES = {"distilgpt2": "distilbert/distilgpt2"}
PACKAGE = Path(__file__).resolve().parents[1]
TINY_FOLDERS = [PACKAGE.parent / "weights" / "tiny", PACKAGE / "tiny"]  # checkout, installed
TOKENIZER_FILES = (
    "vocab.json",
    "merges.txt",
    "tokenizer.json",
    "tokenizer_config.json",
    "added_tokens.json",
    "special_tokens_map.json",
)


def resolve_model(name=None, models_dir=None, check=None):
    """The folder of the model that a command uses: the one named, else 124M, else the built-in.

    A model asked for by name is found, fetched or refused (find_model says how). Without a name,
    124M is found or fetched; where that fails, tiny takes over and one line on stderr says so.
    `check(folder)` may refuse a model by its small files, before its weights come. Raises
    DownloadError where tiny is missing, too, and UsageError for a models_dir that can't be.
    """
    if name is not None:
        return find_model(name, models_dir, check=check)
    try:
        return find_model("124M", models_dir, patience=2, check=check)
    except UsageError:
        raise
    except PicoGPTError as error:
        tiny = next(filter(is_complete, TINY_FOLDERS), None)
        if tiny is None:
            raise DownloadError(f"{error}; tiny, the built-in model, is missing too") from None
        reason = getattr(error, "reason", None) or error
        notice = f"124M can't be had ({reason}): the built-in tiny takes over"
        print(f"{notice}; --model_size tiny is quiet", file=sys.stderr)
        return tiny


def find_model(name, models_dir=None, patience=10, check=None):
    """The folder of a model: given, found on this machine, or else fetched from the hub.

    `name` is a size, tiny, a folder, or a hub id; models live in `models_dir` (weights/ of a
    checkout, else ~/.cache/picogpt) and in the user's Hugging Face cache. Raises UsageError for a
    name that is none of these, CheckpointError for a path to nothing or to a file, and what
    fetch_model raises.
    """
    if not isinstance(name, str | os.PathLike):
        raise UsageError(f"a model's name is a text or a path, not {name!r:.60}")
    name = os.fspath(name)
    path = os.path.expanduser(name)  # noqa: PTH111 - pathlib's raises on an unknown ~user
    if name not in (*MODEL_IDS, "tiny") and os.path.isdir(path):  # noqa: PTH112 - on a long name
        return Path(path)
    if "/" in name and os.path.isfile(path):  # noqa: PTH113 - it may look like a hub id
        raise CheckpointError(f"{name} is a file: name the folder that it is in")
    if name == "tiny":
        if tiny := next(filter(is_complete, TINY_FOLDERS), None):
            return tiny
        raise CheckpointError(f"tiny, the built-in model, is missing from {TINY_FOLDERS[0]}")
    name = SIZES.get(name) or FIRST_NAMES.get(name, name)
    hub_id = MODEL_IDS.get(name, name)
    if not re.fullmatch(r"\w[\w.-]*/\w[\w.-]*", hub_id, re.ASCII):
        wrong = CheckpointError if re.search(r"^[.~]|[/\\]", name) else UsageError
        sizes = ", ".join([*MODEL_IDS, "tiny"])
        raise wrong(f"{name!r} is no folder, no size ({sizes}) and no hub id like owner/name")
    ours = models_folder(models_dir) / name.replace("/", "--")
    needs_tokenizer = name in MODEL_IDS
    if is_complete(ours, needs_tokenizer):
        with suppress(OSError):
            remove_parts(ours)  # of a slower process that was killed
        return ours
    if cached := next(filter(is_complete, cached_folders(hub_id)), None):
        return cached
    return fetch_model(hub_id, ours, patience, needs_tokenizer, check)


def models_folder(models_dir=None):
    """Where models are kept: as given, else weights/ of a checkout, else the user's cache.

    Raises UsageError for an empty name, which would be the current folder.
    """
    if models_dir == "":
        raise UsageError("--models_dir must be a folder, not ''")
    if models_dir is not None:
        return Path(os.path.expanduser(models_dir)).absolute()  # noqa: PTH111
    if (PACKAGE.parent / "setup.cfg").is_file():
        return PACKAGE.parent / "weights"
    return cache_folder() or Path(tempfile.gettempdir(), "picogpt")


def cached_folders(hub_id):
    """Where the user's Hugging Face cache may hold a model, under its new and its old name."""
    names = [hub_id]
    if hub_id in (*SIZES, *FIRST_NAMES.values()):
        names.append(hub_id.split("/")[1])
    for name in names:
        folder = hugging_face_cache() / ("models--" + name.replace("/", "--"))
        with suppress(OSError, ValueError):
            yield folder / "snapshots" / (folder / "refs" / "main").read_text("utf-8").strip()


def hugging_face_cache():
    """Where huggingface_hub keeps what it fetches: the variables that it reads, in its order."""

    def place(variable, default):
        value = os.environ.get(variable) or default
        return os.path.expandvars(os.path.expanduser(value))  # noqa: PTH111 - $VAR may follow ~

    home = place("HF_HOME", place("XDG_CACHE_HOME", "~/.cache") + "/huggingface")
    return Path(place("HF_HUB_CACHE", place("HUGGINGFACE_HUB_CACHE", f"{home}/hub")))


def is_complete(folder, needs_tokenizer=True):
    """Whether a folder holds config, every shard and, if it must, a tokenizer."""
    with suppress(OSError, CheckpointError):
        weight_files(folder)
        files = {path.name for path in folder.iterdir() if path.is_file()}
        tokenizer = files & {"tokenizer.json"} or {"vocab.json", "merges.txt"}
        return {"config.json", *(tokenizer if needs_tokenizer else ())} <= files
    return False


def forbidden_by():
    """The variable in which the user forbids requests, as huggingface_hub reads it, else None."""
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
        if value := os.environ.get(name):  # the first that is set counts
            return name if value.upper() in ("1", "ON", "YES", "TRUE") else None
    return None


def fetch_model(hub_id, folder, patience=10, needs_tokenizer=True, check=None):
    """Fetch what the hub has of a GPT-2 into `folder`, and return it; files that are there stay.

    The hub has `patience` seconds for a first answer. Honours HF_ENDPOINT, HF_TOKEN, HF_HUB_OFFLINE
    and TRANSFORMERS_OFFLINE. Raises DownloadError, CheckpointError for a model that is no GPT-2.
    """
    if variable := forbidden_by():
        error = DownloadError(f"{hub_id} is not on this machine: unset {variable} to fetch it")
        error.reason = f"{variable} is set"
        raise error
    endpoint = os.environ.get("HF_ENDPOINT") or "https://huggingface.co"
    url = f"{endpoint.rstrip('/')}/{hub_id}/resolve/main/"
    fetch = fetcher(url, folder)
    expect_answer(url + "config.json", patience)
    if fetch("config.json"):
        config = load_config(folder)  # before gigabytes of another architecture come
        for file in TOKENIZER_FILES:
            fetch(file)
        if check:
            check(folder)
        fetch("generation_config.json")
        largest = largest_file(config)
        if not fetch(WEIGHTS, largest) and fetch(INDEX):
            for shard in shard_names(folder / INDEX):
                if not fetch(shard, largest):
                    break  # is_complete tells of it
    if not is_complete(folder, needs_tokenizer):
        tokenizer = "a tokenizer, " if needs_tokenizer else ""
        raise DownloadError(
            f"{hub_id} lacks a config, {tokenizer}or weights as safetensors: check the name, or, "
            "where only a pickle is, convert it with transformers' save_pretrained to a folder"
        )
    return folder


def fetcher(url, folder):
    """A function that fetches a file of the model at `url`: True, or False where it has none.

    The hub answers 401 to a token that is wrong or has expired, whatever is asked for; then the
    token is left out.
    """
    token = (os.environ.get("HF_TOKEN") or os.environ.get("HUGGING_FACE_HUB_TOKEN") or "").strip()
    if not (token.isascii() and token.isprintable()):
        error = DownloadError("HF_TOKEN is no token: it may hold letters, digits and signs only")
        error.reason = "HF_TOKEN is no token"
        raise error

    def fetch(file, largest=LARGEST_FILE):
        nonlocal token
        try:
            return fetch_file(url + file, folder / file, token, optional=True, largest=largest)
        except DownloadError as error:
            if error.status != 401 or not token:
                raise
        try:
            found = fetch_file(url + file, folder / file, optional=True, largest=largest)
        except DownloadError as error:
            if error.status == 401:
                hint = "check both, or unset HF_TOKEN"
                reason = "no such model, or private and HF_TOKEN is wrong or has expired"
                raise failure(url + file, Cause(reason, hint, "HTTP 401", 401)) from None
            raise
        print("HF_TOKEN is wrong or has expired: going on without it", file=sys.stderr)
        token = ""
        return found

    return fetch
