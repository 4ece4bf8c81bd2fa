"""One process of idle peers: enters, renews, leaves and comes back as it is told, over WebSocket.

Told by lines of JSON on standard input, each answered by one on standard output. It ends when standard input does. Its
own CPU is not counted, and must never be what a figure measures: it runs on other cores than the relay.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import random
import socket
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

import uvloop
from picows import WSError

from loadtests.client import LoadClient
from tests.support.client import HopRefusedError, StreamResetError
from transports.identity import HostKey

AT_ONCE: Final = 32
"""How many enter at a time while the relay grows: enough to keep it busy, few enough to leave no queue."""
KNOCK_WITHIN_S: Final = 1.0
"""When the relay is back all dial within this time, as browsers do that have lost it at the same moment."""
PEERS_A_SOURCE: Final = 250
ATTEMPTS: Final = 20
LOST_WITHIN_S: Final = 60.0
RETRY_S: Final = (0.5, 2.0)
GC_THRESHOLDS: Final = (200_000, 50, 1000)  # tens of thousands of peers are not worth looking through at every turn
FAILURES: Final = (OSError, EOFError, TimeoutError, HopRefusedError, StreamResetError, WSError)


class Crowd:
    """The peers of this process. `number` keeps its source addresses apart from those of other crowds."""

    def __init__(self, address: str, number: int) -> None:
        self._address = address
        self._number = number
        self._entered = 0
        self._peers: list[LoadClient] = []

    async def enter(self, count: int) -> dict[str, Any]:
        """So many peers more, connected, identified and reserved."""
        before = len(self._peers)
        await at_most(AT_ONCE, [self._one] * count)
        return {"entered": len(self._peers) - before}

    async def leave(self, count: int) -> dict[str, Any]:
        """So many say goodbye."""
        leaving, self._peers = self._peers[:count], self._peers[count:]
        await at_most(AT_ONCE, [peer.close for peer in leaving])
        return {"left": len(leaving)}

    async def renew(self, count: int, within_s: float) -> dict[str, Any]:
        """So many renew, each at a moment of its own within the time."""
        begin = time.monotonic()
        answered_s: list[float] = []
        waited_s: list[float] = []
        refused = 0

        async def one(peer: LoadClient, moment_s: float) -> None:
            nonlocal refused
            await asyncio.sleep(moment_s)
            asked = time.monotonic()
            try:
                await peer.reserve()
            except FAILURES:
                refused += 1
                return
            answered_s.append(time.monotonic() - begin)
            waited_s.append(time.monotonic() - asked)

        async with asyncio.TaskGroup() as tasks:
            for peer in self._peers[:count]:
                tasks.create_task(one(peer, random.uniform(0, within_s)))
        return {"answered_s": max(answered_s, default=0.0), "waited_s": waited_s, "refused": refused}

    async def come_back(self) -> dict[str, Any]:
        """The relay was restarted: everyone dials within a second, as the same peers, and reserves.

        The sockets come at once; the handshakes take turns, since one process makes those of thousands of browsers.
        """
        lost, self._peers = self._peers, []
        async with asyncio.timeout(LOST_WITHIN_S):
            for peer in lost:
                await peer.closed.wait()
        turns = asyncio.Semaphore(AT_ONCE)
        tries = 0

        async def one(host: HostKey) -> None:
            nonlocal tries
            await asyncio.sleep(random.uniform(0, KNOCK_WITHIN_S))
            for _ in range(ATTEMPTS):
                tries += 1
                try:
                    await self._return(host, turns)
                except FAILURES:
                    await asyncio.sleep(random.uniform(*RETRY_S))
                else:
                    return

        hosts = [peer.host for peer in lost]
        lost.clear()
        begin = time.monotonic()
        async with asyncio.TaskGroup() as tasks:
            for host in hosts:
                tasks.create_task(one(host))
        return {"back": len(self._peers), "back_s": time.monotonic() - begin, "tries": tries}

    async def _one(self) -> None:
        peer = await LoadClient.enter(self._address, local=(self._source(), 0))
        await peer.reserve()
        self._peers.append(peer)

    async def _return(self, host: HostKey, turns: asyncio.Semaphore) -> None:
        parts = self._address.split("/")
        knocking = socket.socket()
        try:
            knocking.setblocking(False)
            knocking.bind((self._source(), 0))
            await asyncio.get_running_loop().sock_connect(knocking, (parts[2], int(parts[4])))
            async with turns:
                peer = await LoadClient.enter(self._address, host=host, sock=knocking)
                await peer.reserve()
        except BaseException:
            knocking.close()
            raise
        self._peers.append(peer)

    def _source(self) -> str:
        block = self._entered // PEERS_A_SOURCE
        self._entered += 1
        return f"127.{16 + self._number}.{block // 250 % 250}.{1 + block % 250}"


async def at_most(limit: int, jobs: Sequence[Callable[[], Awaitable[object]]]) -> None:
    """Do all of them, so many at a time; the first error ends all."""
    left = iter(jobs)

    async def some() -> None:
        for job in left:
            await job()

    async with asyncio.TaskGroup() as tasks:
        for _ in range(min(limit, len(jobs))):
            tasks.create_task(some())


async def serve(address: str, number: int) -> None:
    """Do what the lines say, one after the other."""
    gc.set_threshold(*GC_THRESHOLDS)
    crowd = Crowd(address, number)
    does: dict[str, Callable[..., Awaitable[dict[str, Any]]]] = {
        "enter": crowd.enter,
        "leave": crowd.leave,
        "renew": crowd.renew,
        "come_back": crowd.come_back,
    }
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := await reader.readline():
        asked = json.loads(line)
        answer = await does[asked.pop("do")](**asked)
        gc.freeze()
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()
    os._exit(0)  # tens of thousands of connections are the kernel's to close


if __name__ == "__main__":
    uvloop.run(serve(sys.argv[1], int(sys.argv[2])))
