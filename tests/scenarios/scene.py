"""What a scenario is played with: a relay, the peers of one test, and where in the process tree they sit.

The kernel picks a connection's worker by the client's port, so a peer is dialled again until it sits where the scenario
wants it; which process holds a connection is asked of the operating system.
"""

from __future__ import annotations

import asyncio
import os
import re
import socket
import ssl
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any, TypeVar, overload

from actors.proto.circuit_pb2 import Status, StopMessage
from tests.support.client import Client, ClientStream, OnStop, _Tcp, _WebSocket
from tests.support.relay import RelayProcess
from transports.identity import peer_id_text
from transports.varint import delimited

TRANSPORTS = ("ws", "tcp", "wss")
TRIES = 64  # each lands in the wanted one of two workers every second time
WAIT_S = 15.0
ACCEPTED = delimited(StopMessage(type=StopMessage.STATUS, status=Status.OK).SerializeToString())

C = TypeVar("C", bound=Client)


class Puppet(Client):
    """A client whose STOP requests wait in `asked` until the test answers them; `identified`: the relay asked."""

    def __init__(self, host: Any, on_stop: OnStop) -> None:
        super().__init__(host, on_stop)
        self.asked: asyncio.Queue[tuple[StopMessage, ClientStream]] = asyncio.Queue()
        self.identified = asyncio.Event()

    async def _serve_stop(self, stream: ClientStream) -> None:
        await self.asked.put((StopMessage.FromString(await stream.read_message()), stream))

    async def _serve_identify(self, stream: ClientStream) -> None:
        self.identified.set()
        await super()._serve_identify(stream)

    async def stop_asked(self) -> ClientStream:
        """The stream of the next STOP, request read."""
        async with asyncio.timeout(WAIT_S):
            return (await self.asked.get())[1]


@dataclass(frozen=True)
class Circuit:
    """Two peers and the stream that each has of their circuit."""

    source: Client
    target: Client
    left: ClientStream
    right: ClientStream


@dataclass(frozen=True)
class Place:
    """Over what the peers come, and whether one worker holds both."""

    transport: str
    together: bool

    def __str__(self) -> str:
        return f"{self.transport}-{'same' if self.together else 'other'}-worker"


PLACES = tuple(Place(transport, together) for transport in TRANSPORTS for together in (True, False))


class Scene:
    """The peers of one test at one relay. `close` ends them all and waits until the relay holds nothing of them."""

    def __init__(self, relay: RelayProcess, place: Place, tls: ssl.SSLContext) -> None:
        self.relay = relay
        self.place = place
        self._tls = tls
        self._clients: list[Client] = []
        self._origins: dict[Client, str] = {}

    @property
    def address(self) -> str:
        """Where the scenario's peers dial."""
        return self.relay.address(self.place.transport)

    # Peers

    @overload
    async def dial(self, *, behind: str = "", **options: Any) -> Client: ...

    @overload
    async def dial(self, kind: type[C], *, behind: str = "", **options: Any) -> C: ...

    async def dial(self, kind: type[Client] = Client, *, behind: str = "", **options: Any) -> Client:
        """One peer, wherever it lands. `behind`: what a reverse proxy says about its address (WebSocket only)."""
        tls = self._tls if self.place.transport == "wss" else None
        if behind:
            options["headers"] = {"X-Forwarded-For": behind}
        client = await kind.dial(self.address, tls=tls, **options)
        self._clients.append(client)
        self._origins[client] = f"{behind or '127.0.0.1'}:{0 if behind else port_of(client)}"
        return client

    @overload
    async def dial_beside(self, other: Client, **options: Any) -> Client: ...

    @overload
    async def dial_beside(self, other: Client, kind: type[C], **options: Any) -> C: ...

    async def dial_beside(self, other: Client, kind: type[Client] = Client, **options: Any) -> Client:
        """One peer, in the worker of `other` or in the other one, as the place says."""
        home = self.worker_of(other)
        for _ in range(TRIES):
            client = await self.dial(kind, **options)
            if (self.worker_of(client) == home) == self.place.together:
                return client
            await client.abort()
        raise AssertionError(f"{TRIES} connections in a row did not land in the wanted worker")

    @overload
    async def reserved(self, **options: Any) -> Client: ...

    @overload
    async def reserved(self, kind: type[C], **options: Any) -> C: ...

    async def reserved(self, kind: type[Client] = Client, **options: Any) -> Client:
        """One peer that can be called."""
        client = await self.dial(kind, **options)
        await client.reserve()
        return client

    @overload
    async def pair(self, **options: Any) -> tuple[Client, Client]: ...

    @overload
    async def pair(self, target: type[C], **options: Any) -> tuple[Client, C]: ...

    async def pair(self, target: type[Client] = Client, **options: Any) -> tuple[Client, Client]:
        """A source and a reserved target, placed as the scenario wants them. The options are the target's."""
        called = await self.reserved(target, **options)
        return await self.dial_beside(called), called

    async def circuit(self) -> Circuit:
        """A circuit between two placed peers."""
        source, target = await self.pair()
        return await joined(source, target)

    def worker_of(self, client: Client) -> int:
        """The process ID of the worker that holds the client's connection."""
        held = f"socket:[{_inode_at_relay(client)}]"
        for pid in self._worker_pids():
            folder = f"/proc/{pid}/fd"
            for fd in os.listdir(folder):
                with suppress(FileNotFoundError):
                    if os.readlink(f"{folder}/{fd}") == held:
                        return pid
        raise AssertionError("no worker holds the connection")

    def _worker_pids(self) -> list[int]:
        pids: list[int] | None = getattr(self.relay, "worker_pids", None)
        if pids is None:
            pids = [each["pid"] for each in self.relay.workers("listener")]
            self.relay.worker_pids = pids  # type: ignore[attr-defined]  # they stay as long as nobody kills them
        return pids

    async def leave(self) -> None:
        """Everybody leaves."""
        clients, self._clients = self._clients, []
        await asyncio.gather(*(client.abort() for client in clients))

    async def close(self) -> None:
        """Everybody leaves; nothing may stay, neither with the workers nor with the registry."""
        await self.leave()
        await self.settled(connections=0, reservations=0, circuits=0)
        await self.registered(connections=0, reservations=0, circuits=0)

    def forget(self, client: Client) -> None:
        """One of many that has left already."""
        self._clients.remove(client)
        del self._origins[client]

    # What the relay says

    async def settled(self, **counts: int) -> dict[str, Any]:
        """Wait until the status shows these counts."""
        return await asyncio.to_thread(
            self.relay.wait_status, lambda now: all(now[name] == count for name, count in counts.items()), WAIT_S
        )

    async def registered(self, **counts: int) -> None:
        """Wait until the registry has these counts; it hears of connections a little later than of all else."""

        def heard(now: dict[str, Any]) -> bool:
            (registry,) = [each for each in now["workers"] if each["role"] == "registry"]
            return all(registry[name] == count for name, count in counts.items())

        await asyncio.to_thread(self.relay.wait_status, heard, WAIT_S)

    async def counted(self, name: str, **labels: str) -> float:
        """One counter of /metrics; 0 when it was never counted."""
        return await asyncio.to_thread(counter, self.relay, name, **labels)

    async def until_counted(self, at_least: float, name: str, **labels: str) -> None:
        """Wait until a counter has come that far, and not further."""

        async def reached() -> bool:
            return await self.counted(name, **labels) >= at_least

        await until(reached, f"{name}{labels} >= {at_least}")
        assert await self.counted(name, **labels) == at_least

    @asynccontextmanager
    async def counting(self, name: str, times: int = 1, **labels: str) -> AsyncIterator[None]:
        """What happens inside is counted `times` times under these labels."""
        before = await self.counted(name, **labels)
        yield
        await self.until_counted(before + times, name, **labels)

    @asynccontextmanager
    async def refusing(self, reason: str, *who: Client, times: int = 1) -> AsyncIterator[None]:
        """What happens inside is counted as refused for `reason`, and logged with the peer and its address."""
        async with self.counting("frost_relay_refusals_total", times, reason=reason):
            yield
        for client in who:
            await self.logged(
                "refused", f"reason={reason}", f"peer={name_of(client)}", f"address={self._origins[client]}"
            )

    async def logged(self, *words: str) -> str:
        """Wait for a line of the log that has all these words; returns it."""
        found: list[str] = []

        async def said() -> bool:
            lines = self.relay.stderr.splitlines()
            found[:] = [
                line for line in lines if all(re.search(rf"(?<!\S){re.escape(word)}(?!\S)", line) for word in words)
            ]
            return bool(found)

        await until(said, f"a log line with {words}")
        return found[-1]


def _inode_at_relay(client: Client) -> str:
    """The inode of the relay's end of a connection, from the kernel's table of IPv4 sockets."""
    transport = socket_of(client)
    ends = [transport.get_extra_info(end) for end in ("peername", "sockname")]
    local, remote = (f"{int.from_bytes(socket.inet_aton(ip), sys.byteorder):08X}:{port:04X}" for ip, port in ends)
    with open("/proc/net/tcp", encoding="ascii") as file:
        table = file.read()
    at = table.find(f" {local} {remote} ")
    if at < 0:
        raise AssertionError("the kernel does not know the connection")
    return table[at : table.find("\n", at)].split()[8]


def counter(relay: RelayProcess, name: str, **labels: str) -> float:
    """A counter's value in /metrics, 0 when it is not there."""
    status, body = relay.get("/metrics")
    assert status == 200, body
    pairs = ",".join(f'{label}="{value}"' for label, value in sorted(labels.items()))
    wanted = f"{name}{{{pairs}}} " if pairs else f"{name} "
    return sum(float(line.rpartition(" ")[2]) for line in body.splitlines() if line.startswith(wanted))


async def joined(source: Client, target: Client) -> Circuit:
    """A circuit between two peers that are there."""
    left = await source.connect(target.peer_id)
    caller, right = await target.called()
    assert caller == source.peer_id
    return Circuit(source, target, left, right)


async def until(condition: Callable[[], Awaitable[bool]], what: str) -> None:
    """Ask again and again until the condition holds."""
    end = time.monotonic() + WAIT_S
    while not await condition():
        if time.monotonic() > end:
            raise AssertionError(f"not within {WAIT_S} s: {what}")
        await asyncio.sleep(0.01)


async def gone(client: Client) -> None:
    """Wait until the relay has ended the client's connection."""
    async with asyncio.timeout(WAIT_S):
        await client.closed.wait()


async def still_served(client: Client) -> None:
    """The client's connection works: whatever it sent before has been read, and an answer comes."""
    assert (await client.identify()).publicKey


def socket_of(client: Client) -> Any:
    """The client's asyncio transport."""
    end = client.wire.end
    if isinstance(end, _WebSocket):
        return end.transport.underlying_transport
    assert isinstance(end, _Tcp)
    return end.transport


def port_of(client: Client) -> int:
    """The port that the relay sees."""
    port: int = socket_of(client).get_extra_info("sockname")[1]
    return port


def name_of(client: Client) -> str:
    """The client's peer ID as people know it."""
    return peer_id_text(client.peer_id)
