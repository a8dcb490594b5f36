"""Fetch one file: go on where an earlier try ended, verify what came, put it in place whole.

A file on its way is NAME@ETAG.part: the ETag is the server's name for one version of a file, so two
processes that fetch the same version write the same bytes to the same places, and need no lock.
"""

import hashlib
import math
import queue
import re
import threading
import time
from contextlib import contextmanager
from typing import NamedTuple
from urllib.parse import quote, unquote

import numpy as np

from picogpt.tools.errors import DownloadError
from picogpt.tools.files import rename
from picogpt.tools.progress import hidden

TIMEOUTS = (10, 30)  # seconds to connect, and between two blocks of an answer
RETRY_WAITS = (0.5, 1, 2)  # seconds, or more if the server asks for it
LONGEST_WAIT = 10  # seconds; a server that asks for more is not asked again
CHUNK_BYTES = 2**16  # all that a download that breaks or is killed can lose
LARGEST_FILE = 2**28  # bytes; weights may have more
WEB_PAGE = re.compile(rb"(\xef\xbb\xbf)?\s*<[!?a-z]", re.IGNORECASE)  # no file here begins so


class Cause(NamedTuple):
    """What kept a request from its answer."""

    reason: str  # what is wrong, in a few words
    hint: str  # what to do about it
    detail: str = ""  # the system's or the server's own words
    status: int | None = None  # HTTP's, where the server did answer
    least_wait: float = 0  # seconds before another try; infinite where that makes no sense


REFUSALS = {
    401: ("no such model, or private", "check the name or set HF_TOKEN"),
    403: ("access refused", "accept the model's terms on its page and set HF_TOKEN"),
    404: ("no such file", "check the name"),
    407: ("the proxy wants a password", "put user:password@ before its name in HTTPS_PROXY"),
    429: ("too many requests", "wait a few minutes and try again"),
    500: ("the server is in trouble", "try again later"),
    511: ("the network wants a login", "log in with a browser and try again"),
}


def fetch_file(url, path, token="", optional=False, largest=LARGEST_FILE):
    """Fetch `url` to the Path `path`, going on where an earlier try ended; True once it is there.

    A file that is there already stays; a new one comes into place only whole and right, and has at
    most `largest` bytes. The token goes to no host or port but that of `url`. Raises DownloadError;
    `optional` makes 404 a False.
    """
    requests = import_requests(url)

    for wait in (*RETRY_WAITS, math.inf):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if not path.exists():
                receive(url, path, token, largest)
            remove_parts(path)  # of other versions, and of slower processes
            return True
        except (requests.RequestException, ValueError) as error:
            cause = cause_of(error)
            if cause.status == 404 and optional:
                return False
            if max(wait, cause.least_wait) > LONGEST_WAIT:
                raise failure(url, cause) from None
            time.sleep(max(wait, cause.least_wait))
        except OSError as error:
            if path.exists():  # another process was faster, with the part that both of us wrote
                return True
            hint = "check the free space and the permissions there, and that nothing else uses it"
            said = DownloadError(f"{path} can't be written ({error.strerror}): {hint}")
            raise (error if isinstance(error, DownloadError) else said) from None


def expect_answer(url, patience=10):
    """Raise DownloadError unless the server answers within `patience` seconds, whatever it says."""
    requests = import_requests(url)

    def knock():
        with answer("HEAD", url):
            pass

    try:
        within(patience, knock)
    except (requests.RequestException, ValueError, TimeoutError) as error:
        raise failure(url, cause_of(error)) from None


def import_requests(url):
    """Import requests, only where it is needed because that takes a while, and give it back.

    Some versions read SSLKEYLOGFILE and the trusted certificates while they are imported. Raises
    DownloadError where these can't be read.
    """
    try:
        import requests
    except OSError as error:
        raise failure(url, cause_of(error)) from None
    return requests


def within(seconds, function):
    """Call a function; TimeoutError if it takes longer: nothing else limits a host's look-up.

    It goes on in a thread then, which keeps no process alive.
    """
    outcome = queue.SimpleQueue()

    def call():
        try:
            function()
            outcome.put(None)
        except Exception as error:
            outcome.put(error)

    try:
        threading.Thread(target=call, daemon=True).start()
    except RuntimeError:  # the system gives no thread: without a limit, then
        call()
    try:
        error = outcome.get(timeout=seconds)
    except queue.Empty:
        raise TimeoutError(f"no answer within {seconds} s") from None
    if error is not None:
        raise error


@contextmanager
def answer(method, url, headers=()):
    """The server's answer, whose body is still to come; raises RequestException or ValueError."""
    import requests

    from picogpt.checkpoint.connection import open_session

    how = {"stream": True, "timeout": TIMEOUTS, "allow_redirects": method == "GET"}
    with open_session() as session:
        try:
            response = session.request(method, url, headers=dict(headers), **how)
        except requests.RequestException:
            raise
        except (OSError, AssertionError) as error:  # a certificate's file, a proxy of no known kind
            raise requests.RequestException(str(error)) from error
        with response:
            yield response


def failure(url, cause):
    """The DownloadError for a cause; its reason and status go along."""
    detail = f" ({cause.detail})" if cause.detail else ""
    error = DownloadError(f"{url} can't be fetched: {cause.reason}: {cause.hint}{detail}")
    error.reason, error.status = cause.reason, cause.status
    return error


def cause_of(error):
    """The Cause of what requests ran into: most of it is in the words of the libraries below it."""
    if (response := getattr(error, "response", None)) is not None:
        return cause_of_refusal(response)
    first = first_of(error)
    said = in_words(first)
    words = f"{error} {first}"
    no_file = (FileNotFoundError, PermissionError, IsADirectoryError)
    if "dependencies for SOCKS" in words:
        hint = "pip install pysocks, or unset ALL_PROXY and HTTPS_PROXY"
        return Cause("a SOCKS proxy is set without PySocks", hint, least_wait=math.inf)
    types = type(error).__name__ + type(first).__name__
    if "Proxy" in types or words.startswith(("Proxy", "SOCKS")):
        hint = "check HTTPS_PROXY, HTTP_PROXY and ALL_PROXY, or unset them"
        return Cause("the proxy gives no connection", hint, said)
    if "CERTIFICATE_VERIFY_FAILED" in words:
        hint = "set REQUESTS_CA_BUNDLE to the file of your company's certificate, check the clock, "
        hint += "or log in with a browser where the network wants a login"
        return Cause("the server's certificate is not trusted", hint, said, least_wait=math.inf)
    if "CA certificate" in words or "X509" in words or isinstance(first, no_file):
        hint = "correct or unset REQUESTS_CA_BUNDLE, CURL_CA_BUNDLE and SSLKEYLOGFILE"
        return Cause("the trusted certificates can't be read", hint, said, least_wait=math.inf)
    if isinstance(error, ValueError):
        hint = "check HF_ENDPOINT and HTTPS_PROXY"
        return Cause("that is no web address", hint, least_wait=math.inf)
    return Cause("no connection", "check the network and try again", said)


def first_of(error):
    """The error that all others came of."""
    while (before := error.__cause__ or error.__context__) is not None:
        if error.__suppress_context__ and error.__cause__ is None:
            break
        error = before
    return error


def in_words(error):
    """What the system says of an error, else the name of its type."""
    said = str(error) if type(error) in (OSError, TimeoutError) else None
    return getattr(error, "strerror", None) or said or type(error).__name__


def cause_of_refusal(response):
    """The Cause where the server did answer, but not with the file."""
    status = response.status_code
    asked = response.headers.get("Retry-After", "")
    general = REFUSALS[500] if status >= 500 else ("the server refuses it", "try again later")
    wait = int(asked[:9]) if asked.isdecimal() else 0
    passes = status == 429 or status >= 500
    reason, hint = REFUSALS.get(status, general)
    return Cause(reason, hint, f"HTTP {status}", status, wait if passes else math.inf)


def receive(url, path, token, largest):
    """One try: what comes goes to the part of its version, and that into place if it is right."""
    import requests

    etag, part, start = "", path, 0
    if parts := parts_of(path):
        etag, part = list(parts.items())[-1]  # the newest
    if etag:
        start = max(part.stat().st_size - 1, 0)  # its last byte again: no range may be empty
    headers = {"Accept-Encoding": "identity"}
    headers |= {"Authorization": f"Bearer {token}"} if token else {}
    headers |= {"Range": f"bytes={start}-", "If-Range": etag} if start else {}
    with answer("GET", url, headers) as response:
        answered = {} if "Content-Encoding" in response.headers else response.headers
        goes_on = start and response.status_code == 206
        if response.status_code == 416 or (goes_on and answered.get("ETag") != etag):
            part.unlink(missing_ok=True)
            raise requests.ConnectionError("a part of another version")
        response.raise_for_status()
        if not goes_on:  # all of it, perhaps of another version
            # a weak ETag (W/"...") won't do: two versions may have the same one
            etag = re.search(r'^("[^"]{1,64}")?', answered.get("ETag", ""))[0]
            start, part = 0, path.with_name(f"{path.name}@{quote(etag, '')}.part")
        size, sha256 = expectations(url, response, start, largest)
        try:
            write_part(url, part, start, response, size, largest)
            check_content(url, part, path.suffix, size, sha256)
        except requests.RequestException:  # what came is right, and the rest may come yet
            raise
        except OSError:  # it is wrong, or fills the disk
            part.unlink(missing_ok=True)
            raise
    if not path.exists():  # else what is called part may be a slower process's
        rename(part, path)


def expectations(url, response, start, largest):
    """Before a body comes: the size and the SHA-256 that the file must have, None where unknown.

    Raises DownloadError where the sizes that are told differ, or are above `largest`.
    """
    hops = [*response.history, response]  # the hub itself says what its CDN should give
    hub = next((hop.headers for hop in hops if "X-Linked-ETag" in hop.headers), {})
    sizes = set()
    if "Content-Encoding" not in response.headers:
        sizes.add(whole_number(response.headers.get("Content-Length"), start))
    sizes.add(whole_number(hub.get("X-Linked-Size")))
    sizes.discard(None)
    if len(sizes) > 1:
        raise damaged(url)
    size = next(iter(sizes), None)
    if size is not None and size > largest:
        raise too_large(url, largest)
    sha256 = hub.get("X-Linked-ETag", "").strip('"')  # of a small file it is git's SHA-1
    return size, sha256 if len(sha256) == 64 else None


def whole_number(text, more=0):
    """What a header says, plus `more`; None where it says no number."""
    return int(text) + more if text and re.fullmatch(r"[0-9]{1,18}", text.strip()) else None


def write_part(url, part, start, response, size, largest):
    """Write a body from byte `start` of `part` on; DownloadError where it is longer than it may."""
    from tqdm import tqdm

    part.touch()
    bar = tqdm(None, part.name.rpartition("@")[0], size, initial=start, unit="B", unit_scale=True,
               disable=hidden())  # fmt: skip
    with bar, part.open("r+b") as file:
        file.seek(start)
        for block in response.iter_content(CHUNK_BYTES):
            if file.tell() + len(block) > (largest if size is None else size):
                raise too_large(url, largest) if size is None else damaged(url)
            file.write(block)
            bar.update(len(block))
        file.truncate()  # what may be left of another version without an ETag


def check_content(url, part, suffix, size, sha256):
    """Raise DownloadError where what came is not what was asked for.

    Raises requests' ConnectionError where only the end is missing: the rest may come yet.
    """
    import requests

    if part.stat().st_size < (size or 0):  # which urllib3 1 doesn't notice
        raise requests.ConnectionError("the end is missing")
    with part.open("rb") as file:
        is_page = WEB_PAGE.match(file.read(100))
    if is_page:  # some networks answer all requests so until one has logged in
        hint = "log in to the network with a browser, or check the address, and try again"
        raise failure(url, Cause("a web page came in its place", hint))
    if sha256 and part.stat().st_size:
        right = hashlib.sha256(np.memmap(part, mode="r")).hexdigest() == sha256
    else:
        text = part.read_bytes().strip() if suffix == ".json" else b"{}"
        right = text[:1] + text[-1:] == b"{}"
    if not right:
        raise damaged(url)


def damaged(url):
    """The DownloadError for a file that is not what the server announced."""
    error = DownloadError(f"{url} came damaged (size, sha256 or JSON) and was deleted: try again")
    error.reason = "what came was damaged"
    return error


def too_large(url, largest):
    """The DownloadError for a file that would fill the disk."""
    error = DownloadError(f"{url} has more than {largest:,} bytes, which no such file should")
    error.reason = "what came was too large"
    return error


def parts_of(path):
    """The unfinished files of `path`, the newest last: {ETag: where}."""
    found = sorted(path.parent.glob(f"{path.name}@*.part"), key=lambda part: part.stat().st_mtime)
    return {unquote(part.name[len(path.name) + 1 : -len(".part")]): part for part in found}


def remove_parts(path):
    """Delete the unfinished files of `path`, or all of a folder.

    A process that still writes to one notices nothing, and finds the whole file in place.
    """
    parts = path.glob("*@*.part") if path.is_dir() else parts_of(path).values()
    for part in parts:
        part.unlink(missing_ok=True)
