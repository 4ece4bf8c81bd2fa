"""Those who must not notice: two peers with a circuit, in a thread of their own, that compare every byte they echo."""

from __future__ import annotations

import asyncio
import os
import random
import threading
from types import TracebackType
from typing import Self

import uvloop

from tests.scenarios.scene import joined
from tests.support.client import Client, ClientStream
from tests.support.relay import RelayProcess

CONNECTIONS = 2
RESERVATIONS = 1
CIRCUITS = 1
PAUSE_S = 0.005
START_LIMIT_S = 15.0
LENGTH_BYTES = 4


class Bystanders:
    """Context manager. `rounds` counts the echoes that came back as they were sent."""

    def __init__(self, relay: RelayProcess) -> None:
        self._relay = relay
        self._thread = threading.Thread(target=lambda: uvloop.run(self._live()), daemon=True)
        self._started = threading.Event()
        self._stop = threading.Event()
        self._fault: BaseException | None = None
        self.rounds = 0

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._started.wait(START_LIMIT_S), "the bystanders have no circuit"
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join(START_LIMIT_S)

    def assert_undisturbed(self) -> None:
        """Their circuit is the one that they began with, and every byte came back."""
        assert self._fault is None, self._fault
        assert self._thread.is_alive()
        before = self.rounds
        while self.rounds < before + 10:
            self._thread.join(0.1)
            assert self._thread.is_alive(), self._fault

    async def _live(self) -> None:
        try:
            target = await Client.dial(self._relay.address("tcp"))
            await target.reserve()
            source = await Client.dial(self._relay.address("ws"))
            circuit = await joined(source, target)
            echoing = asyncio.create_task(_echo(circuit.right))
            self._started.set()
            chance = random.Random(1)
            while not self._stop.is_set():
                await self._round(circuit.left, chance.randrange(1, 20_000))
            echoing.cancel()
            assert not source.errors, source.errors
            assert not target.errors, target.errors
            await asyncio.gather(source.close(), target.close())
        except BaseException as error:
            self._fault = error
            raise

    async def _round(self, stream: ClientStream, size: int) -> None:
        sent = size.to_bytes(LENGTH_BYTES, "big") + os.urandom(size)
        stream.write(sent)
        assert await stream.read(len(sent)) == sent
        self.rounds += 1
        await asyncio.sleep(PAUSE_S)


async def _echo(stream: ClientStream) -> None:
    while True:
        stream._changed.clear()
        if stream._buffer:
            data = bytes(stream._buffer)
            stream._buffer.clear()
            stream.write(data)
        else:
            await stream._changed.wait()
