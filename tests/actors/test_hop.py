"""What a hop stream leaves behind, with time turned by hand."""

from __future__ import annotations

from unittest import mock

from actors import hop
from actors.proto.circuit_pb2 import HopMessage
from actors.voucher import reservation_voucher
from config.settings import Limits
from tests.support.hand_relay import HandRelay
from transports.identity import HostKey
from transports.varint import DelimitedReader, delimited


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


def test_renewals_within_a_second_are_signed_once_and_a_later_one_anew() -> None:
    relay = HandRelay(Limits(reservation_rate_per_peer=None, reservation_rate_per_ip=None))
    try:
        client = relay.connect(HostKey.from_seed(b"c" * 32))

        def voucher() -> bytes:
            stream = client.end.open(hop.PROTOCOL, delimited(HopMessage(type=HopMessage.RESERVE).SerializeToString()))
            relay.settle()
            stream.stream.close()
            relay.settle()
            answer = DelimitedReader(hop.MAX_MESSAGE_BYTES).feed(stream.data)
            assert answer is not None
            return HopMessage.FromString(answer).reservation.voucher

        with mock.patch("actors.worker.reservation_voucher", wraps=reservation_voucher) as sign:
            first = voucher()
            assert voucher() == first
            assert sign.call_count == 1
            relay.turn(1.0)
            assert voucher() != first
            assert sign.call_count == 2
    finally:
        relay.close()
