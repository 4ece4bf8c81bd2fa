"""A wall clock that jumps under a relay at work: nothing is due because of it; what is told in wall time is right."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from picows import WSError

from actors.proto.circuit_pb2 import Status
from actors.proto.peer_record_pb2 import PeerRecord
from actors.voucher import PEER_RECORD_DOMAIN, PEER_RECORD_TYPE, verify_envelope
from tests.scenarios.scene import until
from tests.support.client import Client, ClientStream, HopRefusedError
from tests.support.moved_clock import MovedClock
from tests.support.relay import RelayProcess

pytestmark = pytest.mark.fault

HOUR_S = 3600
NEAR_S = 60
"""How far two looks at the clock may be apart here; a step is sixty times that."""
WS = ("/ip4/127.0.0.1/tcp/0/ws",)
STEPS = pytest.mark.parametrize("step_s", [HOUR_S, -HOUR_S], ids=["forward", "back"])


@pytest.fixture
def clock(tmp_path: Path) -> MovedClock:
    return MovedClock(tmp_path)


@asynccontextmanager
async def circuit(address: str) -> AsyncIterator[tuple[Client, ClientStream, ClientStream]]:
    """The target of a circuit, and its two ends."""
    target, source = await Client.dial(address), await Client.dial(address)
    await target.reserve()
    left = await source.connect(target.peer_id)
    _, right = await target.called()
    yield target, left, right
    await source.abort()
    await target.abort()


async def echoed(left: ClientStream, right: ClientStream) -> None:
    left.write(b"never lost")
    assert await right.read(10) == b"never lost"
    right.write(b"nor this")
    assert await left.read(8) == b"nor this"


async def expires(client: Client) -> int:
    return int((await client.reserve()).reservation.expire)


def hearts(relay: RelayProcess) -> dict[str, tuple[int, int]]:
    """Process ID and restarts of every process."""
    return {each["name"]: (each["pid"], each["restarts"]) for each in relay.status()["workers"]}


@STEPS
def test_nobody_is_dropped_hung_or_due(clock: MovedClock, step_s: int) -> None:
    settings = ("supervision.hang_timeout_s=2", "limits.circuit_duration_s=1800", "limits.circuit_idle_timeout_s=900")
    with RelayProcess(*settings, listeners=WS, env=clock.env) as relay:

        async def play() -> None:
            address = relay.address("ws")
            async with circuit(address) as (target, left, right):
                before, last = hearts(relay), await expires(target)
                assert abs(last - HOUR_S - time.time()) < NEAR_S
                clock.set(step_s)
                begun = relay.status()["uptime_s"]
                # Longer than any heart may stand still; the keep-alive goes on meanwhile.
                await until(lambda: _passed(relay, begun + 5), "five seconds of the relay's own")
                assert hearts(relay) == before
                await echoed(left, right)
                newcomer = await Client.dial(address)
                called = await newcomer.connect(target.peer_id)  # its reservation is as long as it was
                await echoed(called, (await target.called())[1])
                assert abs(await expires(target) - HOUR_S - (time.time() + step_s)) < NEAR_S
                await newcomer.abort()

        asyncio.run(play())
    assert "Traceback" not in relay.stderr


async def _passed(relay: RelayProcess, uptime_s: float) -> bool:
    return bool(relay.status()["uptime_s"] >= uptime_s)


@STEPS
def test_a_rate_is_neither_refilled_nor_stuck(clock: MovedClock, step_s: int) -> None:
    with RelayProcess('limits.reservation_rate_per_peer="1/1h"', listeners=WS, env=clock.env) as relay:

        async def play() -> None:
            asking, other = await Client.dial(relay.address("ws")), await Client.dial(relay.address("ws"))
            await asking.reserve()
            await asking.abort()
            clock.set(step_s)
            again = await Client.dial(relay.address("ws"), asking.host)
            with pytest.raises(HopRefusedError) as caught:
                await again.reserve()
            assert caught.value.status == Status.RESERVATION_REFUSED
            await other.reserve()
            await again.abort()
            await other.abort()

        asyncio.run(play())


@STEPS
def test_successors_agree_with_those_who_were_there_before(clock: MovedClock, step_s: int) -> None:
    with RelayProcess("limits.max_reservations=1", listeners=WS, workers=2, env=clock.env) as relay:

        async def play() -> None:
            async with circuit(relay.address("ws")) as (target, left, right):
                clock.set(step_s)
                killed = relay.kill("registry")
                relay.wait_status(lambda _: hearts(relay)["registry"][0] not in {0, killed})
                await echoed(left, right)
                assert abs(await expires(target) - HOUR_S - (time.time() + step_s)) < NEAR_S
                stranger = await Client.dial(relay.address("ws"))
                with pytest.raises(HopRefusedError):
                    await stranger.reserve()  # the only slot is still taken
                await stranger.abort()

        asyncio.run(play())


@pytest.fixture
def secrets(tmp_path: Path) -> Path:
    """A token that ends in half an hour."""
    path = tmp_path / "tokens.toml"
    path.touch(0o600)
    ends = (datetime.now(UTC) + timedelta(minutes=30)).strftime("%Y-%m-%dT%H:%M:%SZ")
    path.write_text(f'[[tokens]]\nname = "anna"\nsecret = "anna-knows-this-secret"\nexpires = {ends}\n')
    return path


def test_a_token_goes_by_the_wall_clock_and_is_back_when_that_is(clock: MovedClock, secrets: Path) -> None:
    listeners = f'listeners=[{{address="{WS[0]}", workers=1, require_token=true}}]'
    with RelayProcess(f'access.tokens_file="{secrets}"', listeners, listeners=(), env=clock.env) as relay:

        async def comes() -> None:
            client = await Client.dial(relay.address("ws"), path="/t/anna-knows-this-secret")
            await client.reserve()
            await client.abort()

        asyncio.run(comes())
        clock.set(HOUR_S)
        with pytest.raises(WSError):
            asyncio.run(comes())
        clock.set(-HOUR_S)
        asyncio.run(comes())


def sequence(signed: bytes) -> int:
    _, payload = verify_envelope(signed, PEER_RECORD_DOMAIN, PEER_RECORD_TYPE)
    return int(PeerRecord.FromString(payload).seq)


def test_a_peer_record_is_newer_than_the_one_before_also_when_the_clock_went_back(
    clock: MovedClock, tmp_path: Path
) -> None:
    file = tmp_path / "relay.toml"
    file.write_text("")
    with RelayProcess(listeners=WS, env={**clock.env, "FROST_RELAY_CONFIG": str(file)}) as relay:

        async def play() -> None:
            client = await Client.dial(relay.address("ws"))
            first = sequence((await client.identify()).signedPeerRecord)
            clock.set(-HOUR_S)
            file.write_text('[announce]\naddresses = ["/dns4/relay.example/tcp/443/tls/ws"]\n')
            assert (await asyncio.to_thread(relay.reload))["ok"]

            async def pushed() -> bool:
                return bool(client.pushed)

            await until(pushed, "the push")
            second = sequence(client.pushed[0].signedPeerRecord)
            await client.abort()
            killed = relay.kill(relay.workers("listener")[0]["name"])
            relay.wait_status(lambda _: relay.workers("listener")[0]["pid"] not in {0, killed})
            address = f"/ip4/127.0.0.1/tcp/{relay.workers('listener')[0]['name'].split('-')[1].split('/')[0]}/ws"
            client = await Client.dial(address)
            assert first < second == sequence((await client.identify()).signedPeerRecord)
            await client.abort()

        asyncio.run(play())
