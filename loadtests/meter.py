"""CPU time and memory of a process and all that it has started, read from outside.

CPU is user and system time of all threads, from the kernel's own clock of each process, in nanoseconds: the ticks in
/proc are 10 ms. Nothing here may disturb what it measures, so it asks only when a measurement begins and ends.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from pathlib import Path

QUIET_S = 0.1
QUIET_CPU_S = 0.002
QUIET_LIMIT_S = 5.0
_SCHEDULED_TIME = 2  # CPUCLOCK_SCHED in linux/posix-timers.h; clock_getcpuclockid(3) makes the same number


class TreeChangedError(Exception):
    """A process of the relay ended or was started while it was measured."""


def tree(pid: int) -> tuple[int, ...]:
    """A process and everything below it."""
    found = [pid]
    for each in found:
        for task in Path(f"/proc/{each}/task").iterdir():
            found += [int(child) for child in (task / "children").read_text().split()]
    return tuple(found)


def cpu_s(pids: Iterable[int]) -> float:
    """What these processes have taken so far."""
    return sum(time.clock_gettime((~pid << 3) | _SCHEDULED_TIME) for pid in pids)


def memory_bytes(pids: Iterable[int]) -> int:
    """Their proportional set size: what is shared counts once, split between all that share it."""
    return sum(_pss_kib(pid) for pid in pids) * 1024


def _pss_kib(pid: int) -> int:
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        name, _, value = line.partition(":")
        if name == "Pss":
            return int(value.split()[0])
    raise LookupError(f"no Pss of {pid}")


class Meter:
    """Measures one relay's tree, which must stay the same for as long as it does."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._pids = tree(pid)

    def cpu_s(self) -> float:
        """CPU time of the whole tree so far. Raises TreeChangedError."""
        if tree(self._pid) != self._pids:
            raise TreeChangedError(f"processes {self._pids} became {tree(self._pid)}")
        return cpu_s(self._pids)

    def memory_bytes(self) -> int:
        """PSS of the whole tree now."""
        return memory_bytes(self._pids)

    async def quiet_cpu_s(self) -> float:
        """`cpu_s`, once the relay has done what is left to do: it took less than 2 ms in the last 100.

        A relay that is never quiet is read after QUIET_LIMIT_S.
        """
        end = time.monotonic() + QUIET_LIMIT_S
        before = self.cpu_s()
        while True:
            await asyncio.sleep(QUIET_S)
            now = self.cpu_s()
            if now - before < QUIET_CPU_S or time.monotonic() > end:
                return now
            before = now
