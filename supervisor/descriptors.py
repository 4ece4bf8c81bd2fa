"""The limit of open files: raised to what the machine allows, and told when that is too little for the settings.

Done once, in main, before a socket is opened; every process inherits it. Must never lower it.
"""

from __future__ import annotations

import resource
from collections import Counter
from collections.abc import Sequence
from typing import Final

from actors.descriptors import own, room
from actors.messages import Slot
from config.errors import ConfigError

ENOUGH: Final = 1 << 20
"""What the kernel allows at most unless it was told otherwise; 'unlimited' may not be asked for."""
MIN_CONNECTIONS: Final = 64
"""A worker that cannot hold as many is not worth a start."""


def raise_limit(slots: int) -> int:
    """Allow this process, and all that are forked from it, as many descriptors as the machine does.

    Returns the limit. Raises ConfigError when it is too small for a tree of so many slots.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    limit = max(soft, ENOUGH) if hard == resource.RLIM_INFINITY else max(soft, min(hard, ENOUGH))
    needed = own(slots) + MIN_CONNECTIONS
    if limit < needed:
        expected = f"at least {needed} open files a process, for {slots} of them (LimitNOFILE= in the unit)"
        raise ConfigError("ulimit -n", limit, expected)
    if limit != soft:
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
    return limit


def shortage(max_connections: int, slots: Sequence[Slot]) -> str:
    """What to tell the operator when the settings allow more connections than there are descriptors; "" if not."""
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    workers = Counter(slot.listener_index for slot in slots if slot.role == "listener" and not slot.leaving)
    most = min(workers.values()) * room(len(slots), limit)  # all peers may come by one listener
    if max_connections <= most:
        return ""
    return (
        f"limits.max_connections = {max_connections}: a process may open {limit} files (ulimit -n, LimitNOFILE= in "
        f"the unit), so one listener takes {most} connections at most"
    )
