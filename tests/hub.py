"""A real HTTP server on loopback that answers like the Hugging Face hub, faults included.

It has two ports: the hub's own, and that of its CDN, which gives out the large files.
"""

import gzip
import hashlib
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import numpy as np

DATA = np.random.default_rng(0).bytes(300_000)  # five chunks
MEDIUM = "openai-community/gpt2-medium"


class Server(ThreadingHTTPServer):
    """A server that says nothing of clients that hang up early, as downloads may."""

    def handle_error(self, request, client_address):
        """Print no traceback: tests read what stands on stderr."""


class Hub:
    """`repos` is {hub id: {file name: bytes}}, `moved` {old hub id: new one}.

    `faults` is {file name: [fault, ...]}; each request for the file takes the first of them:
        401                    the hub answers with this status
        (429, {header: value}) ... and these headers
        {"drop": n}            the connection ends after n bytes of what was asked for
        {"drop": n, "hold": e} the rest comes when the event e is set
        {"wait": e}            nothing comes before the event is set
        {}                     nothing happens
    `habits` is how it behaves otherwise, see `deliver`; with {"bad_token": True} it refuses every
    token, whatever is asked for. `seen` has every request: server (hub or
    cdn), method, file, headers, status.
    """

    def __init__(self, repos, moved=()):
        self.repos, self.moved = repos, dict(moved)
        self.faults, self.habits, self.seen = {}, {}, []
        self.hub, self.cdn = self.serve("hub"), self.serve("cdn")
        self.url = f"http://127.0.0.1:{self.hub.server_port}"

    def serve(self, name):
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            hub = self
            server_name = name

            def do_GET(self):
                self.hub.answer(self)

            do_HEAD = do_GET

            def log_message(self, *_):
                pass

        server = Server(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, args=[0.02], daemon=True).start()
        return server

    def close(self):
        for server in (self.hub, self.cdn):
            server.shutdown()
            server.server_close()

    def got(self, file, method="GET", server=None):
        """The requests for a file's bytes (or, with server="hub", those that the hub saw)."""
        server = server or ("cdn" if is_large(file) else "cache")
        return [s for s in self.seen if (s.server, s.method, s.file) == (server, method, file)]

    def answer(self, handler):
        method, path = handler.command, handler.path.split("?")[0]
        seen = SimpleNamespace(server=handler.server_name, method=method, headers=handler.headers)
        prefix, _, seen.file = path.rpartition("/")
        self.seen.append(seen)
        if prefix.startswith("/cache/"):  # the last stop of a small file
            seen.server = "cache"
        if seen.server in ("cache", "cdn"):
            repo = prefix.removeprefix("/cache").strip("/")
            return self.deliver(handler, seen, self.repos[repo][seen.file])
        repo = prefix.removesuffix("/resolve/main")[1:]
        if self.habits.get("bad_token") and "Authorization" in handler.headers:
            return send(handler, seen, 401, {}, b"Invalid credentials in Authorization header")
        if method == "GET" and seen.file in self.faults and not is_fine(self.faults[seen.file]):
            status, headers = as_pair(self.faults[seen.file].pop(0))
            return send(handler, seen, status, headers, b"no")
        if repo in self.moved:  # relative, as the hub sends it
            target = f"/{self.moved[repo]}/resolve/main/{seen.file}"
            return send(handler, seen, 307, {"Location": target}, b"moved")
        if repo not in self.repos:
            return send(handler, seen, 401, {}, b"Invalid username or password.")
        if seen.file not in self.repos[repo]:
            return send(handler, seen, 404, {}, b"Entry not found")
        data = self.repos[repo][seen.file]
        linked = {"X-Linked-Size": len(data), "X-Linked-ETag": f'"{git_sha1(data)}"'}
        if is_large(seen.file):
            linked["X-Linked-ETag"] = f'"{hashlib.sha256(data).hexdigest()}"'
            target = f"http://127.0.0.1:{self.cdn.server_port}/{repo}/{seen.file}?signature=x"
            linked |= self.habits.get("linked", {})
            return send(handler, seen, 302, {"Location": target, **linked}, b"over there")
        return send(handler, seen, 307, {"Location": f"/cache/{repo}/{seen.file}", **linked}, b"")

    def deliver(self, handler, seen, data):
        """Send a file's bytes as the habits are.

        etag: a format for the ETag ("" for none); corrupt: other bytes than announced; ranges
        False: none, "unasked": even then; if_range False: ranges whatever If-Range says; gzip;
        length False: chunked.
        """
        fault = self.faults[seen.file].pop(0) if self.faults.get(seen.file) else {}
        if self.habits.get("corrupt"):
            data = data[:-1] + bytes([data[-1] ^ 1])
        etag = self.habits.get("etag", '"cdn-{}"').format(hashlib.md5(data).hexdigest())
        headers, status, start = {"ETag": etag} if etag else {}, 200, 0
        wanted, only_if = seen.headers.get("Range"), seen.headers.get("If-Range")
        if self.habits.get("ranges") == "unasked":
            wanted = wanted or "bytes=0-"
        same = only_if in (None, etag) or self.habits.get("if_range") is False
        if wanted and same and self.habits.get("ranges", True):
            start = int(wanted.removeprefix("bytes=").removesuffix("-"))
            if start >= len(data):
                return send(handler, seen, 416, {"Content-Range": f"bytes */{len(data)}"}, b"")
            status = 206
            headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
        body = data[start:]
        if self.habits.get("gzip"):
            body, headers["Content-Encoding"] = gzip.compress(body), "gzip"
        if self.habits.get("length") is False:
            headers["Transfer-Encoding"] = "chunked"
            body = b"".join(b"%x\r\n%s\r\n" % (len(b), b) for b in (body[:9], body[9:]) if b)
            body += b"0\r\n\r\n"
        send(handler, seen, status, headers, body, fault)


def send(handler, seen, status, headers, body, fault=()):
    fault = dict(fault)
    seen.status = status
    if "wait" in fault:
        fault["wait"].wait(120)
    handler.send_response(status)
    for name, value in headers.items():
        handler.send_header(name, str(value))
    if "Transfer-Encoding" not in headers:
        handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    if handler.command == "HEAD":
        return
    try:
        handler.wfile.write(body[: fault.get("drop")])
        if "hold" in fault:
            fault["hold"].wait(120)
            handler.wfile.write(body[fault["drop"] :])
        elif "drop" in fault:
            handler.close_connection = True
    except OSError:  # the client was killed
        handler.close_connection = True


def is_large(file):
    return file.endswith(".safetensors")


def is_fine(faults):
    """Whether the hub itself has nothing to complain of: the fault, if any, is for the bytes."""
    return not faults or isinstance(faults[0], dict)


def as_pair(fault):
    return fault if isinstance(fault, tuple) else (fault, {})


def git_sha1(data):
    """The hub's ETag of a small file: git's name for its content."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


@contextmanager
def silent_server(seconds):
    """A server that takes connections and lets them wait; after so long it does answer: 200."""
    event = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            event.wait(seconds)
            self.send_response(200)
            self.send_header("Content-Length", "2")
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(b"{}")

        do_HEAD = do_GET

        def log_message(self, *_):
            pass

    server = Server(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.block_on_close = False
    threading.Thread(target=server.serve_forever, args=[0.02], daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        event.set()
        server.shutdown()
        server.server_close()


def sentence(error):
    """The error's text, which is one line."""
    text = str(error.value)
    assert "\n" not in text
    return text


def write(folder, files):
    """Write {name: bytes} to a new folder, and give the folder back."""
    folder.mkdir(parents=True)
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return folder
