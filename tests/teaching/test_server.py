"""The page that answers: what it computes, what it refuses, and that nobody else can use it."""

import hashlib
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from base64 import b64encode
from html import unescape
from urllib.parse import urlencode

import numpy as np
import pytest
from models import small_folder, small_model
from serving import serving
from systems import PYTHON_PATH

import picogpt
from picogpt.explain import main
from picogpt.teaching import server as served
from picogpt.teaching.page import about_texts, to_json
from picogpt.teaching.record import pack
from picogpt.teaching.request import Request
from picogpt.tools.cli import call
from picogpt.tools.errors import UsageError

ONE, TWO = "The cat sat", "a hat on the mat"
DATA = re.compile(r'<script type="application/json" id="data">(.*?)</script>', re.DOTALL)


@pytest.fixture(scope="module")
def model():
    return small_model(n_ctx=64)


@pytest.fixture(scope="module")
def server(model):
    with serving(model, ONE) as server:
        yield server


def get(server, path="/", headers=(), method="GET", **query):
    """Status, headers and body of one answer."""
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=30)
    connection.putrequest(method, path + ("?" + urlencode(query) if query else ""), skip_host=True)
    for name, value in ({"Host": server.address} | dict(headers)).items():
        if value is not None:
            connection.putheader(name, value)
    connection.endheaders()
    answer = connection.getresponse()
    body = answer.read().decode()
    connection.close()
    return answer.status, answer.headers, body


def data(server, **query):
    status, _, body = get(server, "/data", **query)
    return status, json.loads(body)


def test_the_address_alone_is_the_first_sentence(server):
    status, headers, page = get(server)
    assert status == 200 and headers["Content-Type"] == "text/html; charset=utf-8"
    shown = json.loads(DATA.search(page)[1])
    assert [text["text"] for text in shown["texts"]] == [ONE]
    assert shown["vocab"] and shown["source"]  # the page is whole
    assert data(server) == data(server, text=ONE)


@pytest.mark.parametrize("query, request_", [
    ({"text": TWO}, Request((TWO,))),
    ({"text": ONE, "and": TWO}, Request((ONE, TWO))),
    ({"text": ONE, "and": " "}, Request((ONE,))),
    ({"text": ONE, "then": "5.266.7"}, Request((ONE,), appended=((5, 266, 7), ()))),
    ({"text": ONE, "and": TWO, "and_then": "9", "silence": "0.1,1.2", "patch": "1.3.2"},
     Request((ONE, TWO), ((), (9,)), ((0, 1), (1, 2)), ((1, 3, 2),))),
    ({"text": ONE, "learn": "1"}, Request((ONE,), learn=True)),
    ({"learn": "1"}, Request((ONE,), learn=True)),
    ({"text": "  a + b & c=d\t</script>", "other": "7"}, Request(("  a + b & c=d\t</script>",))),
])  # fmt: skip
def test_an_address_says_what_is_shown(server, model, query, request_):
    status, shown = data(server, **query)
    assert status == 200
    assert shown == json.loads(to_json(about_texts(model, request_)))
    status, _, page = get(server, **query)
    assert json.loads(DATA.search(page)[1]).items() >= shown.items()


def test_what_is_changed_is_what_trace_changes(server, model):
    ids = [model.encoder.encode(text) for text in (ONE, TWO)]
    donor = picogpt.trace(model, ids[1])

    def edit(name, x):
        if name == "blocks.0.heads":
            x[1] = 0
        if name == "blocks.1.y":
            x[2] = donor[name][3]
        return x

    _, shown = data(server, **{"text": ONE, "and": TWO, "silence": "0.1", "patch": "1.3.2"})
    after = picogpt.trace(model, ids[0], edit)["logits"][-1]
    before = picogpt.logits(model, ids[0])[-1]
    plain = json.loads(json.dumps(pack(after[:267], 4), default=np.generic.item))
    assert shown["texts"][0]["logits"] == plain
    assert shown["texts"][0]["before"][1] == pytest.approx(before[:267].min(), abs=1e-4)
    assert np.abs(after - before).max() > 0.1
    _, unchanged = data(server, **{"text": ONE, "and": TWO, "patch": "1.3.2"})
    assert "before" in unchanged["texts"][0] and "before" not in unchanged["texts"][1]


@pytest.mark.parametrize("query, english, korean", [
    ({"text": ""}, "Type a sentence", "문장을 입력"),
    ({"text": " \n "}, "Type a sentence", "문장을 입력"),
    ({"text": "a" * 65}, "This is 65 tokens, and a page holds 64", "65개"),
    ({"text": "a" * 40, "and": "b" * 25}, "This is 65 tokens", "65개"),
    ({"text": ONE, "then": "267"}, "isn't there", "없습니다"),
    ({"text": ONE, "then": "1,2"}, "can't be read", "읽을 수 없습니다"),
    ({"text": ONE, "then": "9" * 9000}, "can't be read", "읽을 수 없습니다"),
    ({"text": ONE, "then": "²"}, "can't be read", "읽을 수 없습니다"),
    ({"text": ONE, "silence": "2.0"}, "isn't there", "없습니다"),
    ({"text": ONE, "silence": "0"}, "can't be read", "읽을 수 없습니다"),
    ({"text": ONE, "patch": "0.0.0"}, "isn't there", "없습니다"),
    ({"text": ONE, "and": TWO, "patch": "0.99.0"}, "isn't there", "없습니다"),
    ({"text": "a", "learn": "1"}, "two tokens", "두 개"),
])  # fmt: skip
def test_what_cannot_be_shown_gets_a_sentence(server, query, english, korean):
    status, shown = data(server, **query)
    assert (status, shown["texts"]) == (400, [])
    assert english in shown["error"][0] and korean in shown["error"][1]
    status, headers, page = get(server, **query)
    assert status == 400 and headers["Content-Type"].startswith("text/html")
    assert json.loads(DATA.search(page)[1])["error"] == shown["error"]


@pytest.mark.parametrize("path", ["/data?text=%ff", "/data?text=a" + "&x=1" * 200])
def test_what_is_no_address_gets_a_sentence(server, path):
    status, _, body = get(server, path)
    assert status == 400 and "can't be read" in json.loads(body)["error"][0]


def test_hostile_text_stays_text(server):
    text = "</script><script>alert(1)</script><img src=x onerror=alert(1)> {{script}} '\"&\0"
    for query in ({"text": text}, {"text": text * 9}):  # the second is too long
        _, _, page = get(server, **query)
        assert page.count("<script") == page.count("</script>") == 2  # the data's and the page's
        assert "<img" not in page
        assert json.loads(DATA.search(page)[1])["request"]["texts"][0].startswith(text)


@pytest.mark.parametrize("headers", [
    {"Host": "evil.example"}, {"Host": None}, {"Host": "evil.example:{port}"},
    {"Host": "127.0.0.1"},
    {"Host": "127.0.0.1.evil.example:{port}"}, {"Host": "127.0.0.1:1"}, {"Host": "0.0.0.0:{port}"},
    {"Origin": "http://evil.example"}, {"Origin": "null"}, {"Origin": "http://127.0.0.1:1"},
    {"Origin": "https://127.0.0.1:{port}"},
    {"Sec-Fetch-Site": "cross-site"}, {"Sec-Fetch-Site": "same-site"},
])  # fmt: skip
@pytest.mark.parametrize("path", ["/", "/data", "/data?text=a"])
def test_nobody_else_is_answered(server, headers, path):
    headers = {name: value and value.format(port=server.server_port)
               for name, value in headers.items()}  # fmt: skip
    status, answered, body = get(server, path, headers)
    assert status == 403 and answered["Content-Type"].startswith("text/plain")
    assert body.count("\n") == 1 and "texts" not in body


@pytest.mark.parametrize("headers", [
    {"Host": "localhost:{port}"}, {"Host": "LOCALHOST:{port}"}, {"Origin": "http://localhost:{port}"},
    {"Origin": "http://127.0.0.1:{port}"}, {"Sec-Fetch-Site": "same-origin"},
    {"Sec-Fetch-Site": "none"},
])  # fmt: skip
def test_the_reader_is_answered(server, headers):
    headers = {name: value.format(port=server.server_port) for name, value in headers.items()}
    assert get(server, "/data", headers)[0] == 200


def test_two_hosts_are_none(server):
    with socket.create_connection(("127.0.0.1", server.server_port), timeout=30) as connection:
        host = f"Host: {server.address}\r\n"
        connection.sendall(f"GET /data HTTP/1.1\r\n{host}{host}\r\n".encode())
        assert b" 403 " in connection.recv(100)


@pytest.mark.parametrize("path", [
    "/etc/passwd", "/../../etc/passwd", "//etc/passwd", "/data/", "/page.html", "/web/page.css",
    "/favicon.ico", "/%2e%2e/", "http://127.0.0.1/data",
])  # fmt: skip
def test_no_file_is_given_out(server, path):
    status, _, body = get(server, path)
    assert status == 404 and body == f"There is nothing here: go to http://{server.address}/\n"


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "TRACE"])
def test_there_is_only_reading(server, method):
    status, headers, body = get(server, method=method)
    assert status == 501 and headers["Content-Type"].startswith("text/plain") and "\n" in body


def test_head_is_get_without_the_page(server):
    status, headers, body = get(server, method="HEAD")
    assert (status, body) == (200, "") and int(headers["Content-Length"]) > 10_000


def test_the_policy_names_the_page_s_own_style_and_scripts(server):
    _, headers, page = get(server)
    policy = headers["Content-Security-Policy"]
    for tag in ("style", "script"):
        text = re.search(rf"<{tag}>(.*?)</{tag}>", page, re.DOTALL)[1]
        hashed = b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{hashed}'" in policy
    assert "default-src 'none'" in policy and "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Cache-Control"] == "no-store"
    assert 'style="' not in unescape(DATA.sub("", page)).replace('"style"', "")


def test_what_nobody_foresaw_is_one_line(server, monkeypatch, capsys):
    def broken(*_):
        raise RuntimeError("broken")

    monkeypatch.setattr(served, "about_texts", broken)
    with pytest.raises(http.client.HTTPException):
        data(server, text="a")
    err = capsys.readouterr().err
    assert err == "A request could not be answered: RuntimeError('broken')\n"
    monkeypatch.undo()
    assert data(server, text="a")[0] == 200


def test_one_computes_one_waits_and_a_third_is_told_so(server, monkeypatch):
    started, go_on, answers = threading.Semaphore(0), threading.Event(), []

    def slow(_, request):
        started.release()
        assert go_on.wait(30)
        return {"texts": [], "text": request.texts[0]}

    monkeypatch.setattr(served, "about_texts", slow)
    threads = [threading.Thread(target=lambda i=i: answers.append(data(server, text=f"{i}")))
               for i in range(2)]  # fmt: skip
    threads[0].start()
    assert started.acquire(timeout=30)
    threads[1].start()
    while server.turns.places._value:  # until the second has its place
        pass
    assert not started.acquire(blocking=False)  # and it only waits
    status, refused = data(server, text="third")
    assert status == 503 and "try again" in refused["error"][0]
    go_on.set()
    for thread in threads:
        thread.join(30)
    assert sorted((status, shown["text"]) for status, shown in answers) == [(200, "0"), (200, "1")]
    assert data(server, text="later")[0] == 200  # a refusal took nobody's place


def test_it_listens_on_this_machine_alone(server):
    assert server.server_address[0] == "127.0.0.1"


def test_a_taken_port_moves_on_to_the_next(server, model):
    with served.open_server(model, Request((ONE,)), server.server_port) as other:
        assert server.server_port < other.server_port < server.server_port + 100
    with pytest.raises(UsageError, match="--port must lie between 0"):
        served.open_server(model, Request((ONE,)), 65536)


@pytest.mark.parametrize("words, why", [
    (["--serve", "--port", "x"], "--port"),
    (["--serve", "--port", "-1"], "--port"),
    (["--serve", "--out", "x.html"], "--out"),
    (["a sentence", "--lecture"], "--lecture"),
])  # fmt: skip
def test_wrong_usage(words, why, tmp_path, capsys):
    assert call(main, [*words, "--model_size", str(small_folder(tmp_path / "mini"))]) == 2
    out, err = capsys.readouterr()
    assert out == "" and why in err and err.count("\n") == 1


def test_a_first_sentence_that_is_too_long_is_told_before_serving(tmp_path, capsys):
    folder = str(small_folder(tmp_path / "mini"))
    assert call(main, ["a" * 50, "--serve", "--model_size", folder]) == 1
    out, err = capsys.readouterr()
    assert out == "" and "50 tokens" in err


def test_ctrl_c_ends_it(tmp_path):
    folder = small_folder(tmp_path / "mini", n_ctx=64)
    words = ["-m", "picogpt.explain", "--serve", "--port", "0", "--model_size", folder]
    process = subprocess.Popen(
        [sys.executable, *words], cwd=tmp_path, env=os.environ | {"PYTHONPATH": PYTHON_PATH},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        url = re.fullmatch(r"http://(127\.0\.0\.1:\d+)/\n", process.stdout.readline())
        connection = http.client.HTTPConnection(url[1], timeout=30)
        connection.request("GET", "/")
        assert connection.getresponse().status == 200
        connection.close()
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
    finally:
        process.kill()
    assert (process.returncode, out) == (130, "")
    assert "Traceback" not in err
    assert not list(tmp_path.glob("*.html"))
