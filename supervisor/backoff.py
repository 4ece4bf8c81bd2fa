"""How long to wait before a process that died is started again.

Numbers in, numbers out: no clock, no process. The first death costs nothing; a process that keeps dying is given
growing pauses, and one that lived long enough is forgiven. It must never answer with a pause that lets a tree spin.
"""

from __future__ import annotations

LIVED_WELL_S = 30.0
"""A process that lived this long has done nothing wrong: its death is a first one again."""
FAILED_AFTER = 3
"""Quick deaths in a row after which a slot is called failed while it waits."""
_FIRST_PAUSE_S = 0.25


class Backoff:
    """The pauses of one slot: 0, 0.25, 0.5, 1 … `max_s`."""

    __slots__ = ("max_s", "quick_deaths")

    def __init__(self, max_s: float) -> None:
        self.max_s = max_s
        self.quick_deaths = 0

    def died(self, lived_s: float) -> float:
        """The process is gone after `lived_s`; returns the pause in seconds before its successor."""
        if lived_s >= LIVED_WELL_S:
            self.quick_deaths = 0
        self.quick_deaths += 1
        if self.quick_deaths == 1:
            return 0.0
        exponent = min(self.quick_deaths - 2, 32)  # 2**32 quarters of a second are beyond any maximum
        return min(_FIRST_PAUSE_S * 2.0**exponent, self.max_s)

    @property
    def failed(self) -> bool:
        """Whether the slot is to be shown as failed while it waits."""
        return self.quick_deaths >= FAILED_AFTER
