"""Connections that race for an address that answers, against real servers on loopback."""

import socket
import ssl
import sys
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
from hub import MEDIUM, Server, silent_server

from picogpt.checkpoint import connection
from picogpt.checkpoint.download import expect_answer, fetch_file
from picogpt.checkpoint.hub import find_model
from picogpt.tools.errors import DownloadError

CERTIFICATE = Path(__file__).parents[1] / "localhost.pem"
BODY = b"a few words"


@contextmanager
def swallowing(host, port=0):
    """A place whose connections come to nothing: nobody takes them, and no more can wait."""
    if sys.platform != "linux":
        pytest.skip("only Linux has all of 127.0.0.0/8, and drops what finds no place to wait")
    with socket.socket() as hole:
        hole.bind((host, port))
        hole.listen(0)
        port, waiting = hole.getsockname()[1], [socket.socket() for _ in range(4)]
        for one in waiting:
            one.setblocking(False)
            one.connect_ex((host, port))
        yield port
        for one in waiting:
            one.close()


@contextmanager
def tls_server():
    """An HTTPS server on localhost, whose certificate nobody trusts: its port."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Length", str(len(BODY)))
            self.end_headers()
            self.wfile.write(BODY if self.command == "GET" else b"")

        do_HEAD = do_GET

        def log_message(self, *_):
            pass

    server = Server(("127.0.0.1", 0), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERTIFICATE)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, args=[0.02], daemon=True).start()
    yield server.server_port
    server.shutdown()
    server.server_close()


@pytest.fixture
def look_up(monkeypatch):
    """Give a host the addresses that a test wants, in this order."""
    real = socket.getaddrinfo

    def set_addresses(host, *numbers):
        def getaddrinfo(asked, port, *args, **options):
            names = numbers if asked == host else [asked]
            return [found for name in names for found in real(name, port, *args, **options)]

        monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)

    return set_addresses


@pytest.mark.parametrize("dead", [["127.0.0.2"], ["127.0.0.2", "127.0.0.3", "127.0.0.4"]])
def test_a_model_comes_although_its_first_addresses_swallow_connections(
    hub, tmp_path, monkeypatch, look_up, dead
):
    port = hub.hub.server_port
    monkeypatch.setenv("HF_ENDPOINT", f"http://hub.test:{port}")
    look_up("hub.test", *dead, "127.0.0.1")
    holes = [swallowing(host, port) for host in dead]
    for hole in holes:
        hole.__enter__()
    assert find_model(MEDIUM, tmp_path, patience=2)  # one second each would be too long for three
    for hole in holes:
        hole.__exit__(None, None, None)


def test_addresses_that_refuse_are_passed_over(hub, look_up):
    look_up("hub.test", "127.0.0.2", "127.0.0.1")
    expect_answer(f"http://hub.test:{hub.hub.server_port}/x", patience=2)


def test_where_no_address_answers():
    with pytest.raises(ConnectionRefusedError):
        connection.connect("127.0.0.1", 9, 5)
    with swallowing("127.0.0.2") as port, pytest.raises(TimeoutError, match="within 0.3 s"):
        connection.connect("127.0.0.2", port, 0.3)
    with pytest.raises(socket.gaierror):
        connection.connect("no.such.host.invalid", 80, 5)


def test_families_take_turns_and_winners_go_first(monkeypatch):
    v6 = [(socket.AF_INET6, "", "", "", f"six {i}") for i in range(3)]
    v4 = [(socket.AF_INET, "", "", "", f"four {i}") for i in range(2)]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: [*v6, *v4])
    found = [address[4] for address in connection.addresses("host", 80)]
    assert found == ["six 0", "four 0", "six 1", "four 1", "six 2"]
    connection.ANSWERED.add("four 0")
    assert connection.addresses("host", 80)[0][4] == "four 0"


def test_the_losers_of_a_race_are_closed(look_up):
    look_up("hub.test", "127.0.0.2", "127.0.0.1")
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with swallowing("127.0.0.2", port):
            begun, real = [], connection.start_connecting
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(
                    connection, "start_connecting", lambda at: begun.append(real(at)) or begun[-1]
                )
                winner = connection.connect("hub.test", port, 5)
            assert [one.fileno() == -1 for one in begun] == [True, False]
            assert winner is begun[1] and winner.gettimeout() == 5
            winner.close()


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
def test_https_with_a_certificate_of_ones_own(tmp_path, monkeypatch, host):
    with tls_server() as port:
        url = f"https://{host}:{port}/file.txt"
        with pytest.raises(DownloadError, match="certificate is not trusted.*REQUESTS_CA_BUNDLE"):
            fetch_file(url, tmp_path / "file.txt")
        with pytest.raises(DownloadError, match="certificate is not trusted"):
            expect_answer(url)
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(CERTIFICATE))
        fetch_file(url, tmp_path / "file.txt")
    assert (tmp_path / "file.txt").read_bytes() == BODY


def test_https_where_nobody_speaks_tls():
    with silent_server(0) as url, pytest.raises(DownloadError, match="no connection.*SSL|TLS"):
        expect_answer(url.replace("http:", "https:"))


@pytest.mark.skipif(not socket.has_ipv6, reason="no IPv6 here")
def test_an_address_of_ipv6():
    try:
        server = socket.create_server(("::1", 0), family=socket.AF_INET6)
    except OSError:
        pytest.skip("no IPv6 on loopback")
    with server:
        connection.connect("::1", server.getsockname()[1], 5).close()
