"""How much memory the relay may take: limits.max_memory_mb, or a share of what the machine or the control group has.

Reads a few small files and keeps nothing. Must never fail: a file that is not there, or says nothing that is a number,
bounds nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

import psutil

from config.checks import LEAST_MEMORY_MB
from config.settings import Limits

SHARE: Final = 0.75
"""The rest is for the kernel, which has the sockets' buffers, and for what comes until newcomers are refused."""


def limit_bytes(limits: Limits) -> int:
    """What all processes of the relay may take together."""
    return limits.max_memory_mb << 20 or share_of(usable_bytes())


def share_of(usable: int) -> int:
    """What of so many bytes is the relay's by default; so little that it alone would take it all, it never is."""
    return max(int(SHARE * usable), LEAST_MEMORY_MB << 20)


def usable_bytes(root: Path = Path("/")) -> int:
    """What the machine has, or the control group that this process is in, if that is less."""
    return min([psutil.virtual_memory().total, *_group_bounds(root)])


def _group_bounds(root: Path) -> Iterator[int]:
    """The bounds of our control group and of those that it is in, in both versions.

    A line of /proc/self/cgroup is `0::/path` in version 2 and `5:memory:/path` in version 1. In a container the path
    may be the host's while the files are mounted at the top, so the way up to the top finds them too.
    """
    with suppress(OSError):
        for line in (root / "proc/self/cgroup").read_text(encoding="ascii", errors="replace").splitlines():
            number, controllers, path = line.split(":", 2)
            if number == "0" and not controllers:
                yield from _bounds(root / "sys/fs/cgroup", path, ("memory.max", "memory.high"))
            elif "memory" in controllers.split(","):
                yield from _bounds(root / "sys/fs/cgroup/memory", path, ("memory.limit_in_bytes",))


def _bounds(top: Path, path: str, names: tuple[str, ...]) -> Iterator[int]:
    inside = Path(path.strip("/"))
    for group in (top / inside, *(top / above for above in inside.parents)):
        for name in names:
            with suppress(OSError, ValueError):  # not there; `max`, which is no number
                yield int((group / name).read_text(encoding="ascii"))
