"""The last hour, as the status page draws it: a ring of samples in a file of the runtime directory.

A sample's place follows from its time, so there is no head to keep, and a process that takes the file over goes on
where its predecessor ended; what nobody sampled is a gap. Bounded, never flushed, gone with the relay. It reads no
clock: `now` is monotonic and passed in.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from actors import log
from actors.limits import Reason

FILE: Final = "history"
STEP_S: Final = 10
POINTS: Final = 360
"""An hour."""
MINUTE: Final = 60 // STEP_S

GAUGES: Final = ("reservations", "circuits", "connections", "memory_bytes")
_logger = log.get_logger("admin")
_REASONS: Final = tuple(reason.value for reason in Reason)
_ROW: Final = 1 + len(GAUGES) + len(_REASONS)
"""Numbers of eight bytes in a row: which step it is of, what there was of each gauge, how many were refused."""


class History:
    """The ring. The first sample of a step stays; one who comes later in it changes nothing."""

    def __init__(self, directory: str) -> None:
        self._numbers = memoryview(_memory(os.path.join(directory, FILE), POINTS * _ROW * 8)).cast("q")

    @staticmethod
    def next_in_s(now: float) -> float:
        """How long until the next sample is due."""
        return STEP_S - now % STEP_S

    def note(self, now: float, gauges: Mapping[str, int], refusals: Mapping[str, int]) -> None:
        """Take a sample. The step is written last: until then the place counts as empty."""
        step = int(now // STEP_S)
        first = step % POINTS * _ROW
        if self._numbers[first] == step:
            return
        self._numbers[first] = 0
        for number, value in enumerate(_sample(gauges, refusals), first + 1):
            self._numbers[number] = value
        self._numbers[first] = step

    def document(self, now: float, gauges: Mapping[str, int], refusals: Mapping[str, int]) -> dict[str, Any]:
        """The content of /history.json, up to this moment, of which gauges and totals are given.

        Each series ends with the present; None is where nobody sampled. Of refusals it says how many came in each step,
        and for each reason how many came in the last minute and hour.
        """
        samples = [self._row(int(now // STEP_S) - back) for back in reversed(range(POINTS))]
        present = _sample(gauges, refusals)
        rows = [*samples, present]
        series: dict[str, list[int | None]] = {
            name: [row[number] if row else None for row in rows] for number, name in enumerate(GAUGES)
        }
        series["refusals"] = list(_steps([sum(_totals(row)) if row else None for row in rows]))
        counts = zip(
            _REASONS, _totals(present), _oldest(samples[-MINUTE:], present), _oldest(samples, present), strict=True
        )
        return {
            "step_s": STEP_S,
            "series": series,
            "refusals": {
                name: {"minute": total - minute_ago, "hour": total - hour_ago}
                for name, total, minute_ago, hour_ago in counts
                if total > hour_ago
            },
        }

    def _row(self, step: int) -> Sequence[int] | None:
        """What was sampled in a step."""
        first = step % POINTS * _ROW
        return self._numbers[first + 1 : first + _ROW] if step > 0 and self._numbers[first] == step else None


def _memory(path: str, size_bytes: int) -> mmap.mmap:
    """The file, mapped; memory of this process alone when there is no room for a file."""
    try:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            # Its blocks are taken now: a disk that is full later would end the process at a write (SIGBUS).
            os.posix_fallocate(fd, 0, size_bytes)
            return mmap.mmap(fd, size_bytes)
        finally:
            os.close(fd)
    except OSError as error:
        _logger.warning("history is kept in memory", path=path, error=error.strerror)
        return mmap.mmap(-1, size_bytes)


def _sample(gauges: Mapping[str, int], refusals: Mapping[str, int]) -> Sequence[int]:
    return [*(gauges[name] for name in GAUGES), *(refusals.get(name, 0) for name in _REASONS)]


def _totals(sample: Sequence[int]) -> Sequence[int]:
    """The part that says how many were refused."""
    return sample[len(GAUGES) :]


def _oldest(samples: Sequence[Sequence[int] | None], otherwise: Sequence[int]) -> Sequence[int]:
    """The totals of the oldest sample there is."""
    return _totals(next((sample for sample in samples if sample), otherwise))


def _steps(totals: Sequence[int | None]) -> Iterator[int | None]:
    """How much each total is above the one before it."""
    before = None
    for total in totals:
        yield None if total is None or before is None else total - before
        before = total
