"""Each row of the hop answers: what is refused, with which status, in which order of checks, counted and logged."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from actors import hop
from actors.proto.circuit_pb2 import HopMessage, Peer, Status
from tests.scenarios.hop_requests import RESERVE, answer_on, connect_to, refused
from tests.scenarios.relays import Relays
from tests.scenarios.scene import Scene, joined, still_served, until
from tests.support.client import ClientStream, HopRefusedError
from tests.support.relay import RelayProcess
from transports.identity import HostKey, peer_id_text
from transports.multistream import HEADER, frame
from transports.varint import delimited

DENIED = HostKey.from_seed(b"denied" + bytes(26))
MAX_MESSAGE_BYTES = 4096


@pytest.fixture(scope="module")
def relay(relays: Relays) -> Iterator[RelayProcess]:
    with relays.started(
        "limits.max_reservations=2",
        "limits.max_circuits=2",
        "limits.max_circuits_per_peer=1",
        f'access.deny_peers=["{peer_id_text(DENIED.peer_id)}"]',
    ) as relay:
        yield relay


def _padded(message: HopMessage, size: int) -> bytes:
    """The message with an unknown field behind it that makes it `size` bytes long."""
    body = message.SerializeToString()
    padding = bytes(size - len(body) - 4)
    return body + b"\xfa\x01" + bytes((len(padding) & 0x7F | 0x80, len(padding) >> 7)) + padding


# Malformed, unexpected


@pytest.mark.parametrize(
    "raw",
    [
        b"\x81\x20",  # the length alone, 4097, decides
        delimited(b"\xff" * 20),
        delimited(b"\x12\x7fshort"),
        delimited(b""),
        delimited(HopMessage(peer=Peer(id=bytes(38))).SerializeToString()),
        b"\xff\xff\xff\xff\xff\x01",
    ],
    ids=["4097-bytes", "no-protobuf", "cut-field", "empty", "no-type", "endless-length"],
)
async def test_a_malformed_message_is_answered_400(solo: Scene, raw: bytes) -> None:
    await refused(solo, await solo.dial(), raw, Status.MALFORMED_MESSAGE, "malformed_message")


async def test_a_message_of_4096_bytes_is_read_and_one_of_4097_is_not(solo: Scene) -> None:
    client = await solo.dial()
    answer = await answer_on(client.open(hop.PROTOCOL, delimited(_padded(RESERVE, MAX_MESSAGE_BYTES))))
    assert answer.status == Status.OK
    too_long = delimited(_padded(RESERVE, MAX_MESSAGE_BYTES + 1))
    await refused(solo, client, too_long, Status.MALFORMED_MESSAGE, "malformed_message")


@pytest.mark.parametrize("kind", [2, 3, 77], ids=["status", "type-3", "type-77"])
async def test_any_other_type_is_answered_401(solo: Scene, kind: int) -> None:
    raw = delimited(bytes((0x08, kind)))
    await refused(solo, await solo.dial(), raw, Status.UNEXPECTED_MESSAGE, "unexpected_message")


@pytest.mark.parametrize("target", [b"", b"nobody", bytes(200)], ids=["none", "text", "long"])
async def test_an_unparsable_target_is_answered_400(solo: Scene, target: bytes) -> None:
    await refused(solo, await solo.dial(), connect_to(target), Status.MALFORMED_MESSAGE, "malformed_message")


async def test_a_connect_without_a_peer_is_answered_400(solo: Scene) -> None:
    message = HopMessage(type=HopMessage.CONNECT)
    await refused(solo, await solo.dial(), message, Status.MALFORMED_MESSAGE, "malformed_message")


async def test_an_unparsable_target_is_answered_before_access_is_asked(solo: Scene) -> None:
    denied = await solo.dial(host=DENIED)
    await refused(solo, denied, connect_to(b"nobody"), Status.MALFORMED_MESSAGE, "malformed_message")


async def test_odd_addresses_of_a_target_are_ignored(scene: Scene) -> None:
    source, target = await scene.pair()
    odd = Peer(id=target.peer_id, addrs=[b"", b"\xff\xff", b"not a multiaddr", bytes(500)])
    answer, _ = await source.ask(HopMessage(type=HopMessage.CONNECT, peer=odd))
    assert answer.status == Status.OK
    await target.called()


async def test_unknown_fields_are_ignored(scene: Scene) -> None:
    target = await scene.dial()
    unknown = b"\xf8\x06\x07" + b"\xf2\x06\x03abc"  # fields 111 and 110
    assert (await answer_on(target.open(hop.PROTOCOL, delimited(unknown + b"\x08\x00" + unknown)))).status == Status.OK
    source = await scene.dial_beside(target)
    raw = delimited(unknown + connect_to(target.peer_id).SerializeToString() + unknown)
    assert HopMessage.FromString(await source.open(hop.PROTOCOL, raw).read_message()).status == Status.OK
    await target.called()


async def test_of_duplicate_fields_the_last_counts(scene: Scene) -> None:
    source, target = await scene.pair()
    other = HopMessage(type=HopMessage.RESERVE, peer=Peer(id=source.peer_id)).SerializeToString()
    raw = delimited(other + connect_to(target.peer_id).SerializeToString())
    assert HopMessage.FromString(await source.open(hop.PROTOCOL, raw).read_message()).status == Status.OK
    assert (await target.called())[0] == source.peer_id
    await scene.settled(reservations=1)


async def test_a_peer_id_in_a_reserve_is_not_believed(scene: Scene) -> None:
    client, other = await scene.dial(), HostKey.generate()
    lie = HopMessage(type=HopMessage.RESERVE, peer=Peer(id=other.peer_id))
    assert (await answer_on(client.open(hop.PROTOCOL, delimited(lie.SerializeToString())))).status == Status.OK
    source = await scene.dial_beside(client)
    await refused(scene, source, connect_to(other.peer_id), Status.NO_RESERVATION, "no_reservation")
    await joined(source, client)


# Access


async def test_a_denied_peer_is_refused_a_reservation(solo: Scene) -> None:
    await refused(solo, await solo.dial(host=DENIED), RESERVE, Status.PERMISSION_DENIED, "peer_denied")


async def test_a_denied_peer_is_refused_even_when_the_table_is_full(solo: Scene) -> None:
    await solo.reserved()
    await solo.reserved()
    await refused(solo, await solo.dial(host=DENIED), RESERVE, Status.PERMISSION_DENIED, "peer_denied")


async def test_a_denied_peer_does_not_learn_who_is_here(scene: Scene) -> None:
    target = await scene.reserved()
    denied = await scene.dial_beside(target, host=DENIED)
    for peer in (target.peer_id, HostKey.generate().peer_id):
        await refused(scene, denied, connect_to(peer), Status.PERMISSION_DENIED, "peer_denied")
    assert not target.stops


async def test_a_denied_target_can_not_be_called(solo: Scene) -> None:
    await solo.dial(host=DENIED)
    await refused(solo, await solo.dial(), connect_to(DENIED.peer_id), Status.PERMISSION_DENIED, "peer_denied")


# Limits


async def test_a_reserve_beyond_the_table_is_answered_200(scene: Scene) -> None:
    first = await scene.reserved()
    await (await scene.dial_beside(first)).reserve()
    await refused(scene, await scene.dial(), RESERVE, Status.RESERVATION_REFUSED, "reservations_full")


async def test_renewal_is_granted_when_the_table_is_full(scene: Scene) -> None:
    first = await scene.reserved()
    second = await scene.dial_beside(first)
    await second.reserve()
    for _ in range(3):
        await first.reserve()
        await second.reserve()
    await scene.settled(reservations=2)


async def test_a_slot_is_free_when_its_connection_has_ended(scene: Scene) -> None:
    first = await scene.reserved()
    await (await scene.dial_beside(first)).reserve()
    third = await scene.dial()
    with pytest.raises(HopRefusedError):
        await third.reserve()
    await first.abort()
    await scene.settled(reservations=1)
    await third.reserve()


async def test_connect_to_a_peer_that_is_connected_but_not_reserved_is_answered_204(scene: Scene) -> None:
    target = await scene.dial()
    source = await scene.dial_beside(target)
    await refused(scene, source, connect_to(target.peer_id), Status.NO_RESERVATION, "no_reservation")


async def test_connect_to_nobody_is_answered_204(solo: Scene) -> None:
    nobody = HostKey.generate().peer_id
    await refused(solo, await solo.dial(), connect_to(nobody), Status.NO_RESERVATION, "no_reservation")


async def test_circuits_in_total_are_limited_and_that_comes_after_the_reservation(scene: Scene) -> None:
    source, target = await scene.pair()
    other_source, other_target = await scene.dial(), await scene.reserved()
    first, _ = await joined(source, target), await joined(other_source, other_target)
    third = await scene.dial_beside(target)
    status, reason = Status.RESOURCE_LIMIT_EXCEEDED, "circuits_full"
    await refused(scene, third, connect_to(target.peer_id), status, reason)
    nobody = HostKey.generate().peer_id
    await refused(scene, third, connect_to(nobody), Status.NO_RESERVATION, "no_reservation")
    first.left.abort()
    await first.right.reset()
    await scene.settled(circuits=1)
    await joined(third, target)


async def test_circuits_of_a_source_are_limited(scene: Scene) -> None:
    source, target = await scene.pair()
    other = await scene.reserved()
    await joined(source, target)
    status, reason = Status.RESOURCE_LIMIT_EXCEEDED, "circuits_per_source"
    await refused(scene, source, connect_to(other.peer_id), status, reason)


async def test_circuits_of_a_target_are_limited(scene: Scene) -> None:
    source, target = await scene.pair()
    await joined(source, target)
    other = await scene.dial_beside(target)
    status, reason = Status.RESOURCE_LIMIT_EXCEEDED, "circuits_per_target"
    await refused(scene, other, connect_to(target.peer_id), status, reason)


# The stream


async def test_fin_before_the_answer_is_a_peer_that_has_said_all(scene: Scene) -> None:
    target = await scene.dial()
    stream = target.open(hop.PROTOCOL, delimited(RESERVE.SerializeToString()))
    stream.close()
    assert (await answer_on(stream)).status == Status.OK
    source = await scene.dial_beside(target)
    stream = source.open(hop.PROTOCOL, delimited(connect_to(target.peer_id).SerializeToString()))
    stream.close()
    assert HopMessage.FromString(await stream.read_message()).status == Status.OK
    _, right = await target.called()
    assert await right.read_to_end() == b""
    right.write(b"news")
    right.close()
    assert await stream.read_to_end() == b"news"


async def test_fin_before_a_whole_message_resets_the_stream(solo: Scene) -> None:
    client = await solo.dial()
    stream = client.open(hop.PROTOCOL, delimited(RESERVE.SerializeToString())[:1])
    stream.close()
    await stream.reset()
    await still_served(client)


async def test_fifty_reserves_at_once_are_fifty_answers(solo: Scene) -> None:
    client = await solo.dial()
    answers = await asyncio.gather(*(client.reserve() for _ in range(50)))
    assert all(answer.status == Status.OK for answer in answers)
    await solo.settled(reservations=1)


async def test_a_message_byte_by_byte_is_a_message(solo: Scene) -> None:
    client = await solo.dial()
    stream = client.open(hop.PROTOCOL)
    for byte in delimited(_padded(RESERVE, 40)):
        stream.write(bytes((byte,)))
        await still_served(client)
    assert (await answer_on(stream)).status == Status.OK


async def test_a_message_in_the_same_write_as_its_negotiation_is_read(solo: Scene) -> None:
    client = await solo.dial()
    assert client.connection.session is not None
    stream = ClientStream(client.wire.wake)
    stream.stream = client.connection.session.open_stream()
    stream.stream.handler = stream
    stream.write(HEADER + frame(hop.PROTOCOL) + delimited(RESERVE.SerializeToString()))
    assert await stream.read(len(HEADER + frame(hop.PROTOCOL))) == HEADER + frame(hop.PROTOCOL)
    assert (await answer_on(stream)).status == Status.OK


async def test_a_peer_that_resets_its_reserve_keeps_what_was_granted(solo: Scene) -> None:
    client = await solo.dial()
    stream = client.open(hop.PROTOCOL, delimited(RESERVE.SerializeToString()))
    stream.abort()
    await still_served(client)

    async def renewed() -> bool:
        await client.reserve()
        return bool((await solo.settled(reservations=1))["reservations"] == 1)

    await until(renewed, "the reservation")
