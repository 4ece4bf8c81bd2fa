"""The TCP edge on real loopback sockets."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Awaitable, Callable
from pathlib import Path

from tests.support.sockets import Endpoint, listening, run, until
from transports.tcp import TcpEnd
from transports.wire import LINGER_S, Flusher


class Server:
    """A listening TcpEnd with recording endpoints."""

    def __init__(self) -> None:
        self.endpoints: list[Endpoint] = []
        self.faults: list[Exception] = []
        self.later: list[tuple[float, Callable[[], object]]] = []
        self.flusher = Flusher(asyncio.get_running_loop(), self.faults.append)
        self.flusher.call_later = lambda delay_s, call, *_: self.later.append((delay_s, call))  # type: ignore[assignment]

    def end(self) -> TcpEnd:
        return TcpEnd(self.flusher, lambda: 1.0, lambda wire: self.endpoints.append(Endpoint(wire)))

    async def start(self) -> Server:
        sock = listening()
        self.port: int = sock.getsockname()[1]
        self.server = await asyncio.get_running_loop().create_server(self.end, sock=sock)
        return self

    async def client(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter, Endpoint]:
        known = len(self.endpoints)
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        await until(lambda: len(self.endpoints) > known)
        return reader, writer, self.endpoints[-1]


def serving(test: Callable[[Server], Awaitable[None]]) -> None:
    async def scene() -> None:
        server = await Server().start()
        try:
            await test(server)
        finally:
            server.server.close()

    run(scene())


def test_bytes_pass_both_ways_and_the_other_end_is_known() -> None:
    async def scene(server: Server) -> None:
        reader, writer, endpoint = await server.client()
        writer.write(b"in")
        await endpoint.until(b"in")
        endpoint.say(b"o")
        endpoint.say(b"ut")
        assert await reader.readexactly(3) == b"out"
        assert (endpoint.wire.ip, endpoint.wire.port) == writer.get_extra_info("sockname")

    serving(scene)


def test_connections_share_a_read_buffer_and_not_their_bytes() -> None:
    async def scene(server: Server) -> None:
        clients = [await server.client() for _ in range(20)]
        for number, (_, writer, _) in enumerate(clients):
            writer.write(bytes((number,)) * 50_000)
        for number, (_, _, endpoint) in enumerate(clients):
            await endpoint.until(bytes((number,)) * 50_000)

    serving(scene)


def test_a_peers_fin_and_a_peers_reset_are_a_loss_without_an_error() -> None:
    async def scene(server: Server) -> None:
        for reset in (False, True):
            _, writer, endpoint = await server.client()
            if reset:
                linger = struct.pack("ii", 1, 0)
                writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            writer.close()
            await endpoint.lost.wait()
            assert endpoint.losses == [None]

    serving(scene)


def test_a_close_of_ours_sends_the_goodbye_first() -> None:
    async def scene(server: Server) -> None:
        reader, _, endpoint = await server.client()
        endpoint.say(b"answer ")
        endpoint.wire.close()
        assert await reader.read() == b"answer goodbye"
        await endpoint.lost.wait()

    serving(scene)


def test_a_peer_that_errs_hears_goodbye_and_its_error_is_told() -> None:
    async def scene(server: Server) -> None:
        reader, writer, endpoint = await server.client()
        endpoint.error_at = b"bad"
        writer.write(b"bad")
        assert await reader.read() == b"goodbye"
        await endpoint.lost.wait()
        assert [str(error) for error in endpoint.losses] == ["what the test waits for"]

    serving(scene)


def test_a_closed_socket_that_the_peer_never_empties_is_cut() -> None:
    async def scene(server: Server) -> None:
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", server.port))
        await until(lambda: server.endpoints)
        (endpoint,) = server.endpoints
        while endpoint.wire.end.unsent_bytes() == 0 or not endpoint.wire.closing:
            if endpoint.wire.end.unsent_bytes() == 0:
                endpoint.wire.end.write(bytes(1 << 20))
                await asyncio.sleep(0.01)
            else:
                endpoint.wire.close()
        ((delay_s, cut),) = server.later
        assert delay_s == LINGER_S
        assert not endpoint.lost.is_set()
        cut()
        await endpoint.lost.wait()
        cut()
        sock.close()

    serving(scene)


def test_a_unix_socket_has_no_address_and_carries_bytes_as_well(tmp_path: Path) -> None:
    async def scene(server: Server) -> None:
        path = str(tmp_path / "link.sock")
        loop = asyncio.get_running_loop()
        unix = await loop.create_unix_server(server.end, path)
        _, dialed = await loop.create_unix_connection(server.end, path)
        await until(lambda: len(server.endpoints) == 2)
        assert isinstance(dialed, TcpEnd)
        one, two = server.endpoints
        assert (one.wire.ip, one.wire.port, two.wire.ip) == ("", 0, "")
        one.say(b"over the link")
        await two.until(b"over the link")
        one.wire.abort()
        await two.lost.wait()
        unix.close()

    serving(scene)
