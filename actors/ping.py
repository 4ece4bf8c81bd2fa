"""The ping protocol: gives back what it gets, 32 bytes at a time or however they come.

Must never hold more than the peer's window: bytes are given credit for only when they have gone back.
Spec: libp2p/specs ping/ping.md.
"""

from __future__ import annotations

from typing import Final

from transports.yamux import Buffer, Stream

PROTOCOL: Final = b"/ipfs/ping/1.0.0"


class PingStream:
    """The handler of a ping stream; the peer keeps it open as long as it likes."""

    __slots__ = ("_stream",)

    def __init__(self, stream: Stream) -> None:
        self._stream = stream

    def data_received(self, data: Buffer) -> None:
        """Echo."""
        sent = self._stream.write(data)
        if sent:
            self._stream.consumed(sent)

    def data_sent(self, count_bytes: int) -> None:
        """Echoes that waited have gone back."""
        self._stream.consumed(count_bytes)

    def eof_received(self) -> None:
        """The peer is done; so are we."""
        self._stream.close()

    def reset_received(self) -> None:
        """Nothing to give back."""
