"""Peers who use a relay while something breaks: reserved ones, and circuits that carry numbered, hashed blocks.

A block is its number and bytes that follow from its number, so that one that is lost, doubled, torn or somebody else's
is seen at once. Who sits in which process of the relay is asked of the kernel.
"""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from typing import Final

from tests.scenarios.scene import joined, socket_of, until
from tests.support.client import Client, ClientStream, StreamResetError
from tests.support.relay import RelayProcess

PAUSE_S: Final = 0.05
REPEATS: Final = 8
NUMBER_BYTES: Final = 8
BLOCK_BYTES: Final = NUMBER_BYTES + 32 * REPEATS
TCP_EVERY: Final = 5
"""Which peers come over TCP: one in so many."""
AT_ONCE: Final = 20
"""Peers that come at a time."""


class WrongBytesError(AssertionError):
    """A circuit has carried something else than what was sent."""


def block(flow: int, number: int) -> bytes:
    """The block of that number."""
    head = number.to_bytes(NUMBER_BYTES, "big")
    return head + sha256(flow.to_bytes(4, "big") + head).digest() * REPEATS


class Flow:
    """One direction of a circuit: a sender, and a reader who knows what has to come."""

    def __init__(self, name: int, out: ClientStream, back: ClientStream) -> None:
        self.name = name
        self.sent = self.read = 0
        self.ended = ""
        """Why nothing comes any more."""
        self._out, self._back = out, back
        self._told, self._heard = sha256(), sha256()
        self._halt = asyncio.Event()
        self._tasks = [asyncio.create_task(each) for each in (self._send(), self._receive())]

    async def _send(self) -> None:
        while not self._halt.is_set() and not self.ended:
            data = block(self.name, self.sent)
            self._told.update(data)
            self._out.write(data)
            self.sent += 1
            with suppress(TimeoutError):
                await asyncio.wait_for(self._halt.wait(), PAUSE_S)

    async def _receive(self) -> None:
        try:
            while True:
                with suppress(TimeoutError):  # a worker may stand still for longer than a stream waits
                    data = await self._back.read(BLOCK_BYTES)
                    if data != block(self.name, self.read):
                        raise WrongBytesError(f"flow {self.name}, block {self.read}: {data[:40].hex()}")
                    self._heard.update(data)
                    self.read += 1
        except (StreamResetError, EOFError) as error:
            self.ended = type(error).__name__
        except WrongBytesError as error:
            self.ended = str(error)

    async def finish(self) -> int:
        """Send no more, and wait until all has arrived; how many bytes did. Raises WrongBytesError."""
        self._halt.set()

        async def arrived() -> bool:
            return self.read >= self.sent or bool(self.ended)

        await until(arrived, f"flow {self.name}: the last of {self.sent} blocks")
        if self.ended or self._told.digest() != self._heard.digest():
            why = self.ended or "another hash"
            raise WrongBytesError(f"flow {self.name}: {self.read} of {self.sent} blocks, {why}")
        return self.read * BLOCK_BYTES

    async def cancel(self) -> None:
        """Nobody is interested any more."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


@dataclass(frozen=True)
class Pair:
    """A circuit at work."""

    source: Client
    target: Client
    flows: tuple[Flow, Flow]

    def ends_in(self, hit: set[Client]) -> bool:
        """Whether one of its peers is among these."""
        return self.source in hit or self.target in hit


class Crowd:
    """All peers of one relay. `seat` says in which process each one sits."""

    def __init__(self, relay: RelayProcess, peers: int, circuits: int) -> None:
        self._relay = relay
        self._wanted = peers, circuits
        self.clients: list[Client] = []
        self.pairs: list[Pair] = []
        self.seat: dict[Client, int] = {}

    async def enter(self) -> None:
        """Everybody connects and reserves; then the circuits, each between two who are not neighbours."""
        peers, circuits = self._wanted
        transports = ["tcp" if number % TCP_EVERY == 0 else "ws" for number in range(peers)]
        for start in range(0, peers, AT_ONCE):
            came = await asyncio.gather(*(self._come(each) for each in transports[start : start + AT_ONCE]))
            self.clients += came
        for number in range(circuits):
            source, target = self.clients[number], self.clients[-1 - number]
            circuit = await joined(source, target)
            flows = Flow(2 * number, circuit.left, circuit.right), Flow(2 * number + 1, circuit.right, circuit.left)
            self.pairs.append(Pair(source, target, flows))
        pids = [each["pid"] for each in self._relay.workers("listener")] if peers else []
        self.seat = await asyncio.to_thread(seats, self.clients, pids)

    async def _come(self, transport: str) -> Client:
        client = await Client.dial(self._relay.address(transport))
        await client.reserve()
        return client

    def sitting_in(self, pid: int) -> set[Client]:
        """Who has a connection to that process."""
        return {client for client, seat in self.seat.items() if seat == pid}

    @property
    def lost(self) -> set[Client]:
        """Whose connection has ended."""
        return {client for client in self.clients if client.closed.is_set()}

    async def moved(self, blocks: int, without: set[Client]) -> None:
        """Wait until every circuit but those has carried so many more blocks each way."""
        flows = [flow for pair in self.pairs if not pair.ends_in(without) for flow in pair.flows]
        goals = [(flow, flow.read + blocks) for flow in flows]

        async def reached() -> bool:
            return all(flow.read >= goal for flow, goal in goals if not flow.ended)

        await until(reached, f"{blocks} more blocks on each circuit")

    async def finish(self, without: set[Client]) -> int:
        """All circuits but those say their last block; how many bytes were compared. Raises WrongBytesError."""
        flows = [flow for pair in self.pairs if not pair.ends_in(without) for flow in pair.flows]
        return sum(await asyncio.gather(*(flow.finish() for flow in flows)))

    async def leave(self) -> None:
        """Everybody vanishes."""
        await asyncio.gather(*(flow.cancel() for pair in self.pairs for flow in pair.flows))
        await asyncio.gather(*(client.abort() for client in self.clients))


def seats(clients: Iterable[Client], pids: Iterable[int]) -> dict[Client, int]:
    """The process that holds the relay's end of each connection."""
    inode_of = {}
    with open("/proc/net/tcp", encoding="ascii") as table:
        for line in table:
            fields = line.split()
            inode_of[fields[1], fields[2]] = fields[9]
    holder = {}
    for pid in pids:
        for fd in os.listdir(f"/proc/{pid}/fd"):
            with suppress(FileNotFoundError):
                holder[os.readlink(f"/proc/{pid}/fd/{fd}")] = pid
    found = {}
    for client in clients:
        transport = socket_of(client)
        ends = [_hex(*transport.get_extra_info(end)[:2]) for end in ("peername", "sockname")]
        found[client] = holder[f"socket:[{inode_of[ends[0], ends[1]]}]"]
    return found


def _hex(ip: str, port: int) -> str:
    return f"{int.from_bytes(socket.inet_aton(ip), sys.byteorder):08X}:{port:04X}"
