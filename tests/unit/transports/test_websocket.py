"""The WebSocket edge on real loopback sockets, against a client that can break every rule."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus

import pytest

from tests.support.sockets import Endpoint, WebSocketClient, listening, run, until
from transports import websocket
from transports.http_request import HeadTooLongError, RequestError
from transports.wire import Flusher, NotReadingError, Wire

BINARY, CONTINUATION, TEXT, CLOSE, PING, PONG = 0x82, 0x80, 0x81, 0x88, 0x89, 0x8A
MORE = 0x80  # FIN, which is off in `BINARY ^ MORE`
UPGRADE = (
    "GET / HTTP/1.1",
    "Host: relay",
    "Upgrade: websocket",
    "Connection: Upgrade",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
)


class Server:
    """websocket.serve on a port of its own, with recording endpoints."""

    def __init__(self) -> None:
        self.endpoints: list[Endpoint] = []
        self.faults: list[Exception] = []
        self.headers: list[dict[str, str]] = []
        self.admits: Callable[[Wire, Mapping[str, str]], HTTPStatus | None] = self._admit

    def _attach(self, wire: Wire) -> None:
        self.endpoints.append(Endpoint(wire))

    def _admit(self, wire: Wire, headers: Mapping[str, str]) -> HTTPStatus | None:
        self.headers.append(dict(headers))
        return HTTPStatus.FORBIDDEN if headers.get("origin") == "https://evil.example" else None

    async def start(self) -> Server:
        sock = listening()
        self.port: int = sock.getsockname()[1]
        flusher = Flusher(asyncio.get_running_loop(), self.faults.append)
        self.server = await websocket.serve(
            sock,
            flusher,
            lambda: 1.0,
            self._attach,
            lambda wire, _target, headers: self.admits(wire, headers),
        )
        return self

    async def client(self) -> tuple[WebSocketClient, Endpoint]:
        client = await WebSocketClient.connect(self.port)
        return client, self.endpoints[-1]


def serving(test: Callable[[Server], Awaitable[None]]) -> None:
    async def scene() -> None:
        server = await Server().start()
        try:
            await test(server)
        finally:
            server.server.close()

    run(scene())


def test_frames_fragments_and_empty_ones_are_one_stream_of_bytes() -> None:
    async def scene(server: Server) -> None:
        client, endpoint = await server.client()
        client.send(BINARY, b"one ")
        client.send(BINARY ^ MORE, b"two ")
        client.send(CONTINUATION ^ MORE, b"")
        client.send(PING, b"are you there")
        client.send(CONTINUATION, b"three")
        await endpoint.until(b"one two three")
        assert await client.read() == (PONG, b"are you there")

    serving(scene)


def test_what_one_turn_produces_is_one_frame_and_more_than_256_kib_are_several() -> None:
    async def scene(server: Server) -> None:
        client, endpoint = await server.client()
        endpoint.say(b"a")
        endpoint.say(b"b")
        assert await client.read() == (BINARY, b"ab")
        endpoint.say(bytes(256 * 1024))
        assert await client.read() == (BINARY, bytes(256 * 1024))
        endpoint.say(bytes(256 * 1024 + 1))
        assert [len(payload) for _, payload in (await client.read(), await client.read())] == [256 * 1024, 1]

    serving(scene)


def test_a_frame_of_256_kib_is_read_and_one_byte_more_ends_the_connection_by_its_header() -> None:
    async def scene(server: Server) -> None:
        client, endpoint = await server.client()
        client.send(BINARY, bytes(256 * 1024))
        await endpoint.until(bytes(256 * 1024))
        client.send(BINARY, b"", claimed_bytes=256 * 1024 + 1)
        assert [first for first, _ in await client.read_to_end()] == [CLOSE]
        await endpoint.lost.wait()
        (error,) = endpoint.losses
        assert isinstance(error, websocket.WebSocketError)

    serving(scene)


@pytest.mark.parametrize(
    ("first", "masked"),
    [
        pytest.param(TEXT, True, id="text"),
        pytest.param(BINARY, False, id="not masked"),
        pytest.param(BINARY | 0x40, True, id="reserved bit 1"),
        pytest.param(BINARY | 0x20, True, id="reserved bit 2"),
        pytest.param(PING | 0x10, True, id="reserved bit 3"),
        pytest.param(0x83, True, id="a reserved opcode"),
        pytest.param(PING ^ MORE, True, id="a ping in fragments"),
    ],
)
def test_a_frame_that_breaks_the_rules_ends_the_connection(first: int, masked: bool) -> None:
    async def scene(server: Server) -> None:
        client, endpoint = await server.client()
        client.send(first, b"bad", masked=masked)
        frames = await client.read_to_end()
        assert frames[-1][0] == CLOSE
        assert frames[-1][1][:2] == (1002).to_bytes(2, "big")
        await endpoint.lost.wait()
        (error,) = endpoint.losses
        assert isinstance(error, websocket.WebSocketError)
        assert endpoint.received == b""

    serving(scene)


def test_64_empty_frames_are_patience_and_one_more_is_not() -> None:
    async def scene(server: Server) -> None:
        client, endpoint = await server.client()
        for _ in range(64):
            client.send(BINARY)
        client.send(BINARY, b"x")
        await endpoint.until(b"x")
        for _ in range(65):
            client.send(BINARY)
        assert (await client.read_to_end())[-1][0] == CLOSE
        await endpoint.lost.wait()

    serving(scene)


@pytest.mark.parametrize("kind", [PING, PONG], ids=["pings", "pongs"])
def test_64_pings_without_data_are_patience_and_one_more_is_not(kind: int) -> None:
    async def scene(server: Server) -> None:
        client, endpoint = await server.client()
        for _ in range(64):
            client.send(kind)
        client.send(BINARY, b"x")
        await endpoint.until(b"x")
        for _ in range(65):
            client.send(kind)
        assert (await client.read_to_end())[-1][0] == CLOSE
        await endpoint.lost.wait()
        (error,) = endpoint.losses
        assert isinstance(error, websocket.WebSocketError)

    serving(scene)


def test_a_peers_close_is_answered_and_is_no_error() -> None:
    async def scene(server: Server) -> None:
        client, endpoint = await server.client()
        client.send(CLOSE, (1000).to_bytes(2, "big"))
        frames = await client.read_to_end()
        assert frames[-1] == (CLOSE, (1000).to_bytes(2, "big"))
        await endpoint.lost.wait()
        assert endpoint.losses == [None]

    serving(scene)


def test_a_close_of_ours_says_goodbye_in_both_layers() -> None:
    async def scene(server: Server) -> None:
        client, endpoint = await server.client()
        endpoint.wire.close()
        assert await client.read_to_end() == [(BINARY, b"goodbye"), (CLOSE, (1000).to_bytes(2, "big"))]
        await endpoint.lost.wait()
        assert endpoint.losses == [None]

    serving(scene)


def test_a_peer_that_errs_in_what_the_frames_carry_gets_goodbye_and_code_1002() -> None:
    async def scene(server: Server) -> None:
        client, endpoint = await server.client()
        endpoint.error_at = b"bad"
        client.send(BINARY, b"bad")
        client.send(BINARY, b"more")
        assert await client.read_to_end() == [(BINARY, b"goodbye"), (CLOSE, (1002).to_bytes(2, "big"))]
        await endpoint.lost.wait()
        assert [str(error) for error in endpoint.losses] == ["what the test waits for"]
        assert endpoint.received == b"bad"

    serving(scene)


def test_a_peer_that_vanishes_is_lost_once() -> None:
    async def scene(server: Server) -> None:
        client, endpoint = await server.client()
        client.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.writer.close()
        await endpoint.lost.wait()
        assert endpoint.losses == [None]

    serving(scene)


def test_peers_that_send_a_frame_and_reset_leave_nothing_and_the_server_hears_the_next() -> None:
    async def scene(server: Server) -> None:
        for _ in range(50):
            client, _ = await server.client()
            sock = client.writer.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            client.send(BINARY, b"frame")
            client.writer.transport.abort()
        for endpoint in server.endpoints:
            await endpoint.lost.wait()
        client, endpoint = await server.client()
        client.send(BINARY, b"heard")
        await endpoint.until(b"heard")

    serving(scene)


def test_a_peer_that_pings_and_does_not_read_is_ended() -> None:
    async def scene(server: Server) -> None:
        client, endpoint = await server.client()
        client.reader._limit = 1  # type: ignore[attr-defined]  # its reader stops asking the socket
        try:
            while not endpoint.lost.is_set():
                for number in range(1000):
                    client.send(PING, bytes(125))
                    if number % 50 == 0:
                        client.send(BINARY, b"x")
                await asyncio.wait_for(client.writer.drain(), 0.5)
        except (TimeoutError, ConnectionError):
            await endpoint.lost.wait()
        (error,) = endpoint.losses
        assert isinstance(error, NotReadingError)
        client.writer.transport.abort()

    serving(scene)


def test_a_full_socket_pauses_the_session_and_an_empty_one_unpauses_it() -> None:
    async def scene(server: Server) -> None:
        client, endpoint = await server.client()
        calls: list[str] = []

        class Session:
            congested = False

            def pause(self) -> None:
                calls.append("pause")

            def unpause(self) -> None:
                calls.append("unpause")

            def output_taken(self) -> None:
                """A flush is over."""

        endpoint.session = Session()  # type: ignore[assignment]
        said = 0
        while not calls:
            endpoint.say(bytes(60_000))
            said += 60_000
            await asyncio.sleep(0)
        assert calls == ["pause"]
        got = 0
        while got < said:
            got += len((await client.read())[1])
        await until(lambda: len(calls) > 1)
        assert calls == ["pause", "unpause"]

    serving(scene)


# Before and instead of the upgrade


@pytest.mark.parametrize(("path", "status"), [("/", 200), ("/favicon.ico", 404)])
def test_a_browsers_plain_request_gets_a_page_and_never_hangs(path: str, status: int) -> None:
    async def scene(server: Server) -> None:
        client = await WebSocketClient.connect(server.port, upgrade=False)
        got, _ = await client.request(f"GET {path} HTTP/1.1", "Host: relay")
        assert got == status
        await client.reader.read()
        assert client.reader.at_eof()
        await server.endpoints[0].lost.wait()
        assert server.endpoints[0].losses == [None]

    serving(scene)


@pytest.mark.parametrize(
    ("lines", "status"),
    [
        pytest.param(("POST / HTTP/1.1", "Host: relay"), 405, id="another method"),
        pytest.param(
            ("GET / HTTP/1.1", "Host: relay", "Upgrade: h2c", "Connection: Upgrade"), 426, id="another upgrade"
        ),
        pytest.param(("rubbish",), 400, id="no http"),
    ],
)
def test_a_request_that_is_no_upgrade_is_answered_and_the_socket_is_closed(lines: tuple[str, ...], status: int) -> None:
    async def scene(server: Server) -> None:
        client = await WebSocketClient.connect(server.port, upgrade=False)
        got, _ = await client.request(*lines)
        assert got == status
        await client.reader.read()
        client.writer.close()
        await server.endpoints[0].lost.wait()
        (error,) = server.endpoints[0].losses
        assert isinstance(error, RequestError)

    serving(scene)


def test_a_head_of_8_kib_is_upgraded_and_one_byte_more_is_answered_431() -> None:
    async def scene(server: Server) -> None:
        upgrade = b"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
        head = b"GET / HTTP/1.1\r\nHost: r\r\n" + upgrade + b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nX: "
        for size, status in ((8192, b"101"), (8193, b"431")):
            client = await WebSocketClient.connect(server.port, upgrade=False)
            client.writer.write(head + b"x" * (size - len(head) - 4) + b"\r\n\r\n")
            answer = await client.reader.readuntil(b"\r\n\r\n")
            assert answer.split(b" ")[1] == status
            client.writer.close()
            await server.endpoints[-1].lost.wait()
        assert server.endpoints[0].losses == [None]
        (error,) = server.endpoints[1].losses
        assert isinstance(error, HeadTooLongError)

    serving(scene)


def test_headers_without_end_are_answered_431_though_more_is_on_its_way() -> None:
    async def scene(server: Server) -> None:
        client = await WebSocketClient.connect(server.port, upgrade=False)
        client.writer.write(b"GET / HTTP/1.1\r\n" + b"X-Long: " + b"x" * 1_000_000)
        assert (await client.reader.read()).startswith(b"HTTP/1.1 431 ")
        client.writer.close()
        await server.endpoints[0].lost.wait()

    serving(scene)


def test_a_peer_that_leaves_in_the_middle_of_its_request_has_not_erred() -> None:
    async def scene(server: Server) -> None:
        client = await WebSocketClient.connect(server.port, upgrade=False)
        client.writer.write(b"GET / HTTP/1.1\r\nHost:")
        client.writer.write_eof()
        assert await client.reader.read() == b""
        await server.endpoints[0].lost.wait()
        assert server.endpoints[0].losses == [None]

    serving(scene)


def test_firefox_which_lists_keep_alive_beside_upgrade_is_upgraded() -> None:
    async def scene(server: Server) -> None:
        client = await WebSocketClient.connect(server.port, upgrade=False)
        status, head = await client.request(
            "GET /any/path HTTP/1.1",
            "Host: relay",
            "Sec-WebSocket-Version: 13",
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
            "Connection: keep-alive, Upgrade",
            "Upgrade: websocket",
        )
        assert status == 101
        # RFC 6455 section 1.3, the answer to the sample nonce.
        assert b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" in head

    serving(scene)


def test_a_refused_upgrade_is_answered_with_its_status() -> None:
    async def scene(server: Server) -> None:
        client = await WebSocketClient.connect(server.port, upgrade=False)
        status, _ = await client.request(*UPGRADE, "Origin: https://evil.example")
        assert status == 403
        await server.endpoints[0].lost.wait()
        assert server.endpoints[0].received == b""

    serving(scene)


def test_all_lines_of_a_header_reach_the_one_who_admits() -> None:
    async def scene(server: Server) -> None:
        seen: list[list[tuple[str, str]]] = []

        def admit(_wire: Wire, headers: Mapping[str, str]) -> None:
            seen.append([(name.lower(), value) for name, value in headers.items()])

        server.admits = admit
        await WebSocketClient.connect(server.port, headers=("X-Forwarded-For: 1.1.1.1", "X-Forwarded-For: 2.2.2.2"))
        assert [value for name, value in seen[0] if name == "x-forwarded-for"] == ["1.1.1.1, 2.2.2.2"]

    serving(scene)


def test_a_fault_while_admitting_is_reported_and_answered_with_500() -> None:
    async def scene(server: Server) -> None:
        def admit(_wire: Wire, _headers: Mapping[str, str]) -> None:
            raise RuntimeError("ours, with a secret")

        server.admits = admit
        client = await WebSocketClient.connect(server.port, upgrade=False)
        status, head = await client.request(*UPGRADE)
        assert status == 500
        assert b"secret" not in head + await client.reader.read()
        assert [str(fault) for fault in server.faults] == ["ours, with a secret"]

    serving(scene)


def test_bytes_right_behind_the_request_are_the_first_frames() -> None:
    async def scene(server: Server) -> None:
        client = await WebSocketClient.connect(server.port, upgrade=False)
        client.writer.write(
            b"GET / HTTP/1.1\r\nHost: r\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
            b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n\x82\x84\x00\x00\x00\x00lazy"
        )
        head = await client.reader.readuntil(b"\r\n\r\n")
        # RFC 6455 section 1.3, the answer to the sample nonce.
        assert b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" in head
        await server.endpoints[0].until(b"lazy")

    serving(scene)


def test_more_than_picows_first_buffer_right_behind_the_request_is_read_too() -> None:
    async def scene(server: Server) -> None:
        client = await WebSocketClient.connect(server.port, upgrade=False)
        client.writer.write("\r\n".join((*UPGRADE, "", "")).encode())
        for piece in range(100):
            client.send(BINARY, bytes((piece,)) * 1000)
        await client.reader.readuntil(b"\r\n\r\n")
        await server.endpoints[0].until(b"".join(bytes((piece,)) * 1000 for piece in range(100)))

    serving(scene)
