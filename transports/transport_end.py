"""What the socket ends have in common that write to an asyncio transport: how they close it, and what waits in it.

Must never be asked before `connection_made`.
"""

from __future__ import annotations

import asyncio


class TransportEnd:
    """A part of a wire.SocketEnd; `write` is for each end to say."""

    __slots__ = ("_transport",)

    _transport: asyncio.Transport

    def shut(self, error: Exception | None) -> None:
        """The transport's goodbye, whatever the reason: TCP's is its FIN, TLS has one of its own."""
        self._transport.close()

    def cut(self) -> None:
        """Close at once."""
        self._transport.abort()

    def unsent_bytes(self) -> int:
        """What the socket has not taken."""
        return self._transport.get_write_buffer_size()
