"""The page that answers: python -m picogpt.explain --serve.

A server on this machine for this machine: GET / is the page, GET /data its numbers for another
sentence; what is asked stands in the address and nothing else, so that Back works and a link can
be passed on. Nothing is kept between two requests, and no file is read by a name from outside.
"""

import os
import re
import sys
import threading
import webbrowser
from contextlib import contextmanager, suppress
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl

from picogpt.teaching.page import about_model, about_texts, policy, render, to_json
from picogpt.teaching.request import Refused, Request
from picogpt.tools.errors import PicoGPTError, UsageError

HOST = "127.0.0.1"
N_PORTS = 100  # how many are tried, from the one asked for on
HEADERS = {
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",  # a sentence stays here
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
BUSY = Refused(
    "The model is at work on earlier sentences: try again in a moment",
    "모델이 앞의 문장을 계산하고 있습니다. 잠시 뒤에 다시 해 보세요.",
)
EMPTY = Refused("Type a sentence: the line is empty", "문장을 입력하세요. 빈 줄입니다.")
UNREADABLE = Refused(
    "The address can't be read: start from a sentence",
    "주소를 읽을 수 없습니다. 문장부터 다시 시작하세요.",
)


class Turns:
    """One computation at a time and one that waits; a third is refused, so that none pile up."""

    def __init__(self):
        self.places = threading.BoundedSemaphore(2)
        self.at_work = threading.Lock()

    @contextmanager
    def one(self):
        """Wait for one's turn; Refused where somebody waits already."""
        if not self.places.acquire(blocking=False):
            raise BUSY
        try:
            with self.at_work:
                yield
        finally:
            self.places.release()


class Server(ThreadingHTTPServer):
    """A model, the request that the address / stands for, and whose turn it is."""

    daemon_threads = True
    # elsewhere this only spares a wait after a server that has just ended; on Windows it would let
    # two servers have one port
    allow_reuse_address = os.name != "nt"

    def __init__(self, model, first, port):
        super().__init__((HOST, port), Handler)
        self.model = model
        self.first = first
        self.turns = Turns()
        self.about_model = about_model(model)
        self.address = f"{HOST}:{self.server_port}"
        self.hosts = {self.address, f"localhost:{self.server_port}"}

    def handle_error(self, *_):
        """Tell what nobody foresaw in one line; a reader who has left is no trouble."""
        error = sys.exc_info()[1]
        if not isinstance(error, ConnectionError | TimeoutError):
            print(f"A request could not be answered: {error!r}", file=sys.stderr, flush=True)

    def data(self, request):
        """The numbers that answer a request; Refused where somebody waits already."""
        with self.turns.one():
            return about_texts(self.model, request)


class Handler(BaseHTTPRequestHandler):
    """Answers GET / with the page and GET /data with its numbers, and nothing else."""

    timeout = 30  # seconds that a connection may say nothing
    server_version, sys_version = "picoGPT", ""
    error_message_format, error_content_type = "%(message)s\n", "text/plain; charset=utf-8"

    def do_GET(self):
        """Check who asks, then answer; every refusal is a sentence."""
        path, _, query = self.path.partition("?")
        refusal = self.foreign()
        if refusal is not None:
            self.answer(403, "text/plain", refusal + "\n")
        elif path not in ("/", "/data"):
            self.answer(404, "text/plain", f"There is nothing here: go to http://{self.server.address}/\n")
        else:
            status, data = self.data(query)
            if path == "/data":
                self.answer(status, "application/json", to_json(data))
            else:
                page = render(self.server.about_model | data, served=True)
                self.answer(status, "text/html", page)

    do_HEAD = do_GET

    def foreign(self):
        """Why this request is not answered, or None.

        A page elsewhere could send a reader's browser here: by a name of its own that it lets point
        to this machine (DNS rebinding: the Host is then that name), or from its own address (the
        Origin, or Sec-Fetch-Site, which browsers add by themselves).
        """
        hosts, origins = self.headers.get_all("Host", []), self.headers.get_all("Origin", [])
        sites = self.headers.get_all("Sec-Fetch-Site", [])
        if len(hosts) != 1 or hosts[0].strip().lower() not in self.server.hosts:
            return f"This server answers to http://{self.server.address}/ alone"
        allowed = {f"http://{host}" for host in self.server.hosts}
        if not {origin.strip().lower() for origin in origins} <= allowed:
            return "This server doesn't answer pages from elsewhere"
        if not {site.strip().lower() for site in sites} <= {"same-origin", "none"}:
            return ("This address was opened by a page from elsewhere: "
                    "copy it into the address line to open it")  # fmt: skip
        return None

    def data(self, query):
        """HTTP's status, and the page's data: numbers, or a sentence on why there are none."""
        asked = {}
        try:
            asked = read_address(query)
            return 200, self.server.data(to_request(asked, self.server.first))
        except PicoGPTError as error:
            sentence = [str(error), getattr(error, "korean", str(error))]
            status = 503 if error is BUSY else 400
        except MemoryError:
            sentence = ["There is not enough memory for this", "메모리가 부족합니다"]
            status = 500
        typed = Request((asked.get("text", ""), asked.get("and", "")))
        return status, {"texts": [], "words": [], "request": vars(typed), "error": sentence}

    def answer(self, status, kind, text):
        """Send a text with the headers that shut everything else out."""
        body = text.encode("utf-8", "replace")
        self.send_response(status)
        for name, value in HEADERS.items():
            self.send_header(name, value)
        self.send_header("Content-Security-Policy", policy())
        self.send_header("Content-Type", f"{kind}; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            with suppress(ConnectionError):  # the reader has gone on
                self.wfile.write(body)

    def log_message(self, *_):
        """Say nothing: what is typed is the reader's own."""


def read_address(query):
    """What stands in an address, {name: text}; Refused where it is not UTF-8 or far too much."""
    try:
        return dict(parse_qsl(query, keep_blank_values=True, errors="strict", max_num_fields=99))
    except ValueError:
        raise UNREADABLE from None


def to_request(asked, first):
    """The Request that an address stands for: {name: text}, of these names.

    text, and: the sentences; without one, `first` is meant, the request that the server began with.
    then, and_then: ids of tokens put behind them, like 17.5.9.
    silence: heads, like 0.3,1.2 for head 3 of block 0 and head 2 of block 1.
    patch: BLOCK.THERE.HERE, the same way: places in the second text and in the first.
    learn, lecture: 1 for yes.
    Raises Refused for numbers that can't be read so, and for an empty sentence.
    """
    options = {
        "appended": (numbers(asked.get("then", "")), numbers(asked.get("and_then", ""))),
        "silenced": groups(asked.get("silence", ""), 2),
        "patched": groups(asked.get("patch", ""), 3),
        "learn": asked.get("learn") == "1",
        "lecture": asked.get("lecture") == "1",
    }
    if "text" not in asked:
        options["learn"] |= first.learn
        options["lecture"] |= first.lecture
        return replace(first, **options)
    texts = (asked["text"], asked["and"]) if asked.get("and", "").strip() else (asked["text"],)
    if not asked["text"].strip():
        raise EMPTY
    return Request(texts, **options)


def numbers(text):
    """17.5.9 as (17, 5, 9), an empty text as (); Refused for anything else."""
    if not re.fullmatch(r"([0-9]{1,7}(\.[0-9]{1,7})*)?", text):
        raise UNREADABLE
    return tuple(int(number) for number in text.split(".") if number)


def groups(text, n):
    """0.3,1.2 as ((0, 3), (1, 2)), each of n numbers; an empty text as (); else Refused."""
    found = tuple(numbers(group) for group in text.split(",") if group)
    if any(len(group) != n for group in found):
        raise UNREADABLE
    return found


def check_port(port):
    """Raise UsageError for a number that is no port; 0 is any that is free."""
    if not 0 <= port < 2**16:
        raise UsageError(f"--port must lie between 0 (any) and {2**16 - 1}, not {port}")


def open_server(model, first, port):
    """A Server on this port or the next free one; UsageError where none is to be had."""
    check_port(port)
    for number in range(port, min(port + N_PORTS, 2**16)):
        try:
            return Server(model, first, number)
        except OSError as error:
            reason = error.strerror or error
    raise UsageError(f"no port from {port} to {number} can be had ({reason}): name another --port")


def serve(model, first, port=8224, open=False):
    """Answer until Ctrl-C; the address is printed, and opened in the browser if asked.

    Raises UsageError where no port is to be had.
    """
    with open_server(model, first, port) as server:
        url = f"http://{server.address}/"
        print(url, flush=True)
        print(f"{model.name} answers there. Ctrl-C ends it.", file=sys.stderr, flush=True)
        if open:
            webbrowser.open(url)
        server.serve_forever()
