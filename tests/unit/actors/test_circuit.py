"""A circuit between two in-memory peers: limits, half-close, reset, backpressure, and faults that stay inside."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.circuit import CircuitActor, End, Splice
from actors.deadlines import SLOT_S, Deadlines
from tests.support.pipe import Recorder, SessionPair
from transports.yamux import ErrorCode, Stream

WINDOW = 256 * 1024


class Rig:
    """Source - relay - target, one circuit, and the worker's part. Peers are the left ends of their pairs."""

    def __init__(
        self,
        *,
        max_bytes: int = 0,
        duration_s: float = 0.0,
        idle_timeout_s: float = 0.0,
        credit: bool = True,
        early: bytes = b"",
        first: bytes = b"",
    ) -> None:
        self.pairs = (SessionPair(credit=credit), SessionPair(credit=credit))
        self.source, self.left = self.pairs[0].stream()
        self.target, self.right = self.pairs[1].stream()
        self.now_s = 1000.0
        self.faults: list[Exception] = []
        self.ends: list[End] = []
        self.deadlines = Deadlines(self.now_s, self.fault)
        self.circuit = CircuitActor(
            self,
            self.circuit_ended,
            7,
            b"source",
            b"target",
            self.left.stream,
            self.right.stream,
            max_bytes=max_bytes,
            duration_s=duration_s,
            idle_timeout_s=idle_timeout_s,
        )
        self.early, self.first = early, first

    def join(self) -> Rig:
        self.circuit.join(self.early, self.first)
        return self

    def circuit_ended(self, circuit: CircuitActor, end: End) -> None:
        assert circuit is self.circuit
        self.ends.append(end)

    def fault(self, error: Exception) -> None:
        self.faults.append(error)

    def pump(self) -> None:
        for _ in range(40):
            for pair in self.pairs:
                pair.pump()

    def turn(self, seconds: float) -> None:
        self.now_s += seconds
        self.deadlines.advance(self.now_s)
        self.pump()

    def peers(self, direction: str) -> tuple[Recorder, Recorder]:
        """Sender and receiver."""
        return (self.source, self.target) if direction == "to target" else (self.target, self.source)

    def assert_nothing_is_left(self) -> None:
        assert self.circuit.over
        for pair in self.pairs:
            assert not pair.left.session.streams
            assert not pair.right.session.streams


both_directions = pytest.mark.parametrize("direction", ["to target", "to source"])


def send(rig: Rig, peer: Recorder, data: bytes) -> None:
    peer.stream.write(data)
    rig.pump()


@both_directions
def test_bytes_pass_as_they_are(direction: str) -> None:
    rig = Rig().join()
    sender, receiver = rig.peers(direction)
    data = bytes(range(256)) * 4096
    send(rig, sender, data)
    assert receiver.data == data
    assert (rig.circuit.left.bytes, rig.circuit.right.bytes) == ((len(data), 0)[:: 1 if sender is rig.source else -1])


def test_bytes_that_came_before_the_circuit_are_its_first() -> None:
    rig = Rig(early=b"early", first=b"first").join()
    rig.pump()
    assert (rig.target.data, rig.source.data) == (b"early", b"first")
    assert (rig.circuit.left.bytes, rig.circuit.right.bytes) == (5, 5)


# Limits


@both_directions
def test_exactly_as_many_bytes_as_the_limit_pass_and_the_circuit_lives(direction: str) -> None:
    rig = Rig(max_bytes=1000).join()
    sender, receiver = rig.peers(direction)
    send(rig, sender, bytes(600))
    send(rig, sender, bytes(400))
    assert len(receiver.data) == 1000
    assert (rig.ends, receiver.resets, sender.resets) == ([], 0, 0)
    sender.stream.close()
    receiver.stream.close()
    rig.pump()
    assert rig.ends == [End.FINISHED]


@both_directions
@pytest.mark.parametrize("pieces", [[1001], [1000, 1], [600, 401], [5000]])
def test_one_byte_more_resets_both_streams_and_what_was_within_has_passed(direction: str, pieces: list[int]) -> None:
    rig = Rig(max_bytes=1000).join()
    sender, receiver = rig.peers(direction)
    for piece in pieces:
        send(rig, sender, bytes(piece))
    assert len(receiver.data) == 1000
    assert (sender.resets, receiver.resets, receiver.eofs) == (1, 1, 0)
    assert rig.ends == [End.BYTES]
    assert max(rig.circuit.left.bytes, rig.circuit.right.bytes) == 1000
    rig.assert_nothing_is_left()


def test_the_limit_is_a_direction_not_a_sum() -> None:
    rig = Rig(max_bytes=1000).join()
    send(rig, rig.source, bytes(1000))
    send(rig, rig.target, bytes(1000))
    assert (len(rig.target.data), len(rig.source.data), rig.ends) == (1000, 1000, [])


def test_bytes_that_came_early_count_against_the_limit() -> None:
    rig = Rig(max_bytes=1000, early=bytes(1001)).join()
    rig.pump()
    assert (len(rig.target.data), rig.ends) == (1000, [End.BYTES])
    rig.assert_nothing_is_left()


def test_zero_is_unlimited() -> None:
    rig = Rig().join()
    for _ in range(20):
        send(rig, rig.source, bytes(WINDOW))
    rig.turn(10**7)
    assert (len(rig.target.data), rig.ends) == (20 * WINDOW, [])
    assert not rig.deadlines._slots


def test_the_duration_ends_a_circuit_however_busy_it_is_and_not_before() -> None:
    rig = Rig(duration_s=120, idle_timeout_s=60).join()
    for _ in range(11):
        rig.turn(10)
        send(rig, rig.source, b"x")
    rig.turn(10 - SLOT_S)
    assert rig.ends == []
    rig.turn(2 * SLOT_S)
    assert rig.ends == [End.DURATION]
    assert (rig.source.resets, rig.target.resets) == (1, 1)
    rig.assert_nothing_is_left()


@both_directions
def test_a_circuit_is_idle_only_if_nothing_moved_either_way(direction: str) -> None:
    rig = Rig(idle_timeout_s=60).join()
    for _ in range(5):
        rig.turn(59)
        send(rig, rig.peers(direction)[0], b"x")
    rig.turn(60 - SLOT_S)
    assert rig.ends == []
    rig.turn(2 * SLOT_S)
    assert rig.ends == [End.IDLE]
    rig.assert_nothing_is_left()


def test_a_half_closed_circuit_is_ended_when_it_is_idle() -> None:
    rig = Rig(idle_timeout_s=60).join()
    rig.source.stream.close()
    rig.pump()
    rig.turn(60 + SLOT_S)
    assert rig.ends == [End.IDLE]
    assert rig.target.resets == 1
    rig.assert_nothing_is_left()


def test_a_receiver_that_is_slow_is_not_idle() -> None:
    """Its sender waits for credit meanwhile, so nothing comes in; but bytes go out."""
    rig = Rig(idle_timeout_s=60).join()
    rig.pairs[1].right.session.pause()
    rig.source.stream.write(bytes(250_000))
    rig.pump()
    for _ in range(5):
        rig.turn(50)
        rig.pairs[1].right.session.unpause()
        rig.pairs[1].right.session.pause()
        rig.pump()
    assert rig.ends == []
    assert len(rig.target.data) == 250_000


def test_an_ended_circuit_leaves_no_deadline() -> None:
    rig = Rig(duration_s=120, idle_timeout_s=60).join()
    rig.circuit.finish(End.DRAIN)
    assert not any(rig.deadlines._slots.values())
    rig.turn(1000)
    assert rig.ends == [End.DRAIN]


# Ends


@both_directions
def test_half_close_passes_through_and_the_other_direction_lives_on(direction: str) -> None:
    rig = Rig().join()
    sender, receiver = rig.peers(direction)
    sender.stream.write(b"last words")
    sender.stream.close()
    rig.pump()
    assert (receiver.data, receiver.eofs, rig.ends) == (b"last words", 1, [])
    send(rig, receiver, b"answer")
    assert (sender.data, sender.eofs) == (b"answer", 0)
    receiver.stream.close()
    rig.pump()
    assert (sender.eofs, sender.resets, receiver.resets) == (1, 0, 0)
    assert rig.ends == [End.FINISHED]
    rig.assert_nothing_is_left()


@both_directions
def test_a_reset_passes_through_as_a_reset(direction: str) -> None:
    rig = Rig().join()
    sender, receiver = rig.peers(direction)
    sender.stream.reset()
    rig.pump()
    assert (receiver.resets, receiver.eofs, rig.ends) == (1, 0, [End.RESET])
    rig.assert_nothing_is_left()


@both_directions
@pytest.mark.parametrize("code", [0, 0x1001, 0x12345678, 0xFFFFFFFF])
def test_the_code_of_a_reset_passes_through(direction: str, code: int) -> None:
    rig = Rig().join()
    sender, receiver = rig.peers(direction)
    sender.stream.reset(code)
    rig.pump()
    assert (receiver.resets, receiver.stream.reset_code) == (1, code)


@pytest.mark.parametrize(
    ("end", "code"),
    [
        (End.BYTES, ErrorCode.RESOURCE_LIMIT_EXCEEDED),
        (End.DURATION, ErrorCode.RESOURCE_LIMIT_EXCEEDED),
        (End.IDLE, ErrorCode.GARBAGE_COLLECTED),
        (End.DRAIN, ErrorCode.SHUTDOWN),
        (End.FAULT, ErrorCode.NONE),
    ],
)
def test_both_peers_are_told_why_the_relay_ended_a_circuit(end: End, code: ErrorCode) -> None:
    rig = Rig().join()
    rig.circuit.finish(end)
    rig.pump()
    assert [peer.stream.reset_code for peer in rig.peers("to target")] == [code, code]


@both_directions
def test_a_connection_that_is_lost_resets_the_other_side(direction: str) -> None:
    rig = Rig().join()
    lost = 0 if direction == "to target" else 1
    rig.pairs[lost].right.session.connection_lost()
    rig.pairs[1 - lost].pump()
    assert rig.peers(direction)[1].resets == 1
    assert rig.ends == [End.RESET]


def test_a_side_that_had_ended_before_the_circuit_began_is_a_half_close() -> None:
    rig = Rig(early=b"all I say")
    rig.source.stream.close()
    rig.pump()
    rig.join()
    rig.pump()
    assert (rig.target.data, rig.target.eofs, rig.ends) == (b"all I say", 1, [])
    send(rig, rig.target, b"answer")
    assert rig.source.data == b"answer"


def test_fin_waits_behind_bytes_that_wait_and_the_circuit_is_finished_when_they_are_out() -> None:
    rig = Rig().join()
    rig.pairs[1].right.session.pause()
    rig.source.stream.write(b"slowly")
    rig.source.stream.close()
    rig.target.stream.close()
    rig.pump()
    assert rig.ends == []
    rig.pairs[1].right.session.unpause()
    rig.pump()
    assert (rig.target.data, rig.target.eofs, rig.ends) == (b"slowly", 1, [End.FINISHED])
    rig.assert_nothing_is_left()


def test_the_end_is_told_once_whatever_follows() -> None:
    rig = Rig(max_bytes=10, duration_s=10, idle_timeout_s=5).join()
    send(rig, rig.source, bytes(11))
    rig.circuit.finish(End.DRAIN)
    rig.circuit.deadline()
    rig.circuit.fault(RuntimeError("late"))
    for pair in rig.pairs:
        pair.right.session.connection_lost()
    rig.turn(100)
    assert rig.ends == [End.BYTES]


def test_a_peer_may_call_itself_and_losing_it_ends_the_circuit_once() -> None:
    rig = Rig()
    one, near = rig.pairs[0].stream()
    other, far = rig.pairs[0].stream()
    rig.circuit = CircuitActor(
        rig, rig.circuit_ended, 8, b"p", b"p", near.stream, far.stream, max_bytes=0, duration_s=0, idle_timeout_s=0
    )
    rig.join()
    send(rig, one, b"to myself")
    assert other.data == b"to myself"
    rig.pairs[0].right.session.connection_lost()
    assert rig.ends == [End.RESET]


# Backpressure


@both_directions
def test_a_sender_gets_no_more_than_one_window_ahead_of_a_receiver_that_does_not_read(direction: str) -> None:
    rig = Rig(credit=False).join()
    sender, receiver = rig.peers(direction)
    sender.stream.write(bytes(10 * WINDOW))
    rig.pump()
    # One window lies with the receiver, one waits in the relay, and there it ends.
    waiting = rig.circuit.left.stream if receiver is rig.source else rig.circuit.right.stream
    assert len(receiver.data) == WINDOW
    assert waiting.queued_bytes == WINDOW
    assert sender.stream.send_window == 0
    assert sender.stream.queued_bytes == 8 * WINDOW
    receiver.stream.consumed(WINDOW)
    rig.pump()
    assert len(receiver.data) == 2 * WINDOW
    assert waiting.queued_bytes == WINDOW
    assert sender.stream.queued_bytes == 7 * WINDOW


@both_directions
def test_a_receiver_whose_socket_is_full_holds_its_sender_back(direction: str) -> None:
    rig = Rig(credit=True).join()
    sender, receiver = rig.peers(direction)
    session = rig.pairs[1 if receiver is rig.target else 0].right.session
    session.pause()
    sender.stream.write(bytes(4 * WINDOW))
    rig.pump()
    assert (len(receiver.data), sender.stream.send_window) == (0, 0)
    session.unpause()
    rig.pump()
    assert len(receiver.data) == 4 * WINDOW


def test_an_answer_that_waits_in_the_stream_is_not_credited_to_the_other_side() -> None:
    rig = Rig(credit=False)
    rig.pairs[0].right.session.pause()
    rig.left.stream.write(b"status ok")
    ends = rig.left.stream, rig.right.stream
    rig.circuit = CircuitActor(
        rig, rig.circuit_ended, 9, b"s", b"t", *ends, max_bytes=0, duration_s=0, idle_timeout_s=0
    )
    rig.join()
    rig.target.stream.write(bytes(WINDOW))
    rig.pump()
    rig.pairs[0].right.session.unpause()
    rig.pump()
    sent = len(rig.source.data) - len(b"status ok")
    stream = rig.right.stream
    assert stream.receive_window + stream._consumed_bytes == sent


@settings(max_examples=40)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["send", "send", "read", "pause", "unpause", "close"]),
            st.booleans(),
            st.integers(1, WINDOW),
        ),
        max_size=30,
    )
)
def test_whatever_two_peers_do_no_more_than_a_window_waits_and_no_byte_is_lost(
    steps: list[tuple[str, bool, int]],
) -> None:
    rig = Rig(credit=False).join()
    read = {rig.source: 0, rig.target: 0}
    written = {rig.source: 0, rig.target: 0}

    def take(peer: Recorder) -> None:
        peer.stream.consumed(len(peer.data) - read[peer])
        read[peer] = len(peer.data)

    for name, which, amount in steps:
        peer = rig.source if which else rig.target
        relay = rig.pairs[0 if which else 1].right.session
        if name == "send" and peer.stream.writable:
            written[peer] += 0 if peer.stream._fin_queued else amount
            peer.stream.write(bytes(amount))
        actions: dict[str, Callable[[], None]] = {
            "read": lambda peer=peer: take(peer),  # type: ignore[misc]
            "pause": relay.pause,
            "unpause": relay.unpause,
            "close": peer.stream.close,
        }
        actions.get(name, lambda: None)()
        rig.pump()
        for leg in (rig.circuit.left, rig.circuit.right):
            assert leg.stream.queued_bytes <= WINDOW
            assert leg.stream.receive_window <= WINDOW
    for pair in rig.pairs:
        pair.right.session.unpause()
    rig.pump()
    while any(read[peer] < len(peer.data) for peer in read):
        for peer in read:
            take(peer)
        rig.pump()
    assert (len(rig.target.data), len(rig.source.data)) == (written[rig.source], written[rig.target])
    assert not rig.faults


# Faults


def raises(*_: object) -> int:
    raise RuntimeError("a fault of ours")


def break_stream(monkeypatch: pytest.MonkeyPatch, broken: Stream, name: str) -> None:
    """Make one method of one stream raise."""
    real = getattr(Stream, name)

    def broken_method(stream: Stream, *args: object) -> object:
        return raises() if stream is broken else real(stream, *args)

    monkeypatch.setattr(Stream, name, broken_method)


@both_directions
@pytest.mark.parametrize(("method", "act"), [("write", "send"), ("consumed", "send"), ("close", "close")])
def test_a_fault_inside_a_circuit_ends_that_circuit_and_no_other(
    direction: str, method: str, act: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig = Rig().join()
    sender, receiver = rig.peers(direction)
    to_receiver = rig.right.stream if receiver is rig.target else rig.left.stream
    to_sender = rig.left.stream if receiver is rig.target else rig.right.stream
    other_source, other_left = rig.pairs[0].stream()
    other_target, other_right = rig.pairs[1].stream()
    Splice(rig, other_left.stream, other_right.stream, duration_s=0, idle_timeout_s=0).join()
    with monkeypatch.context() as patch:
        break_stream(patch, to_sender if method == "consumed" else to_receiver, method)
        if act == "send":
            sender.stream.write(b"x")
        else:
            sender.stream.close()
        other_source.stream.write(b"in the same read")
        rig.pump()
    assert rig.ends == [End.FAULT]
    assert [str(fault) for fault in rig.faults] == ["a fault of ours"]
    assert (sender.resets, receiver.resets) == (1, 1)
    assert other_target.data == b"in the same read"
    send(rig, other_target, b"and back")
    assert other_source.data == b"and back"


def test_a_fault_as_waiting_bytes_go_out_ends_that_circuit_and_not_the_receivers_connection(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rig = Rig().join()
    relay = rig.pairs[1].right.session
    relay.pause()
    send(rig, rig.source, b"waits")
    other, other_near = rig.pairs[1].stream()
    other_near.stream.write(b"waits too")
    with monkeypatch.context() as patch:
        break_stream(patch, rig.left.stream, "consumed")
        relay.unpause()
    rig.pump()
    assert rig.ends == [End.FAULT]
    assert len(rig.faults) == 1
    assert other.data == b"waits too"


def test_a_stream_that_can_not_even_be_reset_does_not_keep_the_slot(monkeypatch: pytest.MonkeyPatch) -> None:
    rig = Rig().join()
    with monkeypatch.context() as patch:
        break_stream(patch, rig.left.stream, "reset")
        with pytest.raises(RuntimeError):
            rig.circuit.finish(End.DRAIN)
    rig.pump()
    assert (rig.ends, rig.target.resets) == ([End.DRAIN], 1)


# The splice in the target's worker


def test_a_splice_passes_bytes_ends_and_resets_and_counts_nothing() -> None:
    for end in ("close", "reset"):
        rig = Rig()
        splice = Splice(rig, rig.left.stream, rig.right.stream, duration_s=0, idle_timeout_s=0)
        splice.join(b"early", b"")
        send(rig, rig.target, b"back")
        assert (rig.target.data, rig.source.data) == (b"early", b"back")
        getattr(rig.source.stream, end)()
        rig.pump()
        if end == "close":
            assert rig.target.eofs == 1
            rig.target.stream.close()
            rig.pump()
            assert (rig.source.eofs, splice.over) == (1, True)
        else:
            assert (rig.target.resets, splice.over) == (1, True)
        assert rig.ends == []
