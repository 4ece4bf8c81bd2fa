"""When things end: a calendar of whole seconds from which anything can be taken off again at once.

A heap with lazy deletion would keep what was released until its time came; with fresh peer IDs coming and going that
is without bound. Here an entry is added and removed exactly, in O(1), nothing stays of a second that holds nobody, and
all that share a second are due together. It must never read a clock and never look at entries that are not due.
"""

from __future__ import annotations

import math
from typing import Generic, TypeVar

Entry = TypeVar("Entry")


def whole_second(at_s: float) -> int:
    """The first whole second that is not before `at_s`."""
    return math.ceil(at_s)


class ExpiryCalendar(Generic[Entry]):
    """Entries by the whole second in which they end. Entries are compared by identity or hash, each is in once."""

    __slots__ = ("_entries", "_first")

    def __init__(self) -> None:
        self._entries: dict[int, set[Entry]] = {}
        self._first = 0
        """No second before this one holds anybody."""

    def add(self, second: int, entry: Entry) -> None:
        """Puts `entry` down for `second`."""
        entries = self._entries.get(second)
        if entries is not None:
            entries.add(entry)
            return
        if second < self._first or not self._entries:
            self._first = second
        self._entries[second] = {entry}

    def remove(self, second: int, entry: Entry) -> None:
        """Takes off `entry`, which was put down for `second`."""
        entries = self._entries[second]
        entries.remove(entry)
        if not entries:
            del self._entries[second]

    def next_due(self, now: float) -> Entry | None:
        """Some entry that is due at `now`, without taking it off; None when nothing is. Each second is passed once."""
        while self._entries and self._first <= now:
            entries = self._entries.get(self._first)
            if entries is not None:
                return next(iter(entries))
            self._first += 1
        return None
