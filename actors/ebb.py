"""Memory is given back when many have left.

glibc keeps what connections took among what is still used, and only gives back what lies at the end of its heap; after
a crowd has gone that is next to nothing. malloc_trim looks through all of it. Before that the cycles of those who left
have to go, which hold most of it until the garbage collector's turn comes: of 9 MiB that 250 rude peers had left, 1
could be given back without, all with. Both look at everything, so they are called when at least half of those who were
here have left, and never for a few. Nothing here is done a connection or a message.
"""

from __future__ import annotations

import ctypes
import gc
from collections.abc import Callable
from typing import Final

FEW: Final = 32
"""Fewer who have left are not worth the look."""


def _find() -> Callable[[int], int]:
    """Look up malloc_trim of glibc; elsewhere it is a matter of the C library."""
    return getattr(ctypes.CDLL(None), "malloc_trim", lambda _: 0)


class Ebb:
    """`look` is called now and then with how many there are."""

    __slots__ = ("_high", "_last", "_trim")

    def __init__(self, trim: Callable[[int], int] | None = None) -> None:
        self._trim = trim or _find()
        self._high = self._last = 0

    def look(self, connections: int, *, short: bool = False) -> None:
        """Give back what the others took, if they are many and no more are leaving.

        While memory is `short` few are worth it too: until it is given back, nobody new is taken.
        """
        falls, self._last = connections < self._last, connections
        self._high = max(self._high, connections)
        if not falls and self._high - connections >= max(1 if short else FEW, self._high / 2):
            self._high = connections
            gc.collect()
            self._trim(0)
