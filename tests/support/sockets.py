"""Loopback sockets for tests of the edges: endpoints that only record, and a WebSocket client made by hand."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import uvloop

from transports.errors import PeerError
from transports.wire import Wire
from transports.yamux import Buffer, GoAway, Session

Result = TypeVar("Result")
WAIT_S = 10.0


def run(test: Coroutine[Any, Any, Result]) -> Result:
    """Run on the loop that the relay uses, for WAIT_S at most."""

    async def bounded() -> Result:
        async with asyncio.timeout(WAIT_S):
            return await test

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(bounded())


def listening() -> socket.socket:
    """A listening loopback socket."""
    sock = socket.socket()
    sock.bind(("127.0.0.1", 0))
    sock.listen()
    sock.setblocking(False)
    return sock


async def until(condition: Callable[[], object]) -> None:
    """Wait for what no event tells; `run` bounds it."""
    while not condition():  # noqa: ASYNC110 - what is waited for has no event
        await asyncio.sleep(0.001)


class Endpoint:
    """Records what it is fed; what it is told to say goes out with the next flush. It is its wire's owner too."""

    def __init__(self, wire: Wire) -> None:
        self.wire = wire
        self.session: Session | None = None
        self.received = bytearray()
        self.pieces: list[bytes] = []
        self.output: list[Buffer] = []
        self.error_at: bytes | None = None
        self.losses: list[Exception | None] = []
        self.lost = asyncio.Event()
        wire.endpoint = self
        wire.owner = self

    def receive(self, data: Buffer, now_s: float) -> None:
        self.pieces.append(bytes(data))
        self.received += data
        if self.error_at is not None and self.error_at in self.received:
            raise PeerError("what the test waits for")

    def take_output(self) -> Buffer:
        output, self.output = self.output, []
        return b"".join(output)

    def say(self, data: bytes) -> None:
        """Output, with the next flush."""
        self.output.append(data)
        self.wire.wake()

    def go_away(self, code: GoAway) -> None:
        self.output.append(b"goodbye")

    def closed(self) -> None:
        """Nothing to end."""

    def wire_lost(self, error: Exception | None) -> None:
        self.losses.append(error)
        self.lost.set()

    async def until(self, data: bytes) -> None:
        """Wait until all of `data` has come."""
        await until(lambda: len(self.received) >= len(data))
        assert bytes(self.received) == data


class WebSocketClient:
    """RFC 6455 by hand, so that it can be broken."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    @classmethod
    async def connect(
        cls, port: int, *, upgrade: bool = True, headers: tuple[str, ...] = (), **kw: Any
    ) -> WebSocketClient:
        """Connect, and upgrade unless told not to."""
        client = cls(*await asyncio.open_connection("127.0.0.1", port, **kw))
        if upgrade:
            status, _ = await client.request(
                "GET / HTTP/1.1",
                "Host: relay",
                "Upgrade: websocket",
                "Connection: Upgrade",
                "Sec-WebSocket-Version: 13",
                "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
                *headers,
            )
            assert status == 101
        return client

    async def request(self, *lines: str) -> tuple[int, bytes]:
        """One HTTP request; status and headers of the answer."""
        self.writer.write("\r\n".join((*lines, "", "")).encode())
        head = await self.reader.readuntil(b"\r\n\r\n")
        return int(head.split(b" ")[1]), head

    def send(self, first: int, payload: bytes = b"", *, masked: bool = True, claimed_bytes: int | None = None) -> None:
        """One frame; `first` is FIN, reserved bits and opcode. `claimed_bytes` lies about the length."""
        size = len(payload) if claimed_bytes is None else claimed_bytes
        bit = 0x80 if masked else 0
        if size < 126:
            head = bytes((first, bit | size))
        elif size < 65536:
            head = bytes((first, bit | 126)) + size.to_bytes(2, "big")
        else:
            head = bytes((first, bit | 127)) + size.to_bytes(8, "big")
        mask = os.urandom(4) if masked else b""
        if masked:
            pad = (mask * (len(payload) // 4 + 1))[: len(payload)]
            number = int.from_bytes(payload, "big") ^ int.from_bytes(pad, "big")
            payload = number.to_bytes(len(payload), "big")
        self.writer.write(head + mask + payload)

    async def read(self) -> tuple[int, bytes]:
        """The next frame: its first byte and its payload."""
        first, size = await self.reader.readexactly(2)
        assert size < 128, "a server does not mask"
        if size == 126:
            size = int.from_bytes(await self.reader.readexactly(2), "big")
        elif size == 127:
            size = int.from_bytes(await self.reader.readexactly(8), "big")
        return first, await self.reader.readexactly(size)

    async def read_to_end(self) -> list[tuple[int, bytes]]:
        """All frames until the server has closed the connection."""
        frames = []
        try:
            while True:
                frames.append(await self.read())
        except (asyncio.IncompleteReadError, ConnectionError):
            return frames
