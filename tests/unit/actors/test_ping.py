"""The ping protocol."""

from __future__ import annotations

import pytest

from actors.ping import MAX_WAITING_BYTES, PingStream
from tests.support.pipe import Recorder, SessionPair


class Rig:
    """A peer (left) and our ping stream (right)."""

    def __init__(self, *, credit: bool = True) -> None:
        self.pair = SessionPair(credit=credit)
        self.peer, near = self.pair.stream()
        self.stream = near.stream
        self.stream.handler = PingStream(self.stream)

    def send(self, data: bytes) -> Recorder:
        self.peer.stream.write(data)
        self.pair.pump()
        return self.peer


@pytest.mark.parametrize("pieces", [[32], [1] * 32, [31, 1], [32, 32, 32]])
def test_what_comes_goes_back_however_it_is_cut(pieces: list[int]) -> None:
    rig, sent = Rig(), b""
    for number, size in enumerate(pieces):
        sent += bytes((number,)) * size
        rig.send(bytes((number,)) * size)
    assert rig.peer.data == sent


def test_a_peer_may_ping_for_ever() -> None:
    rig = Rig()
    for _ in range(20_000):
        rig.send(bytes(32))
    assert len(rig.peer.data) == 20_000 * 32
    assert rig.stream._consumed_bytes < 128 * 1024


def test_fin_is_answered_with_fin() -> None:
    rig = Rig()
    rig.peer.stream.write(bytes(32))
    rig.peer.stream.close()
    rig.pair.pump()
    assert (len(rig.peer.data), rig.peer.eofs) == (32, 1)
    assert not rig.pair.right.session.streams


def test_echoes_wait_while_the_socket_is_full_and_are_credited_when_they_are_out() -> None:
    rig = Rig()
    rig.pair.right.session.pause()
    rig.send(bytes(MAX_WAITING_BYTES))
    assert (rig.peer.data, rig.peer.resets, rig.stream._consumed_bytes) == (b"", 0, 0)
    rig.pair.right.session.unpause()
    rig.pair.pump()
    assert len(rig.peer.data) == MAX_WAITING_BYTES
    assert rig.stream._consumed_bytes == MAX_WAITING_BYTES


def test_a_peer_that_pings_and_does_not_read_is_reset_before_it_costs_a_window() -> None:
    rig = Rig()
    rig.pair.right.session.pause()
    rig.send(bytes(MAX_WAITING_BYTES + 1))
    assert rig.peer.resets == 1
    assert rig.stream.queued_bytes == 0


def test_a_reset_is_the_end() -> None:
    rig = Rig()
    rig.peer.stream.reset()
    rig.pair.pump()
    assert not rig.stream.alive
