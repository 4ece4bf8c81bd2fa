"""The edge between connection and socket: one write a turn, peers that do not read, faults that stay where they are."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import cast

import pytest

from transports.errors import PeerError
from transports.wire import LINGER_S, OUTPUT_LIMIT_BYTES, Flusher, NotReadingError, Wire
from transports.yamux import Buffer, GoAway, Session


class Loop:
    """What a flusher needs of a loop; `turn` is one loop turn."""

    def __init__(self) -> None:
        self.soon: list[Callable[[], None]] = []
        self.later: list[tuple[float, Callable[[], None]]] = []

    def call_soon(self, call: Callable[[], None]) -> None:
        self.soon.append(call)

    def call_later(self, delay_s: float, call: Callable[[], None]) -> None:
        self.later.append((delay_s, call))

    def turn(self) -> None:
        due, self.soon = self.soon, []
        for call in due:
            call()


class End:
    """A socket's end that keeps what it is given and takes as much as the test says."""

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.shuts: list[Exception | None] = []
        self.cuts = 0
        self.unsent = 0

    def write(self, data: Buffer) -> None:
        self.written.append(bytes(data))

    def shut(self, error: Exception | None) -> None:
        self.shuts.append(error)

    def cut(self) -> None:
        self.cuts += 1

    def unsent_bytes(self) -> int:
        return self.unsent


class Endpoint:
    """A connection whose output and faults the test decides."""

    def __init__(self) -> None:
        self.session: Session | None = None
        self.output: list[bytes] = []
        self.received: list[bytes] = []
        self.codes: list[GoAway] = []
        self.closes = 0
        self.receive_raises: Exception | None = None
        self.take_raises: Exception | None = None
        self.closed_raises: Exception | None = None

    def receive(self, data: Buffer, now_s: float) -> None:
        assert now_s == 7.0
        self.received.append(bytes(data))
        if self.receive_raises is not None:
            raise self.receive_raises

    def take_output(self) -> bytes:
        if self.take_raises is not None:
            raise self.take_raises
        output, self.output = self.output, []
        return b"".join(output)

    def go_away(self, code: GoAway) -> None:
        self.codes.append(code)
        self.output.append(b"goodbye")

    def closed(self) -> None:
        self.closes += 1
        if self.closed_raises is not None:
            raise self.closed_raises


class Rig:
    """One wire with everything around it."""

    def __init__(self, loop: Loop | None = None, flusher: Flusher | None = None) -> None:
        self.loop = loop or Loop()
        self.faults: list[Exception] = []
        self.flusher = flusher or Flusher(cast("asyncio.AbstractEventLoop", self.loop), self.faults.append)
        self.end, self.endpoint = End(), Endpoint()
        self.losses: list[Exception | None] = []
        self.wire = Wire(self.end, self.flusher, lambda: 7.0, "10.0.0.1", 4001)
        self.wire.endpoint = self.endpoint
        self.wire.owner = self

    def wire_lost(self, error: Exception | None) -> None:
        self.losses.append(error)

    def say(self, data: bytes) -> None:
        """The endpoint has output."""
        self.endpoint.output.append(data)
        self.wire.wake()


def test_what_a_turn_produces_leaves_in_one_write() -> None:
    rig = Rig()
    for piece in (b"a", b"b", b"c"):
        rig.say(piece)
    assert not rig.end.written
    assert len(rig.loop.soon) == 1
    rig.loop.turn()
    assert rig.end.written == [b"abc"]
    rig.say(b"d")
    rig.loop.turn()
    assert rig.end.written == [b"abc", b"d"]
    assert not rig.loop.soon


def test_one_flush_a_turn_serves_all_wires() -> None:
    first = Rig()
    second = Rig(first.loop, first.flusher)
    first.say(b"1")
    second.say(b"2")
    assert len(first.loop.soon) == 1
    first.loop.turn()
    assert (first.end.written, second.end.written) == ([b"1"], [b"2"])


def test_output_that_a_flush_produces_leaves_in_the_next_turn() -> None:
    rig = Rig()

    class Taken:
        congested = True

        def output_taken(self) -> None:
            if len(rig.end.written) == 1:
                rig.say(b"resumed")

    rig.endpoint.session = Taken()  # type: ignore[assignment]
    rig.say(b"first")
    rig.loop.turn()
    assert rig.end.written == [b"first"]
    rig.loop.turn()
    assert rig.end.written == [b"first", b"resumed"]


def test_a_fault_in_one_wire_ends_that_wire_and_no_other() -> None:
    broken = Rig()
    good = Rig(broken.loop, broken.flusher)
    fault = RuntimeError("ours")
    broken.endpoint.take_raises = fault
    broken.say(b"lost")
    good.say(b"kept")
    broken.loop.turn()
    assert good.end.written == [b"kept"]
    assert (broken.end.cuts, good.end.cuts) == (1, 0)
    broken.wire.lost()
    assert broken.losses == [fault]
    assert not broken.faults, "the owner reports it, and nobody a second time"


def test_bytes_are_fed_with_the_time() -> None:
    rig = Rig()
    rig.wire.feed(b"in")
    assert rig.endpoint.received == [b"in"]


def test_a_peer_that_errs_gets_a_goodbye_with_the_answers_before_it_and_is_closed() -> None:
    rig = Rig()
    rig.endpoint.receive_raises = error = PeerError("bad")
    rig.endpoint.output.append(b"answer ")
    rig.wire.feed(b"bad")
    assert rig.endpoint.codes == [GoAway.PROTOCOL_ERROR]
    assert rig.end.written == [b"answer goodbye"]
    assert rig.end.shuts == [error]
    rig.wire.feed(b"more")
    assert rig.endpoint.received == [b"bad"]
    rig.wire.lost()
    assert rig.losses == [error]


def test_a_fault_of_ours_while_parsing_cuts_the_wire() -> None:
    rig = Rig()
    rig.endpoint.receive_raises = fault = KeyError("ours")
    rig.wire.feed(b"good")
    assert (rig.end.cuts, rig.end.shuts, rig.endpoint.codes) == (1, [], [])
    rig.wire.lost()
    assert rig.losses == [fault]


def test_closing_is_done_once_and_nothing_is_written_behind_it() -> None:
    rig = Rig()
    rig.wire.close()
    rig.wire.close(PeerError("later"))
    rig.say(b"too late")
    rig.loop.turn()
    assert rig.end.written == [b"goodbye"]
    assert rig.end.shuts == [None]
    rig.wire.lost()
    assert rig.losses == [None]


def test_a_closed_socket_that_the_peer_does_not_empty_is_cut_in_the_end() -> None:
    rig = Rig()
    rig.end.unsent = 1
    rig.wire.close()
    ((delay_s, cut),) = rig.loop.later
    assert delay_s == LINGER_S
    assert rig.end.cuts == 0
    cut()
    assert rig.end.cuts == 1


def test_a_closed_socket_that_is_empty_needs_no_timer() -> None:
    rig = Rig()
    rig.wire.close()
    assert not rig.loop.later


def test_a_goodbye_that_a_deadline_says_reaches_a_wire_that_waits_for_its_flush() -> None:
    rig = Rig()
    rig.say(b"last answer ")
    rig.wire.close()
    assert rig.end.written == [b"last answer goodbye"]
    rig.loop.turn()
    assert len(rig.end.written) == 1


def test_a_peer_that_has_said_goodbye_is_told_none() -> None:
    rig = Rig()
    rig.say(b"last answer ")
    rig.wire.close(code=None)
    assert rig.end.written == [b"last answer "]


@pytest.mark.parametrize(("unsent", "ends"), [(OUTPUT_LIMIT_BYTES, False), (OUTPUT_LIMIT_BYTES + 1, True)])
def test_a_peer_that_does_not_read_is_ended_when_too_much_waits(unsent: int, ends: bool) -> None:
    rig = Rig()
    rig.wire.pause()  # as the socket's end does above the high-water mark
    rig.end.unsent = unsent
    rig.say(b"pong")
    rig.loop.turn()
    assert rig.end.cuts == ends
    rig.wire.lost()
    assert [isinstance(error, NotReadingError) for error in rig.losses] == [ends]


def test_the_first_error_is_the_one_that_is_told() -> None:
    rig = Rig()
    first = PeerError("first")
    rig.wire.close(first)
    rig.wire.abort(PeerError("second"))
    rig.wire.lost(PeerError("third"))
    assert rig.losses == [first]


def test_an_error_that_only_the_socket_saw_is_told() -> None:
    rig = Rig()
    seen = PeerError("broken frame")
    rig.wire.lost(seen)
    assert (rig.losses, rig.endpoint.closes) == ([seen], 1)


def test_the_owner_is_told_of_the_loss_even_if_a_stream_raises_at_its_end() -> None:
    rig = Rig()
    rig.endpoint.closed_raises = fault = RuntimeError("ours")
    rig.wire.lost()
    assert rig.losses == [fault]


def test_an_owner_that_raises_at_the_loss_is_reported() -> None:
    rig = Rig()
    fault = RuntimeError("ours")

    class Owner:
        def wire_lost(self, error: Exception | None) -> None:
            raise fault

    rig.wire.owner = Owner()
    rig.wire.lost()
    assert rig.faults == [fault]


def test_pausing_before_there_is_a_session_is_nothing() -> None:
    rig = Rig()
    rig.wire.pause()
    rig.wire.unpause()
    assert not rig.end.written


def test_a_paused_socket_pauses_the_session() -> None:
    rig = Rig()

    class Handler:
        def stream_opened(self, stream: object) -> None:
            """Nobody opens any."""

        def go_away_received(self, code: int) -> None:
            """Nobody says it."""

        def pong_received(self) -> None:
            """Nobody pings."""

    rig.endpoint.session = session = Session(False, Handler(), rig.wire.wake, 1)
    rig.wire.pause()
    assert session.congested
    rig.say(b"x")
    rig.loop.turn()
    assert session.congested, "a flush does not unpause"
    rig.wire.unpause()
    assert not session.congested
