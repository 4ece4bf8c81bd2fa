"""The hop protocol: RESERVE and CONNECT, each checked in the order of the rules and answered once.

Everything that a peer is answered on a hop stream is decided here, one check a line. Must never believe a peer ID in
a RESERVE body: the peer is the one that Noise authenticated.
Spec: relay/circuit-v2.md, "Hop protocol".
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Final

from google.protobuf.message import DecodeError

from actors import histograms, metrics
from actors.call import Call
from actors.deadlines import Deadline
from actors.limits import Reason, connect_status, reserve_status
from actors.proto.circuit_pb2 import HopMessage, Status
from actors.registry_protocol import CircuitGranted, Granted, Refused
from transports.errors import PeerError
from transports.identity import is_peer_id, peer_id_text
from transports.varint import DelimitedReader, delimited
from transports.yamux import Buffer, ErrorCode, Stream

if TYPE_CHECKING:
    from actors.peer import Peer

PROTOCOL: Final = b"/libp2p/circuit/relay/0.2.0/hop"
MAX_MESSAGE_BYTES: Final = 4096
MESSAGE_TIMEOUT_S: Final = 10.0


class Asked(Enum):
    """What the peer wants, for the log and for the status of a refusal."""

    NOTHING = "hop"
    RESERVE = "reserve"
    CONNECT = "connect"


class Stage(Enum):
    """Where a hop stream is."""

    READING = "reading"
    WAITING = "waiting"  # for the registry or the target
    ANSWERED = "answered"
    GONE = "gone"


class HopStream:
    """One hop stream: reads one message, has it decided, answers, and closes; or becomes a circuit."""

    __slots__ = (
        "_call",
        "_circuit",
        "_deadline",
        "_early",
        "_peer",
        "_reader",
        "_since_s",
        "_stage",
        "_stream",
        "_target",
        "asked",
    )

    def __init__(self, peer: Peer, stream: Stream) -> None:
        self._peer = peer
        self._stream = stream
        self._stage = Stage.READING
        self._reader = DelimitedReader(MAX_MESSAGE_BYTES)
        self._early = bytearray()  # what came behind a CONNECT: at most a window, because it gets no credit
        self._target = b""
        self._circuit = 0
        self._since_s = 0.0  # when the request was read
        self._call: Call | None = None
        self.asked = Asked.NOTHING
        worker = peer.worker
        self._deadline: Deadline = worker.deadlines.at(worker.now_s + MESSAGE_TIMEOUT_S, self._timed_out)

    # The stream's events

    def data_received(self, data: Buffer) -> None:
        """Collect the message, then what follows it."""
        if self._stage is not Stage.READING:
            self._after_message(data)
            return
        try:
            body = self._reader.feed(data)
        except PeerError:
            self._refuse(Reason.MALFORMED_MESSAGE)
            return
        if body is None:
            self._stream.consumed(len(data))
            return
        self._early += self._reader.rest()
        self._stream.consumed(len(data) - len(self._early))
        self._stage = Stage.WAITING
        self._since_s = self._peer.worker.now_s
        self._deadline.cancel()
        self._decide(body)

    def _after_message(self, data: Buffer) -> None:
        """Behind a CONNECT: the circuit's. Behind a RESERVE, or an answer: nobody's."""
        if self._stage is Stage.WAITING and self.asked is Asked.CONNECT:
            self._early += data
        else:
            self._stream.consumed(len(data))

    def eof_received(self) -> None:
        """Rust clients send FIN before they read the answer; FIN before a whole message ends the stream."""
        if self._stage is Stage.READING:
            metrics.PEER_ERRORS.labels("hop_cut").inc()
            self._end()
            self._stream.reset(ErrorCode.PROTOCOL_VIOLATION)
        elif not self._stream.alive:  # answered, and both have said all: nothing stays until the deadline
            self._end()

    def reset_received(self) -> None:
        """The peer has given up: give back what was granted meanwhile."""
        self._end()
        if self._call is not None:
            self._call.cancel()
            self._call = None
        self._give_back()

    def data_sent(self, count_bytes: int) -> None:
        """Answers are not counted."""

    def _timed_out(self) -> None:
        """Half a message, or an answer that the peer does not take leave of."""
        if self._stage is Stage.READING:
            metrics.PEER_ERRORS.labels("hop_timeout").inc()
        self._end()
        self._stream.reset(ErrorCode.GARBAGE_COLLECTED)

    def _end(self) -> None:
        self._stage = Stage.GONE
        self._deadline.cancel()

    # Decisions

    def _decide(self, body: bytes) -> None:
        try:
            message = HopMessage.FromString(body)
        except DecodeError:
            self._refuse(Reason.MALFORMED_MESSAGE)
            return
        if not message.HasField("type"):
            self._refuse(Reason.MALFORMED_MESSAGE)
        elif message.type == HopMessage.RESERVE:
            self._reserve()
        elif message.type == HopMessage.CONNECT:
            self._connect(message.peer.id)
        else:
            self._refuse(Reason.UNEXPECTED_MESSAGE)

    def _reserve(self) -> None:
        self.asked = Asked.RESERVE
        peer, worker = self._peer, self._peer.worker
        if not worker.admission.access.peer_allowed(peer.key):
            self._refuse(Reason.PEER_DENIED)
        elif reason := worker.admission.token_lapsed(peer):
            self._refuse(reason)
        elif worker.draining is not None and worker.draining.refuses_reservations and not peer.reserved_until_s:
            self._refuse(Reason.DRAINING)
        else:
            worker.registry.reserve(peer.key, peer.id, peer.counted_as, self._reserve_answered)

    def _connect(self, target: bytes) -> None:
        self.asked = Asked.CONNECT
        self._target = target
        peer, worker = self._peer, self._peer.worker
        if not is_peer_id(target):
            self._refuse(Reason.MALFORMED_MESSAGE)
        elif not (worker.admission.access.peer_allowed(peer.key) and worker.admission.access.peer_allowed(target)):
            self._refuse(Reason.PEER_DENIED)
        elif reason := worker.admission.token_lapsed(peer):
            self._refuse(reason)
        elif worker.draining is not None and worker.draining.refuses_circuits:
            self._refuse(Reason.DRAINING)
        else:
            worker.registry.open_circuit(peer.key, target, peer.counted_as, self._connect_answered)

    # Answers of the registry and of the target

    def _reserve_answered(self, answer: Granted | Refused) -> None:
        if isinstance(answer, Refused):
            if self._stage is Stage.WAITING:
                self._refuse(answer.reason)
            return
        peer = self._peer
        if not peer.connected:
            peer.worker.registry.release(peer.key, peer.id)
            return
        peer.hold_reservation(answer)
        if self._stage is Stage.WAITING:
            worker = peer.worker
            self._answer(worker.reservation_answer(peer.key, answer.expires_s))
            histograms.RESERVE.observe(worker.row, worker.clock() - self._since_s)

    def _connect_answered(self, answer: CircuitGranted | Refused) -> None:
        if isinstance(answer, Refused):
            if self._stage is Stage.WAITING:
                self._refuse(answer.reason)
            return
        peer = self._peer
        peer.worker.circuits.hold(answer, peer, self._target)
        self._circuit = answer.circuit
        if self._stage is Stage.GONE:
            self._give_back()
            return
        self._call = peer.worker.call(answer, peer.key, self._target, self._target_answered)

    def _target_answered(self, outcome: Stream | Reason, first: bytes) -> None:
        self._call = None
        if isinstance(outcome, Reason):
            self._give_back()
            self._refuse(outcome)
            return
        circuit, self._circuit = self._circuit, 0
        worker = self._peer.worker
        self._stream.write(worker.connect_answer)
        histograms.CIRCUIT_SETUP.observe(worker.row, worker.clock() - self._since_s)
        worker.circuits.begin(circuit, self._peer, self._target, self._stream, outcome, bytes(self._early), first)

    def _give_back(self) -> None:
        if self._circuit:
            self._peer.worker.circuits.give_back(self._circuit)
            self._circuit = 0

    # The answer

    def _refuse(self, reason: Reason) -> None:
        metrics.REFUSALS.labels(reason.value).inc()
        status = reserve_status(reason) if self.asked is Asked.RESERVE else connect_status(reason)
        metrics.REQUESTS_REFUSED.labels(self.asked.value, status.name.lower()).inc()
        details = {"target": peer_id_text(self._target)} if is_peer_id(self._target) else {}
        self._peer.log_refusal(self.asked.value, reason, status=status.value, **details)
        self._answer(delimited(HopMessage(type=HopMessage.STATUS, status=Status.ValueType(status)).SerializeToString()))

    def _answer(self, frame: bytes) -> None:
        """Answer, then FIN. The peer gets MESSAGE_TIMEOUT_S to close its side."""
        self._stage = Stage.ANSWERED
        self._early.clear()
        self._deadline.cancel()
        self._stream.write(frame)
        self._stream.close()
        if self._stream.alive:
            worker = self._peer.worker
            self._deadline = worker.deadlines.at(worker.now_s + MESSAGE_TIMEOUT_S, self._timed_out)
