"""What passes through a circuit: every byte, in order, both ways; ends and resets as they are."""

from __future__ import annotations

import asyncio
import hashlib
import os

import pytest

from actors.proto.circuit_pb2 import HopMessage, Peer, Status
from tests.scenarios.scene import ACCEPTED, Puppet, Scene, gone, joined, still_served
from tests.support.client import Client, ClientStream, HopRefusedError, StreamResetError
from transports.yamux_frames import RST, WINDOW_UPDATE


async def _carry(data: bytes, writer: ClientStream, reader: ClientStream) -> None:
    writer.write(data)
    received = hashlib.sha256()
    left = len(data)
    while left:
        part = await reader.read(min(left, 65_536))
        received.update(part)
        left -= len(part)
    assert received.digest() == hashlib.sha256(data).digest()


@pytest.mark.parametrize("size", [100_000, 5_000_000], ids=["100KB", "5MB"])
async def test_bytes_pass_whole_and_in_order_both_ways_at_once(scene: Scene, size: int) -> None:
    circuit = await scene.circuit()
    await asyncio.gather(
        _carry(os.urandom(size), circuit.left, circuit.right), _carry(os.urandom(size), circuit.right, circuit.left)
    )


async def test_bytes_behind_a_connect_in_the_same_frame_are_the_first_of_the_circuit(scene: Scene) -> None:
    source, target = await scene.pair(Puppet)
    early = os.urandom(3000)
    connecting = asyncio.create_task(source.connect(target.peer_id, behind=early))
    right = await target.stop_asked()
    right.write(ACCEPTED)
    left = await connecting
    left.write(b"and more")
    assert await right.read(3008) == early + b"and more"


async def test_bytes_sent_while_the_target_thinks_keep_their_order(scene: Scene) -> None:
    source, target = await scene.pair(Puppet)
    connecting = asyncio.create_task(source.connect(target.peer_id, behind=b"0"))
    right = await target.stop_asked()
    (stream,) = [each for each in source.connection.session.streams.values() if each.id & 1]  # type: ignore[union-attr]
    for number in range(1, 200):
        stream.write(b",%d" % number)
    await still_served(source)  # all of it is at the relay
    right.write(ACCEPTED)
    await connecting
    expected = ",".join(map(str, range(200))).encode()
    assert await right.read(len(expected)) == expected


async def test_bytes_behind_a_status_in_the_same_frame_are_the_first_of_the_circuit(scene: Scene) -> None:
    source, target = await scene.pair(Puppet)
    connecting = asyncio.create_task(source.connect(target.peer_id))
    right = await target.stop_asked()
    early = os.urandom(3000)
    right.write(ACCEPTED + early)
    right.write(b"and more")
    left = await connecting
    assert await left.read(3008) == early + b"and more"


async def test_a_status_that_comes_byte_by_byte_opens_the_circuit(scene: Scene) -> None:
    source, target = await scene.pair(Puppet)
    connecting = asyncio.create_task(source.connect(target.peer_id))
    right = await target.stop_asked()
    for byte in ACCEPTED + b"x":
        right.write(bytes((byte,)))
        await still_served(target)
    assert await (await connecting).read(1) == b"x"


async def test_fin_of_the_source_is_fin_to_the_target_and_the_way_back_lives_on(scene: Scene) -> None:
    circuit = await scene.circuit()
    circuit.left.write(b"question")
    circuit.left.close()
    assert await circuit.right.read_to_end() == b"question"
    answer = os.urandom(100_000)
    circuit.right.write(answer)
    circuit.right.close()
    assert await circuit.left.read_to_end() == answer
    await scene.settled(circuits=0)


async def test_fin_of_the_target_is_fin_to_the_source_and_the_way_there_lives_on(scene: Scene) -> None:
    circuit = await scene.circuit()
    circuit.right.write(b"welcome")
    circuit.right.close()
    assert await circuit.left.read_to_end() == b"welcome"
    upload = os.urandom(100_000)
    circuit.left.write(upload)
    circuit.left.close()
    assert await circuit.right.read_to_end() == upload
    await scene.settled(circuits=0)


async def test_fin_right_behind_a_connect_and_its_bytes_reaches_the_target_behind_them(scene: Scene) -> None:
    source, target = await scene.pair(Puppet)
    connecting = asyncio.create_task(source.connect(target.peer_id, behind=b"all I have"))
    right = await target.stop_asked()
    (stream,) = [each for each in source.connection.session.streams.values() if each.id & 1]  # type: ignore[union-attr]
    stream.close()
    await still_served(source)
    right.write(ACCEPTED)
    left = await connecting
    assert await right.read_to_end() == b"all I have"
    right.write(b"thanks")
    right.close()
    assert await left.read_to_end() == b"thanks"


async def test_reset_of_the_source_is_a_reset_to_the_target(scene: Scene) -> None:
    circuit = await scene.circuit()
    async with scene.counting("frost_relay_circuits_ended_total", reason="reset"):
        circuit.left.abort()
        await circuit.right.reset()
        await scene.settled(circuits=0)


async def test_reset_of_the_target_is_a_reset_to_the_source(scene: Scene) -> None:
    circuit = await scene.circuit()
    async with scene.counting("frost_relay_circuits_ended_total", reason="reset"):
        circuit.right.abort()
        await circuit.left.reset()
        await scene.settled(circuits=0)


async def test_reset_after_fin_is_a_reset_still(scene: Scene) -> None:
    circuit = await scene.circuit()
    circuit.left.close()
    await circuit.right.read_to_end()
    circuit.left.abort()
    await circuit.right.reset()
    await scene.settled(circuits=0)


async def test_the_error_code_of_a_reset_is_never_credit(scene: Scene) -> None:
    circuit = await scene.circuit()
    stream = circuit.left.stream
    session = circuit.source.connection.session
    assert session is not None
    session.send_frame(WINDOW_UPDATE, RST, stream.id, 0xFFFFFFFF, b"")
    await circuit.right.reset()
    await still_served(circuit.source)  # as credit it would have been more than a window can be
    await still_served(circuit.target)


async def test_the_error_code_of_a_reset_passes_through_both_ways(scene: Scene) -> None:
    source, target = await scene.pair()
    for code in (1, 0x1004, 0xFFFFFFFF):
        circuit = await joined(source, target)
        circuit.left.stream.reset(code)
        await circuit.right.reset()
        assert circuit.right.stream.reset_code == code
        circuit = await joined(source, target)
        circuit.right.stream.reset(code)
        await circuit.left.reset()
        assert circuit.left.stream.reset_code == code


async def test_the_target_vanishing_is_a_reset_to_the_source(scene: Scene) -> None:
    circuit = await scene.circuit()
    await circuit.target.abort()
    await circuit.left.reset()
    await scene.settled(circuits=0, reservations=0, connections=1)


async def test_the_source_vanishing_is_a_reset_to_the_target(scene: Scene) -> None:
    circuit = await scene.circuit()
    await circuit.source.abort()
    await circuit.right.reset()
    await scene.settled(circuits=0, reservations=1, connections=1)


async def test_a_source_that_gives_up_while_the_target_thinks_leaves_nothing(scene: Scene) -> None:
    source, target = await scene.pair(Puppet)
    connecting = asyncio.create_task(source.connect(target.peer_id))
    right = await target.stop_asked()
    (stream,) = [each for each in source.connection.session.streams.values() if each.id & 1]  # type: ignore[union-attr]
    stream.reset()
    await right.reset()
    connecting.cancel()
    await scene.registered(circuits=0)  # it counts from the grant on, the status only when it is open
    await still_served(source)


async def test_a_source_that_vanishes_while_the_target_thinks_leaves_nothing(scene: Scene) -> None:
    source, target = await scene.pair(Puppet)
    connecting = asyncio.create_task(source.connect(target.peer_id))
    right = await target.stop_asked()
    await source.abort()
    await right.reset()
    with pytest.raises(StreamResetError):
        await connecting
    await scene.registered(circuits=0)  # it counts from the grant on, the status only when it is open


async def test_many_circuits_between_two_peers_do_not_mix(scene: Scene) -> None:
    source, target = await scene.pair()
    circuits = [await joined(source, target) for _ in range(20)]
    for number, circuit in enumerate(circuits):
        circuit.left.write(b"to %d" % number)
        circuit.right.write(b"from %d" % number)
    for number, circuit in enumerate(circuits):
        there, back = b"to %d" % number, b"from %d" % number
        assert await circuit.right.read(len(there)) == there
        assert await circuit.left.read(len(back)) == back
    circuits[7].left.abort()
    await circuits[7].right.reset()
    await _carry(b"untouched", circuits[8].left, circuits[8].right)


async def test_two_peers_that_call_each_other_have_two_circuits(scene: Scene) -> None:
    source, target = await scene.pair()
    await source.reserve()
    there, back = await joined(source, target), await joined(target, source)
    await _carry(b"one", there.left, there.right)
    await _carry(b"two", back.left, back.right)


async def test_a_peer_can_call_itself(solo: Scene) -> None:
    peer = await solo.reserved()
    circuit = await joined(peer, peer)
    data = os.urandom(100_000)
    await asyncio.gather(_carry(data, circuit.left, circuit.right), _carry(data[::-1], circuit.right, circuit.left))
    circuit.left.close()
    circuit.right.close()
    await solo.settled(circuits=0)


async def test_a_target_that_reserves_before_it_answers_gets_both(scene: Scene) -> None:
    source, target = await scene.pair(Puppet)
    connecting = asyncio.create_task(source.connect(target.peer_id))
    right = await target.stop_asked()
    await target.reserve()
    right.write(ACCEPTED)
    await _carry(b"hello", await connecting, right)


async def test_a_circuit_is_told_no_limit_when_there_is_none(scene: Scene) -> None:
    target = await scene.dial()
    answer = await target.reserve()
    source = await scene.dial_beside(target)
    connected, _ = await source.ask(HopMessage(type=HopMessage.CONNECT, peer=Peer(id=target.peer_id)))
    await target.called()
    assert connected.status == Status.OK
    assert not answer.HasField("limit")
    assert not connected.HasField("limit")
    assert not target.stops[0].HasField("limit")


async def test_peers_of_different_transports_reach_each_other(solo: Scene) -> None:
    target = await solo.reserved()
    for transport in ("ws", "tcp"):
        source = await Client.dial(solo.relay.address(transport))
        circuit = await joined(source, target)
        await _carry(os.urandom(100_000), circuit.left, circuit.right)
        await _carry(os.urandom(100_000), circuit.right, circuit.left)
        await source.close()
        await gone(source)
        await circuit.right.reset()


async def test_the_relay_itself_can_not_be_called(solo: Scene) -> None:
    peer = await solo.dial()
    with pytest.raises(HopRefusedError) as refused:
        await peer.connect(peer.relay)
    assert refused.value.status == Status.NO_RESERVATION
