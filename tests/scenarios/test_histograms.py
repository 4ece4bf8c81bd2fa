"""What a relay measures of handshakes, reservations and circuits, and what it says in go-libp2p's names."""

from __future__ import annotations

import pytest

from tests.scenarios.scene import Scene
from tests.support.client import HopRefusedError
from transports.identity import HostKey


async def test_each_thing_is_measured_once(solo: Scene) -> None:
    names = ("handshake_seconds", "reserve_seconds", "circuit_setup_seconds", "circuit_duration_seconds")
    before = [await solo.counted(f"frost_relay_{name}_count") for name in names]
    bytes_before = await solo.counted("frost_relay_circuit_bytes_sum")
    circuit = await solo.circuit()
    circuit.left.write(bytes(1000))
    await circuit.right.read(1000)
    circuit.left.close()
    circuit.right.close()
    await solo.settled(circuits=0)
    for name, count in zip(names, before, strict=True):
        more = await solo.counted(f"frost_relay_{name}_count") - count
        assert more >= 1 if name == "handshake_seconds" else more == 1, name
    assert await solo.counted("frost_relay_circuit_bytes_sum") == bytes_before + 1000


async def test_go_libp2ps_names_count_the_same_things(solo: Scene) -> None:
    opened = "libp2p_relaysvc_reservations_total"
    rejected = "libp2p_relaysvc_connection_rejections_total"
    async with solo.counting(opened, type="opened"), solo.counting(opened, type="renewed"):
        client = await solo.reserved()
        await client.reserve()
    async with solo.counting(rejected, reason="no reservation"), solo.counting(opened, type="closed"):
        with pytest.raises(HopRefusedError):
            await client.connect(HostKey.generate().peer_id)
        await client.abort()
        await solo.settled(reservations=0)
