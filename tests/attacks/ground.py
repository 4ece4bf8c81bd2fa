"""Where attackers stand: the relay's ports, their own addresses, and the tools that many share.

Attackers spend as little as they can: bytes that are always the same are made once, and nobody waits for an answer that
the attack does not need.
"""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import suppress
from itertools import cycle
from typing import Self

from picows import WSError

from tests.attacks.siege import UPGRADE
from tests.support.client import Client, StreamResetError
from tests.support.sockets import WebSocketClient
from transports.identity import HostKey
from transports.multistream import HEADER, frame
from transports.noise import PROTOCOL as NOISE

_LINGER_0 = struct.pack("ii", 1, 0)
FIRST_NOISE = (32).to_bytes(2, "big") + bytes(range(1, 33))
"""The first message of a Noise handshake, as anybody can say it without any cryptography. The relay answers with two
exchanges of keys."""
HANDSHAKE_BEGUN = HEADER + frame(NOISE) + FIRST_NOISE
_THROWN_OUT = (OSError, EOFError, TimeoutError, AssertionError, StreamResetError, WSError)
BINARY, CONTINUATION, FIRST_FRAGMENT, PING = 0x82, 0x00, 0x02, 0x89


class Ground:
    """One attack's. It goes on for as long as its process lives."""

    def __init__(self, ws: str, tcp: str, addresses: Sequence[str]) -> None:
        self.ws = ws
        self.tcp = tcp
        self.addresses = tuple(addresses)
        self._next: Iterator[str] = cycle(self.addresses)
        self._hosts = [HostKey.generate() for _ in range(32)]
        self._next_host = cycle(self._hosts)

    def address(self) -> str:
        """The next of the attackers' addresses."""
        return next(self._next)

    def port(self, transport: str) -> int:
        """Of the listener."""
        return int((self.ws if transport == "ws" else self.tcp).split("/")[4])

    async def open(self, transport: str) -> Raw:
        """A TCP connection, and nothing said."""
        return await Raw.open(self.port(transport), self.address())

    async def client(self, transport: str = "tcp", host: HostKey | None = None) -> Client:
        """A peer that has shaken hands, from the next address; one of a few keys, as making one costs time."""
        address = self.ws if transport == "ws" else self.tcp
        return await Client.dial(address, host or next(self._next_host), local=(self.address(), 0))

    async def swarm(self, size: int, one: Callable[[], Awaitable[None]]) -> None:
        """`size` attackers, each doing `one` again and again. What the relay does to them ends none of them."""

        async def attack() -> None:
            while True:
                with suppress(*_THROWN_OUT):
                    await one()
                await asyncio.sleep(0)

        async with asyncio.TaskGroup() as group:
            for _ in range(size):
                group.create_task(attack())


class Raw:
    """A socket of an attacker."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    @classmethod
    async def open(cls, port: int, local: str) -> Self:
        """Connected from `local`."""
        return cls(*await asyncio.open_connection("127.0.0.1", port, local_addr=(local, 0)))

    def say(self, data: bytes) -> None:
        """Send, or have it wait."""
        if self.writer.transport.is_closing():
            raise ConnectionResetError
        self.writer.write(data)

    async def gone(self) -> None:
        """Read past whatever is said, until the relay has ended the connection."""
        while await self.reader.read(65536):
            pass

    def leave(self) -> None:
        """FIN."""
        self.writer.close()

    def cut(self) -> None:
        """RST."""
        transport = self.writer.transport
        if not transport.is_closing():
            transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_0)
            transport.abort()

    async def upgrade(self) -> WebSocketClient:
        """WebSocket, from here on by hand."""
        self.say(UPGRADE)
        await self.reader.readuntil(b"\r\n\r\n")
        return WebSocketClient(self.reader, self.writer)


def noise(size: int) -> bytes:
    """Random bytes."""
    return os.urandom(size)
