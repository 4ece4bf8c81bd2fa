"""The stop protocol: asks a reserved peer to take a circuit.

Must never leave a call without an end: the peer answers, or its stream goes, or STOP_TIMEOUT_S is over.
Spec: relay/circuit-v2.md, "Stop protocol".
"""

from __future__ import annotations

from typing import Final

from google.protobuf.message import DecodeError

from actors.call import Answer
from actors.deadlines import Deadlines
from actors.limits import Reason
from actors.proto.circuit_pb2 import Limit, Peer, Status, StopMessage
from transports.errors import PeerError
from transports.negotiation import OutboundNegotiation
from transports.upgrade import Connection
from transports.varint import DelimitedReader, delimited
from transports.yamux import Buffer, ErrorCode, Stream

PROTOCOL: Final = b"/libp2p/circuit/relay/0.2.0/stop"
MAX_MESSAGE_BYTES: Final = 4096
STOP_TIMEOUT_S: Final = 25.0
_OK: Final = Status.OK


class StopCall:
    """One CONNECT to a target that is connected to this worker; the handler of its stop stream."""

    __slots__ = ("_answer", "_deadline", "_reader", "_stream", "_target")

    def __init__(
        self,
        target: Connection,
        source: bytes,
        limit: Limit | None,
        deadlines: Deadlines,
        now_s: float,
        answer: Answer,
    ) -> None:
        self._answer: Answer | None = answer
        self._target = target
        self._reader = DelimitedReader(MAX_MESSAGE_BYTES)
        message = StopMessage(type=StopMessage.CONNECT, peer=Peer(id=source), limit=limit)
        self._deadline = deadlines.at(now_s + STOP_TIMEOUT_S, self._timed_out)
        self._stream = target.open_stream(PROTOCOL, self, delimited(message.SerializeToString()))

    def cancel(self) -> None:
        """The source is gone."""
        self._deadline.cancel()
        self._answer = None
        self._stream.reset()

    def data_received(self, data: Buffer) -> None:
        """Collect the STATUS; bytes behind it belong to the circuit."""
        try:
            body = self._reader.feed(data)
            if body is None:
                self._stream.consumed(len(data))
                return
            message = StopMessage.FromString(body)
        except (PeerError, DecodeError):
            self._refused(Reason.TARGET_REFUSED, ErrorCode.PROTOCOL_VIOLATION)
            return
        if message.type == StopMessage.STATUS and message.status == _OK:
            rest = self._reader.rest()
            self._stream.consumed(len(data) - len(rest))
            self._end(self._stream, rest)
        else:
            self._refused(Reason.TARGET_REFUSED)

    def eof_received(self) -> None:
        """The target closed instead of answering."""
        self._refused(Reason.TARGET_REFUSED)

    def reset_received(self) -> None:
        """The target reset the stream, does not speak stop, or its connection is gone."""
        asked = self._stream.handler
        if self._target.over:
            self._end(Reason.TARGET_GONE, b"")
        elif isinstance(asked, OutboundNegotiation) and asked.declined:
            self._end(Reason.TARGET_WITHOUT_STOP, b"")
        else:
            self._end(Reason.TARGET_REFUSED, b"")

    def data_sent(self, count_bytes: int) -> None:
        """Our request is small and not counted."""

    def _timed_out(self) -> None:
        self._refused(Reason.TARGET_SILENT, ErrorCode.GARBAGE_COLLECTED)

    def _refused(self, reason: Reason, code: ErrorCode = ErrorCode.NONE) -> None:
        self._stream.reset(code)
        self._end(reason, b"")

    def _end(self, outcome: Stream | Reason, rest: bytes) -> None:
        answer, self._answer = self._answer, None
        self._deadline.cancel()
        if answer is not None:
            answer(outcome, rest)
