"""The layers stacked into a connection: however the bytes are cut, with early muxer negotiation and without."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.pipe import ConnectionEnd, ConnectionPair, Recorder
from transports.errors import PeerError
from transports.identity import HostKey
from transports.noise import Role, StaticKey
from transports.upgrade import MUXERS
from transports.yamux import GoAway, Stream

HEADER = b"\x13/multistream/1.0.0\n"
NOISE = b"\x07/noise\n"
TLS = b"\x0b/tls/1.0.0\n"
NA = b"\x03na\n"


@pytest.mark.parametrize("early_muxer", [True, False], ids=["early muxer", "muxer negotiated"])
@pytest.mark.parametrize("piece_bytes", [1, 13, 1 << 20])
def test_an_upgrade_names_both_ends_and_carries_streams_both_ways(piece_bytes: int, early_muxer: bool) -> None:
    pair = ConnectionPair((b"/down",), (b"/up",), early_muxer=early_muxer)
    pair.pump(piece_bytes)
    assert (pair.dialer.upgrades, pair.listener.upgrades) == (1, 1)
    assert pair.dialer.connection.peer == pair.listener_host.peer_id
    assert pair.listener.connection.peer == pair.dialer_host.peer_id
    up, down = pair.dialer.open(b"/up", b"lazy"), pair.listener.open(b"/down")
    pair.pump(piece_bytes)
    assert [(name, bytes(each.data)) for name, each in pair.listener.opened] == [(b"/up", b"lazy")]
    assert [name for name, _ in pair.dialer.opened] == [b"/down"]
    pair.listener.opened[0][1].stream.write(b"answer")
    pair.dialer.opened[0][1].stream.close()
    pair.pump(piece_bytes)
    assert (up.data, down.eofs) == (b"answer", 1)


def test_what_the_listener_says_before_noise_is_multistream_in_the_clear() -> None:
    listener = ConnectionPair().listener
    listener.connection.receive(HEADER + TLS + NOISE, 0.0)
    assert listener.output() == HEADER + NA + NOISE


def test_nothing_after_noise_is_in_the_clear() -> None:
    pair = ConnectionPair.upgraded((), (b"/up",))
    pair.dialer.open(b"/up", b"a secret that is long enough to be found")
    assert b"secret" not in pair.dialer.output()


def test_what_one_turn_produces_leaves_as_one_noise_message() -> None:
    pair = ConnectionPair.upgraded((), (b"/up",))
    for _ in range(5):
        pair.dialer.open(b"/up", b"x" * 100)
    pair.dialer.session.ping(1)
    sealed = pair.dialer.output()
    assert int.from_bytes(sealed[:2], "big") == len(sealed) - 2


def test_streams_opened_while_the_upgrade_is_told_travel_with_its_last_bytes() -> None:
    pair = ConnectionPair((), (b"/up",))
    opened: list[Recorder] = []

    def upgraded() -> None:
        opened.append(pair.dialer.open(b"/up", b"at once"))

    pair.dialer.upgraded = upgraded  # type: ignore[method-assign]
    pair.pump()
    assert len(opened) == 1
    assert pair.listener.opened[0][1].data == b"at once"


def test_a_stream_can_not_be_opened_before_the_upgrade() -> None:
    with pytest.raises(RuntimeError):
        ConnectionPair().dialer.open(b"/up")


def test_a_protocol_that_is_not_spoken_resets_the_stream_only() -> None:
    pair = ConnectionPair.upgraded((), (b"/up",))
    good, bad = pair.dialer.open(b"/up"), pair.dialer.open(b"/other")
    pair.pump()
    assert (good.resets, bad.resets) == (0, 1)
    assert list(pair.listener.session.streams.values()) == [pair.listener.opened[0][1].stream]
    assert not pair.listener.errors


def test_a_peer_that_errs_on_a_stream_is_told_of_and_the_connection_goes_on() -> None:
    pair = ConnectionPair.upgraded((), (b"/up",))
    stream = pair.dialer.session.open_stream()
    recorder = Recorder(stream)
    stream.write(b"\x05nope\n")
    pair.pump()
    assert [error.reason for error in pair.listener.errors] == ["multistream"]
    assert recorder.resets == 1
    pair.dialer.session.ping(1)
    pair.pump()
    assert pair.dialer.pongs == 1


def test_goodbye_and_pong_are_passed_on() -> None:
    pair = ConnectionPair.upgraded()
    pair.listener.session.ping(1)
    pair.listener.connection.go_away(GoAway.INTERNAL_ERROR)
    pair.pump()
    assert (pair.dialer.go_aways, pair.listener.pongs) == ([2], 1)


def test_goodbye_before_there_is_a_session_says_nothing() -> None:
    end = ConnectionPair().listener
    end.connection.go_away(GoAway.NORMAL)
    assert end.output() == b""


def test_a_closed_connection_ends_its_streams_and_drops_what_still_comes() -> None:
    pair = ConnectionPair.upgraded((), (b"/up",))
    pair.dialer.open(b"/up")
    pair.pump()
    late = pair.dialer.open(b"/up", b"late")
    wire = pair.dialer.output()
    before = pair.listener.connection.over
    pair.listener.connection.closed()
    assert (before, pair.listener.connection.over) == (False, True)
    pair.listener.connection.receive(wire, 0.0)
    assert [each.resets for _, each in pair.listener.opened] == [1]
    assert late.resets == 0
    pair.listener.connection.closed()
    assert [each.resets for _, each in pair.listener.opened] == [1]


def test_more_streams_than_allowed_are_reset() -> None:
    hosts = HostKey.from_seed(b"1" * 32), HostKey.from_seed(b"2" * 32)
    pair = ConnectionPair()
    pair.dialer = ConnectionEnd(Role.INITIATOR, StaticKey(hosts[0], MUXERS))
    pair.listener = ConnectionEnd(Role.RESPONDER, StaticKey(hosts[1], MUXERS), (b"/up",), max_streams=2)
    pair.pump()
    streams = [pair.dialer.open(b"/up") for _ in range(3)]
    pair.pump()
    assert [each.resets for each in streams] == [0, 0, 1]


@pytest.mark.parametrize("changed", range(1, 200, 23))
def test_a_changed_byte_anywhere_in_the_upgrade_ends_the_connection(changed: int) -> None:
    pair = ConnectionPair()
    dialed = 0
    with pytest.raises(PeerError):  # noqa: PT012 - which of the two finds it first does not matter
        for _ in range(6):
            wire = bytearray(pair.dialer.output())
            if dialed <= changed < dialed + len(wire):
                wire[changed - dialed] ^= 0x40
            dialed += len(wire)
            pair.listener.connection.receive(bytes(wire), 0.0)
            pair.dialer.connection.receive(pair.listener.output(), 0.0)
    assert pair.listener.upgrades == 0


def stage(number: int) -> ConnectionPair:
    """A pair that has exchanged `number` rounds of the upgrade."""
    pair = ConnectionPair((), (b"/up",))
    for _ in range(number):
        pair.listener.connection.receive(pair.dialer.output(), 0.0)
        pair.dialer.connection.receive(pair.listener.output(), 0.0)
    return pair


@given(st.integers(0, 3), st.lists(st.binary(min_size=1, max_size=100), max_size=10))
def test_garbage_at_any_stage_only_ever_is_a_peer_error(rounds: int, pieces: list[bytes]) -> None:
    pair = stage(rounds)
    for end in (pair.listener, pair.dialer):
        try:
            for piece in pieces:
                end.connection.receive(piece, 0.0)
        except PeerError:
            end.connection.go_away(GoAway.PROTOCOL_ERROR)
        end.output()
        end.connection.closed()


def test_a_handler_that_closes_the_connection_ends_what_is_still_to_be_parsed() -> None:
    pair = ConnectionPair.upgraded((), (b"/up",))
    closed: list[Recorder] = []

    def close(_protocol: bytes, stream: Stream) -> Recorder:
        recorder = Recorder(stream)
        recorder.on_data = pair.listener.connection.closed
        closed.append(recorder)
        return recorder

    pair.listener.make = close
    pair.dialer.open(b"/up", b"first")
    pair.pump()
    assert [(bytes(each.data), each.resets) for each in closed] == [(b"first", 1)]
