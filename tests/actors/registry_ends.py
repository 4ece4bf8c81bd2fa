"""Both ends of a registry link for tests: a worker that keeps account, and a registry that says what it is told to."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, cast

import uvloop

from actors.audit import tally
from actors.registry import Registry
from actors.registry_link import RegistryLink
from actors.registry_protocol import (
    CircuitGranted,
    Evict,
    FrameDecoder,
    FromRegistry,
    FromWorker,
    Granted,
    Held,
    HeldCircuit,
    Hello,
    Refused,
    Superseded,
    Tally,
    encode_frames,
)
from actors.registry_server import RegistryServer
from config.settings import Limits

Answer = Granted | CircuitGranted | Refused


def run(main: Coroutine[Any, Any, None]) -> None:
    """Runs a test on a uvloop loop of its own."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(asyncio.wait_for(main, 30))


async def until(condition: Callable[[], object], limit_s: float = 10) -> None:
    """Waits until something is so; fails the test when it does not come to be."""
    end_s = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < end_s, "waited in vain"
        await asyncio.sleep(0.002)


async def serve(path: Path, registry: Registry | None = None, **options: Any) -> RegistryServer:
    """A real registry at `path`, with no rates."""
    limits = Limits(
        reservation_rate_per_peer=None,
        reservation_rate_per_ip=None,
        circuit_rate_per_peer=None,
        circuit_rate_per_ip=None,
    )
    server = RegistryServer(registry or Registry(limits), str(path), time.monotonic, **options)
    await server.start()
    return server


class LinkedWorker:
    """A worker that keeps account of what it was told, and declares what a test lets it hold."""

    def __init__(self, path: Path, name: str = "w", **options: Any) -> None:
        self.name = name
        self.holds: tuple[list[Held], list[HeldCircuit], list[tuple[int, str]]] = ([], [], [])
        self.answers: list[Answer] = []
        self.evicted: list[Evict] = []
        self.superseded: list[Superseded] = []
        self.passed_s = 0.0
        self.link = RegistryLink(
            str(path),
            name,
            lambda: Hello(name, 1, *self.holds),
            self._tally,
            self.evicted.append,
            self.superseded.append,
            asyncio.get_running_loop(),
            lambda: time.monotonic() + self.passed_s,
            **{"answer_s": 60.0, **options},
        )

    def _tally(self) -> Tally:
        reservations, circuits, connections = self.holds
        return tally(
            [held.connection for held in reservations],
            [held.circuit for held in circuits],
            [connection for connection, _ in connections],
        )

    def let_pass(self, seconds: float) -> None:
        """Turns the clock on, and lets the link's timer fire as it would have by then."""
        self.passed_s += seconds
        self.link._refuse_overdue()

    async def join(self) -> LinkedWorker:
        """Starts the link and waits until it is up."""
        self.link.start()
        await until(lambda: self.link.is_connected)
        return self

    async def reserve(self, number: int) -> Answer:
        """Peer and connection `number` ask for a reservation; the answer."""
        before = len(self.answers)
        self.link.reserve(b"peer %d" % number, number, "192.0.2.1", self.answers.append)
        await until(lambda: len(self.answers) > before)
        return self.answers[-1]

    async def connect(self, source: int, target: int) -> Answer:
        """Peer `source` asks for a circuit to peer `target`; the answer."""
        before = len(self.answers)
        self.link.open_circuit(b"peer %d" % source, b"peer %d" % target, "192.0.2.1", self.answers.append)
        await until(lambda: len(self.answers) > before)
        return self.answers[-1]


class ScriptedRegistry(asyncio.Protocol):
    """A registry that writes down what it hears, read by read, and answers only when the test does."""

    def __init__(self) -> None:
        self.reads: list[list[FromWorker]] = []
        self.connections = 0
        self._decoder = FrameDecoder.from_worker()

    @property
    def heard(self) -> list[FromWorker]:
        return [message for read in self.reads for message in read]

    @classmethod
    async def at(cls, path: Path) -> ScriptedRegistry:
        scripted = cls()  # asyncio removes a socket file that was left behind
        scripted.server = await asyncio.get_running_loop().create_unix_server(lambda: scripted, str(path))
        return scripted

    server: asyncio.AbstractServer
    transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.connections += 1
        self._decoder = FrameDecoder.from_worker()

    def data_received(self, data: bytes) -> None:
        self.reads.append(self._decoder.feed(data))

    def say(self, *messages: FromRegistry) -> None:
        self.transport.write(encode_frames(messages))

    async def end(self) -> None:
        self.server.close()
        self.transport.abort()


class RawWorker:
    """A worker's socket without a link: for what no worker would say, and to see reads as they come."""

    def __init__(self, path: Path) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.connect(str(path))
        self.socket.setblocking(False)
        self._decoder = FrameDecoder.from_registry()

    async def say(self, data: bytes | bytearray) -> None:
        await asyncio.get_running_loop().sock_sendall(self.socket, data)

    async def read(self) -> list[FromRegistry] | None:
        """What one read brings; None at the end."""
        try:
            data = await asyncio.get_running_loop().sock_recv(self.socket, 1 << 20)
        except ConnectionResetError:
            return None
        return self._decoder.feed(data) if data else None
