"""Limits of one peer and of one address: what each reason is, and that others are not hit."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator

import pytest
from picows import WSError

from actors.proto.circuit_pb2 import Status
from tests.scenarios.relays import Certificate, Relays
from tests.scenarios.scene import Place, Scene, joined
from tests.support.client import Client, HopRefusedError
from tests.support.relay import RelayProcess
from transports.identity import HostKey

CONNECTIONS = 12


@pytest.fixture(scope="module")
def relay(relays: Relays) -> Iterator[RelayProcess]:
    with relays.started(
        "limits.max_reservations_per_ip=2",
        'limits.reservation_rate_per_peer="2/1h"',
        'limits.reservation_rate_per_ip="4/1h"',
        'limits.circuit_rate_per_peer="2/1h"',
        'limits.circuit_rate_per_ip="3/1h"',
        f'limits.connection_rate_per_ip="{CONNECTIONS}/1h"',
    ) as relay:
        yield relay


@pytest.fixture(params=["ws", "wss"])
def proxied(request: pytest.FixtureRequest, relay: RelayProcess, certificate: Certificate) -> Scene:
    """Peers whose addresses a trusted proxy tells; each test and transport needs addresses of its own."""
    return Scene(relay, Place(request.param, together=False), certificate.trust)


def _address(scene: Scene, subnet: int, host: int = 1) -> str:
    return f"198.51.{100 + subnet}.{host + (100 if scene.place.transport == 'wss' else 0)}"


async def _refused(scene: Scene, client: Client, reason: str, target: bytes = b"") -> None:
    async with scene.refusing(reason, client):
        with pytest.raises(HopRefusedError) as refused:
            await (client.connect(target) if target else client.reserve())
    assert refused.value.status == (Status.RESOURCE_LIMIT_EXCEEDED if target else Status.RESERVATION_REFUSED)


async def test_reservations_of_an_address_are_limited_and_free_when_one_leaves(proxied: Scene) -> None:
    here = _address(proxied, 0)
    first, second = await proxied.reserved(behind=here), await proxied.reserved(behind=here)
    third = await proxied.dial(behind=here)
    await _refused(proxied, third, "reservations_per_ip")
    await proxied.reserved(behind=_address(proxied, 0, 2))  # somebody else
    await first.reserve()  # a renewal is granted
    await second.abort()
    await proxied.settled(reservations=2)
    await third.reserve()


async def test_new_reservations_of_a_peer_are_limited_in_rate_and_renewals_are_free(proxied: Scene) -> None:
    host = HostKey.generate()
    for number in range(2):
        client = await proxied.reserved(host=host, behind=_address(proxied, 1, number))
        for _ in range(10):
            await client.reserve()
        await client.abort()
        await proxied.settled(reservations=0)
    late = await proxied.dial(host=host, behind=_address(proxied, 1, 3))
    await _refused(proxied, late, "reservation_rate_per_peer")


async def test_new_reservations_of_an_address_are_limited_in_rate(proxied: Scene) -> None:
    here = _address(proxied, 2)
    for _ in range(4):
        await (await proxied.reserved(behind=here)).abort()
        await proxied.settled(reservations=0)
    await _refused(proxied, await proxied.dial(behind=here), "reservation_rate_per_ip")
    await proxied.reserved(behind=_address(proxied, 2, 2))


async def test_calls_of_a_peer_are_limited_in_rate_wherever_it_calls_from(proxied: Scene) -> None:
    target = await proxied.reserved(behind=_address(proxied, 3))
    host = HostKey.generate()
    for number in range(2):
        await joined(await proxied.dial(host=host, behind=_address(proxied, 3, 10 + number)), target)
    late = await proxied.dial(host=host, behind=_address(proxied, 3, 20))
    await _refused(proxied, late, "circuit_rate_per_peer", target.peer_id)
    await joined(await proxied.dial(behind=_address(proxied, 3, 30)), target)


async def test_calls_of_an_address_are_limited_in_rate_whoever_calls(proxied: Scene) -> None:
    target = await proxied.reserved(behind=_address(proxied, 4))
    here = _address(proxied, 4, 10)
    for _ in range(3):
        await joined(await proxied.dial(behind=here), target)
    await _refused(proxied, await proxied.dial(behind=here), "circuit_rate_per_ip", target.peer_id)
    await joined(await proxied.dial(behind=_address(proxied, 4, 20)), target)


async def test_calls_to_nobody_cost_nothing(proxied: Scene) -> None:
    here = _address(proxied, 5)
    target, source = await proxied.reserved(behind=here), await proxied.dial(behind=here)
    for _ in range(10):
        with pytest.raises(HopRefusedError) as refused:
            await source.connect(HostKey.generate().peer_id)
        assert refused.value.status == Status.NO_RESERVATION
    await joined(source, target)


async def test_connections_of_an_address_are_limited_in_rate_over_all_workers(proxied: Scene) -> None:
    here = _address(proxied, 6)
    for _ in range(CONNECTIONS):
        await (await proxied.dial(behind=here)).abort()
    async with proxied.counting("frost_relay_refusals_total", reason="connection_rate_per_ip"):
        with pytest.raises(WSError, match="429"):
            await proxied.dial(behind=here)
    await proxied.logged("refused", "reason=connection_rate_per_ip", f"address={here}:0")
    await proxied.dial(behind=_address(proxied, 6, 2))


@pytest.mark.parametrize(("transport", "source"), [("ws", "127.0.0.70"), ("tcp", "127.0.0.71")])
async def test_connections_in_which_nothing_is_said_count_too(
    relay: RelayProcess, certificate: Certificate, transport: str, source: str
) -> None:
    scene = Scene(relay, Place(transport, together=False), certificate.trust)
    port = int(scene.address.split("/")[4])
    for _ in range(CONNECTIONS):
        _connect(port, source).close()
    async with scene.counting("frost_relay_refusals_total", reason="connection_rate_per_ip"):
        with _connect(port, source) as refused:
            assert await asyncio.to_thread(refused.recv, 1) == b""
    await scene.close()


def _connect(port: int, source: str) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=10, source_address=(source, 0))
