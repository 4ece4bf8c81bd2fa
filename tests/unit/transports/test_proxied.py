"""Listeners behind a PROXY header on real loopback sockets: TCP and WebSocket."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from tests.support.sockets import Endpoint, WebSocketClient, listening, run, until
from tests.support.tls import write_certificate
from transports import websocket
from transports.proxied import protocol_factory
from transports.proxy_header import ProxyHeaderError
from transports.tcp import TcpEnd
from transports.tls import Tls, TlsError, server_context
from transports.wire import Flusher, Wire

HEADER = b"PROXY TCP4 192.0.2.7 198.51.100.1 4711 9091\r\n"
V2 = (
    b"\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c"
    + bytes([192, 0, 2, 7, 198, 51, 100, 1])
    + (4711).to_bytes(2)
    + (9091).to_bytes(2)
)
UNKNOWN = b"PROXY UNKNOWN\r\n"
KINDS = pytest.mark.parametrize("kind", ["tcp", "ws"])
UPGRADE = (
    b"GET / HTTP/1.1\r\nHost: relay\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
FRAME = b"\x82\x85\x00\x00\x00\x00hello"


class Server:
    """A listener whose connections begin with a header. `refuses`: what is found ends there."""

    def __init__(self, kind: str, tls: Tls | None = None) -> None:
        self.kind = kind
        self.tls = tls
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
                sock, flusher, lambda: 1.0, self._attach, lambda wire, target, headers: None, self.tls, self._found
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


def serving(kind: str, test: Callable[[Server], Awaitable[None]], tls: Tls | None = None) -> None:
    async def scene() -> None:
        server = await Server(kind, tls).start()
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


# --- TLS behind the header ---


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[str, str]:
    return write_certificate(tmp_path)


def secure(certificate: tuple[str, str]) -> Tls:
    return Tls(server_context(*certificate, "listeners[0]"), 20.0, 1.0, lambda _: "")


async def shaken(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, trust: str, header: bytes, pieces: int
) -> Callable[[bytes], None]:
    """TLS with what is behind the header, which is sent together with the ClientHello in so many pieces.

    Gives how to say something.
    """
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    context = ssl.create_default_context(cafile=trust)
    tls = context.wrap_bio(incoming, outgoing, server_hostname="localhost")

    def say(data: bytes) -> None:
        tls.write(data)
        writer.write(outgoing.read())

    while True:
        try:
            tls.do_handshake()
        except ssl.SSLWantReadError:
            first, header = header + outgoing.read(), b""
            for piece in (
                first[n : n + 1 + len(first) // pieces] for n in range(0, len(first), 1 + len(first) // pieces)
            ):
                writer.write(piece)
                await asyncio.sleep(0)
            said = await reader.read(65536)
            assert said, "the server has ended the connection"
            incoming.write(said)
        else:
            writer.write(outgoing.read())
            return say


@pytest.mark.parametrize("header", [HEADER, V2], ids=["v1", "v2"])
@pytest.mark.parametrize("pieces", [1, 2, 7, 1000])
def test_tls_begins_behind_the_header(certificate: tuple[str, str], header: bytes, pieces: int) -> None:
    async def scene(server: Server) -> None:
        reader, writer, endpoint = await server.client()
        say = await shaken(reader, writer, certificate[0], header, pieces)
        assert server.found == [("192.0.2.7", 4711)]
        say(UPGRADE + FRAME)
        await endpoint.until(b"hello")

    serving("ws", scene, secure(certificate))


def test_tls_does_not_begin_before_the_header_nor_without_one(certificate: tuple[str, str]) -> None:
    async def scene(server: Server) -> None:
        reader, writer, endpoint = await server.client()
        with pytest.raises(AssertionError, match="ended the connection"):
            await shaken(reader, writer, certificate[0], b"", 1)
        await endpoint.lost.wait()
        (error,) = endpoint.losses
        assert isinstance(error, ProxyHeaderError)
        assert not server.found

    serving("ws", scene, secure(certificate))


def test_no_tls_is_spoken_with_who_is_refused_by_what_the_header_says(certificate: tuple[str, str]) -> None:
    async def scene(server: Server) -> None:
        server.refuses = True
        reader, writer, endpoint = await server.client()
        with pytest.raises(AssertionError, match="ended the connection"):
            await shaken(reader, writer, certificate[0], HEADER, 1)
        await endpoint.lost.wait()

    serving("ws", scene, secure(certificate))


def test_what_is_no_tls_behind_the_header_is_a_failed_handshake(certificate: tuple[str, str]) -> None:
    async def scene(server: Server) -> None:
        _, writer, endpoint = await server.client()
        writer.write(HEADER + UPGRADE)
        await endpoint.lost.wait()
        (error,) = endpoint.losses
        assert isinstance(error, TlsError)

    serving("ws", scene, secure(certificate))


@pytest.mark.parametrize("said", [HEADER[:10], HEADER], ids=["in-the-header", "behind-it"])
def test_who_leaves_before_tls_is_gone(certificate: tuple[str, str], said: bytes) -> None:
    async def scene(server: Server) -> None:
        _, writer, endpoint = await server.client()
        writer.write(said)
        await writer.drain()
        writer.close()
        await endpoint.lost.wait()

    serving("ws", scene, secure(certificate))
