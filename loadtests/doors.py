"""How clients reach a relay, and how two of them are put into the same of its workers, or into two.

The kernel leads a connection to a worker by a hash over both its ends, so a source address leads to the same worker for
as long as the relay lives. Which one is learnt from outside: the relay is asked nothing and has nothing for it.
"""

from __future__ import annotations

import socket
import ssl
import struct
import time
from collections import deque
from collections.abc import Iterable
from enum import Enum
from pathlib import Path
from typing import Final

from loadtests.client import LoadClient

Local = tuple[str, int]
# Source addresses of their own, away from the ports that everything else on 127.0.0.1 takes.
SOURCE: Final = "127.0.0.77"
SETTLE_S: Final = 5.0
_RESET_ON_CLOSE: Final = struct.pack(
    "ii", 1, 0
)  # leaves no TIME_WAIT behind, so that the source port can be used again


class Placement(Enum):
    """Where the two peers of a pair sit."""

    ANYWHERE = "anywhere"
    TOGETHER = "together"
    APART = "apart"


class Door:
    """The address of a relay, and where its clients come from. A source address serves one connection."""

    def __init__(self, address: str, tls: ssl.SSLContext | None = None) -> None:
        self.address = address
        self._tls = tls

    def pair(self) -> tuple[Local | None, Local | None]:
        """Where the target and the caller of the next pair come from."""
        return None, None

    async def enter(self, local: Local | None = None) -> LoadClient:
        """A client that is connected and identified."""
        return await LoadClient.enter(self.address, tls=self._tls, local=local)


class PlacedDoor(Door):
    """Two workers behind one address. Pairs take turns, so that both workers have the same to do."""

    def __init__(self, address: str, workers: Iterable[int], placement: Placement, count: int) -> None:
        """`workers` are the processes that share the address; `count` is how many pairs will be asked for."""
        super().__init__(address)
        self._placement = placement
        port = int(address.split("/")[4])
        self._sources = sources(port, tuple(workers), count * 2)

    def pair(self) -> tuple[Local | None, Local | None]:
        """Two source addresses that lead to the same worker, or to two."""
        first, second = self._sources
        self._sources.reverse()
        return first.popleft(), (first if self._placement is Placement.TOGETHER else second).popleft()


def sources(port: int, workers: tuple[int, ...], count: int) -> list[deque[Local]]:
    """At least `count` source addresses for each worker, in the workers' order."""
    found: dict[int, deque[Local]] = {pid: deque() for pid in workers}
    while min(map(len, found.values())) < count:
        with_sockets = [_probe(port) for _ in range(256)]
        homes = _homes(port, workers, {probe.getsockname()[1] for probe in with_sockets})
        for probe in with_sockets:
            local = probe.getsockname()
            found[homes[local[1]]].append(local)
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
            probe.close()
    return list(found.values())


def _probe(port: int) -> socket.socket:
    probe = socket.socket()
    probe.bind((SOURCE, 0))
    probe.connect(("127.0.0.1", port))
    return probe


def _homes(port: int, workers: tuple[int, ...], probes: set[int]) -> dict[int, int]:
    """The process that has accepted the connection from each of these ports."""
    end = time.monotonic() + SETTLE_S
    while True:
        inodes = _accepted(port)
        owners = {inode: pid for pid in workers for inode in _socket_inodes(pid)}
        homes = {remote: owners[inode] for remote, inode in inodes.items() if inode in owners}
        if probes <= homes.keys():
            return homes
        if time.monotonic() > end:
            raise TimeoutError(f"{len(probes - homes.keys())} connections were not accepted")
        time.sleep(0.02)


def _accepted(port: int) -> dict[int, str]:
    """The inodes of the relay's sockets by the port at their other end."""
    found = {}
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        local, remote, inode = fields[1], fields[2], fields[9]
        if int(local.rpartition(":")[2], 16) == port and inode != "0":
            found[int(remote.rpartition(":")[2], 16)] = inode
    return found


def _socket_inodes(pid: int) -> set[str]:
    found = set()
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        try:
            target = str(entry.readlink())
        except FileNotFoundError:  # closed meanwhile
            continue
        if target.startswith("socket:["):
            found.add(target[8:-1])
    return found
