"""A peer whose bytes a worker dies of is kept out after the second time, and nobody else is."""

from __future__ import annotations

import asyncio
import signal
import socket
from collections.abc import Iterator
from contextlib import suppress

import pytest
import uvloop

from actors import ping
from tests.faults.poison import HANG, SEGV
from tests.scenarios.scene import counter, gone, until
from tests.support.client import Client
from tests.support.relay import RelayProcess
from transports.identity import HostKey, peer_id_text

pytestmark = pytest.mark.fault

COMMAND = ("-m", "tests.faults.poison", "run")
ELSEWHERE = "127.0.0.9"


@pytest.fixture
def relay() -> Iterator[RelayProcess]:
    settings = ("supervision.hang_timeout_s=2", "supervision.backoff_max_s=1")
    with RelayProcess(*settings, listeners=("/ip4/127.0.0.1/tcp/0",), workers=2, command=COMMAND) as relay:
        yield relay


async def deaths(relay: RelayProcess, count: int) -> None:
    """Wait until so many workers have died and all have successors."""
    await asyncio.to_thread(
        relay.wait_status,
        lambda now: now["ready"] and sum(each["restarts"] for each in now["workers"]) == count,
        30,
    )


async def refused(relay: RelayProcess, times: int) -> None:
    async def counted() -> bool:
        return await asyncio.to_thread(counter, relay, "frost_relay_refusals_total", reason="crashed_workers") == times

    await until(counted, "counted by its own reason")


@pytest.mark.parametrize("poison", [SEGV, HANG], ids=["crash", "hang"])
def test_a_peer_that_has_crashed_two_workers_is_denied_and_nobody_else(relay: RelayProcess, poison: bytes) -> None:
    rude = HostKey.generate()
    name = peer_id_text(rude.peer_id)

    async def crash() -> None:
        client = await Client.dial(relay.address("tcp"), host=rude, local=(ELSEWHERE, 0))
        client.open(ping.PROTOCOL, poison)
        await gone(client)

    async def main() -> None:
        for count in (1, 2):
            assert relay.status()["denied"] == []
            await crash()
            await deaths(relay, count)
        (denied,) = relay.status()["denied"]
        assert (denied["peer"], denied["crashes"]) == (name, 2)
        assert 3500 < denied["left_s"] <= 3600
        client = await Client.dial(relay.address("tcp"), host=rude, local=(ELSEWHERE, 0))
        client.open(ping.PROTOCOL, poison)
        await gone(client)
        await refused(relay, 1)
        neighbour = await Client.dial(relay.address("tcp"), local=(ELSEWHERE, 0))
        await neighbour.reserve()
        await neighbour.close()
        await deaths(relay, 2)

    uvloop.run(main())
    assert f"peer={name} crashes=1" in relay.stderr
    assert f"denied for crashing processes peer={name}" in relay.stderr
    assert f"reason=crashed_workers peer={name}" in relay.stderr


def test_who_has_no_name_yet_is_denied_by_address(relay: RelayProcess) -> None:
    host, port = "127.0.0.1", int(relay.address("tcp").split("/")[4])

    def knock() -> bytes:
        with socket.create_connection((host, port), 10, (ELSEWHERE, 0)) as rude, suppress(ConnectionError):
            rude.sendall(b"\x13/multistream/1.0.0\n" + bytes([len(SEGV) + 1]) + SEGV + b"\n")
            while said := rude.recv(1000):
                del said
        return b""

    async def main() -> None:
        for count in (1, 2):
            await asyncio.to_thread(knock)
            await deaths(relay, count)
        assert [each["address"] for each in relay.status()["denied"]] == [ELSEWHERE]
        await asyncio.to_thread(knock)
        await refused(relay, 1)
        other = await Client.dial(relay.address("tcp"))
        await other.reserve()
        await other.close()
        await deaths(relay, 2)

    uvloop.run(main())
    assert f"denied for crashing processes address={ELSEWHERE}" in relay.stderr


def test_nobody_is_blamed_for_deaths_from_outside(relay: RelayProcess) -> None:
    async def main() -> None:
        for count in (1, 2):
            client = await Client.dial(relay.address("tcp"))
            await client.reserve()
            for worker in relay.workers("listener"):
                await asyncio.to_thread(relay.kill, worker["name"], signal.SIGSEGV if count == 1 else signal.SIGKILL)
            await gone(client)
            await deaths(relay, 2 * count)

    uvloop.run(main())
    assert relay.status()["denied"] == []
    assert "had sent" not in relay.stderr
