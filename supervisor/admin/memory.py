"""How much memory and CPU a process takes.

Memory is its proportional share (PSS), which adds up over a forked tree as RSS does not.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Final

import psutil

FRESH_S: Final = 2.0
"""Reading it makes the kernel walk the process's pages (0.3 to 3 ms), so an answer is used this long."""
_PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")


def read_memory_bytes(pid: int) -> int:
    """PSS in bytes, or RSS where the kernel does not tell PSS; 0 for no process."""
    if not pid:
        return 0
    try:
        with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as lines:
            for line in lines:
                if line.startswith("Pss:"):
                    return int(line.split()[1]) * 1024
    except OSError:
        pass  # gone, or not ours to read: the next way knows
    try:
        return int(psutil.Process(pid).memory_info().rss)
    except psutil.Error:
        return 0


def read_resident_bytes(pid: int) -> int:
    """RSS in bytes, in some µs; never less than PSS. 0 for no process."""
    try:
        with open(f"/proc/{pid}/statm", encoding="ascii") as line:
            return int(line.read().split()[1]) * _PAGE_BYTES
    except OSError:
        return 0


def read_cpu_seconds(pid: int) -> float:
    """What a process has used of all cores, user and system; 0 for no process."""
    if not pid:
        return 0.0
    try:
        used = psutil.Process(pid).cpu_times()
    except psutil.Error:
        return 0.0
    return float(used.user + used.system)


class Memory:
    """Remembers each process's figure for a moment."""

    def __init__(
        self, read: Callable[[int], int] = read_memory_bytes, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._read = read
        self._clock = clock
        self._known: dict[int, tuple[float, int]] = {}

    def __call__(self, pid: int) -> int:
        """Bytes that the process takes, at most FRESH_S old."""
        now = self._clock()
        known = self._known.get(pid)
        if known is not None and now - known[0] < FRESH_S:
            return known[1]
        self._known = {other: entry for other, entry in self._known.items() if now - entry[0] < FRESH_S}
        value = self._read(pid)
        self._known[pid] = (now, value)
        return value
