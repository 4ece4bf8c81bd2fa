"""What a relayed message sets off in the relay, counted: writes, frames, calls and memory must not grow back.

A whole relay side in memory, from the wire of one peer to the wire of the other, with a loop that is turned by hand.
The ceilings stand a little above what was counted when they were written; times are for `make bench`.
"""

from __future__ import annotations

import gc
import sys
import tracemalloc
from collections.abc import Callable
from types import FrameType
from typing import Any, cast

import pytest

from actors.circuit import CircuitActor, End
from actors.deadlines import Deadlines
from tests.support.pipe import ConnectionEnd, ConnectionPair, Recorder
from transports.noise import Role, StaticKey
from transports.upgrade import MUXERS
from transports.wire import Flusher, Wire
from transports.yamux import Buffer

MESSAGE = bytes(600)
BLOCK = bytes(16 * 1024)
PROTOCOL = b"/test/1.0.0"
CALLS_A_MESSAGE = 50
COPIES_OF_A_BLOCK = 4
BLOCKS_LEFT = 20  # what Python itself keeps, whatever the number of messages


class Turns:
    """The part of a loop that a Flusher uses."""

    def __init__(self) -> None:
        self._soon: list[Callable[[], None]] = []

    def call_soon(self, callback: Callable[[], None]) -> None:
        self._soon.append(callback)

    def call_later(self, delay_s: float, callback: Callable[[], None]) -> None:
        """Nothing here lingers."""

    def turn(self) -> None:
        while self._soon:
            soon, self._soon = self._soon, []
            for callback in soon:
                callback()


class CountingEnd:
    """A socket that takes everything; one write is one WebSocket frame, and one system call."""

    def __init__(self) -> None:
        self.writes: list[bytes] = []

    def write(self, data: Buffer) -> None:
        self.writes.append(bytes(data))

    def shut(self, error: Exception | None) -> None:
        raise AssertionError(error)

    def cut(self) -> None:
        raise AssertionError("cut")

    def unsent_bytes(self) -> int:
        return 0


class WiredEnd(ConnectionEnd):
    """The relay's end of a connection, on a wire."""

    wire: Wire | None = None

    def _wake(self) -> None:
        super()._wake()
        if self.wire is not None:
            self.wire.wake()


class Side:
    """A peer, its connection, and the relay's wire."""

    def __init__(self, flusher: Flusher) -> None:
        pair = ConnectionPair(listener=(PROTOCOL,))
        self.relay = pair.listener = WiredEnd(Role.RESPONDER, StaticKey(pair.listener_host, MUXERS), (PROTOCOL,))
        self.peer = pair.dialer
        pair.pump()
        self.stream = self.peer.open(PROTOCOL)
        pair.pump()
        self.end = CountingEnd()
        self.relay.wire = self.wire = Wire(self.end, flusher, lambda: 0.0, "", 0)
        self.wire.endpoint = self.relay.connection
        self.wire.owner = cast("Any", None)

    @property
    def leg(self) -> Recorder:
        return self.relay.opened[0][1]

    def says(self, *messages: bytes) -> bytes:
        """What the peer puts on the socket for these messages."""
        for message in messages:
            self.stream.stream.write(message)
        return self.peer.output()

    def hears(self) -> None:
        """Give the peer what was written to it."""
        for data in self.end.writes:
            self.peer.connection.receive(data, 0.0)
        self.end.writes.clear()


class Rig:
    """Two peers and a circuit between them."""

    def __init__(self) -> None:
        self.turns = Turns()
        flusher = Flusher(cast("Any", self.turns), self.fault)
        self.source, self.target = Side(flusher), Side(flusher)
        self.now_s = 0.0
        self.deadlines = Deadlines(0.0, self.fault)
        streams = self.source.leg.stream, self.target.leg.stream
        limits = {"max_bytes": 1 << 40, "duration_s": 3600.0, "idle_timeout_s": 3600.0}
        CircuitActor(self, self.circuit_ended, 1, b"source", b"target", *streams, **cast("Any", limits)).join()

    def fault(self, error: Exception) -> None:
        raise error

    def circuit_ended(self, circuit: CircuitActor, end: End) -> None:
        raise AssertionError(end)

    def relay(self, data: bytes) -> None:
        """One read from the source's socket, and all that the relay does about it."""
        self.source.wire.feed(data)
        self.turns.turn()

    def message(self, message: bytes = MESSAGE) -> None:
        """One message from peer to peer, credit and all."""
        self.relay(self.source.says(message))
        self.target.hears()
        self.target.wire.feed(self.target.peer.output())
        self.turns.turn()
        self.source.hears()


@pytest.fixture
def rig() -> Rig:
    rig = Rig()
    for _ in range(50):
        rig.message()
    return rig


def records(data: bytes) -> int:
    """How many Noise messages these are: each has its length in front."""
    count = 0
    while data:
        data = data[2 + int.from_bytes(data[:2], "big") :]
        count += 1
    return count


def test_a_message_is_one_write_to_its_receiver_and_none_to_its_sender(rig: Rig) -> None:
    rig.relay(rig.source.says(MESSAGE))
    assert [records(data) for data in rig.target.end.writes] == [1]
    assert rig.source.end.writes == []


def test_what_came_in_one_read_leaves_in_one_write_and_one_noise_message(rig: Rig) -> None:
    rig.relay(b"".join(rig.source.says(MESSAGE) for _ in range(10)))
    assert [records(data) for data in rig.target.end.writes] == [1]
    rig.target.hears()
    assert len(rig.target.stream.data) == 60 * len(MESSAGE)


def test_credit_is_given_back_once_for_many_messages(rig: Rig) -> None:
    """A window is 256 KiB, and half of it is worth an update: 1,000 messages of 600 bytes are five halves."""
    writes = 0
    for _ in range(1000):
        rig.relay(rig.source.says(MESSAGE))
        writes += len(rig.source.end.writes)
        rig.target.hears()
        rig.target.wire.feed(rig.target.peer.output())
        rig.source.hears()
    assert 1 <= writes <= 5


def test_a_message_takes_no_more_calls_than_it_did(rig: Rig) -> None:
    calls = 0

    def count(frame: FrameType, event: str, argument: object) -> None:
        nonlocal calls
        calls += event in {"call", "c_call"}

    data = rig.source.says(MESSAGE)
    sys.setprofile(count)
    try:
        rig.relay(data)
    finally:
        sys.setprofile(None)
    assert calls <= CALLS_A_MESSAGE


def test_a_message_is_copied_no_more_often_than_it_was(rig: Rig) -> None:
    data = rig.source.says(BLOCK)
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        rig.relay(data)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak - before <= COPIES_OF_A_BLOCK * len(BLOCK)


def test_a_message_leaves_nothing_behind(rig: Rig) -> None:
    gc.collect()
    before = sys.getallocatedblocks()
    for _ in range(500):
        rig.message()
        rig.target.stream.pieces.clear()
    gc.collect()
    assert sys.getallocatedblocks() - before <= BLOCKS_LEFT
