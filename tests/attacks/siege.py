"""An attack on a relay that others use: the attackers' tools, and what must be true when they are gone."""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from itertools import count
from typing import Self

from tests.attacks.bystanders import CIRCUITS, CONNECTIONS, RESERVATIONS, Bystanders
from tests.scenarios.scene import WAIT_S, Place, Scene
from tests.support.relay import RelayProcess
from tests.support.sockets import WebSocketClient

UPGRADE = (
    b"GET / HTTP/1.1\r\nHost: relay\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
BINARY = 0x82
CLOSE = 0x88


class Siege(Scene):
    """A scene whose relay is never empty: the bystanders stay."""

    def __init__(self, relay: RelayProcess, bystanders: Bystanders, transport: str) -> None:
        super().__init__(relay, Place(transport, together=False), ssl.create_default_context())
        self.bystanders = bystanders

    @property
    def port(self) -> int:
        """The port that the attackers dial."""
        return int(self.address.split("/")[4])

    async def close(self) -> None:
        """The attackers leave; only the bystanders are there, and they have noticed nothing."""
        await self.leave()
        await self.at_peace()
        await asyncio.to_thread(self.bystanders.assert_undisturbed)

    async def at_peace(self) -> None:
        """Wait until the relay holds nothing but the bystanders."""
        counts = {"connections": CONNECTIONS, "reservations": RESERVATIONS, "circuits": CIRCUITS}
        await self.settled(**counts)
        await self.registered(**counts)

    @asynccontextmanager
    async def erring(self, reason: str, times: int = 1) -> AsyncIterator[None]:
        """What happens inside is counted as a peer's error for `reason`, and for no other one."""
        before = await self._errors()
        yield
        await self.until_counted(before.get(reason, 0) + times, "frost_relay_peer_errors_total", reason=reason)
        after = await self._errors()
        assert {other for other, times in after.items() if times != before.get(other, 0)} == {reason}

    async def _errors(self) -> dict[str, float]:
        _, body = await asyncio.to_thread(self.relay.get, "/metrics")
        mark = 'frost_relay_peer_errors_total{reason="'
        lines = [line for line in body.splitlines() if line.startswith(mark)]
        return {line[len(mark) :].partition('"')[0]: float(line.rpartition(" ")[2]) for line in lines}

    async def say(self, data: bytes) -> bytes:
        """Send to the port as it is, and read until the relay has closed; what it said."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(data)
        try:
            return await read_to_end(reader)
        finally:
            writer.close()

    async def say_inside(self, *pieces: bytes) -> bytes:
        """Say bytes of the layers above the transport, and read until the end; what those layers answered."""
        async with asyncio.timeout(WAIT_S):
            if self.place.transport == "tcp":
                return await self.say(b"".join(pieces))
            client = await WebSocketClient.connect(self.port)
            for piece in pieces:
                client.send(BINARY, piece)
            frames = await client.read_to_end()
            client.writer.close()
        assert frames[-1][0] == CLOSE
        assert frames[-1][1][:2] == (1002).to_bytes(2, "big")
        return b"".join(payload for first, payload in frames if first == BINARY)


async def read_to_end(reader: asyncio.StreamReader) -> bytes:
    """All that comes until the connection is closed, by FIN or by RST."""
    said = b""
    async with asyncio.timeout(WAIT_S):
        with suppress(ConnectionError):
            while piece := await reader.read(65536):
                said += piece
    return said


def sockets_of(relay: RelayProcess) -> dict[str, int]:
    """How many sockets the registry and each worker have open."""
    serving = (*relay.workers("listener"), *relay.workers("registry"))
    return {each["name"]: _sockets(each["pid"]) for each in serving}


def _sockets(pid: int) -> int:
    found = 0
    for fd in os.listdir(f"/proc/{pid}/fd"):
        with suppress(FileNotFoundError):
            found += os.readlink(f"/proc/{pid}/fd/{fd}").startswith("socket:")
    return found


class Cutter:
    """A TCP proxy that lets so many bytes of each connection through and then ends it on both sides.

    The first connection gets `first`, the next one byte more, and so on; of two that follow each other one ends with
    FIN and one with RST. With `whole` nothing is cut. `passed_bytes` is what the last one that ended had sent.
    """

    def __init__(self, port: int, first: int = 0, *, whole: bool = False) -> None:
        self._port = port
        self._limits: Iterator[int] = iter(lambda: 1 << 30, 0) if whole else count(first)
        self.passed_bytes = 0

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port: int = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *details: object) -> None:
        self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        limit = next(self._limits)
        relay_reader, relay_writer = await asyncio.open_connection("127.0.0.1", self._port)
        back = asyncio.create_task(_pass(relay_reader, writer))
        passed = 0
        with suppress(ConnectionError):
            while passed < limit and (piece := await reader.read(min(65536, limit - passed))):
                relay_writer.write(piece)
                await relay_writer.drain()
                passed += len(piece)
        self.passed_bytes = passed
        if limit & 1:
            relay_writer.transport.abort()
        else:
            relay_writer.close()
        back.cancel()
        writer.transport.abort()


async def _pass(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(ConnectionError):
        while piece := await reader.read(65536):
            writer.write(piece)
            await writer.drain()
        writer.close()
