"""Whose bytes a worker is working on, kept where its death does not reach; and who is denied for such deaths.

A label is 64 bytes: a peer ID, or the address of who has not shaken hands yet. A worker writes the label of a
connection into its place of the board before it looks at bytes from it and clears it behind (transports/wire.py). When
it dies of them, the supervisor reads the label, and who has crashed CRASHES workers is denied for DENIED_S. Must never
blame anybody for a death that comes from outside: a killed worker may be working for anyone.
"""

from __future__ import annotations

import mmap
import signal
from collections import OrderedDict
from struct import Struct
from typing import Final, NamedTuple

from actors.process import EXIT_FAULT
from transports.identity import peer_id_text
from transports.wire import LABEL_BYTES, NOBODY

CRASHES: Final = 2
"""One may be chance."""
WITHIN_S: Final = 3600.0
"""How long a crash is remembered."""
DENIED_S: Final = 3600.0
MAX_DENIED: Final = 64
MAX_SUSPECTS: Final = 1024

_PEER, _ADDRESS = b"p", b"a"
_SIGNALS: Final = frozenset(
    {signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGABRT, signal.SIGSYS, signal.SIGTRAP}
)
_CHANGES: Final = Struct("q")
_ENTRY: Final = Struct("dq")  # until when (CLOCK_MONOTONIC), and how many crashes
_ENTRY_BYTES: Final = LABEL_BYTES + _ENTRY.size


def of_peer(key: bytes) -> bytes:
    """The label of an authenticated peer."""
    return (_PEER + key).ljust(LABEL_BYTES, b"\0")[:LABEL_BYTES]


def of_address(ip: str) -> bytes:
    """The label of an address, as it is counted (actors/access.py)."""
    return (_ADDRESS + ip.encode()).ljust(LABEL_BYTES, b"\0")[:LABEL_BYTES]


def who(label: bytes) -> dict[str, str]:
    """A label as it stands in the log and the status: under `peer` or `address`."""
    text = label.rstrip(b"\0")
    return {"address": text[1:].decode()} if text[:1] == _ADDRESS else {"peer": peer_id_text(text[1:])}


def is_crash(code: int, *, hung: bool) -> bool:
    """Whether a worker that ended so may have died of what it was working on; `hung`: killed because it stood still."""
    return hung or code == EXIT_FAULT or -code in _SIGNALS


class Denied(NamedTuple):
    """One who is denied."""

    label: bytes
    until_s: float
    crashes: int


class Blame:
    """The notes of all workers and the table of who is denied, at `start` of the board's memory.

    Each worker writes its own note, the supervisor the table; anybody reads. A look at a table in which nobody is
    takes one read.
    """

    __slots__ = ("_first", "_memory", "_start")

    def __init__(self, memory: mmap.mmap, start: int, rows: int) -> None:
        self._memory = memory
        self._start = start
        self._first = start + rows * LABEL_BYTES + _CHANGES.size

    @staticmethod
    def size(rows: int) -> int:
        """How many bytes it takes."""
        return rows * LABEL_BYTES + _CHANGES.size + MAX_DENIED * _ENTRY_BYTES

    # Notes

    def place(self, row: int) -> slice:
        """Where the note of a slot is in the memory."""
        start = self._start + row * LABEL_BYTES
        return slice(start, start + LABEL_BYTES)

    def take(self, row: int) -> bytes:
        """Whose bytes the slot's process was working on when it ended; NOBODY: nobody's. Cleared for its successor."""
        place = self.place(row)
        label, self._memory[place] = self._memory[place], NOBODY
        return label if label[0] else NOBODY

    # Who is denied

    @property
    def changes(self) -> int:
        """How often the table has been changed."""
        number: int = _CHANGES.unpack_from(self._memory, self._first - _CHANGES.size)[0]
        return number

    def deny(self, label: bytes, crashes: int, now_s: float) -> None:
        """From now on for DENIED_S; of too many, the one who would be free first is."""
        entries = [self._entry(number) for number in range(MAX_DENIED)]
        known = [number for number, entry in enumerate(entries) if entry.label == label]
        number = known[0] if known else min(range(MAX_DENIED), key=lambda each: entries[each].until_s)
        at = self._first + number * _ENTRY_BYTES
        _ENTRY.pack_into(self._memory, at + LABEL_BYTES, 0.0, 0)  # so that no half a label is ever believed
        self._memory[at : at + LABEL_BYTES] = label
        _ENTRY.pack_into(self._memory, at + LABEL_BYTES, now_s + DENIED_S, crashes)
        _CHANGES.pack_into(self._memory, self._first - _CHANGES.size, self.changes + 1)

    def denies(self, label: bytes, now_s: float) -> bool:
        """Whether this one is denied now."""
        return self.changes > 0 and any(each.label == label for each in self.denied(now_s))

    def denied(self, now_s: float) -> list[Denied]:
        """All that are denied now."""
        return [entry for number in range(MAX_DENIED) if (entry := self._entry(number)).until_s > now_s]

    def _entry(self, number: int) -> Denied:
        at = self._first + number * _ENTRY_BYTES
        return Denied(self._memory[at : at + LABEL_BYTES], *_ENTRY.unpack_from(self._memory, at + LABEL_BYTES))


class Suspects:
    """How many workers have died of whose bytes, within WITHIN_S; of MAX_SUSPECTS at most."""

    def __init__(self) -> None:
        self._crashes: OrderedDict[bytes, list[float]] = OrderedDict()  # by the latest crash, the oldest first

    def crashed(self, label: bytes, now_s: float) -> int:
        """One more; how many there were lately, with this one."""
        before = [at_s for at_s in self._crashes.pop(label, []) if now_s - at_s < WITHIN_S]
        lately = self._crashes[label] = [*before[1 - CRASHES :], now_s]
        if len(self._crashes) > MAX_SUSPECTS:
            self._crashes.popitem(last=False)
        return len(lately)
