"""What a hop stream leaves behind, with time turned by hand."""

from __future__ import annotations

from actors import hop
from actors.proto.circuit_pb2 import HopMessage
from config.settings import Limits
from tests.support.hand_relay import HandRelay
from transports.identity import HostKey
from transports.varint import delimited


def test_nothing_stays_of_a_stream_once_both_sides_have_said_fin() -> None:
    relay = HandRelay(Limits(reservation_rate_per_peer=None, reservation_rate_per_ip=None))
    try:
        client = relay.connect(HostKey.from_seed(b"c" * 32))
        before = sum(map(len, relay.worker.deadlines._slots.values()))
        for _ in range(20):
            stream = client.end.open(hop.PROTOCOL, delimited(HopMessage(type=HopMessage.RESERVE).SerializeToString()))
            relay.settle()
            stream.stream.close()
            relay.settle()
        # One deadline more than before: that of the reservation.
        assert sum(map(len, relay.worker.deadlines._slots.values())) == before + 1
    finally:
        relay.close()
