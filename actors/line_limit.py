"""A bound on log lines that strangers can cause: so many a second for each kind, and then how many were left out.

So a flood fills no disk, and its first lines, which name who sends it, still stand there for people and fail2ban. The
counters in the metrics count everything. No clock and no I/O: `now_s` is passed in. Must never hold more kinds than
the code has.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

LINES_PER_S: Final = 50


class LineLimit:
    """Asked before each line; `report` is called at least once a second."""

    __slots__ = ("_left", "_second", "_suppressed")

    def __init__(self) -> None:
        self._second = 0
        self._left: dict[str, int] = {}
        self._suppressed: dict[str, int] = {}

    def allows(self, kind: str, now_s: float) -> bool:
        """Whether a line of this kind may be written now; one that may not is counted."""
        second = int(now_s)
        if second != self._second:
            self._second = second
            self._left.clear()
        left = self._left.get(kind, LINES_PER_S)
        if not left:
            self._suppressed[kind] = self._suppressed.get(kind, 0) + 1
            return False
        self._left[kind] = left - 1
        return True

    def report(self, now_s: float, say: Callable[[str, int], None]) -> None:
        """Says how many lines of each kind were left out, once their second is over."""
        if not self._suppressed or int(now_s) == self._second:
            return
        suppressed, self._suppressed = self._suppressed, {}
        for kind, count in suppressed.items():
            say(kind, count)
