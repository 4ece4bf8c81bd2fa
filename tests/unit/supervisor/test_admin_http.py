from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import Any, Self

import pytest

from supervisor.admin import http
from supervisor.admin.gate import ControlGate, Gate, NetworkGate
from supervisor.admin.http import (
    MAX_BODY_BYTES,
    MAX_CONNECTIONS,
    MAX_HEADER_BYTES,
    AdminProtocol,
    Answer,
    Request,
    Route,
)


class Wire:
    """What the protocol needs of a transport."""

    def __init__(self) -> None:
        self.sent = b""
        self.closed = False

    def write(self, data: bytes) -> None:
        self.sent += data

    def close(self) -> None:
        self.closed = True

    abort = close

    def get_extra_info(self, name: str) -> object:
        return ("127.0.0.1", 1)


class Timers:
    """Stands in for the loop: keeps what was to be called, and when."""

    def __init__(self) -> None:
        self.pending: list[tuple[float, Any]] = []
        self.made = 0

    def call_later(self, delay_s: float, callback: Any) -> Any:
        entry = (delay_s, callback)
        self.pending.append(entry)
        self.made += 1
        return type("Handle", (), {"cancel": lambda _: self.pending.remove(entry) if entry in self.pending else None})()


@pytest.fixture
def timers(monkeypatch: pytest.MonkeyPatch) -> Timers:
    timers = Timers()
    monkeypatch.setattr(asyncio, "get_running_loop", lambda: timers)
    return timers


def boom(_request: Request) -> Answer:
    raise RuntimeError("no")


def echo(request: Request) -> Answer:
    return Answer(HTTPStatus.OK, repr((request.path, dict(request.query), request.body)).encode())


ROUTES = {
    "/healthz": Route(lambda _: Answer(HTTPStatus.OK, b"ok\n"), public=True),
    "/status": Route(lambda _: Answer(HTTPStatus.OK, b"status\n")),
    "/change": Route(echo, "POST"),
    "/echo": Route(echo),
    "/boom": Route(boom),
    "/more": Route(lambda _: Answer(HTTPStatus.OK, b"{}", "application/json", (("Referrer-Policy", "no-referrer"),))),
}
TOKEN = "0123456789abcdef"
OPEN = NetworkGate("127.0.0.1", "")


@pytest.fixture
def connection(timers: Timers) -> tuple[AdminProtocol, Wire]:
    return connect(set())


def connect(opened: set[AdminProtocol], gate: Gate = OPEN) -> tuple[AdminProtocol, Wire]:
    protocol, wire = AdminProtocol(ROUTES, gate, opened), Wire()
    protocol.connection_made(wire)  # type: ignore[arg-type]
    return protocol, wire


def ask(connection: tuple[AdminProtocol, Wire], request: str) -> tuple[int, str, str]:
    """Status, headers and body of the answer."""
    protocol, wire = connection
    wire.sent = b""
    protocol.data_received(request.replace("\n", "\r\n").encode())
    if not wire.sent:
        return 0, "", ""
    head, _, body = wire.sent.decode().partition("\r\n\r\n")
    return int(head.split()[1]), head, body


def test_get_answers_and_the_connection_can_be_used_again(connection: tuple[AdminProtocol, Wire]) -> None:
    for _ in range(3):
        status, head, body = ask(connection, "GET /healthz?x=1 HTTP/1.1\nHost: localhost:9095\n\n")
        assert (status, body) == (200, "ok\n")
        assert "content-length: 3" in head.lower()
    assert not connection[1].closed


def test_an_answer_may_bring_headers_of_its_own(connection: tuple[AdminProtocol, Wire]) -> None:
    _, head, _ = ask(connection, "GET /more HTTP/1.1\nHost: localhost\n\n")
    assert "referrer-policy: no-referrer" in head.lower()
    assert "content-type: application/json" in head.lower()


def test_two_requests_in_one_read_are_both_answered(connection: tuple[AdminProtocol, Wire]) -> None:
    protocol, wire = connection
    protocol.data_received(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n" * 2)
    assert wire.sent.count(b"HTTP/1.1 200") == 2


def test_a_request_in_pieces_is_answered_when_it_is_whole(connection: tuple[AdminProtocol, Wire]) -> None:
    protocol, wire = connection
    for byte in b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r":
        protocol.data_received(bytes([byte]))
    assert not wire.sent
    protocol.data_received(b"\n")
    assert wire.sent.startswith(b"HTTP/1.1 200")


def test_head_has_the_headers_of_get_and_no_body(connection: tuple[AdminProtocol, Wire]) -> None:
    status, head, body = ask(connection, "HEAD /healthz HTTP/1.1\nHost: localhost\n\n")
    assert (status, body) == (200, "")
    assert "content-length: 3" in head.lower()


def test_an_unknown_path_is_404(connection: tuple[AdminProtocol, Wire]) -> None:
    assert ask(connection, "GET /etc/passwd HTTP/1.1\nHost: localhost\n\n")[0] == 404


def test_another_method_is_405_and_says_what_is_allowed(connection: tuple[AdminProtocol, Wire]) -> None:
    status, head, _ = ask(connection, "DELETE /healthz HTTP/1.1\nHost: localhost\n\n")
    assert status == 405
    assert "allow: get, head" in head.lower()


def test_a_body_is_not_read_and_the_connection_ends(connection: tuple[AdminProtocol, Wire]) -> None:
    status, *_ = ask(connection, "POST /healthz HTTP/1.1\nHost: localhost\nContent-Length: 100000\n\nabc")
    assert status == 405
    assert connection[1].closed


def post(path: str, body: str, *headers: str) -> str:
    lines = [f"POST {path} HTTP/1.1", "Host: localhost", f"Content-Length: {len(body)}", *headers]
    return "\n".join(lines) + "\n\n" + body


def test_a_change_has_its_body_and_the_connection_can_be_used_again(timers: Timers) -> None:
    connection = connect(set(), ControlGate())
    for _ in range(2):
        status, _, body = ask(connection, post("/change?a=b%20c", '{"peer": 1}'))
        assert (status, body) == (200, repr(("/change", {"a": "b c"}, b'{"peer": 1}')))
    assert ask(connection, "GET /healthz HTTP/1.1\nHost: localhost\n\n")[0] == 200


def test_a_change_is_made_by_post_only(timers: Timers) -> None:
    status, head, _ = ask(connect(set(), ControlGate()), "GET /change HTTP/1.1\nHost: localhost\n\n")
    assert status == 405
    assert "allow: post" in head.lower()


@pytest.mark.parametrize(("length", "status"), [(MAX_BODY_BYTES, 200), (MAX_BODY_BYTES + 1, 413)])
def test_bodies_are_bounded(timers: Timers, length: int, status: int) -> None:
    connection = connect(set(), ControlGate())
    assert ask(connection, post("/change", "x" * length))[0] == status
    assert connection[1].closed == (status == 413)


def test_parameters_are_bounded(connection: tuple[AdminProtocol, Wire]) -> None:
    query = "&".join(f"p{number}=1" for number in range(33))
    assert ask(connection, f"GET /echo?{query} HTTP/1.1\nHost: localhost\n\n")[0] == 400
    assert ask(connection, "GET /echo?a HTTP/1.1\nHost: localhost\n\n")[2] == repr(("/echo", {"a": ""}, b""))


def test_without_a_token_tcp_may_look_and_change_nothing(connection: tuple[AdminProtocol, Wire]) -> None:
    assert ask(connection, "GET /status HTTP/1.1\nHost: localhost\n\n")[0] == 200
    status, _, body = ask(connection, post("/change", ""))
    assert status == 403
    assert "control socket" in body


def test_with_a_token_all_but_health_needs_it(timers: Timers, capsys: pytest.CaptureFixture[str]) -> None:
    connection = connect(set(), NetworkGate("127.0.0.1", TOKEN))
    assert ask(connection, "GET /healthz HTTP/1.1\nHost: localhost\n\n")[0] == 200
    for wrong in ("", f"Authorization: Bearer {TOKEN}x\n", f"Authorization: Basic {TOKEN}\n", "Authorization: é\n"):
        status, head, _ = ask(connection, f"GET /status HTTP/1.1\nHost: localhost\n{wrong}\n")
        assert status == 401
        assert "www-authenticate: bearer" in head.lower()
    right = f"Authorization: Bearer {TOKEN}"
    assert ask(connection, f"GET /status HTTP/1.1\nHost: localhost\n{right}\n\n")[0] == 200
    assert ask(connection, post("/change", "", right))[0] == 200
    assert ask(connection, f"GET /status HTTP/1.1\nHost: evil.example\n{right}\n\n")[0] == 403
    assert TOKEN not in capsys.readouterr().err


def test_off_loopback_any_name_will_do_because_a_token_is_needed(timers: Timers) -> None:
    connection = connect(set(), NetworkGate("0.0.0.0", TOKEN))
    assert ask(connection, "GET /healthz HTTP/1.1\nHost: relay.example\n\n")[0] == 200
    assert ask(connection, "GET /status HTTP/1.1\nHost: relay.example\n\n")[0] == 401


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST:9095", "127.0.0.1", "127.0.0.1:9095", "127.8.8.8:1", "[::1]", "[::1]:9095"]
)
def test_a_host_of_this_machine_is_served(connection: tuple[AdminProtocol, Wire], host: str) -> None:
    assert ask(connection, f"GET /healthz HTTP/1.1\nHost: {host}\n\n")[0] == 200


@pytest.mark.parametrize(
    "host",
    ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "192.0.2.1", "[::2]:1", "0.0.0.0:9095", ""],
)
def test_a_host_that_is_not_this_machine_is_403(connection: tuple[AdminProtocol, Wire], host: str) -> None:
    assert ask(connection, f"GET /healthz HTTP/1.1\nHost: {host}\n\n")[0] == 403


def test_a_request_without_host_is_refused(connection: tuple[AdminProtocol, Wire]) -> None:
    assert ask(connection, "GET /healthz HTTP/1.1\n\n")[0] == 400
    assert ask((connect(set())), "GET /healthz HTTP/1.0\n\n")[0] == 403


def test_a_failing_answer_is_500_and_nothing_else_fails(
    connection: tuple[AdminProtocol, Wire], capsys: pytest.CaptureFixture[str]
) -> None:
    assert ask(connection, "GET /boom HTTP/1.1\nHost: localhost\n\n")[0] == 500
    assert "request failed" in capsys.readouterr().err
    assert ask(connection, "GET /healthz HTTP/1.1\nHost: localhost\n\n")[0] == 200


@pytest.mark.parametrize("garbage", ["\x16\x03\x01\x02garbage\n\n", "GET\n\n", "GET /a b c HTTP/1.1\n\n"])
def test_what_is_not_http_is_refused_and_closed(connection: tuple[AdminProtocol, Wire], garbage: str) -> None:
    assert ask(connection, garbage)[0] == 400
    assert connection[1].closed


@pytest.mark.parametrize(("length", "status"), [(MAX_HEADER_BYTES, 200), (MAX_HEADER_BYTES + 1, 431)])
def test_headers_are_bounded(connection: tuple[AdminProtocol, Wire], length: int, status: int) -> None:
    protocol, wire = connection
    start = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX: "
    protocol.data_received(start + b"y" * (length - len(start)))
    if status == 200:
        protocol.data_received(b"\r\n\r\n")
    assert wire.sent.startswith(b"HTTP/1.1 %d" % status)


def test_a_silent_connection_is_closed_at_its_deadline(timers: Timers, connection: tuple[AdminProtocol, Wire]) -> None:
    ((delay_s, callback),) = timers.pending
    assert delay_s == http.DEADLINE_S
    callback()
    assert connection[1].closed


def test_a_slow_request_does_not_get_more_time_by_sending_bytes(
    timers: Timers, connection: tuple[AdminProtocol, Wire]
) -> None:
    connection[0].data_received(b"GET /healthz HTTP/1.1\r\n")
    assert timers.made == 1
    connection[0].data_received(b"Host: localhost\r\n\r\n")
    assert timers.made == 2
    assert len(timers.pending) == 1


def test_one_connection_too_many_is_closed_at_once(timers: Timers) -> None:
    opened: set[AdminProtocol] = set()
    wires = [connect(opened) for _ in range(MAX_CONNECTIONS + 1)]
    assert [wire.closed for _, wire in wires] == [False] * MAX_CONNECTIONS + [True]
    wires[0][0].connection_lost(None)
    assert not connect(opened)[1].closed


class Late:
    """A real server whose one answer comes when `done` is set."""

    def __init__(self) -> None:
        self.done = asyncio.Event()
        self.asked = asyncio.Event()
        self.cancelled = asyncio.Event()
        self.opened: set[AdminProtocol] = set()

    async def __aenter__(self) -> Self:
        routes = {**ROUTES, "/late": Route(self._late), "/late-boom": Route(self._boom)}
        loop = asyncio.get_running_loop()
        self.server = await loop.create_server(lambda: AdminProtocol(routes, OPEN, self.opened), "127.0.0.1", 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        self.server.close()
        await self.server.wait_closed()

    async def _late(self, _request: Request) -> Answer:
        self.asked.set()
        try:
            await self.done.wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        return Answer(HTTPStatus.OK, b"late\n")

    async def _boom(self, _request: Request) -> Answer:
        raise RuntimeError("no")

    async def connect(self, request: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.server.sockets[0].getsockname()[1])
        writer.write(request.replace("\n", "\r\n").encode())
        return reader, writer


GET_LATE = "GET /late HTTP/1.1\nHost: localhost\n\n"
GET_HEALTH = "GET /healthz HTTP/1.1\nHost: localhost\nConnection: close\n\n"


def test_an_answer_that_takes_a_while_comes_before_the_next_request_is_read() -> None:
    async def run() -> bytes:
        async with Late() as late:
            reader, writer = await late.connect(GET_LATE + GET_HEALTH)
            await late.asked.wait()
            late.done.set()
            said = await reader.read()
            writer.close()
            return said

    said = asyncio.run(run())
    assert said.count(b"HTTP/1.1 200") == 2
    assert said.index(b"late\n") < said.index(b"ok\n")


def test_a_client_that_says_no_more_still_gets_its_answer() -> None:
    async def run() -> bytes:
        async with Late() as late:
            reader, writer = await late.connect(GET_LATE)
            writer.write_eof()
            late.done.set()
            said = await reader.read()
            writer.close()
            return said

    assert asyncio.run(run()).endswith(b"late\n")


def test_a_late_answer_that_fails_is_500(capsys: pytest.CaptureFixture[str]) -> None:
    async def run() -> bytes:
        async with Late() as late:
            reader, writer = await late.connect("GET /late-boom HTTP/1.1\nHost: localhost\nConnection: close\n\n")
            said = await reader.read()
            writer.close()
            return said

    assert asyncio.run(run()).startswith(b"HTTP/1.1 500")
    assert "request failed" in capsys.readouterr().err


def test_an_answer_that_never_comes_is_given_up_at_the_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "DEADLINE_S", 0.05)

    async def run() -> tuple[bytes, bool]:
        async with Late() as late:
            reader, writer = await late.connect(GET_LATE)
            said = await reader.read()
            writer.close()
            await late.cancelled.wait()
            return said, not late.opened

    assert asyncio.run(run()) == (b"", True)
