"""The ping protocol: gives back what it gets, 32 bytes at a time or however they come.

Must never hold more than MAX_WAITING_BYTES for a peer that sends pings and does not read the answers.
Spec: libp2p/specs ping/ping.md.
"""

from __future__ import annotations

from typing import Final

from actors import metrics
from transports.yamux import Buffer, ErrorCode, Stream

PROTOCOL: Final = b"/ipfs/ping/1.0.0"
MAX_WAITING_BYTES: Final = 4096
"""A ping is 32 bytes and a peer has one or a few under way."""


class PingStream:
    """The handler of a ping stream; the peer keeps it open as long as it likes."""

    __slots__ = ("_stream",)

    def __init__(self, stream: Stream) -> None:
        self._stream = stream

    def data_received(self, data: Buffer) -> None:
        """Echo."""
        stream = self._stream
        sent = stream.write(data)
        if stream.queued_bytes > MAX_WAITING_BYTES:
            metrics.PEER_ERRORS.labels("ping").inc()
            stream.reset(ErrorCode.RESOURCE_LIMIT_EXCEEDED)
        elif sent:
            stream.consumed(sent)

    def data_sent(self, count_bytes: int) -> None:
        """Echoes that waited have gone back."""
        self._stream.consumed(count_bytes)

    def eof_received(self) -> None:
        """The peer is done; so are we."""
        self._stream.close()

    def reset_received(self) -> None:
        """Nothing to give back."""
