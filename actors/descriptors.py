"""How many descriptors a process of the tree may have open, and how many of them its connections may take.

A process without one left can neither accept nor reach the registry, another worker or its certificate. So a worker
leaves the last ones alone: it refuses a connection beyond its room, by a reason of its own, before the kernel does.
(What the kernel refuses, uvloop accepts and closes at once, with a descriptor that it keeps for that.)
"""

from __future__ import annotations

import resource
from typing import Final

_OWN: Final = 64
"""Sockets, pipes and memory of a process, 45 at rest; of the admin process, its HTTP connections beside them."""
_PER_SLOT: Final = 8
"""The listening sockets of all, what they inherit of their predecessors, links between workers: 4 at rest."""


def own(slots: int) -> int:
    """How many a process of a tree of so many slots needs apart from peers."""
    return _OWN + _PER_SLOT * slots


def room(slots: int, limit: int | None = None) -> int:
    """How many connections a worker may hold with this limit; None: with the one that this process has."""
    if limit is None:
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return max(0, limit - own(slots))
