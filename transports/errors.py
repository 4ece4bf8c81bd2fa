"""The root of all errors that are a peer's fault.

A PeerError is answered and counted by its `reason`, never logged with a stack trace. Must never be raised for a fault
of ours.
"""

from __future__ import annotations

from typing import ClassVar


class PeerError(Exception):
    """A peer broke a protocol or a bound. `reason` is the counter's label, the text is for the log."""

    reason: ClassVar[str] = "peer_error"
