"""The worker link: yamux straight on a Unix socket between two workers of this relay.

Both ends are ours and the socket lies in a private directory, so there is nothing to authenticate but the user at the
other end. Flow control, half-close and reset of a circuit between workers are yamux's. Must never be reachable from
outside the machine.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from transports.yamux import Buffer, GoAway, Session, SessionHandler, Stream

MAX_LINK_STREAMS = 1 << 20


class LinkStream(Stream):
    """A stream whose bytes count as sent when the other worker has handed them on, and not when they are on the link.

    So the sender of a circuit gets credit for what has gone out to the receiver, and the two workers together hold one
    window a direction and not two. Credit comes in smaller pieces, because two thresholds of half a window each would
    leave the sender next to none.
    """

    __slots__ = ()
    CREDIT_BYTES: ClassVar = 32 * 1024

    def write(self, data: Buffer) -> int:
        """Send or queue; nothing counts as sent yet, but what can not be sent any more counts as gone."""
        if not self.writable or self._fin_queued:
            return len(data)
        super().write(data)
        return 0

    def resume(self) -> None:
        """The session's: there is room. The handler is told, for a FIN may have gone out behind the bytes."""
        if self._queue:
            self._send_queued()
            self.handler.data_sent(0)

    def on_window(self, delta: int) -> None:
        """The other worker has handed `delta` bytes on."""
        super().on_window(delta)
        self.handler.data_sent(delta)


class LinkConnection:
    """One end of a worker link; an Endpoint for a Wire."""

    __slots__ = ("session",)

    def __init__(self, initiator: bool, handler: SessionHandler, wake: Callable[[], None]) -> None:
        # A worker resets as many streams as circuits end, all of them at once when it stops: no budget.
        self.session: Session | None = Session(
            initiator, handler, wake, MAX_LINK_STREAMS, max_resets=float("inf"), stream_type=LinkStream
        )

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
