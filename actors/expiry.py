"""When things end: a calendar of whole seconds from which anything can be taken off again at once.

A heap with lazy deletion would keep what was released until its time came; with fresh peer IDs coming and going that
is without bound. Here an entry is added and removed exactly, in O(1), and all that share a second are due together.
It must never read a clock and never look at entries that are not due.
"""

from __future__ import annotations

import heapq
import math
from typing import Generic, TypeVar

Entry = TypeVar("Entry")


def whole_second(at_s: float) -> int:
    """The first whole second that is not before `at_s`."""
    return math.ceil(at_s)


class ExpiryCalendar(Generic[Entry]):
    """Entries by the whole second in which they end. Entries are compared by identity or hash, each is in once."""

    __slots__ = ("_entries", "_seconds")

    def __init__(self) -> None:
        self._entries: dict[int, set[Entry]] = {}
        self._seconds: list[
            int
        ] = []  # a heap, each key of _entries once: as long as the longest wait, not as the table

    def add(self, second: int, entry: Entry) -> None:
        """Puts `entry` down for `second`."""
        entries = self._entries.get(second)
        if entries is None:
            self._entries[second] = {entry}
            heapq.heappush(self._seconds, second)
        else:
            entries.add(entry)

    def remove(self, second: int, entry: Entry) -> None:
        """Takes off `entry`, which was put down for `second`. The second stays on the heap until its time."""
        self._entries[second].remove(entry)

    def next_due(self, now: float) -> Entry | None:
        """Some entry that is due at `now`, without taking it off; None when nothing is."""
        while self._seconds and self._seconds[0] <= now:
            entries = self._entries[self._seconds[0]]
            if entries:
                return next(iter(entries))
            del self._entries[heapq.heappop(self._seconds)]
        return None
