"""The worker link: yamux straight on a Unix socket between two workers of this relay.

Both ends are ours and the socket lies in a private directory, so there is nothing to authenticate but the user at the
other end. Flow control, half-close and reset of a circuit between workers are yamux's. Must never be reachable from
outside the machine.
"""

from __future__ import annotations

from collections.abc import Callable

from transports.yamux import Buffer, GoAway, Session, SessionHandler

MAX_LINK_STREAMS = 1 << 20


class LinkConnection:
    """One end of a worker link; an Endpoint for a Wire."""

    __slots__ = ("session",)

    def __init__(self, initiator: bool, handler: SessionHandler, wake: Callable[[], None]) -> None:
        # A worker resets as many streams as circuits end, all of them at once when it stops: no budget.
        self.session: Session | None = Session(initiator, handler, wake, MAX_LINK_STREAMS, max_resets=float("inf"))

    def receive(self, data: Buffer, now_s: float) -> None:
        """Bytes from the other worker; copied, because the read buffer is shared and a circuit may queue them."""
        if self.session is not None:
            self.session.receive(bytes(data), now_s)

    def take_output(self) -> Buffer:
        """Frames for the other worker."""
        return self.session.take_output() if self.session is not None else b""

    def go_away(self, code: GoAway) -> None:
        """Workers end their links by closing them."""

    def closed(self) -> None:
        """The other worker is gone, and with it every circuit across this link."""
        if self.session is not None:
            self.session.connection_lost()
