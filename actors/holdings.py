"""Who holds what: the records that the registry's table is made of.

Plain data. No rule here decides anything, and nothing but actors/registry.py may change a record.
"""

from __future__ import annotations

from typing import Generic, TypeVar

Key = TypeVar("Key", bytes, str)


class Worker:
    """One worker process and all it holds, so that all of it can be freed at once."""

    __slots__ = ("circuits", "connections", "name", "reservations", "tokens")

    def __init__(self, name: str) -> None:
        self.name = name
        self.reservations: dict[int, Reservation] = {}  # by connection, which is one peer's: Noise authenticated it
        self.circuits: dict[int, Circuit] = {}
        self.connections: dict[int, str] = {}  # connection -> IP; counted ones only
        self.tokens: dict[int, str] = {}  # connection -> name of its token, of those that have one


class Reservation:
    """The right of `peer` to be called over one connection, until `expires_s` (a whole second)."""

    __slots__ = ("connection", "expires_s", "ip", "peer", "worker")

    def __init__(self, peer: bytes, worker: Worker, connection: int, ip: str, expires_s: int) -> None:
        self.peer = peer
        self.worker = worker
        self.connection = connection
        self.ip = ip
        self.expires_s = expires_s


class Circuit:
    """A circuit from `source` to `target`, owned by the worker of the source."""

    __slots__ = ("source", "target", "worker")

    def __init__(self, source: bytes, target: bytes, worker: Worker) -> None:
        self.source = source
        self.target = target
        self.worker = worker


class Counts(dict[Key, int], Generic[Key]):
    """How many each key holds; a key that holds nothing is not kept."""

    __slots__ = ()

    def add(self, key: Key) -> None:
        """One more for `key`."""
        self[key] = self.get(key, 0) + 1

    def subtract(self, key: Key) -> None:
        """One fewer for `key`, which has at least one."""
        left = self[key] - 1
        if left:
            self[key] = left
        else:
            del self[key]
