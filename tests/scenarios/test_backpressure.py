"""A reader that stops: the sender stalls at a bounded amount, the relay holds little, nothing is lost afterwards."""

from __future__ import annotations

import asyncio
import hashlib
import os

from supervisor.admin.memory import read_memory_bytes
from tests.scenarios.scene import Scene, joined, socket_of, still_served, until
from tests.support.client import Client, ClientStream
from transports.yamux_frames import INITIAL_WINDOW_BYTES

SIZE_BYTES = 3_000_000
NEGOTIATION_BYTES = 200  # of the window, at most
# One window on its way to the receiver or with it, and one that waits in the relay, also between two workers.
MOST_SENT_BYTES = 2 * INITIAL_WINDOW_BYTES
CIRCUITS = 8
# Half of what the senders would like to send; eight circuits of a window, in buffers that grow by doubling.
MOST_HELD_BYTES = CIRCUITS * SIZE_BYTES // 2


async def _stall(writer: ClientStream, data: bytes, *barriers: Client) -> None:
    """Write everything and wait until no window is left; little enough has gone out, also some round trips later."""
    writer.write(data)

    async def stalled() -> bool:
        return writer.stream.send_window == 0 and writer.stream.queued_bytes > 0

    await until(stalled, "a sender without window")
    for client in barriers * 3:
        await still_served(client)
    assert len(data) - writer.stream.queued_bytes <= MOST_SENT_BYTES


async def _read_all(reader: ClientStream, size: int) -> bytes:
    received = hashlib.sha256()
    while size:
        part = await reader.read(min(size, 65_536))
        received.update(part)
        size -= len(part)
    return received.digest()


def _read_on(reader: ClientStream) -> None:
    reader.credit = True
    reader.stream.consumed(reader.received_bytes)


async def test_a_reader_that_gives_no_credit_stalls_the_sender_and_gets_everything_later(scene: Scene) -> None:
    circuit = await scene.circuit()
    for writer, reader in ((circuit.left, circuit.right), (circuit.right, circuit.left)):
        data = os.urandom(SIZE_BYTES)
        reader.credit = False
        await _stall(writer, data, circuit.source, circuit.target)

        async def filled(reader: ClientStream = reader) -> bool:
            return reader.received_bytes >= INITIAL_WINDOW_BYTES - NEGOTIATION_BYTES

        await until(filled, "a full window")
        assert reader.received_bytes <= INITIAL_WINDOW_BYTES
        _read_on(reader)
        assert await _read_all(reader, SIZE_BYTES) == hashlib.sha256(data).digest()
        reader.received_bytes = 0


async def test_a_socket_that_is_not_read_stalls_the_sender_and_gets_everything_later(scene: Scene) -> None:
    circuit = await scene.circuit()
    data = os.urandom(SIZE_BYTES)
    socket_of(circuit.target).pause_reading()
    await _stall(circuit.left, data, circuit.source)
    socket_of(circuit.target).resume_reading()
    assert await _read_all(circuit.right, SIZE_BYTES) == hashlib.sha256(data).digest()


async def test_a_stalled_circuit_holds_up_no_other_of_the_same_peers(scene: Scene) -> None:
    stalled = await scene.circuit()
    stalled.right.credit = False
    await _stall(stalled.left, bytes(SIZE_BYTES))
    other = await joined(stalled.source, stalled.target)
    data = os.urandom(1_000_000)
    other.left.write(data)
    assert await _read_all(other.right, len(data)) == hashlib.sha256(data).digest()


async def test_fin_behind_bytes_that_wait_comes_behind_them(scene: Scene) -> None:
    circuit = await scene.circuit()
    data = os.urandom(SIZE_BYTES)
    circuit.right.credit = False
    await _stall(circuit.left, data)
    circuit.left.close()
    _read_on(circuit.right)
    assert await _read_all(circuit.right, SIZE_BYTES) == hashlib.sha256(data).digest()
    assert await circuit.right.read_to_end() == b""
    circuit.right.close()
    await scene.settled(circuits=0)


async def test_stalled_circuits_cost_a_bounded_amount_of_memory_that_does_not_add_up(scene: Scene) -> None:
    before = _memory(scene)
    data = os.urandom(SIZE_BYTES)
    for drained in (True, False):
        circuits = [await scene.circuit() for _ in range(CIRCUITS)]
        for circuit in circuits:
            circuit.right.credit = False
        await asyncio.gather(*(_stall(circuit.left, data) for circuit in circuits))
        assert _memory(scene) - before <= MOST_HELD_BYTES
        if drained:
            for circuit in circuits:
                _read_on(circuit.right)
            digests = await asyncio.gather(*(_read_all(circuit.right, SIZE_BYTES) for circuit in circuits))
            assert set(digests) == {hashlib.sha256(data).digest()}
        await scene.close()


def _memory(scene: Scene) -> int:
    """What the workers of the place's listener take now; the status page's figures may be two seconds old."""
    kind = f"{scene.place.transport}-"
    return sum(
        read_memory_bytes(each["pid"]) for each in scene.relay.workers("listener") if each["name"].startswith(kind)
    )
