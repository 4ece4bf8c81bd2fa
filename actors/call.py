"""What is common to both ways of reaching a target: on this worker (stop.py) or across the worker link.

A call ends in exactly one answer: a stream that leads to the target with the bytes that already came along it, or the
Reason why there is none.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from actors.limits import Reason
from transports.yamux import Stream

Answer = Callable[["Stream | Reason", bytes], None]
"""Called once: (stream, its first bytes) or (reason, b"")."""


class Call(Protocol):
    """A call under way."""

    def cancel(self) -> None:
        """The caller is gone: reset what was opened; the answer is not called."""
