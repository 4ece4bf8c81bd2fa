"""The watch over the memory of all the relay's processes: above the limit, the workers are shown that it is short.

They read it from the board when somebody connects (actors/admission.py), so it costs a connection nothing, and those
who are here notice nothing. Must never hold up a process that it looks at more often than it has to.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from actors import log
from actors.board import BoardRow
from supervisor.admin.memory import read_memory_bytes, read_resident_bytes

LOOK_S: Final = 1.0
AGAIN: Final = 0.95
"""Of the limit; under it newcomers are taken again. What lies between keeps it from going back and forth."""

_logger = log.get_logger("admin")


class Pressure:
    """`rows` are those of all processes, `own` is that of the one that looks."""

    def __init__(
        self,
        rows: Sequence[BoardRow],
        own: BoardRow,
        share: Callable[[int], int] = read_memory_bytes,
        resident: Callable[[int], int] = read_resident_bytes,
    ) -> None:
        self._rows = rows
        self._own = own
        self._share = share
        self._resident = resident

    def look(self, limit_bytes: int) -> None:
        """Find whether memory is short, with the limit that is in force."""
        was = bool(self._own.sheds)
        bound_bytes = int(limit_bytes * AGAIN) if was else limit_bytes
        taken_bytes = self._taken_bytes(bound_bytes)
        short = taken_bytes > bound_bytes
        if short == was:
            return
        self._own.sheds = int(short)
        say = _logger.warning if short else _logger.info
        event = "memory is short, newcomers are refused" if short else "memory suffices, newcomers are taken again"
        say(event, memory_mb=taken_bytes >> 20, limit="limits.max_memory_mb", value=limit_bytes >> 20)

    def _taken_bytes(self, bound_bytes: int) -> int:
        """What all take.

        Pages that several share count for each of them in what is resident, which the kernel knows at once. For the
        right sum it has to walk through them, so that is asked for only when it could matter.
        """
        pids = [row.pid for row in self._rows if row.pid]
        resident_bytes = sum(map(self._resident, pids))
        return sum(map(self._share, pids)) if resident_bytes > bound_bytes else resident_bytes
