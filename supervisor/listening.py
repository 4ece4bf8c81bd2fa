"""The listeners: their sockets and the slots of their workers, as they are to be at the start and after each reload.

A listener is known again by its address. What it has stays: its sockets, and its workers with those whom they serve.
What it lacks is opened, and what is too much leaves. Must never close a socket that was there before: all of a reload
may still be refused.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from socket import socket
from typing import Final

from actors.messages import Slot
from config.errors import ConfigError
from config.settings import Listener
from supervisor.socket_activation import PassedSockets
from transports import sockets
from transports.address import ListenAddress

SPARE_ROWS: Final = 256
"""Rows of the board for processes that reloads add. A row costs nothing until it is used."""


@dataclass(frozen=True, slots=True)
class Listening:
    """One listener that is served."""

    configured: ListenAddress
    where: ListenAddress
    """With the port that was bound."""
    sockets: tuple[socket, ...]
    slots: tuple[Slot, ...]
    is_passed: bool = False
    """Whether systemd has opened the sockets; its workers share them."""


@dataclass(slots=True)
class Room:
    """Rows and names that no process has. Whatever is taken from it is not given out again."""

    rows: list[int]
    """The next first."""
    names: set[str] = field(default_factory=set)
    """Those that are taken."""

    def check(self, processes: int) -> None:
        """Raises ConfigError when there are not so many rows."""
        if processes > len(self.rows):
            expected = f"at most {len(self.rows)} more until the relay is restarted, or until those that leave are gone"
            raise ConfigError("listeners", f"{processes} more processes", expected)

    def slot(self, prefix: str) -> Slot:
        """A slot of a worker, with the first number behind `prefix` that is free."""
        number = 0
        while f"{prefix}/{number}" in self.names:
            number += 1
        name = f"{prefix}/{number}"
        self.names.add(name)
        return Slot(self.rows.pop(0), name, "listener")


@dataclass(slots=True)
class Arrangement:
    """What came of it. `opened` has to be closed if the rest of the settings turns out to be no good."""

    listeners: list[Listening] = field(default_factory=list)
    leaving: list[Slot] = field(default_factory=list)
    opened: list[socket] = field(default_factory=list)


def workers(listener: Listener) -> int:
    """How many processes serve a listener; 0 in the settings is one a core that we may run on."""
    return listener.workers or len(os.sched_getaffinity(0))


def arrange(
    wanted: Sequence[tuple[ListenAddress, Listener]], running: Sequence[Listening], passed: PassedSockets, room: Room
) -> Arrangement:
    """Serve what is wanted in place of what is running. Raises ConfigError, and has opened nothing then."""
    left, pairs = list(running), []
    for address, listener in wanted:
        known = next((each for each in left if each.configured.multiaddr == address.multiaddr), None)
        if known is not None:
            left.remove(known)
        pairs.append((address, workers(listener), known))
    room.check(sum(max(0, count - (len(known.slots) if known else 0)) for _, count, known in pairs))
    made = Arrangement(leaving=_leaving(slot for each in left for slot in each.slots))
    given_up = {each.where.port for each in left} - {known.where.port for _, _, known in pairs if known}
    try:
        for index, (address, count, known) in enumerate(pairs):
            now = known or _begun(address, count, f"listeners[{index}]", passed, given_up, made.opened)
            made.listeners.append(_staffed(now, index, count, room, made))
    except ConfigError:
        sockets.close_all(made.opened)
        raise
    return made


def _begun(
    address: ListenAddress, count: int, key: str, passed: PassedSockets, given_up: set[int], opened: list[socket]
) -> Listening:
    """A new listener, with no workers yet. The ports that are given up may be had by one that is new."""
    taken = passed.take(address)
    if taken:
        opened += taken
        return Listening(address, address, tuple(taken), (), is_passed=True)
    where, listening = sockets.open_listeners(address, count, f"{key}.address", given_up)
    given_up.discard(where.port)
    opened += listening
    return Listening(address, where, tuple(listening), ())


def _staffed(now: Listening, index: int, count: int, room: Room, made: Arrangement) -> Listening:
    """As many workers as it is to have: each with a socket of its own, unless systemd has opened them."""
    key, listening = f"listeners[{index}]", list(now.sockets)
    if now.is_passed and len(listening) > count:
        expected = f"at least {len(listening)}: that many sockets were passed for it"
        raise ConfigError(f"{key}.workers", count, expected)
    if not now.is_passed:
        listening = listening[:count]
        while len(listening) < count:
            listening.append(sockets.open_listener(now.where, f"{key}.address"))
            made.opened.append(listening[-1])
    made.leaving += _leaving(now.slots[count:])
    prefix = f"{'wss' if now.where.tls else 'ws' if now.where.websocket else 'tcp'}-{now.where.port}"
    slots = list(now.slots[:count])
    slots += [room.slot(prefix) for _ in range(count - len(slots))]
    return replace(
        now,
        sockets=tuple(listening),
        slots=tuple(
            replace(
                slot,
                listener=now.where.multiaddr,
                listener_index=index,
                socket_fd=listening[number % len(listening)].fileno(),
                is_passed=now.is_passed,
            )
            for number, slot in enumerate(slots)
        ),
    )


def _leaving(slots: Iterable[Slot]) -> list[Slot]:
    return [replace(slot, leaving=True, listener_index=-1, socket_fd=-1) for slot in slots]
