"""Limits of a circuit: bytes in one direction, and that nothing else of the peers is touched when it is reached."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.scenarios.relays import Relays
from tests.scenarios.scene import Circuit, Scene, joined
from tests.support.relay import RelayProcess
from transports.yamux import ErrorCode

LIMIT_BYTES = 300_000  # more than one window


@pytest.fixture(scope="module")
def relay(relays: Relays) -> Iterator[RelayProcess]:
    with relays.started(f"limits.circuit_bytes={LIMIT_BYTES}") as relay:
        yield relay


async def _both_reset(circuit: Circuit) -> None:
    await circuit.left.reset()
    await circuit.right.reset()
    assert {each.stream.reset_code for each in (circuit.left, circuit.right)} == {ErrorCode.RESOURCE_LIMIT_EXCEEDED}


@pytest.mark.parametrize("forth", [True, False], ids=["to-target", "to-source"])
async def test_as_many_bytes_as_the_limit_pass_and_one_more_resets_both_sides(scene: Scene, forth: bool) -> None:
    circuit = await scene.circuit()
    writer, reader = (circuit.left, circuit.right) if forth else (circuit.right, circuit.left)
    data = os.urandom(LIMIT_BYTES)
    writer.write(data)
    assert await reader.read(LIMIT_BYTES) == data
    reader.write(b"the other direction is free")
    assert await writer.read(27) == b"the other direction is free"
    async with scene.counting("frost_relay_circuits_ended_total", reason="byte_limit"):
        writer.write(b"!")
        await _both_reset(circuit)
    assert not reader._buffer
    await scene.settled(circuits=0, connections=2, reservations=1)


async def test_the_limit_holds_for_each_direction_by_itself(scene: Scene) -> None:
    circuit = await scene.circuit()
    data = os.urandom(LIMIT_BYTES)
    circuit.left.write(data)
    circuit.right.write(data)
    assert await circuit.right.read(LIMIT_BYTES) == data
    assert await circuit.left.read(LIMIT_BYTES) == data
    circuit.left.close()
    circuit.right.close()
    assert await circuit.right.read_to_end() == b""
    assert await circuit.left.read_to_end() == b""


async def test_one_byte_too_many_in_one_write_lets_no_more_than_the_limit_through(scene: Scene) -> None:
    circuit = await scene.circuit()
    circuit.left.write(os.urandom(LIMIT_BYTES + 1))
    await _both_reset(circuit)
    assert len(circuit.right._buffer) <= LIMIT_BYTES


async def test_bytes_behind_the_connect_count(scene: Scene) -> None:
    source, target = await scene.pair()
    early = os.urandom(1000)
    left = await source.connect(target.peer_id, behind=early)
    _, right = await target.called()
    rest = os.urandom(LIMIT_BYTES - len(early))
    left.write(rest)
    assert await right.read(LIMIT_BYTES) == early + rest
    left.write(b"!")
    await _both_reset(Circuit(source, target, left, right))


async def test_a_circuit_at_its_limit_takes_no_other_with_it(scene: Scene) -> None:
    circuit = await scene.circuit()
    other = await joined(circuit.source, circuit.target)
    circuit.left.write(os.urandom(LIMIT_BYTES + 1))
    await _both_reset(circuit)
    other.left.write(b"unharmed")
    assert await other.right.read(8) == b"unharmed"


async def test_a_new_circuit_starts_from_nothing(scene: Scene) -> None:
    circuit = await scene.circuit()
    circuit.left.write(os.urandom(LIMIT_BYTES + 1))
    await _both_reset(circuit)
    again = await joined(circuit.source, circuit.target)
    data = os.urandom(LIMIT_BYTES)
    again.left.write(data)
    assert await again.right.read(LIMIT_BYTES) == data


async def test_relayed_bytes_are_counted_by_direction(scene: Scene) -> None:
    circuit = await scene.circuit()
    async with (
        scene.counting("frost_relay_relayed_bytes_total", 1234, direction="to_target"),
        scene.counting("frost_relay_relayed_bytes_total", 567, direction="to_source"),
    ):
        circuit.left.write(bytes(1234))
        await circuit.right.read(1234)
        circuit.right.write(bytes(567))
        await circuit.left.read(567)
        circuit.left.close()
        circuit.right.close()
        await scene.settled(circuits=0)
