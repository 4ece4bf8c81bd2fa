"""multistream on the streams of two sessions against a model: who gets which bytes, and what every stream ends as.

The left session dials, the right one speaks SPOKEN. Nothing is told twice, nothing stays, and every byte is credited.
"""

from __future__ import annotations

import hypothesis.strategies as st
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from tests.support.pipe import Recorder, SessionEnd, SessionPair
from transports.errors import PeerError
from transports.negotiation import InboundNegotiation, OutboundNegotiation
from transports.yamux import Stream
from transports.yamux_frames import INITIAL_WINDOW_BYTES

SPOKEN = (b"/a", b"/b/1.0.0")
NAMES = st.sampled_from([*SPOKEN, b"/x", b"/na", b"/" + b"x" * 1023])
SIDES = st.sampled_from([0, 1])
PATTERN = bytes(range(251)) * 4


class Talk:
    """One stream, and what its two ends did. `dialer` is the handler behind the negotiation, `listener` its like."""

    def __init__(self, name: bytes, dialer: Recorder) -> None:
        self.name = name
        self.dialer = dialer
        self.listener: Recorder | None = None
        self.negotiation: OutboundNegotiation
        self.said: list[bytearray] = [bytearray(), bytearray()]
        self.closed = [False, False]
        self.reset = False

    @property
    def ends(self) -> tuple[Recorder | None, Recorder | None]:
        return self.dialer, self.listener


class NegotiationMachine(RuleBasedStateMachine):
    """Streams by the dozen, in every stage."""

    def __init__(self) -> None:
        super().__init__()
        self.pair = SessionPair()
        self.sides: tuple[SessionEnd, SessionEnd] = (self.pair.left, self.pair.right)
        self.pair.right.make = lambda stream: InboundNegotiation(stream, SPOKEN, self.accept, self.errors.append)
        self.talks: list[Talk] = []
        self.of_stream: dict[int, Talk] = {}
        self.errors: list[PeerError] = []

    def accept(self, protocol: bytes, stream: Stream) -> Recorder:
        talk = self.of_stream[stream.id]
        assert protocol == talk.name
        assert talk.listener is None, "accepted once"
        talk.listener = Recorder()
        talk.listener.stream = stream
        return talk.listener

    @rule(name=NAMES, size=st.integers(0, 300))
    def dial(self, name: bytes, size: int) -> None:
        dialer = Recorder()
        dialer.stream = self.pair.left.session.open_stream()
        talk = Talk(name, dialer)
        self.talks.append(talk)
        self.of_stream[dialer.stream.id] = talk
        talk.said[0] += PATTERN[:size]
        talk.negotiation = OutboundNegotiation(dialer.stream, name, dialer, PATTERN[:size])

    @precondition(lambda self: self.talks)
    @rule(which=st.integers(0, 30), side=SIDES, size=st.integers(1, 700))
    def say(self, which: int, side: int, size: int) -> None:
        talk = self.talks[which % len(self.talks)]
        end = talk.ends[side]
        if end is not None and end.stream.writable:
            start = len(talk.said[side]) % 251
            end.stream.write(PATTERN[start : start + size])
            talk.said[side] += PATTERN[start : start + size]

    @precondition(lambda self: self.talks)
    @rule(which=st.integers(0, 30), side=SIDES)
    def close(self, which: int, side: int) -> None:
        talk = self.talks[which % len(self.talks)]
        end = talk.ends[side]
        if end is not None and end.stream.alive:
            end.stream.close()
            talk.closed[side] = True

    @precondition(lambda self: self.talks)
    @rule(which=st.integers(0, 30), side=SIDES)
    def reset(self, which: int, side: int) -> None:
        talk = self.talks[which % len(self.talks)]
        end = talk.ends[side]
        if end is not None and end.stream.alive:
            end.stream.reset()
            talk.reset = True

    @rule(side=SIDES, piece=st.sampled_from([1, 3, 13, 100, 5000]))
    def move(self, side: int, piece: int) -> None:
        self.carry(side, piece)

    def carry(self, side: int, piece: int = 5000) -> bool:
        output = self.sides[side].output()
        for start in range(0, len(output), piece):
            self.sides[1 - side].session.receive(output[start : start + piece], 0.0)
        return bool(output)

    @invariant()
    def nobody_gets_what_was_not_said_to_them(self) -> None:
        for talk in self.talks:
            assert bytes(talk.said[1]).startswith(talk.dialer.data)
            assert talk.dialer.resets + talk.dialer.eofs <= 2
            assert talk.dialer.resets <= 1
            if talk.listener is not None:
                assert talk.name in SPOKEN
                assert bytes(talk.said[0]).startswith(talk.listener.data)
                assert talk.listener.resets <= 1

    @invariant()
    def every_byte_is_credited(self) -> None:
        for side in self.sides:
            for stream in side.session.streams.values():
                if not side.session._body_left and stream.readable:
                    assert stream.send_window <= INITIAL_WINDOW_BYTES
                    assert stream.receive_window + stream._consumed_bytes == INITIAL_WINDOW_BYTES

    def teardown(self) -> None:
        """Everything is carried; then every stream is what its talk makes of it."""
        self.settle()
        for talk in self.talks:
            if not talk.reset:
                self.check(talk)
        for talk in self.talks:
            for end in talk.ends:
                if end is not None:
                    end.stream.close()
        self.settle()
        assert not self.pair.left.session.streams
        assert not self.pair.right.session.streams
        # What comes behind a name that is declined is read as the next name, or as nonsense.
        too_long = [talk for talk in self.talks if len(talk.name) > 1000 and not talk.reset]
        assert len(too_long) <= len(self.errors) <= sum(talk.name not in SPOKEN for talk in self.talks)

    def settle(self) -> None:
        while any([self.carry(0), self.carry(1)]):
            pass

    def check(self, talk: Talk) -> None:
        if talk.name in SPOKEN:
            assert talk.listener is not None
            assert talk.listener.data == bytes(talk.said[0])
            assert talk.dialer.data == bytes(talk.said[1])
            assert (talk.dialer.eofs, talk.listener.eofs) == (talk.closed[1], talk.closed[0])
            assert (talk.dialer.resets, talk.listener.resets) == (0, 0)
        else:
            assert talk.listener is None
            assert talk.dialer.data == b""
            assert talk.dialer.resets == 1
            assert not talk.dialer.stream.alive
            assert talk.negotiation.declined == (len(talk.name) < 1000)


NegotiationMachine.TestCase.settings = settings(
    max_examples=100, stateful_step_count=40, derandomize=True, deadline=None
)
TestNegotiationAgainstTheModel = NegotiationMachine.TestCase
