"""STOP: one call, one answer, whatever the target does."""

from __future__ import annotations

import pytest

from actors import stop
from actors.deadlines import SLOT_S, Deadlines
from actors.limits import Reason
from actors.proto.circuit_pb2 import Limit, Status, StopMessage
from actors.stop import STOP_TIMEOUT_S, StopCall
from tests.support.pipe import ConnectionPair, Recorder
from transports.varint import DelimitedReader, delimited
from transports.yamux import Stream

SOURCE = b"\x00\x24\x08\x01\x12\x20" + b"s" * 32
LIMIT = Limit(duration=120, data=131072)


class Rig:
    """The relay (listener) calls a target (dialer)."""

    def __init__(self, *, speaks_stop: bool = True, limit: Limit | None = LIMIT) -> None:
        self.pair = ConnectionPair.upgraded((stop.PROTOCOL,) if speaks_stop else (b"/other",), ())
        self.now_s = 1000.0
        self.faults: list[Exception] = []
        self.deadlines = Deadlines(self.now_s, self.faults.append)
        self.answers: list[tuple[Stream | Reason, bytes]] = []
        connection = self.pair.listener.connection
        self.call = StopCall(connection, SOURCE, limit, self.deadlines, self.now_s, self.answered)

    def answered(self, outcome: Stream | Reason, first: bytes) -> None:
        if isinstance(outcome, Stream):
            Recorder(outcome)  # as a circuit does, it takes the stream over at once
        self.answers.append((outcome, bytes(first)))

    @property
    def target(self) -> Recorder:
        self.pair.pump()
        ((protocol, recorder),) = self.pair.dialer.opened
        assert protocol == stop.PROTOCOL
        return recorder

    def says(self, data: bytes, *, close: bool = False) -> None:
        target = self.target
        target.stream.write(data)
        if close:
            target.stream.close()
        self.pair.pump()

    def turn(self, seconds: float) -> None:
        self.now_s += seconds
        self.deadlines.advance(self.now_s)
        self.pair.pump()

    def assert_refused(self, reason: Reason) -> None:
        assert self.answers == [(reason, b"")]
        assert not any(self.deadlines._slots.values())
        self.turn(100)
        assert len(self.answers) == 1
        assert not self.faults
        assert not self.pair.listener.session.streams


def status(code: Status.ValueType = Status.OK, **more: object) -> bytes:
    return delimited(StopMessage(type=StopMessage.STATUS, status=code, **more).SerializeToString())  # type: ignore[arg-type]


@pytest.mark.parametrize("limit", [LIMIT, None])
def test_the_target_is_told_who_calls_and_what_the_limits_are(limit: Limit | None) -> None:
    body = DelimitedReader(4096).feed(Rig(limit=limit).target.data)
    assert body is not None
    message = StopMessage.FromString(body)
    assert (message.type, message.peer.id, message.HasField("limit")) == (
        StopMessage.CONNECT,
        SOURCE,
        limit is not None,
    )
    if limit is not None:
        assert (message.limit.duration, message.limit.data) == (120, 131072)


def test_ok_gives_the_stream_and_no_deadline_stays() -> None:
    rig = Rig()
    rig.says(status())
    ((stream, first),) = rig.answers
    assert isinstance(stream, Stream)
    assert (stream.alive, first) == (True, b"")
    assert not any(rig.deadlines._slots.values())


def test_bytes_and_fin_right_behind_ok_belong_to_the_circuit() -> None:
    rig = Rig()
    rig.says(status() + b"first bytes", close=True)
    ((stream, first),) = rig.answers
    assert isinstance(stream, Stream)
    assert first == b"first bytes"
    recorder = stream.handler
    assert isinstance(recorder, Recorder)
    assert recorder.eofs == 1


def test_the_circuits_bytes_are_not_credited_and_those_of_the_answer_are() -> None:
    rig = Rig()
    negotiation = len(b"\x13/multistream/1.0.0\n") + 1 + len(stop.PROTOCOL) + 1
    rig.says(status() + b"first bytes")
    ((stream, _),) = rig.answers
    assert isinstance(stream, Stream)
    assert stream._consumed_bytes == negotiation + len(status())


def test_an_answer_in_single_bytes_is_an_answer() -> None:
    rig = Rig()
    for byte in status() + b"x":
        rig.says(bytes((byte,)))
    ((stream, _),) = rig.answers
    assert isinstance(stream, Stream)
    assert isinstance(stream.handler, Recorder)
    assert stream.handler.data == b"x"


@pytest.mark.parametrize(
    "said",
    [
        pytest.param(status(Status.PERMISSION_DENIED), id="refused"),
        pytest.param(status(Status.UNUSED), id="no status"),
        pytest.param(delimited(StopMessage(type=StopMessage.CONNECT).SerializeToString()), id="another type"),
        pytest.param(delimited(b""), id="empty"),
        pytest.param(delimited(b"\xff\xff"), id="no protobuf"),
        pytest.param(b"\x81\x20", id="4097 bytes"),
        pytest.param(b"\xff" * 5, id="a length without end"),
    ],
)
def test_anything_but_ok_is_a_refusal(said: bytes) -> None:
    rig = Rig()
    rig.says(said)
    assert rig.target.resets == 1
    rig.assert_refused(Reason.TARGET_REFUSED)


def test_an_answer_of_4096_bytes_is_an_answer() -> None:
    rig = Rig()
    overhead = len(status(peer={"id": bytes(3000)})) - 3000
    said = status(peer={"id": bytes(4096 + 2 - overhead)})
    assert said[:2] == b"\x80\x20"
    rig.says(said)
    assert isinstance(rig.answers[0][0], Stream)


def test_a_target_that_closes_or_resets_has_refused() -> None:
    for end in ("close", "reset"):
        rig = Rig()
        getattr(rig.target.stream, end)()
        rig.pair.pump()
        rig.assert_refused(Reason.TARGET_REFUSED)


def test_a_target_that_does_not_speak_stop_is_told_from_one_that_refuses() -> None:
    rig = Rig(speaks_stop=False)
    rig.pair.pump()
    rig.assert_refused(Reason.TARGET_WITHOUT_STOP)


def test_a_target_whose_connection_is_lost_is_gone() -> None:
    for heard in (False, True):
        rig = Rig()
        if heard:
            rig.pair.pump()
        rig.pair.listener.connection.closed()
        rig.assert_refused(Reason.TARGET_GONE)


def test_a_silent_target_is_given_up_after_25_seconds_and_not_before() -> None:
    rig = Rig()
    rig.pair.pump()
    rig.turn(STOP_TIMEOUT_S - SLOT_S)
    assert rig.answers == []
    rig.turn(2 * SLOT_S)
    assert rig.target.resets == 1
    rig.assert_refused(Reason.TARGET_SILENT)


def test_a_cancelled_call_resets_the_stream_and_is_never_answered() -> None:
    for answered_late in (False, True):
        rig = Rig()
        target = rig.target
        if answered_late:
            target.stream.write(status())
        rig.call.cancel()
        rig.call.cancel()
        rig.pair.pump()
        rig.turn(100)
        rig.pair.listener.connection.closed()
        assert rig.answers == []
        assert target.resets == 1
        assert not any(rig.deadlines._slots.values())
