"""What a reservation is: the answer's fields, one a peer, its renewal, its takeover, its end."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from actors import hop
from actors.proto.circuit_pb2 import HopMessage, Peer, Status
from actors.proto.voucher_pb2 import Voucher
from actors.voucher import VOUCHER_DOMAIN, VOUCHER_TYPE, verify_envelope
from tests.scenarios.relays import Relays
from tests.scenarios.scene import Puppet, Scene, joined, still_served
from tests.support.client import HopRefusedError, StreamResetError
from tests.support.relay import RelayProcess
from transports.address import multiaddr_bytes, with_peer
from transports.identity import parse_peer_id
from transports.varint import delimited

TTL_S = 1800
ANNOUNCED = tuple(f"/dns4/relay-{number:02}.example.org/tcp/443/tls/ws" for number in range(24))
LIMITS = (100, 54_321)


@pytest.fixture(scope="module")
def relay(relays: Relays) -> Iterator[RelayProcess]:
    addresses = ", ".join(f'"{address}"' for address in ANNOUNCED)
    duration_s, limit_bytes = LIMITS
    with relays.started(
        f"announce.addresses=[{addresses}]",
        f"limits.reservation_ttl_s={TTL_S}",
        f"limits.circuit_duration_s={duration_s}",
        f"limits.circuit_bytes={limit_bytes}",
    ) as relay:
        # The addresses printed are those announced; peers here dial those that are bound.
        relay.addresses[:] = [f"{each['listener']}/p2p/{relay.peer_id}" for each in relay.workers("listener")]
        yield relay


async def test_the_answer_says_until_when_in_unix_seconds(solo: Scene) -> None:
    client = await solo.dial()
    before_s = int(time.time())
    expire_s = (await client.reserve()).reservation.expire
    assert before_s + TTL_S - 1 <= expire_s <= time.time() + TTL_S + 1


async def test_the_answer_names_each_announced_address_with_the_relay_behind_it(solo: Scene) -> None:
    client = await solo.dial()
    answer = await client.reserve()
    relay = parse_peer_id(solo.relay.peer_id)
    assert list(answer.reservation.addrs) == [with_peer(multiaddr_bytes(text), relay) for text in ANNOUNCED]


async def test_the_whole_answer_stays_within_4096_bytes(solo: Scene) -> None:
    client = await solo.dial()
    stream = client.open(hop.PROTOCOL, delimited(HopMessage(type=HopMessage.RESERVE).SerializeToString()))
    frame = delimited(await stream.read_message())
    assert sum(len(multiaddr_bytes(text)) for text in ANNOUNCED) < len(frame) <= 4096


async def test_the_voucher_is_the_relays_word_for_this_peer_and_this_time(solo: Scene) -> None:
    client = await solo.dial()
    reservation = (await client.reserve()).reservation
    signer, payload = verify_envelope(reservation.voucher, VOUCHER_DOMAIN, VOUCHER_TYPE)
    voucher = Voucher.FromString(payload)
    assert (VOUCHER_DOMAIN, VOUCHER_TYPE) == (b"libp2p-relay-rsvp", b"\x03\x02")
    assert signer.peer_id == voucher.relay == parse_peer_id(solo.relay.peer_id)
    assert (voucher.peer, voucher.expiration) == (client.peer_id, reservation.expire)


async def test_limits_are_seconds_and_bytes_and_the_same_in_all_three_messages(scene: Scene) -> None:
    target = await scene.dial()
    reserved = await target.reserve()
    source = await scene.dial_beside(target)
    connected, _ = await source.ask(HopMessage(type=HopMessage.CONNECT, peer=Peer(id=target.peer_id)))
    await target.called()
    assert connected.status == Status.OK
    for limit in (reserved.limit, connected.limit, target.stops[0].limit):
        assert (limit.duration, limit.data) == LIMITS


async def test_identify_names_the_announced_addresses(solo: Scene) -> None:
    client = await solo.dial()
    listed = list((await client.identify()).listenAddrs)
    assert listed == [multiaddr_bytes(text) for text in ANNOUNCED]


async def test_renewal_replaces_the_reservation_in_place(solo: Scene) -> None:
    client = await solo.dial()
    first = (await client.reserve()).reservation
    async with solo.counting("frost_relay_reservations_granted_total", 2, kind="renewed"):
        second = (await client.reserve()).reservation
        await client.reserve()
    assert second.expire >= first.expire
    await solo.settled(reservations=1, connections=1)


async def test_a_second_connection_takes_the_reservation_over(scene: Scene) -> None:
    old = await scene.reserved()
    new = await scene.dial_beside(old, host=old.host)
    await new.reserve()
    await scene.settled(reservations=1, connections=2)
    source = await scene.dial()
    await joined(source, new)
    assert not old.stops


async def test_the_end_of_the_older_connection_leaves_the_reservation_with_the_newer(scene: Scene) -> None:
    old = await scene.reserved()
    new = await scene.dial_beside(old, host=old.host)
    await new.reserve()
    await old.close()
    await scene.settled(reservations=1, connections=1)
    await joined(await scene.dial(), new)


async def test_the_end_of_the_newer_connection_ends_the_reservation(scene: Scene) -> None:
    old = await scene.reserved()
    new = await scene.dial_beside(old, host=old.host)
    await new.reserve()
    await new.close()
    await scene.settled(reservations=0, connections=1)
    source = await scene.dial()
    with pytest.raises(HopRefusedError) as refused:
        await source.connect(old.peer_id)
    assert refused.value.status == Status.NO_RESERVATION
    await old.reserve()
    await joined(source, old)


async def test_a_frozen_older_connection_does_not_matter(scene: Scene) -> None:
    old = await scene.reserved(Puppet)  # answers no STOP
    new = await scene.dial_beside(old, host=old.host)
    await new.reserve()
    source = await scene.dial()
    for _ in range(3):
        await joined(source, new)
    assert old.asked.empty()


async def test_circuits_of_the_older_connection_live_on_after_a_takeover(scene: Scene) -> None:
    old = await scene.reserved()
    circuit = await joined(await scene.dial(), old)
    new = await scene.dial_beside(old, host=old.host)
    await new.reserve()
    circuit.left.write(b"still here")
    assert await circuit.right.read(10) == b"still here"


async def test_go_away_frees_the_reservation_and_closes_the_connection(solo: Scene) -> None:
    client = await solo.reserved()
    await still_served(client)  # the relay's own question is answered too, so that no stream is open
    assert client.connection.session is not None
    client.connection.session.go_away(0)  # type: ignore[arg-type]  # NORMAL; js leaves TCP open behind it
    await solo.settled(reservations=0, connections=0)


async def test_go_away_closes_the_connection_once_its_streams_have_ended(scene: Scene) -> None:
    source, target = await scene.pair()
    circuit = await joined(source, target)
    assert target.connection.session is not None
    target.connection.session.go_away(0)  # type: ignore[arg-type]  # NORMAL
    await scene.settled(reservations=0, connections=2, circuits=1)
    circuit.right.write(b"last words")
    circuit.right.close()
    assert await circuit.left.read_to_end() == b"last words"
    circuit.left.close()
    await scene.settled(connections=1, circuits=0)
    with pytest.raises(HopRefusedError):
        await source.connect(target.peer_id)


async def test_a_polite_close_ends_everything_of_the_peer(scene: Scene) -> None:
    circuit = await scene.circuit()
    await circuit.target.close()
    with pytest.raises(StreamResetError):
        await circuit.left.read(1)
    await scene.settled(reservations=0, circuits=0, connections=1)
