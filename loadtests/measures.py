"""What is asked of every relay, and what it costs: one function a measure, the same for all.

CPU is that of the relay alone, from before the first operation until it is quiet again; a connection that is only there
to carry what is measured is made before and closed after. Several operations run at a time, as many for every relay:
one after the other would measure how a relay wakes up. A round trip is one at a time, since that is what it is.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Final

from loadtests.client import LoadClient, circuit, opened
from loadtests.doors import Door
from loadtests.meter import Meter
from tests.support.client import ClientStream

AT_ONCE: Final = 4
MESSAGES_A_SESSION: Final = 12
SESSION_MESSAGE_BYTES: Final = 500
ROUND_TRIP_BYTES: Final = 600
BULK_WRITE_BYTES: Final = 64 * 1024
GB: Final = 1_000_000_000


async def in_turn(count: int, one: Callable[[], Awaitable[object]]) -> None:
    """Run `one` so many times, AT_ONCE at a time."""
    left = iter(range(count))

    async def some() -> None:
        for _ in left:
            await one()

    async with asyncio.TaskGroup() as tasks:
        for _ in range(min(AT_ONCE, count)):
            tasks.create_task(some())


async def reservations(door: Door, meter: Meter, count: int) -> dict[str, float]:
    """CPU of connect + identify + reserve."""
    before = meter.cpu_s()
    async with _reserved(door, count):
        after = await meter.quiet_cpu_s()
    await meter.quiet_cpu_s()
    return {"reserve_s": (after - before) / count}


async def peers(door: Door, meter: Meter, count: int) -> dict[str, float]:
    """Memory of a peer that has reserved and stays. To be asked of a relay that has not served yet."""
    before = meter.memory_bytes()
    async with _reserved(door, count):
        await meter.quiet_cpu_s()
        after = meter.memory_bytes()
    await meter.quiet_cpu_s()
    return {"peer_bytes": (after - before) / count}


async def sessions(door: Door, meter: Meter, count: int) -> dict[str, float]:
    """CPU of a signalling session, the figure that stands for the product."""
    before = meter.cpu_s()
    await in_turn(count, lambda: session(door))
    return {"session_s": (await meter.quiet_cpu_s() - before) / count}


async def session(door: Door) -> None:
    """Two connections, two identifies, a reservation, a circuit, 12 messages of 500 bytes each way, goodbye."""
    async with _pair(door) as (caller, target), circuit(caller, target) as (near, far):
        for _ in range(MESSAGES_A_SESSION):
            await _there_and_back(near, far, bytes(SESSION_MESSAGE_BYTES))


async def circuits(door: Door, meter: Meter, count: int) -> dict[str, float]:
    """CPU of a circuit: CONNECT to STATUS OK with STOP, then closed."""
    async with _pair(door) as (caller, target):

        async def one() -> None:
            # The ends of circuits that are open at the same time may be swapped here; each is closed all the same.
            async with circuit(caller, target):
                pass

        before = await meter.quiet_cpu_s()
        await in_turn(count, one)
        return {"circuit_s": (await meter.quiet_cpu_s() - before) / count}


async def round_trips(door: Door, meter: Meter, count: int) -> dict[str, float]:
    """CPU of 600 bytes through a circuit, and 600 bytes back."""
    message = bytes(ROUND_TRIP_BYTES)
    async with _pair(door) as (caller, target):
        near, far = await opened(caller, target)
        before = await meter.quiet_cpu_s()
        for _ in range(count):
            await _there_and_back(near, far, message)
        return {"round_trip_s": (await meter.quiet_cpu_s() - before) / count}


async def bulk(door: Door, meter: Meter, count: int) -> dict[str, float]:
    """CPU a GB through a circuit in one direction, as fast as its window lets it; `count` is in blocks of 64 KiB."""
    block = bytes(BULK_WRITE_BYTES)
    async with _pair(door) as (caller, target):
        near, far = await opened(caller, target)
        before = await meter.quiet_cpu_s()

        async def send() -> None:
            for _ in range(count):
                near.write(block)
                await near.drained()

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(send())
            for _ in range(count):
                await far.read(BULK_WRITE_BYTES)
        return {"bulk_s_per_gb": (await meter.quiet_cpu_s() - before) * GB / (count * BULK_WRITE_BYTES)}


@asynccontextmanager
async def _reserved(door: Door, count: int) -> AsyncIterator[None]:
    """So many peers, each with a reservation; they say goodbye when the block is left."""
    clients: list[LoadClient] = []

    async def one() -> None:
        client = await door.enter()
        clients.append(client)
        await client.reserve()

    await in_turn(count, one)
    yield
    await asyncio.gather(*(client.close() for client in clients))


@asynccontextmanager
async def _pair(door: Door) -> AsyncIterator[tuple[LoadClient, LoadClient]]:
    """A caller and a target that has reserved; both say goodbye when the block is left."""
    at_target, at_caller = door.pair()
    target = await door.enter(at_target)
    await target.reserve()
    caller = await door.enter(at_caller)
    yield caller, target
    await caller.close()
    await target.close()


async def _there_and_back(near: ClientStream, far: ClientStream, message: bytes) -> None:
    near.write(message)
    far.write(await far.read(len(message)))
    await near.read(len(message))
