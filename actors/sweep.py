"""A look at each of many connections that holds up none of them: a few at a time, with the loop's turn in between.

Whoever comes after the sweep began is not looked at, and whoever has gone meanwhile still is: `visit` must bear that.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Final, Generic, TypeVar

T = TypeVar("T")

AT_ONCE: Final = 128
PAUSE_S: Final = 0.01


class Sweep(Generic[T]):
    """Calls `visit` for each of `each`, from the loop: `at_once` of them next, as many more every PAUSE_S."""

    __slots__ = ("_at_once", "_left", "_loop", "_timer", "_visit")

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        each: Iterable[T],
        visit: Callable[[T], None],
        at_once: int = AT_ONCE,
    ) -> None:
        self._loop = loop
        self._at_once = at_once
        self._left = list(each)
        self._left.reverse()  # taken from the end: the first comes first
        self._visit = visit
        # Not at once: a message that comes by Thespian is handled between two runs of the loop, and what a visit sets
        # off (the end of a TLS connection) needs one that runs.
        self._timer: asyncio.Handle | None = loop.call_soon(self._turn)

    @property
    def left(self) -> int:
        """How many are still to be visited."""
        return len(self._left)

    def cancel(self) -> None:
        """Visit nobody any more."""
        self._left.clear()
        if self._timer is not None:
            self._timer.cancel()

    def _turn(self) -> None:
        for _ in range(min(self._at_once, len(self._left))):
            self._visit(self._left.pop())
        self._timer = self._loop.call_later(PAUSE_S, self._turn) if self._left else None
