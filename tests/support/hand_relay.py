"""A worker of the relay in this process, with time that a test turns: no socket, no loop, no link to the registry.

Everything between wire and registry is the relay's own; its edges are replaced by queues. Nothing moves by itself:
`settle` carries bytes, calls and answers until all is quiet, `turn` lets time pass.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any
from unittest import mock

from actors import identify, stop, worker
from actors.board import Board
from actors.limits import Reason
from actors.messages import Boot, Slot
from actors.rate_table import RateTable
from actors.registry import Registry
from actors.registry_protocol import CircuitGranted, Evict, Granted, Refused
from config.settings import Access, Limits, Settings
from tests.support.pipe import ConnectionEnd, Recorder
from transports.identity import HostKey
from transports.noise import Role, StaticKey
from transports.upgrade import MUXERS
from transports.wire import Wire
from transports.yamux import Buffer

QUARTER_S = 0.25
UNIX_OFFSET_S = 1_700_000_000


class HandLoop:
    """What a worker uses of a loop, run by hand."""

    def __init__(self) -> None:
        self._soon: deque[Callable[[], None]] = deque()

    def call_soon(self, call: Callable[..., None], *arguments: Any) -> None:
        self._soon.append(lambda: call(*arguments))

    def call_later(self, delay_s: float, call: Callable[..., None], *arguments: Any) -> None:
        raise AssertionError("nothing here waits for a socket")

    def turn(self) -> bool:
        """Make every call that is due; whether there was one."""
        calls, self._soon = self._soon, deque()
        for call in calls:
            call()
        return bool(calls)


class DirectRegistry:
    """The registry link of a worker without the link: a Registry that is asked one thing after the other.

    While `held` it does nothing, as one that is being replaced, and forgets nothing.
    """

    def __init__(self, table: Registry, of: worker.Worker, clock: Callable[[], float]) -> None:
        self.table = table
        self.held = False
        self._worker = of
        self._clock = clock
        self._asked: deque[Callable[[], None]] = deque()
        table.join(of.name)

    def reserve(self, peer: bytes, connection: int, ip: str, done: Callable[[Granted | Refused], None]) -> None:
        def ask() -> None:
            answer = self.table.reserve(self._worker.name, peer, connection, ip, self._clock())
            done(Refused(1, answer) if isinstance(answer, Reason) else Granted(1, *answer))

        self._asked.append(ask)

    def open_circuit(
        self, source: bytes, target: bytes, source_ip: str, done: Callable[[CircuitGranted | Refused], None]
    ) -> None:
        def ask() -> None:
            answer = self.table.open_circuit(self._worker.name, source, target, source_ip, self._clock())
            done(Refused(1, answer) if isinstance(answer, Reason) else CircuitGranted(1, *answer))

        self._asked.append(ask)

    def release(self, peer: bytes, connection: int) -> None:
        self._asked.append(lambda: self.table.release(self._worker.name, peer, connection))

    def close_circuit(self, circuit: int) -> None:
        self._asked.append(lambda: self.table.close_circuit(self._worker.name, circuit))

    def disconnected(self, connection: int, *, held: bool = True) -> None:
        self._asked.append(lambda: self.table.disconnected(self._worker.name, connection))

    def connected(self, connection: int, ip: str, token: str = "") -> None:
        def ask() -> None:
            reason = self.table.connected(self._worker.name, connection, ip, token)
            if reason is not None:
                self._worker._evicted(Evict(connection, reason))

        self._asked.append(ask)

    def turn(self) -> bool:
        """Answer everything that was asked; whether there was anything."""
        asked = bool(self._asked) and not self.held
        while self._asked and not self.held:
            self._asked.popleft()()
            for _, notice in self.table.notices:
                self._worker._superseded(notice)
            self.table.notices.clear()
        return asked


class HandSocket:
    """The end of a wire: what the relay has written and its client has not read."""

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.closed = False

    def write(self, data: Buffer) -> None:
        self.written.append(bytes(data))

    def shut(self, error: Exception | None) -> None:
        self.closed = True

    def cut(self) -> None:
        self.closed = True

    def unsent_bytes(self) -> int:
        return 0


class HandClient:
    """One connection to the relay. `stops` are the STOP streams that came, `end` is the client's own stack."""

    def __init__(self, relay: HandRelay, host: HostKey, *, speaks_stop: bool) -> None:
        self.socket = HandSocket()
        self.wire = Wire(self.socket, relay.worker.flusher, relay.clock, "192.0.2.1", 4001)
        relay.worker.accept(self.wire)
        relay.worker.arrived(self.wire, self.wire.ip, self.wire.port)
        protocols = (stop.PROTOCOL,) if speaks_stop else (identify.PROTOCOL,)
        self.end = ConnectionEnd(Role.INITIATOR, StaticKey(host, MUXERS), protocols)
        self.connected = True

    @property
    def stops(self) -> list[Recorder]:
        """The STOP streams so far, in order."""
        return [recorder for protocol, recorder in self.end.opened if protocol == stop.PROTOCOL]

    def move(self, now_s: float) -> bool:
        """Carry what waits, both ways; whether there was anything."""
        if not self.connected:
            return False
        written, self.socket.written = self.socket.written, []
        for data in written:
            self.end.connection.receive(data, now_s)
        if self.socket.closed:
            self.hang_up()
            return True
        output = self.end.output()
        if output:
            self.wire.feed(output)
        return bool(written or output)

    def hang_up(self) -> None:
        """The connection is gone, at both ends."""
        if self.connected:
            self.connected = False
            self.end.connection.closed()
            self.wire.lost()


class _Worker(worker.Worker):
    """A fault of ours fails the test that it happens in."""

    def fault(self, error: Exception) -> None:
        raise error


class HandRelay:
    """One worker, its registry, and the clients that were connected."""

    def __init__(self, limits: Limits, access: Access | None = None) -> None:
        self.now_s = 1000.0
        clock = SimpleNamespace(
            monotonic=lambda: self.now_s, time=lambda: UNIX_OFFSET_S + self.now_s, time_ns=lambda: UNIX_OFFSET_S * 10**9
        )
        self._time = mock.patch.object(worker, "time", clock)
        self._time.start()
        slot = Slot(0, "tcp-1/0", "listener")
        settings = Settings(limits=limits, access=access or Access())
        self._board = Board.create(1)
        self._rates = RateTable.create()
        announced = ("/ip4/192.0.2.9/tcp/1",)
        boot = Boot(slot, settings, "/nowhere", self._board.fd, self._rates.fd, b"s" * 32, announced, (slot,))
        self.loop = HandLoop()
        self.worker = _Worker(boot, self.loop, "tcp", lambda *_: None)  # type: ignore[arg-type]
        self.table = Registry(limits, epoch=1)
        self.registry = DirectRegistry(self.table, self.worker, self.clock)
        self.worker.registry = self.registry  # type: ignore[assignment]
        self.clients: list[HandClient] = []

    def clock(self) -> float:
        """The time now; the worker has it too."""
        return self.worker.clock()

    def connect(self, host: HostKey, *, speaks_stop: bool = True) -> HandClient:
        """A new connection, upgraded."""
        client = HandClient(self, host, speaks_stop=speaks_stop)
        self.clients.append(client)
        self.settle()
        assert client.end.upgrades == 1
        return client

    def settle(self) -> None:
        """Carry everything until nothing moves."""
        moving = True
        while moving:
            moving = self.loop.turn() | self.registry.turn()
            for client in self.clients:
                moving |= client.move(self.now_s)
        self.clients = [client for client in self.clients if client.connected]

    def turn(self, seconds: float) -> None:
        """Let time pass, a quarter of a second at a time, as the worker's tick does."""
        for _ in range(round(seconds / QUARTER_S)):
            self.now_s += QUARTER_S
            self.worker.deadlines.advance(self.clock())
            self.table.expire(self.now_s, 256)
            self.settle()

    def close(self) -> None:
        """Give back what the machine lent."""
        self._time.stop()
        os.close(self._board.fd)
        os.close(self._rates.fd)
