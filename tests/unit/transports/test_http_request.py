"""The request in front of a WebSocket: what is upgraded, and what everything else is answered."""

from __future__ import annotations

import pytest

from transports.http_request import MAX_HEAD_BYTES, Answer, HeadTooLongError, RequestError, RequestReader, Upgrade

KEY = "dGhlIHNhbXBsZSBub25jZQ=="
UPGRADE = (
    "GET / HTTP/1.1",
    "Host: relay.example",
    "Upgrade: websocket",
    "Connection: Upgrade",
    "Sec-WebSocket-Version: 13",
    f"Sec-WebSocket-Key: {KEY}",
)


def head(*lines: str) -> bytes:
    return "\r\n".join((*lines, "", "")).encode("latin-1")


def swapped(old: str, new: str, *more: str) -> bytes:
    """The upgrade request with one line changed, or left out, and others added."""
    assert old in UPGRADE
    return head(*(new if line == old else line for line in UPGRADE if new or line != old), *more)


def read(data: bytes) -> Upgrade | Answer | None:
    return RequestReader().feed(data)


def status(outcome: Upgrade | Answer | None) -> int:
    assert isinstance(outcome, Answer)
    return int(outcome.data.split(b" ")[1])


def test_an_upgrade_has_its_headers_its_key_and_what_came_behind_it() -> None:
    outcome = read(head(*UPGRADE, "X-One:  a\tb ", "x-one: c") + b"\x82\x00")
    assert isinstance(outcome, Upgrade)
    assert outcome.key == KEY
    assert outcome.rest == b"\x82\x00"
    assert outcome.headers["host"] == "relay.example"
    assert outcome.headers["x-one"] == "a\tb, c"


def test_a_request_may_come_byte_by_byte() -> None:
    reader = RequestReader()
    *first, last = (bytes((byte,)) for byte in head(*UPGRADE))
    assert [reader.feed(byte) for byte in first] == [None] * len(first)
    assert isinstance(reader.feed(last), Upgrade)


@pytest.mark.parametrize(
    "request_bytes",
    [
        pytest.param(swapped("GET / HTTP/1.1", "GET /p2p/any?query HTTP/1.1"), id="any path"),
        pytest.param(swapped("GET / HTTP/1.1", "GET http://relay.example/ HTTP/1.1"), id="absolute form"),
        pytest.param(swapped("Connection: Upgrade", "Connection: keep-alive, Upgrade"), id="as Firefox says it"),
        pytest.param(swapped("Connection: Upgrade", "cONNECTION:upgrade"), id="names and tokens in any case"),
        pytest.param(swapped("Upgrade: websocket", "Upgrade: h2c, WebSocket"), id="one of several upgrades"),
        pytest.param(head(*UPGRADE, "Content-Length: 0"), id="an empty body"),
        pytest.param(head(*UPGRADE, "X: \xe9\t~"), id="every byte that a value may have"),
    ],
)
def test_what_is_upgraded(request_bytes: bytes) -> None:
    assert isinstance(read(request_bytes), Upgrade)


@pytest.mark.parametrize(
    ("request_bytes", "expected"),
    [
        pytest.param(head("GET / HTTP/1.1", "Host: relay"), 200, id="the page"),
        pytest.param(head("GET /?probe HTTP/1.1", "Host: relay"), 200, id="the page, asked with a query"),
        pytest.param(head("GET / HTTP/1.0"), 200, id="the page, asked as probes do"),
        pytest.param(head("GET /favicon.ico HTTP/1.1", "Host: relay"), 404, id="another path"),
        pytest.param(head("HEAD / HTTP/1.1", "Host: relay"), 200, id="head of the page"),
        pytest.param(head("HEAD /x HTTP/1.1", "Host: relay"), 404, id="head of another path"),
    ],
)
def test_a_plain_request_is_answered_and_is_no_error(request_bytes: bytes, expected: int) -> None:
    outcome = read(request_bytes)
    assert status(outcome) == expected
    assert isinstance(outcome, Answer)
    assert outcome.error is None
    said, _, body = outcome.data.partition(b"\r\n\r\n")
    assert b"\r\nConnection: close\r\n" in said
    assert bool(body) == request_bytes.startswith(b"GET")


@pytest.mark.parametrize(
    ("request_bytes", "expected"),
    [
        pytest.param(head("POST / HTTP/1.1", "Host: relay"), 405, id="POST"),
        pytest.param(swapped("GET / HTTP/1.1", "HEAD / HTTP/1.1"), 405, id="an upgrade by HEAD"),
        pytest.param(swapped("GET / HTTP/1.1", "PUT / HTTP/1.1"), 405, id="an upgrade by PUT"),
        pytest.param(swapped("GET / HTTP/1.1", "GET / HTTP/1.0"), 426, id="an upgrade of HTTP/1.0"),
        pytest.param(swapped("Upgrade: websocket", "Upgrade: h2c"), 426, id="another upgrade"),
        pytest.param(swapped("Upgrade: websocket", ""), 426, id="Upgrade dropped by a proxy"),
        pytest.param(swapped("Connection: Upgrade", ""), 426, id="Connection dropped by a proxy"),
        pytest.param(swapped("Connection: Upgrade", "Connection: close"), 426, id="Connection changed by a proxy"),
        pytest.param(swapped("Sec-WebSocket-Version: 13", "Sec-WebSocket-Version: 12"), 426, id="version 12"),
        pytest.param(swapped("Sec-WebSocket-Version: 13", "Sec-WebSocket-Version: 8"), 426, id="version 8"),
        pytest.param(swapped("Sec-WebSocket-Version: 13", ""), 426, id="no version"),
        pytest.param(head(*UPGRADE, "Sec-WebSocket-Version: 13"), 426, id="the version twice"),
        pytest.param(swapped(f"Sec-WebSocket-Key: {KEY}", ""), 400, id="no key"),
        pytest.param(swapped(f"Sec-WebSocket-Key: {KEY}", "Sec-WebSocket-Key: AAAA"), 400, id="a short key"),
        pytest.param(swapped(f"Sec-WebSocket-Key: {KEY}", "Sec-WebSocket-Key: \xe9"), 400, id="a key of no base64"),
        pytest.param(head(*UPGRADE, f"Sec-WebSocket-Key: {KEY}"), 400, id="the key twice"),
        pytest.param(head(*UPGRADE, "Content-Length: 1"), 400, id="a body"),
        pytest.param(head(*UPGRADE, "Content-Length: 00"), 400, id="a length that is read in two ways"),
        pytest.param(head(*UPGRADE, "Transfer-Encoding: chunked"), 400, id="a body in chunks"),
        pytest.param(swapped("Host: relay.example", ""), 400, id="no host"),
        pytest.param(head(*UPGRADE, "Host: another.example"), 400, id="two hosts"),
        pytest.param(head("GET / HTTP/1.1"), 400, id="a plain request without host"),
        pytest.param(head("GET / HTTP/2.0", "Host: relay"), 505, id="HTTP/2.0"),
        pytest.param(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505, id="HTTP/2 itself"),
        pytest.param(head("GET  / HTTP/1.1", "Host: relay"), 400, id="two spaces"),
        pytest.param(head("GET /", "Host: relay"), 400, id="HTTP/0.9"),
        pytest.param(head("GET /\xe9 HTTP/1.1", "Host: relay"), 400, id="a path that is no ASCII"),
        pytest.param(head("GET / HTTP/1.1", "Host: relay", " folded"), 400, id="a folded header"),
        pytest.param(head("GET / HTTP/1.1", "Host: relay", "Name : value"), 400, id="a space behind a name"),
        pytest.param(head("GET / HTTP/1.1", "Host: relay", "X: a\nY: b"), 400, id="a bare newline"),
        pytest.param(head("GET / HTTP/1.1", "Host: relay", "X: \x00"), 400, id="a NUL"),
        pytest.param(head("GET / HTTP/1.1", "Host: relay", "no header"), 400, id="no colon"),
    ],
)
def test_what_is_refused_and_with_what(request_bytes: bytes, expected: int) -> None:
    outcome = read(request_bytes)
    assert status(outcome) == expected
    assert isinstance(outcome, Answer)
    assert isinstance(outcome.error, RequestError)
    assert outcome.error.reason == "http_request"


@pytest.mark.parametrize("first", [b"\x16\x03\x01", b"\x13/multistream/1.0.0\n", b"\r\n", b"\xff"])
def test_what_does_not_begin_like_http_is_refused_at_once(first: bytes) -> None:
    assert status(read(first)) == 400


def test_426_says_what_would_be_right() -> None:
    outcome = read(swapped("Upgrade: websocket", "Upgrade: h2c"))
    assert isinstance(outcome, Answer)
    lines = outcome.data.split(b"\r\n")
    assert {b"Upgrade: websocket", b"Sec-WebSocket-Version: 13", b"Connection: close, Upgrade"} <= set(lines)


def test_405_says_which_methods_there_are() -> None:
    outcome = read(head("DELETE / HTTP/1.1", "Host: relay"))
    assert isinstance(outcome, Answer)
    assert b"\r\nAllow: GET, HEAD\r\n" in outcome.data


def padded(size: int) -> bytes:
    """An upgrade request of `size` bytes."""
    return head(*UPGRADE, "X: " + "x" * (size - len(head(*UPGRADE, "X: "))))


@pytest.mark.parametrize("piece", [1, 1000, MAX_HEAD_BYTES + 1])
def test_a_head_of_8_kib_is_read_and_one_byte_more_is_not(piece: int) -> None:
    assert len(padded(MAX_HEAD_BYTES)) == MAX_HEAD_BYTES
    assert isinstance(fed(padded(MAX_HEAD_BYTES), piece), Upgrade)
    outcome = fed(padded(MAX_HEAD_BYTES + 1), piece)
    assert status(outcome) == 431
    assert isinstance(outcome, Answer)
    assert isinstance(outcome.error, HeadTooLongError)
    assert outcome.error.reason == "http_head_too_long"


def fed(data: bytes, piece: int) -> Upgrade | Answer | None:
    reader, outcome = RequestReader(), None
    for start in range(0, len(data), piece):
        outcome = reader.feed(data[start : start + piece])
        if outcome is not None:
            break
    return outcome


def test_a_head_that_never_ends_is_refused_as_soon_as_8_kib_have_come() -> None:
    reader = RequestReader()
    assert reader.feed(b"GET /" + b"a" * (MAX_HEAD_BYTES - 6)) is None
    assert status(reader.feed(b"a")) == 431


def test_as_much_as_fits_behind_the_request_is_not_counted_with_it() -> None:
    outcome = read(padded(MAX_HEAD_BYTES) + bytes(100_000))
    assert isinstance(outcome, Upgrade)
    assert len(outcome.rest) == 100_000
