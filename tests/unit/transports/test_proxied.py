"""Listeners behind a PROXY header on real loopback sockets: TCP and WebSocket."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from tests.support.sockets import Endpoint, WebSocketClient, listening, run, until
from transports import websocket
from transports.proxied import protocol_factory
from transports.proxy_header import ProxyHeaderError
from transports.tcp import TcpEnd
from transports.wire import Flusher, Wire

HEADER = b"PROXY TCP4 192.0.2.7 198.51.100.1 4711 9091\r\n"
UNKNOWN = b"PROXY UNKNOWN\r\n"
KINDS = pytest.mark.parametrize("kind", ["tcp", "ws"])
UPGRADE = (
    b"GET / HTTP/1.1\r\nHost: relay\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
FRAME = b"\x82\x85\x00\x00\x00\x00hello"


class Server:
    """A listener whose connections begin with a header. `refuses`: what is found ends there."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.refuses = False
        self.endpoints: list[Endpoint] = []
        self.found: list[tuple[str, int]] = []
        self.faults: list[Exception] = []

    def _attach(self, wire: Wire) -> None:
        self.endpoints.append(Endpoint(wire))

    def _found(self, wire: Wire) -> None:
        self.found.append((wire.ip, wire.port))
        if self.refuses:
            wire.abort()

    async def start(self) -> Server:
        loop, sock = asyncio.get_running_loop(), listening()
        self.port: int = sock.getsockname()[1]
        flusher = Flusher(loop, self.faults.append)
        if self.kind == "ws":
            self.server = await websocket.serve(
                sock, flusher, lambda: 1.0, self._attach, lambda wire, target, headers: None, found=self._found
            )
        else:
            make = protocol_factory(lambda attach: TcpEnd(flusher, lambda: 1.0, attach), self._attach, self._found)
            self.server = await loop.create_server(make, sock=sock)
        return self

    async def client(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter, Endpoint]:
        known = len(self.endpoints)
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        await until(lambda: len(self.endpoints) > known)
        return reader, writer, self.endpoints[-1]

    def hello(self) -> bytes:
        """What makes the endpoint receive `hello`."""
        return UPGRADE + FRAME if self.kind == "ws" else b"hello"


def serving(kind: str, test: Callable[[Server], Awaitable[None]]) -> None:
    async def scene() -> None:
        server = await Server(kind).start()
        try:
            await test(server)
            assert not server.faults
        finally:
            server.server.close()

    run(scene())


@KINDS
@pytest.mark.parametrize("pieces", ["together", "apart", "bytewise"])
def test_behind_the_header_the_connection_is_the_clients(kind: str, pieces: str) -> None:
    async def scene(server: Server) -> None:
        _, writer, endpoint = await server.client()
        if pieces == "together":
            writer.write(HEADER + server.hello())
        elif pieces == "apart":
            writer.write(HEADER)
            await until(lambda: server.found)
            writer.write(server.hello())
        else:
            for byte in HEADER + server.hello():
                writer.write(bytes((byte,)))
                await asyncio.sleep(0)
        await endpoint.until(b"hello")
        assert server.found == [("192.0.2.7", 4711)]

    serving(kind, scene)


@KINDS
def test_a_proxy_that_speaks_for_itself_is_the_other_end(kind: str) -> None:
    async def scene(server: Server) -> None:
        _, writer, endpoint = await server.client()
        writer.write(UNKNOWN + server.hello())
        await endpoint.until(b"hello")
        assert server.found == [writer.get_extra_info("sockname")]

    serving(kind, scene)


@KINDS
def test_without_a_header_nothing_comes_through(kind: str) -> None:
    async def scene(server: Server) -> None:
        reader, writer, endpoint = await server.client()
        writer.write(server.hello())
        await endpoint.lost.wait()
        assert not await reader.read()
        (error,) = endpoint.losses
        assert isinstance(error, ProxyHeaderError)
        assert not server.found
        assert not endpoint.received

    serving(kind, scene)


@KINDS
def test_what_is_refused_when_the_header_is_read_reads_no_further(kind: str) -> None:
    async def scene(server: Server) -> None:
        server.refuses = True
        reader, writer, endpoint = await server.client()
        writer.write(HEADER + server.hello())
        await endpoint.lost.wait()
        assert not await reader.read()
        assert not endpoint.received

    serving(kind, scene)


@KINDS
def test_who_leaves_before_the_header_is_whole_is_gone(kind: str) -> None:
    async def scene(server: Server) -> None:
        _, writer, endpoint = await server.client()
        writer.write(HEADER[:10])
        await writer.drain()
        writer.close()
        await endpoint.lost.wait()
        assert not server.found

    serving(kind, scene)


def test_a_web_socket_behind_a_header_answers() -> None:
    async def scene(server: Server) -> None:
        reader, writer, endpoint = await server.client()
        writer.write(HEADER + UPGRADE)
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 101 ")
        client = WebSocketClient(reader, writer)
        client.send(0x82, bytes(100_000))
        await endpoint.until(bytes(100_000))
        endpoint.say(b"answer")
        assert await client.read() == (0x82, b"answer")

    serving("ws", scene)


def test_many_bytes_right_behind_a_header_are_all_handed_on() -> None:
    async def scene(server: Server) -> None:
        _, writer, endpoint = await server.client()
        data = bytes(range(256)) * 4096
        writer.write(HEADER + data)
        await endpoint.until(data)

    serving("tcp", scene)
