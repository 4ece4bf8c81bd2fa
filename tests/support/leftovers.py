"""What a process or a whole relay leaves behind: processes, descriptors, shared memory."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Final

import psutil

GONE_WITHIN_S: Final = 5.0
SHARED: Final = "/dev/shm/"


def tree(pid: int) -> list[int]:
    """A process and all below it."""
    return [pid, *(child.pid for child in psutil.Process(pid).children(recursive=True))]


def assert_gone(pids: Iterable[int]) -> None:
    """All of these end soon; whether anybody has read their exit codes is the business of their parent."""
    end_s = time.monotonic() + GONE_WITHIN_S
    while left := [pid for pid in pids if runs(pid)]:
        assert time.monotonic() < end_s, left
        time.sleep(0.005)


def runs(pid: int) -> bool:
    """Whether a process is there and no zombie."""
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def descriptors(pid: int) -> Counter[str]:
    """How many of which kind a process has open, but for its file of counters, which it opens with the first one."""
    kinds: Counter[str] = Counter()
    for fd in os.listdir(f"/proc/{pid}/fd"):
        with suppress(FileNotFoundError):
            kinds[os.readlink(f"/proc/{pid}/fd/{fd}").partition(":[")[0]] += 1
    return Counter({kind: count for kind, count in kinds.items() if not kind.endswith(".db")})


def shared_memory(pids: Iterable[int]) -> set[Path]:
    """The named shared memory that these processes have mapped."""
    lines = (line for pid in pids for line in Path(f"/proc/{pid}/maps").read_text().splitlines())
    return {Path(SHARED, line.partition(f" {SHARED}")[2]) for line in lines if f" {SHARED}" in line}
