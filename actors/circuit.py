"""A circuit: two streams, what passes between them, and its end.

A CircuitActor lives in the worker of the peer that asked for it. Its mailbox are its methods: bytes, end and reset from
either leg, and the deadline. It owns the streams, both byte counts, the duration, the idle time and the end. Must never
touch anything but its two streams: a fault inside one resets them and nothing else.

Backpressure is end to end: a sender gets its yamux window back only for bytes that have gone out to the receiver, so a
circuit holds at most one window (256 KiB) a direction, whatever a slow reader does.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from typing import Final, Protocol

from actors.deadlines import Deadline, Deadlines
from transports.yamux import Buffer, ErrorCode, Stream

UNLIMITED: Final = 1 << 62


class End(StrEnum):
    """Why a circuit ended; the values are counter labels."""

    FINISHED = "finished"
    RESET = "reset"
    BYTES = "byte_limit"
    DURATION = "duration_limit"
    IDLE = "idle"
    DRAIN = "drain"
    FAULT = "fault"


_CODES: Final = {
    End.BYTES: ErrorCode.RESOURCE_LIMIT_EXCEEDED,
    End.DURATION: ErrorCode.RESOURCE_LIMIT_EXCEEDED,
    End.IDLE: ErrorCode.GARBAGE_COLLECTED,
    End.DRAIN: ErrorCode.SHUTDOWN,
}
"""What both peers are told about an end that the relay has made."""


class Leg:
    """One side of a splice: the handler of its stream. `other` is the leg that its bytes leave by.

    `bytes` of this side's peer have been passed on, of `max_bytes`. Each method is a door into code of ours, so each
    keeps a fault inside.
    """

    __slots__ = ("_uncounted", "bytes", "ended", "max_bytes", "other", "splice", "stream")

    def __init__(self, stream: Stream, splice: Splice, max_bytes: int) -> None:
        self.stream = stream
        self.splice = splice
        self.other = self
        self.bytes = 0
        self.max_bytes = max_bytes
        # What waits in the stream already (an answer behind a full window) is no byte of the other side's.
        self._uncounted = stream.queued_bytes
        self.ended = False

    def data_received(self, data: Buffer) -> None:
        """Count bytes of this side's peer and pass them on; what goes out at once is given back to it as credit."""
        try:
            total = self.bytes + len(data)
            if total > self.max_bytes:
                self.splice.over_limit(self, data)
                return
            self.bytes = total
            splice = self.splice
            splice.moved_at_s = splice.owner.now_s
            other = self.other
            other.went_out(other.stream.write(data))
        except Exception as error:  # noqa: BLE001 - a fault in a circuit ends the circuit
            self.splice.fault(error)

    def eof_received(self) -> None:
        """The peer of this side has said all."""
        try:
            self.splice.end_from(self)
        except Exception as error:  # noqa: BLE001 - a fault in a circuit ends the circuit
            self.splice.fault(error)

    def reset_received(self) -> None:
        """The stream of this side is gone."""
        try:
            self.splice.finish(End.RESET, self.stream.reset_code)
        except Exception as error:  # noqa: BLE001 - a fault in a circuit ends the circuit
            self.splice.fault(error)

    def data_sent(self, count_bytes: int) -> None:
        """Bytes that waited for this side's peer have gone out."""
        try:
            self.went_out(count_bytes)
            self.splice.moved()
        except Exception as error:  # noqa: BLE001 - a fault in a circuit ends the circuit
            self.splice.fault(error)

    def went_out(self, count_bytes: int) -> None:
        """Whoever sent the bytes that have gone out to this side may send as many more."""
        if self._uncounted:
            uncounted = min(self._uncounted, count_bytes)
            self._uncounted -= uncounted
            count_bytes -= uncounted
        if count_bytes:
            self.other.stream.consumed(count_bytes)


class SpliceOwner(Protocol):
    """What a splice needs of its worker."""

    deadlines: Deadlines
    now_s: float

    def fault(self, error: Exception) -> None:
        """A fault of ours, to be logged."""


class Splice:
    """Two streams joined: the whole of a circuit in the worker of its target, and the base of a CircuitActor.

    `max_bytes` is per direction (relay/circuit-v2.md, "Limit"), `duration_s` runs from now; with nothing moving either
    way for `idle_timeout_s` it is reset. 0 is unlimited.
    """

    __slots__ = ("_deadline", "_ends_at_s", "_idle_timeout_s", "left", "moved_at_s", "over", "owner", "right")

    def __init__(
        self,
        owner: SpliceOwner,
        left: Stream,
        right: Stream,
        *,
        duration_s: float,
        idle_timeout_s: float,
        max_bytes: int = 0,
    ) -> None:
        self.owner = owner
        self.over = False
        self.left, self.right = Leg(left, self, max_bytes or UNLIMITED), Leg(right, self, max_bytes or UNLIMITED)
        self.left.other, self.right.other = self.right, self.left
        self._idle_timeout_s = idle_timeout_s or float("inf")
        self.moved_at_s = owner.now_s
        self._ends_at_s = owner.now_s + (duration_s or float("inf"))
        self._deadline: Deadline | None = None
        self._arm()

    def join(self, from_left: Buffer = b"", from_right: Buffer = b"") -> None:
        """Take both streams over; the bytes came before there was a splice, and are the circuit's first."""
        for leg, early in ((self.left, from_left), (self.right, from_right)):
            leg.stream.handler = leg
            if early and not self.over:
                leg.data_received(early)
            if not leg.stream.readable and not self.over:
                leg.eof_received()

    def over_limit(self, leg: Leg, data: Buffer) -> None:
        """The limit is reached within `data`: what is within it still goes out, then both streams are reset."""
        leg.other.stream.write(data[: leg.max_bytes - leg.bytes])
        leg.bytes = leg.max_bytes
        self.finish(End.BYTES)

    def end_from(self, leg: Leg) -> None:
        """Half-close passes through: FIN from one side is FIN to the other, the other direction lives on."""
        leg.ended = True
        leg.other.stream.close()
        self.settle()

    def moved(self) -> None:
        """Bytes that waited have gone out, and maybe the FIN behind them. A receiver that is slow is not idle."""
        self.moved_at_s = self.owner.now_s
        self.settle()

    def settle(self) -> None:
        """Finished once both sides have ended and nothing waits any more."""
        if self.left.ended and self.right.ended and not (self.left.stream.alive or self.right.stream.alive):
            self.finish(End.FINISHED)

    def deadline(self) -> None:
        """The duration is over, or it is time to see whether anything moves."""
        now_s = self.owner.now_s
        if now_s >= self._ends_at_s:
            self.finish(End.DURATION)
        elif now_s >= self.moved_at_s + self._idle_timeout_s:
            self.finish(End.IDLE)
        else:
            self._arm()

    def fault(self, error: Exception) -> None:
        """Ours: this circuit ends, and is all that ends."""
        self.owner.fault(error)
        self.finish(End.FAULT)

    def finish(self, end: End, code: int = 0) -> None:
        """The end: whatever stream is left is reset, with the code that one peer has sent or the relay has. Once."""
        if self.over:
            return
        self.over = True
        if self._deadline is not None:
            self._deadline.cancel()
        code = code or _CODES.get(end, ErrorCode.NONE)
        try:
            self.left.stream.reset(code)
        finally:
            self.right.stream.reset(code)

    def _arm(self) -> None:
        when_s = min(self._ends_at_s, self.moved_at_s + self._idle_timeout_s)
        if when_s != float("inf"):
            self._deadline = self.owner.deadlines.at(when_s, self.deadline)


class CircuitActor(Splice):
    """One circuit with its limits and its slot. `left` is the source's stream, `right` leads to the target."""

    __slots__ = ("_ended", "began_s", "id", "source", "target")

    def __init__(  # noqa: PLR0913 - what a circuit is, each once
        self,
        owner: SpliceOwner,
        ended: Callable[[CircuitActor, End], None],
        circuit_id: int,
        source: bytes,
        target: bytes,
        left: Stream,
        right: Stream,
        *,
        max_bytes: int,
        duration_s: float,
        idle_timeout_s: float,
    ) -> None:
        super().__init__(owner, left, right, duration_s=duration_s, idle_timeout_s=idle_timeout_s, max_bytes=max_bytes)
        self._ended = ended  # told once, when the circuit holds nothing any more
        self.began_s = owner.now_s
        self.id = circuit_id
        self.source = source
        self.target = target

    def finish(self, end: End, code: int = 0) -> None:
        """Reset what is left and give the slot back. Once."""
        if self.over:
            return
        try:
            super().finish(end, code)
        finally:
            self._ended(self, end)
