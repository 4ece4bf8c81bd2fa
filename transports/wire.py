"""The edge between a connection and its socket: what WebSocket and TCP have in common.

Output is collected: what one read, or one loop turn, produces for a connection leaves in one write. Must never
hold more output than OUTPUT_LIMIT_BYTES for a peer that does not read: such a peer is closed.
"""

from __future__ import annotations

import asyncio
import mmap
from collections.abc import Callable
from typing import Final, Protocol

from transports.errors import PeerError
from transports.yamux import OUTPUT_SOFT_LIMIT_BYTES, Buffer, GoAway, Session

HIGH_WATER_BYTES: Final = 64 * 1024
LOW_WATER_BYTES: Final = 16 * 1024
# What may wait in the transport: up to the high-water mark and one turn's output before it says pause, and 64 KiB of
# control frames (pongs, answers, resets) after it; data of circuits waits in its stream meanwhile.
OUTPUT_LIMIT_BYTES: Final = HIGH_WATER_BYTES + 2 * OUTPUT_SOFT_LIMIT_BYTES + 64 * 1024
# A socket that is closed stays until the peer has taken what was written; one that never does would stay for ever.
LINGER_S: Final = 5.0
LABEL_BYTES: Final = 64
NOBODY: Final = bytes(LABEL_BYTES)
"""The label of a wire whose bytes nobody is to be blamed for."""


def let_others_read(transport: asyncio.ReadTransport) -> None:
    """Whoever sends faster than we read waits until the others have had their turn.

    libuv reads a socket up to 32 times in a row as long as it fills the buffer. What the kernel holds of one peer,
    6 MiB, is half a million small frames: two seconds in which nobody else was heard (measured).
    """
    transport.pause_reading()
    asyncio.get_running_loop().call_soon(transport.resume_reading)


class NotReadingError(PeerError):
    """The peer makes us answer and does not read the answers."""

    reason = "not_reading"


class Endpoint(Protocol):
    """The sans-IO end of a byte pipe that a wire serves: upgrade.Connection, link.LinkConnection."""

    session: Session | None

    def receive(self, data: Buffer, now_s: float) -> None:
        """Bytes from the socket. Raises PeerError."""

    def take_output(self) -> Buffer:
        """Bytes for the socket."""

    def go_away(self, code: GoAway) -> None:
        """Say goodbye."""

    def closed(self) -> None:
        """The socket is gone."""


class WireOwner(Protocol):
    """What a wire tells its owner."""

    def wire_lost(self, error: Exception | None) -> None:
        """The socket is closed; `error` is why, when it was not the peer's goodbye. Called once."""


class Flusher:
    """The wires that have output, written once a read, or once a loop turn.

    What is marked while a read is fed (`gathering`) is written behind its last bytes: that spares a relayed message a
    callback of the loop, which costs as much as all of yamux. What is marked at any other time is written at the end of
    the turn. A fault of ours while writing to one wire aborts
    that wire only, and its owner is told of it. `on_fault(error)` gets the faults that no owner can be told of.
    `call_later` is the loop's. `memory` has at `place` the label of the wire whose bytes are worked on, for those who
    want to know after this process has died (two writes a read, 0.1 µs).
    """

    __slots__ = ("_call_soon", "_dirty", "call_later", "gathering", "memory", "on_fault", "place", "start")

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        on_fault: Callable[[Exception], None],
        memory: mmap.mmap | bytearray | None = None,
        place: slice = slice(0, LABEL_BYTES),
    ) -> None:
        self._call_soon = loop.call_soon
        self.call_later = loop.call_later
        self.gathering = False
        self._dirty: list[Wire] = []
        self.on_fault = on_fault
        self.memory = bytearray(LABEL_BYTES) if memory is None else memory
        self.place = place
        self.start: int = place.start

    def mark(self, wire: Wire) -> None:
        """The wire has output; it will be asked to flush before the loop waits again."""
        if not self._dirty and not self.gathering:
            self._call_soon(self.flush)
        self._dirty.append(wire)

    def gathered(self, last: bool) -> None:
        """A part of a read has been fed; `last`: nothing of it is left, so that what it caused can go."""
        self.gathering = False
        if self._dirty:
            if last:
                self.flush()
            else:
                self._call_soon(self.flush)  # should the rest not come

    def flush(self) -> None:
        """Write all that is marked."""
        dirty, self._dirty = self._dirty, []
        for wire in dirty:
            try:
                wire.flush()
            except Exception as error:  # noqa: BLE001 - one connection's fault must not keep the others' bytes
                wire.abort(error)


class SocketEnd(Protocol):
    """What a wire needs of its socket: tcp.TcpEnd, request_end.RequestEnd, websocket.WebSocketEnd."""

    def write(self, data: Buffer) -> None:
        """Send, or hold until the socket takes it."""

    def shut(self, error: Exception | None) -> None:
        """The transport's goodbye behind what is still held, then close; `error` is the peer's fault, if any."""

    def cut(self) -> None:
        """Close at once, dropping what is held."""

    def unsent_bytes(self) -> int:
        """What is held because the socket does not take it."""


class Wire:
    """Feeds an Endpoint from a socket, and the socket from the Endpoint.

    `ip` and `port` are the other end of the socket (empty and 0 for a Unix socket). `now` gives CLOCK_MONOTONIC
    seconds. Whoever attaches to a new wire sets `endpoint` and `owner`, and `label` to who is on the other side.
    """

    __slots__ = (
        "_error",
        "_flusher",
        "_marked",
        "_now",
        "_paused",
        "closing",
        "end",
        "endpoint",
        "ip",
        "label",
        "owner",
        "port",
    )

    endpoint: Endpoint
    owner: WireOwner

    def __init__(self, end: SocketEnd, flusher: Flusher, now: Callable[[], float], ip: str, port: int) -> None:
        self.end = end
        self.ip = ip
        self.port = port
        self.label = NOBODY
        self.closing = False
        self._flusher = flusher
        self._now = now
        self._marked = False
        self._paused = False
        self._error: Exception | None = None

    # To the socket

    def wake(self) -> None:
        """The endpoint has output."""
        if not self._marked:
            self._marked = True
            self._flusher.mark(self)

    def flush(self) -> None:
        """Write what the endpoint has. Closes a peer that does not read."""
        self._marked = False
        if self.closing:
            return
        data = self.endpoint.take_output()
        if data:
            self.end.write(data)
            if self._paused:  # OUTPUT_LIMIT_BYTES is above the high-water mark
                self.check_reading()
        session = self.endpoint.session
        if session is not None and session.congested:
            session.output_taken()

    def check_reading(self) -> None:
        """End a peer that lets too much of our output wait."""
        unsent_bytes = self.end.unsent_bytes()
        if unsent_bytes > OUTPUT_LIMIT_BYTES:
            self.abort(NotReadingError(f"{unsent_bytes} bytes wait for a peer that does not read"))

    def close(self, error: Exception | None = None, code: GoAway | None = GoAway.NORMAL) -> None:
        """Say goodbye (GoAway, then the transport's own), then close. What waits in streams is dropped.

        None for `code`: the peer has said goodbye, and a GoAway would tell it nothing but cost a write.
        """
        if self.closing:
            return
        self.closing = True
        self._error = error
        if code is not None:
            self.endpoint.go_away(code)
        data = self.endpoint.take_output()
        if data:
            self.end.write(data)
        self.end.shut(error)
        if self.end.unsent_bytes():
            self._flusher.call_later(LINGER_S, self.end.cut)

    def abort(self, error: Exception | None = None) -> None:
        """Drop the socket at once, with all that waits in it."""
        self.closing = True
        if self._error is None:
            self._error = error
        self.end.cut()

    def refuse(self, error: Exception) -> None:
        """Take nothing more from this peer; the socket's end closes it once it has answered a request under way."""
        self.closing = True
        self._error = error

    # From the socket

    def feed(self, data: Buffer, last: bool = True) -> None:
        """Bytes from the socket, valid during the call; `last`: no more of this read follows."""
        if self.closing:
            return
        flusher = self._flusher
        flusher.gathering = True
        flusher.memory[flusher.place] = self.label
        try:
            self.endpoint.receive(data, self._now())
        except PeerError as error:
            self.close(error, GoAway.PROTOCOL_ERROR)
        except Exception as error:  # noqa: BLE001 - ours: the smallest thing that can fail is this connection
            self.abort(error)
        finally:
            flusher.gathered(last)
            flusher.memory[flusher.start] = 0

    def lost(self, error: Exception | None = None) -> None:
        """The socket is gone; `error` is the peer's fault that the socket's end saw, if any."""
        self.closing = True
        try:
            self.endpoint.closed()
        except Exception as fault:  # noqa: BLE001 - ours: whatever a stream's end does, the connection's is told
            error = self._error = fault
        try:
            self.owner.wire_lost(self._error or error)
        except Exception as fault:  # noqa: BLE001 - ours; picows would only log it, where nobody counts it
            self._flusher.on_fault(fault)

    def pause(self) -> None:
        """The socket holds more than HIGH_WATER_BYTES."""
        self._paused = True
        if self.endpoint.session is not None:
            self.endpoint.session.pause()

    def unpause(self) -> None:
        """The socket has taken most of it."""
        self._paused = False
        if self.endpoint.session is not None:
            self.endpoint.session.unpause()
