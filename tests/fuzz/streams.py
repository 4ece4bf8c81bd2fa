"""Fuzz targets of what lives on yamux streams, and of yamux itself: sessions in memory, one end driven by the input."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from types import SimpleNamespace
from typing import Any, Final

from actors import hop, ping
from actors.board import Board
from actors.deadlines import Deadlines
from actors.hop import HopStream
from actors.identify import MAX_AGENT_CHARACTERS, MAX_ANSWER_BYTES, HearStream, agent_of
from actors.identify import PROTOCOL as IDENTIFY
from actors.limits import Reason
from actors.ping import PingStream
from actors.proto.circuit_pb2 import HopMessage, Status
from actors.registry_protocol import CircuitGranted, Granted, Refused
from actors.stop import MAX_MESSAGE_BYTES, StopCall
from actors.stop import PROTOCOL as STOP
from tests.support.pipe import Recorder, SessionEnd, SessionPair, acknowledge
from transports.multistream import HEADER, frame
from transports.negotiation import InboundNegotiation, OutboundNegotiation
from transports.varint import DelimitedReader, delimited
from transports.yamux import Stream, StreamHandler, YamuxError
from transports.yamux_frames import HEADER_BYTES, INITIAL_WINDOW_BYTES

MAX_INBOUND: Final = 8
PEER: Final = b"\x00\x24\x08\x01\x12\x20" + b"p" * 32


# yamux


def fuzz_yamux(data: bytes) -> None:
    """A session fed with plaintext, its streams answered by a recorder, multistream or ping. Nothing piles up."""
    steer, body = (data[0], data[1:]) if data else (0, b"")
    end = SessionEnd(initiator=bool(steer & 1), max_inbound=MAX_INBOUND, credit=bool(steer & 2))
    if steer & 4:
        end.make = lambda stream: InboundNegotiation(stream, (ping.PROTOCOL,), _ping, lambda _: None)
    ours = end.open()
    ours.stream.write(b"ours")
    size = (0, 1, 5, 11, 12, 13, 64, 4096)[steer >> 3 & 7] or len(body) or 1
    now_s, received = 0.0, 0
    with suppress(YamuxError):
        for start in range(0, len(body), size):
            end.session.receive(body[start : start + size], now_s)
            _check_session(end)
            end.output()
            now_s += 0.01
    received = sum(len(each.data) for each in (ours, *end.opened))
    assert received <= len(body)
    end.session.connection_lost()
    assert not any(stream.alive for stream in end.session.streams.values())
    for each in (ours, *end.opened):
        assert each.resets <= 1
        assert each.eofs <= 1


def _ping(_protocol: bytes, stream: Stream) -> StreamHandler:
    return PingStream(stream)


def _check_session(end: SessionEnd) -> None:
    session = end.session
    theirs = [each for each in session.streams if each & 1 == session._peer_parity]
    assert len(theirs) <= MAX_INBOUND
    assert len(theirs) == session._inbound
    assert len(session._partial) < HEADER_BYTES
    for stream in session.streams.values():
        assert stream.alive
        assert 0 <= stream.receive_window <= INITIAL_WINDOW_BYTES
        assert stream.queued_bytes <= INITIAL_WINDOW_BYTES


# A stream's end of ours against a peer that is the input


def _script(data: bytes) -> Iterator[tuple[int, bytes]]:
    """The input as steps `what(1) size(2) bytes(size)`."""
    position = 0
    while position + 3 <= len(data):
        size = int.from_bytes(data[position + 1 : position + 3], "big")
        yield data[position], data[position + 3 : position + 3 + size]
        position += 3 + size


def _play(pair: SessionPair, peer: Recorder, data: bytes, turn: Any) -> None:
    """What the peer does with its stream: says the bytes of each step, then closes, resets, or lets time pass."""
    for what, body in _script(data):
        peer.stream.write(body)
        if what & 7 == 6:
            peer.stream.close()
        elif what & 7 == 7:
            peer.stream.reset()
        elif what & 7 == 5:
            turn(float(what >> 3))
        pair.pump()


class _Registry:
    """Answers at once, as the input's first byte says."""

    def __init__(self, grants: bool) -> None:
        self.grants = grants
        self.asked = 0

    def reserve(self, peer: bytes, connection: int, ip: str, answered: Any) -> None:
        self.asked += 1
        refused = Refused(1, Reason.RESERVATIONS_FULL)
        answered(Granted(1, 9999.0, replaced=False) if self.grants else refused)

    def open_circuit(self, source: bytes, target: bytes, ip: str, answered: Any) -> None:
        self.asked += 1
        granted = CircuitGranted(1, 77, "ws-1/0", 1)
        answered(granted if self.grants else Refused(1, Reason.NO_RESERVATION))

    def release(self, peer: bytes, connection: int) -> None:
        """The peer is connected all the time."""


_ROW = Board.create(1).row(0)  # where times are counted


class _Worker:
    """What a hop stream needs of its worker. A called target refuses, or never answers."""

    def __init__(self, deadlines: Deadlines, steer: int) -> None:
        self.deadlines = deadlines
        self.row = _ROW
        self.now_s = 0.0
        self.silent = bool(steer & 2)
        self.draining = None
        self.registry = _Registry(grants=bool(steer & 1))
        access = SimpleNamespace(peer_allowed=lambda peer: len(peer) != 34)
        self.admission = SimpleNamespace(access=access, token_lapsed=lambda peer: None)
        self.held: list[int] = []
        self.circuits = SimpleNamespace(hold=self._hold, give_back=self.held.remove)
        self.calls = 0
        self.cancelled = 0

    def clock(self) -> float:
        return self.now_s

    def reservation_answer(self, peer: bytes, expires_s: float) -> bytes:
        return delimited(HopMessage(type=HopMessage.STATUS, status=Status.OK).SerializeToString())

    def _hold(self, granted: CircuitGranted, source: Any, target: bytes) -> None:
        self.held.append(granted.circuit)

    def call(self, granted: CircuitGranted, source: bytes, target: bytes, answer: Any) -> Any:
        self.calls += 1
        if self.silent:
            return SimpleNamespace(cancel=self._cancel)
        answer(Reason.TARGET_REFUSED, b"")
        return None

    def _cancel(self) -> None:
        self.cancelled += 1


def fuzz_hop(data: bytes) -> None:
    """One hop stream: at most one answer, nothing held behind it, every circuit that was granted given back."""
    steer, body = (data[0], data[1:]) if data else (0, b"")
    pair, faults = SessionPair(), list[Exception]()
    deadlines = Deadlines(0.0, faults.append)
    worker = _Worker(deadlines, steer)
    peer: Any = SimpleNamespace(
        worker=worker,
        key=PEER,
        id=1,
        ip="192.0.2.1",
        counted_as="192.0.2.1",
        connected=True,
        hold_reservation=lambda granted: None,
        log_refusal=lambda *args, **details: None,
    )
    pair.right.make = lambda stream: HopStream(peer, stream)
    client = pair.left.open()
    acknowledge(client.stream)
    pair.pump()

    def turn(seconds: float) -> None:
        worker.now_s += seconds
        deadlines.advance(worker.now_s)

    _play(pair, client, body, turn)
    if not worker.silent or not worker.calls:
        turn(hop.MESSAGE_TIMEOUT_S * 3)
        pair.pump()
        assert not pair.right.session.streams
    pair.right.session.connection_lost()
    assert not faults, faults
    assert not worker.held
    assert worker.registry.asked <= 1
    assert worker.cancelled <= worker.calls
    if client.data:
        _one_answer(client.data)


def _one_answer(data: bytes) -> None:
    reader = DelimitedReader(hop.MAX_MESSAGE_BYTES)
    answer = reader.feed(data)
    assert answer is not None
    assert reader.rest() == b""
    assert HopMessage.FromString(answer).type == HopMessage.STATUS


class _Calling:
    """The connection of a called target, without the layers below yamux."""

    def __init__(self, pair: SessionPair) -> None:
        self.over = False
        self._session = pair.left.session

    def open_stream(self, protocol: bytes, handler: StreamHandler, first: bytes = b"") -> Stream:
        stream = self._session.open_stream()
        OutboundNegotiation(stream, protocol, handler, first)
        return stream


def fuzz_stop(data: bytes) -> None:
    """One STOP to a target that is the input: exactly one end, and a stream only for a STATUS that says OK."""
    steer, body = (data[0], data[1:]) if data else (0, b"")
    pair, faults = SessionPair(), list[Exception]()
    deadlines = Deadlines(0.0, faults.append)
    outcomes: list[Stream | Reason] = []
    now_s = 0.0

    def answered(outcome: Stream | Reason, first: bytes) -> None:
        if isinstance(outcome, Stream):
            assert len(first) <= len(body)
            Recorder(outcome)
        outcomes.append(outcome)

    def turn(seconds: float) -> None:
        nonlocal now_s
        now_s += seconds
        deadlines.advance(now_s)

    connection: Any = _Calling(pair)
    call = StopCall(connection, PEER, None, deadlines, now_s, answered)
    pair.pump()
    target = pair.right.opened[0]
    if steer & 1:
        target.stream.write(HEADER + frame(STOP))
        pair.pump()
    _play(pair, target, body, turn)
    held = call._reader._buffer if not outcomes else b""
    assert len(held) <= MAX_MESSAGE_BYTES + 5
    turn(1000.0)
    pair.pump()
    assert len(outcomes) == 1, outcomes
    assert not faults, faults
    assert isinstance(outcomes[0], Stream) or not pair.left.session.streams


def fuzz_identify(data: bytes) -> None:
    """A peer that is asked who it is and is the input: at most one name learned, of bounded length."""
    steer, body = (data[0], data[1:]) if data else (0, b"")
    pair = SessionPair()
    learned: list[str] = []
    ask = HearStream(lambda message: learned.append(agent_of(message)))
    connection = _Calling(pair)
    ask.stream = connection.open_stream(IDENTIFY, ask)
    pair.pump()
    peer = pair.right.opened[0]
    if steer & 1:
        peer.stream.write(HEADER + frame(IDENTIFY))
        pair.pump()
    _play(pair, peer, body, lambda _: None)
    assert len(learned) <= 1
    assert all(len(agent) <= MAX_AGENT_CHARACTERS for agent in learned)
    assert ask._reader is None or len(ask._reader._buffer) <= MAX_ANSWER_BYTES + INITIAL_WINDOW_BYTES
    peer.stream.close()
    pair.pump()
    assert not pair.left.session.streams
