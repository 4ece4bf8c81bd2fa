"""A connected peer with a hand-turned clock: its handshake deadline, its signs of life, its leaving."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from actors import identify, ping
from actors.deadlines import Deadlines
from actors.line_limit import LineLimit
from actors.peer import ASK_LATEST_S, KEEPALIVE_S, PONG_TIMEOUT_S, PROTOCOLS, LimitError, Peer, SilentError
from tests.support.pipe import ConnectionEnd, Recorder
from transports.identity import HostKey
from transports.noise import Role, StaticKey
from transports.upgrade import MUXERS, Connection
from transports.yamux import Buffer, GoAway

STATIC = StaticKey(HostKey.generate(), MUXERS)
TIMEOUT_S = 10.0


class Wire:
    """What a peer sees of its wire."""

    ip, port, closing = "192.0.2.7", 4001, False

    def __init__(self) -> None:
        self.ends: list[Exception | None] = []

    def wake(self) -> None:
        """Output is asked for by the test."""

    def close(self, error: Exception | None = None, code: GoAway = GoAway.NORMAL) -> None:
        self.ends.append(error)

    abort = close


class Worker:
    """What a peer needs of its worker, with time that stands still until it is turned."""

    def __init__(self) -> None:
        self.now_s = 1000.0
        self.faults: list[Exception] = []
        self.deadlines = Deadlines(self.now_s, self.faults.append)
        self.row = SimpleNamespace(reservations=0)
        self.lines = LineLimit()
        self.registry = SimpleNamespace(release=lambda peer, connection: None)
        self.done: list[Peer] = []
        self.identify = SimpleNamespace(frame=lambda observed: b"\x00")

    def new_connection(self, peer: Peer, wake: Any) -> Connection:
        return Connection(Role.RESPONDER, STATIC, peer, wake, PROTOCOLS, 64)

    def handshake_done(self, peer: Peer) -> None:
        self.done.append(peer)

    def turn(self, seconds: float) -> None:
        """As the loop does it, a quarter of a second at a time."""
        for _ in range(round(seconds * 4)):
            self.now_s += 0.25
            self.deadlines.advance(self.now_s)


class Rig:
    """A peer of the relay and the client at the other end, joined in memory."""

    def __init__(self) -> None:
        self.worker = Worker()
        self.wire = Wire()
        self.peer = Peer(self.worker, self.wire, 7, "tcp", TIMEOUT_S)  # type: ignore[arg-type]
        self.client = ConnectionEnd(Role.INITIATOR, StaticKey(HostKey.generate(), MUXERS), (identify.PROTOCOL,))

    def pump(self) -> list[Buffer]:
        """Carry bytes until nobody has any; returns what the relay sent."""
        sent: list[Buffer] = []
        while True:
            ours, theirs = self.peer.connection.take_output(), self.client.connection.take_output()
            if not ours and not theirs:
                return sent
            if ours:
                sent.append(ours)
                self.client.connection.receive(ours, self.worker.now_s)
            if theirs:
                self.peer.connection.receive(theirs, self.worker.now_s)

    def upgraded(self) -> Rig:
        self.pump()
        assert self.worker.done == [self.peer]
        return self

    def asked(self) -> Rig:
        """Upgraded, and asked who it is: nothing is under way any more."""
        self.upgraded()
        self.worker.turn(ASK_LATEST_S + 0.25)
        assert self.pump()
        return self


def test_a_connection_that_is_not_upgraded_in_time_is_ended() -> None:
    rig = Rig()
    rig.worker.turn(TIMEOUT_S - 0.5)
    assert rig.wire.ends == []
    rig.worker.turn(1.0)
    (error,) = rig.wire.ends
    assert isinstance(error, LimitError)
    assert error.reason == "handshake_timeout"


def test_an_upgraded_connection_has_no_handshake_deadline_any_more() -> None:
    rig = Rig().upgraded()
    rig.worker.turn(TIMEOUT_S + 1)
    assert rig.wire.ends == []


def test_a_peer_is_asked_who_it_is_along_with_the_first_answer_it_gets() -> None:
    rig = Rig().upgraded()
    assert rig.pump() == []
    rig.client.connection.open_stream(ping.PROTOCOL, Recorder())
    assert rig.pump()
    assert [protocol for protocol, _ in rig.client.opened] == [identify.PROTOCOL]
    rig.worker.turn(ASK_LATEST_S + 0.25)
    assert rig.pump() == [], "once is enough"


def test_a_peer_that_asks_for_nothing_is_asked_who_it_is_after_a_second() -> None:
    rig = Rig().upgraded()
    rig.worker.turn(ASK_LATEST_S - 0.25)
    assert rig.pump() == []
    rig.worker.turn(0.5)
    assert rig.pump()
    assert [protocol for protocol, _ in rig.client.opened] == [identify.PROTOCOL]


def test_an_idle_peer_that_answers_is_pinged_for_ever() -> None:
    rig = Rig().upgraded()
    pings = 0
    for _ in range(60):
        rig.worker.turn(KEEPALIVE_S / 3)
        pings += bool(rig.pump())
    assert 17 <= pings <= 21
    assert rig.wire.ends == []
    assert rig.worker.faults == []


def test_a_peer_that_does_not_answer_a_ping_is_closed_after_40_seconds() -> None:
    rig = Rig().asked()
    while not rig.peer.connection.take_output():  # the ping is sent, and lost
        rig.worker.turn(0.25)
    rig.worker.turn(PONG_TIMEOUT_S - 1)
    assert rig.wire.ends == []
    rig.worker.turn(2)
    (error,) = rig.wire.ends
    assert isinstance(error, SilentError)


def test_a_pong_that_comes_after_35_seconds_is_in_time() -> None:
    rig = Rig().asked()
    while not (ping := rig.peer.connection.take_output()):
        rig.worker.turn(0.25)
    rig.worker.turn(35)
    rig.client.connection.receive(ping, rig.worker.now_s)
    rig.pump()
    rig.worker.turn(20)
    assert rig.wire.ends == []


@pytest.mark.parametrize("reserved", [True, False])
def test_a_peer_that_says_go_away_is_closed_at_once_and_holds_nothing(reserved: bool) -> None:
    rig = Rig().upgraded()
    if reserved:
        rig.peer.hold_reservation(SimpleNamespace(expires_s=rig.worker.now_s + 60, replaced=False))  # type: ignore[arg-type]
        assert rig.worker.row.reservations == 1
    rig.client.connection.go_away(GoAway.NORMAL)
    rig.pump()
    assert rig.wire.ends == [None]
    assert rig.worker.row.reservations == 0
    assert not rig.peer.reserved_until_s


def test_a_reservation_ends_by_itself_and_is_counted_once_however_often_it_is_renewed() -> None:
    rig = Rig().upgraded()
    for _ in range(3):
        granted = SimpleNamespace(expires_s=rig.worker.now_s + 20, replaced=True)
        rig.peer.hold_reservation(granted)  # type: ignore[arg-type]
        rig.worker.turn(5)
    assert rig.worker.row.reservations == 1
    rig.worker.turn(16)
    assert rig.worker.row.reservations == 0
