"""From accept to upgrade behind TLS: a connection has its wire all the time, and every end of it is told once."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
import struct
import warnings
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus

import pytest

from tests.support.certificate import loopback_certificate
from tests.support.sockets import Endpoint, WebSocketClient, listening, run, until
from transports import websocket
from transports.certificate import Certificate
from transports.errors import PeerError
from transports.http_request import SNI, Answer, RequestReader
from transports.request_end import TlsEnd
from transports.tls import Tls, TlsError
from transports.wire import Flusher, Wire

UPGRADE = (
    b"GET / HTTP/1.1\r\nHost: relay\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
Scene = Callable[["Server"], Awaitable[None]]


class Server:
    """websocket.serve behind TLS on a port of its own, with recording endpoints."""

    def __init__(self, folder: os.PathLike[str]) -> None:
        cert_file, key_file = loopback_certificate(folder)  # type: ignore[arg-type]
        certificate = Certificate(str(cert_file), str(key_file), "listeners[0]")
        self.tls = Tls(certificate.context, 60.0, 0.1, certificate.name_asked_for)
        self.headers: list[Mapping[str, str]] = []
        self.trust = ssl.create_default_context(cafile=str(cert_file))
        self.endpoints: list[Endpoint] = []
        self.faults: list[Exception] = []
        self.attach: Callable[[Wire], None] = self._attach

    def _attach(self, wire: Wire) -> None:
        self.endpoints.append(Endpoint(wire))

    def _admit(self, _wire: Wire, _target: str, headers: Mapping[str, str]) -> HTTPStatus | None:
        self.headers.append(headers)
        return None

    async def start(self) -> Server:
        sock = listening()
        self.port: int = sock.getsockname()[1]
        flusher = Flusher(asyncio.get_running_loop(), self.faults.append)
        attach = lambda wire: self.attach(wire)  # noqa: E731, PLW0108 - set later
        self.server = await websocket.serve(sock, flusher, lambda: 1.0, attach, self._admit, self.tls)
        return self

    async def raw(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter, Endpoint]:
        """A TCP connection that has said nothing yet, and its endpoint."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        await until(lambda: self.endpoints)
        return reader, writer, self.endpoints[-1]

    async def ended(self) -> Exception | None:
        """Why the first connection ended; it is told once."""
        endpoint = self.endpoints[0]
        await endpoint.lost.wait()
        await asyncio.sleep(0)
        (error,) = endpoint.losses
        return error


@pytest.fixture
def serving(tmp_path: os.PathLike[str]) -> Callable[[Scene], None]:
    def play(test: Scene) -> None:
        async def scene() -> None:
            server = await Server(tmp_path).start()
            try:
                await test(server)
            finally:
                server.server.close()
            assert server.faults == []

        run(scene())

    return play


def test_a_connection_has_its_owner_and_its_address_before_it_has_said_a_byte(serving: Callable[[Scene], None]) -> None:
    async def scene(server: Server) -> None:
        _, writer, endpoint = await server.raw()
        assert isinstance(endpoint.wire.end, TlsEnd)
        assert (endpoint.wire.ip, endpoint.wire.port) == writer.get_extra_info("sockname")
        writer.close()

    serving(scene)


def test_above_tls_a_connection_is_upgraded_and_keeps_its_wire(serving: Callable[[Scene], None]) -> None:
    async def scene(server: Server) -> None:
        client = await WebSocketClient.connect(server.port, ssl=server.trust)
        (endpoint,) = server.endpoints
        assert isinstance(endpoint.wire.end, websocket.WebSocketEnd)
        client.send(0x82, b"hello")
        await endpoint.until(b"hello")
        endpoint.say(b"answer")
        assert await client.read() == (0x82, b"answer")
        client.send(0x88, b"\x03\xe8")
        assert await server.ended() is None

    serving(scene)


@pytest.mark.parametrize("name", ["relay.example", None])
def test_whoever_decides_on_the_upgrade_sees_the_name_that_tls_was_told(
    serving: Callable[[Scene], None], name: str | None
) -> None:
    async def scene(server: Server) -> None:
        anybody = ssl.create_default_context()
        anybody.check_hostname, anybody.verify_mode = False, ssl.CERT_NONE
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", server.port, ssl=anybody, server_hostname=name or ""
        )
        writer.write(UPGRADE)
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
        (headers,) = server.headers
        assert headers.get(SNI) == name
        writer.close()

    serving(scene)


@pytest.mark.parametrize("line", [b":sni: relay.example", b" :sni: relay.example"])
def test_no_header_passes_for_the_name_that_tls_was_told(line: bytes) -> None:
    said = RequestReader().feed(UPGRADE[:-2] + line + b"\r\n\r\n")
    assert isinstance(said, Answer)
    assert said.data.startswith(b"HTTP/1.1 400 ")


def test_what_is_no_tls_is_told_with_what_openssl_says(serving: Callable[[Scene], None]) -> None:
    async def scene(server: Server) -> None:
        reader, writer, _ = await server.raw()
        writer.write(b"GET / HTTP/1.1\r\nHost: relay\r\n\r\n")
        await reader.read()
        error = await server.ended()
        assert isinstance(error, TlsError)
        assert "http request" in str(error)
        writer.close()

    serving(scene)


def test_a_version_that_is_too_old_is_told(serving: Callable[[Scene], None]) -> None:
    async def scene(server: Server) -> None:
        client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        client.check_hostname, client.verify_mode = False, ssl.CERT_NONE
        client.set_ciphers("ALL:@SECLEVEL=0")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            client.minimum_version = client.maximum_version = ssl.TLSVersion.TLSv1_1
        with pytest.raises(OSError):  # noqa: PT011 - what it is called differs between versions of OpenSSL
            await asyncio.open_connection("127.0.0.1", server.port, ssl=client)
        error = await server.ended()
        assert isinstance(error, TlsError)
        assert "unsupported protocol" in str(error)

    serving(scene)


def test_a_client_that_does_not_trust_the_certificate_is_told(serving: Callable[[Scene], None]) -> None:
    async def scene(server: Server) -> None:
        def dial() -> None:  # by a socket: asyncio does not send the alert
            address = ("127.0.0.1", server.port)
            with socket.create_connection(address) as below, pytest.raises(ssl.SSLCertVerificationError):
                ssl.create_default_context().wrap_socket(below, server_hostname="127.0.0.1")

        await asyncio.to_thread(dial)
        error = await server.ended()
        assert isinstance(error, TlsError)
        assert "unknown ca" in str(error)

    serving(scene)


@pytest.mark.parametrize("said", [b"", b"\x16\x03\x01"], ids=["nothing", "a-piece"])
@pytest.mark.parametrize("rude", [False, True], ids=["FIN", "RST"])
def test_a_peer_that_leaves_in_the_handshake_is_told(
    serving: Callable[[Scene], None], said: bytes, *, rude: bool
) -> None:
    async def scene(server: Server) -> None:
        _, writer, _ = await server.raw()
        writer.write(said)
        if rude:
            linger = struct.pack("ii", 1, 0)
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        writer.close()
        error = await server.ended()
        assert isinstance(error, TlsError)
        assert "left" in str(error)

    serving(scene)


def test_an_owner_that_ends_a_handshake_is_told_its_own_reason(serving: Callable[[Scene], None]) -> None:
    async def scene(server: Server) -> None:
        reader, writer, endpoint = await server.raw()
        reason = PeerError("too slow")
        endpoint.wire.close(reason)
        assert await server.ended() is reason
        assert await reader.read() == b""
        writer.close()

    serving(scene)


def test_a_connection_that_is_refused_at_accept_does_not_begin_with_tls(serving: Callable[[Scene], None]) -> None:
    async def scene(server: Server) -> None:
        def attach(wire: Wire) -> None:
            server.endpoints.append(Endpoint(wire))
            wire.abort(PeerError("full"))

        server.attach = attach
        reader, writer, _ = await server.raw()
        assert str(await server.ended()) == "full"
        assert await reader.read() == b""
        writer.close()

    serving(scene)


def test_a_record_that_does_not_open_ends_the_connection_and_is_told(serving: Callable[[Scene], None]) -> None:
    async def scene(server: Server) -> None:
        client = await WebSocketClient.connect(server.port, ssl=server.trust)
        os.write(client.writer.get_extra_info("socket").fileno(), b"\x17\x03\x03\x00\x20" + bytes(32))
        assert isinstance(await server.ended(), TlsError)

    serving(scene)


def test_a_peer_that_does_not_answer_our_goodbye_is_closed_all_the_same(serving: Callable[[Scene], None]) -> None:
    async def scene(server: Server) -> None:
        client = await WebSocketClient.connect(server.port, ssl=server.trust)
        client.reader._transport.pause_reading()  # type: ignore[attr-defined]  # so it neither sees nor answers it
        server.endpoints[0].wire.close()
        assert await server.ended() is None

    serving(scene)


def test_a_peer_that_ends_and_does_not_take_what_was_written_is_cut_off(
    serving: Callable[[Scene], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("transports.websocket.LINGER_S", 0.1)

    async def scene(server: Server) -> None:
        client = await WebSocketClient.connect(server.port, ssl=server.trust)
        client.reader._transport.pause_reading()  # type: ignore[attr-defined]
        (endpoint,) = server.endpoints
        end = endpoint.wire.end
        while not end.unsent_bytes():
            end.write(bytes(16_384))
            await asyncio.sleep(0)
        end.write(bytes(16 << 20))
        with socket.socket(fileno=os.dup(client.writer.get_extra_info("socket").fileno())) as below:
            while end.unsent_bytes():  # so that all that waits does so below TLS, where nobody sees it
                below.recv(4096)
                await asyncio.sleep(0)
            below.shutdown(socket.SHUT_WR)
        await asyncio.sleep(0.05)
        assert not endpoint.losses
        endpoint.wire.close()
        assert await server.ended() is None
        client.writer.transport.abort()

    serving(scene)
