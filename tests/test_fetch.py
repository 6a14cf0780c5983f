"""JSON comes whole from a disk or the web, or a sentence says why not: never a hang, never a flood."""

from __future__ import annotations

import json
import socketserver
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from rs_segment.archive import network
from rs_segment.errors import SceneError

GOOD = {"type": "Catalog", "id": "Ärger"}
Answer = Callable[[BaseHTTPRequestHandler, int], None]


@contextmanager
def server(answer: Answer) -> Iterator[tuple[str, list[float]]]:
    """(address, times of requests) of a web server whose answers get the number of the request."""
    asked: list[float] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(time.monotonic())
            answer(self, len(asked))

        def log_message(self, format: str, *args: object) -> None:
            pass

    class Quiet(ThreadingHTTPServer):
        def handle_error(self, request: object, client_address: object) -> None:
            pass

    with Quiet(("127.0.0.1", 0), Handler) as running:
        threading.Thread(target=running.serve_forever, args=(0.05,), daemon=True).start()
        try:
            yield f"http://127.0.0.1:{running.server_address[1]}/catalog.json", asked
        finally:
            running.shutdown()


def say(handler: BaseHTTPRequestHandler, code: int, body: bytes = b"", **headers: str) -> None:
    handler.send_response(code)
    for name, value in ({"Content-Length": str(len(body))} | headers).items():
        handler.send_header(name.replace("_", "-"), value)
    handler.end_headers()
    handler.wfile.write(body)


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Time limits as short as a test wants them."""
    monkeypatch.setattr(network, "PAUSES", (0.05, 0.1))
    monkeypatch.setattr(network, "SILENCE", 0.5)
    monkeypatch.setattr(network, "PATIENCE", 1.0)


@pytest.mark.parametrize("code", [408, 429, 500, 502, 503, 504])
def test_what_may_pass_is_tried_again_with_growing_pauses(code: int) -> None:
    def answer(handler: BaseHTTPRequestHandler, number: int) -> None:
        say(handler, *((code, b"") if number < 3 else (200, json.dumps(GOOD).encode())))

    with server(answer) as (address, asked):
        assert network.read_json(address) == GOOD
    assert len(asked) == 3
    assert asked[2] - asked[1] > asked[1] - asked[0] >= 0.05


def test_a_server_says_when_to_come_back() -> None:
    def answer(handler: BaseHTTPRequestHandler, number: int) -> None:
        say(handler, 503, Retry_After="1") if number < 2 else say(handler, 200, b"{}")

    with server(answer) as (address, asked):
        network.read_json(address)
    assert asked[1] - asked[0] >= 1


@pytest.mark.parametrize("code", [400, 401, 403, 404, 410, 416])
def test_a_clear_refusal_is_told_at_once(code: int) -> None:
    with server(lambda handler, _: say(handler, code)) as (address, asked):
        with pytest.raises(SceneError, match=f"the server says {code}"):
            network.read_json(f"{address}?signature=secret")
        assert len(asked) == 1


def silent(handler: BaseHTTPRequestHandler, number: int) -> None:
    time.sleep(1.5)


def dripping(handler: BaseHTTPRequestHandler, number: int) -> None:
    handler.wfile.write(b"HTTP/1.1 200 OK\r\n")
    for i in range(20):
        handler.wfile.write(b"X-%d: y\r\n" % i)
        time.sleep(0.1)


def cut(handler: BaseHTTPRequestHandler, number: int) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    handler.wfile.write(b'{"type": ')


def slammed(handler: BaseHTTPRequestHandler, number: int) -> None:
    handler.connection.close()


@pytest.mark.parametrize("answer", [silent, dripping, cut, slammed])
def test_a_server_that_never_gets_there_is_given_up(answer: Answer) -> None:
    started = time.monotonic()
    with server(answer) as (address, asked):
        with pytest.raises(SceneError, match="it was tried 3 times"):
            network.read_json(address)
        assert time.monotonic() - started < 6
        assert len(asked) == 3


def test_a_server_that_is_not_there_is_named() -> None:
    with socketserver.TCPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as taken:
        port = taken.server_address[1]
    with pytest.raises(SceneError, match=f"127.0.0.1:{port}.* cannot be read"):
        network.read_json(f"http://user:secret@127.0.0.1:{port}/x.json?token=secret")


def test_nothing_secret_is_told() -> None:
    with pytest.raises(SceneError) as caught:
        network.read_json("http://user:secret@127.0.0.1:1/x.json?token=secret")
    assert "secret" not in str(caught.value)


def test_a_flood_is_stopped(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(network, "MAX_BYTES", 1000)

    def answer(handler: BaseHTTPRequestHandler, number: int) -> None:
        handler.send_response(200)
        handler.end_headers()
        while True:
            handler.wfile.write(b" " * 100)

    with server(answer) as (address, asked):
        with pytest.raises(SceneError, match="too large"):
            network.read_json(address)
        assert len(asked) == 1
    (tmp_path / "big.json").write_bytes(b" " * 1001)
    with pytest.raises(SceneError, match="too large"):
        network.read_json(str(tmp_path / "big.json"))


@pytest.mark.parametrize("target", ["file:///etc/passwd", "ftp://127.0.0.1/x.json", "data:application/json,{}"])
def test_a_redirect_leads_to_no_other_kind_of_address(target: str) -> None:
    with server(lambda handler, _: say(handler, 302, Location=target)) as (address, _), pytest.raises(SceneError):
        network.read_json(address)


def test_a_redirect_on_the_web_is_followed() -> None:
    def answer(handler: BaseHTTPRequestHandler, number: int) -> None:
        say(handler, 302, Location="/other.json") if number == 1 else say(handler, 200, json.dumps(GOOD).encode())

    with server(answer) as (address, _):
        assert network.read_json(address) == GOOD


@pytest.mark.parametrize(
    "address", ["http://", "http://[::1", "http://a b/x.json", "ftp://a/x.json", "file:///etc/passwd"]
)
def test_other_addresses_are_refused(address: str) -> None:
    with pytest.raises(SceneError):
        network.read_json(address)


@pytest.mark.parametrize(
    "data",
    [b"", b"<html>", b"\xff\xfe\x00", b"[" * 100_000, b'{"a":', b"nul"],
    ids=["empty", "html", "bytes", "deep", "torn", "word"],
)
def test_what_is_no_json_is_named_with_what_it_starts_with(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "x.json").write_bytes(data)
    with pytest.raises(SceneError, match=r"x\.json is no JSON"):
        network.read_json(str(tmp_path / "x.json"))


def test_files_are_read_with_a_mark_too(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text(json.dumps(GOOD), encoding="utf-8-sig")
    assert network.read_json(str(tmp_path / "x.json")) == GOOD
    with pytest.raises(SceneError, match="does not exist"):
        network.read_json(str(tmp_path / "y.json"))
    with pytest.raises(SceneError, match="cannot be read"):
        network.read_json(str(tmp_path))
