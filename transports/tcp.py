"""The TCP edge: a socket's bytes are a connection's bytes.

All sockets of a process read into one shared buffer, because what is read is consumed before the next read: an idle
TCP peer costs no read buffer. Must never keep a view of that buffer beyond the call.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Final, cast

from transports.transport_end import TransportEnd
from transports.wire import HIGH_WATER_BYTES, LOW_WATER_BYTES, Flusher, Wire, let_others_read
from transports.yamux import Buffer

_READ_BYTES: Final = 64 * 1024
_shared = memoryview(bytearray(_READ_BYTES))


class TcpEnd(TransportEnd, asyncio.BufferedProtocol):
    """The socket end of an accepted TCP connection, or of a Unix-socket connection between workers.

    `attach(wire)` gives the new wire its endpoint and owner.
    """

    __slots__ = ("_attach", "_flusher", "_now", "_wire", "socket")

    _wire: Wire
    socket: socket.socket

    def __init__(self, flusher: Flusher, now: Callable[[], float], attach: Callable[[Wire], None]) -> None:
        self._flusher = flusher
        self._now = now
        self._attach = attach

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """asyncio's: the socket is there."""
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(HIGH_WATER_BYTES, LOW_WATER_BYTES)
        self.socket = transport.get_extra_info("socket")
        peername = transport.get_extra_info("peername")
        ip, port = "", 0
        if isinstance(peername, tuple):
            ip, port = peername[0], peername[1]
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._wire = Wire(self, self._flusher, self._now, ip, port)
        self._attach(self._wire)

    def get_buffer(self, sizehint: int) -> memoryview:
        """asyncio's: where to read to."""
        return _shared

    def buffer_updated(self, nbytes: int) -> None:
        """asyncio's: `nbytes` were read. Noise copies them while it decrypts; only handshakes keep bytes, as copies."""
        self._wire.feed(_shared[:nbytes])
        if nbytes == _READ_BYTES:
            let_others_read(self._transport)

    def eof_received(self) -> bool:
        """asyncio's: the peer will send nothing more; a libp2p connection has no half-open state."""
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """asyncio's: the socket is gone."""
        self._wire.lost()

    def pause_writing(self) -> None:
        """asyncio's: over the high-water mark."""
        self._wire.pause()

    def resume_writing(self) -> None:
        """asyncio's: under the low-water mark."""
        self._wire.unpause()

    def write(self, data: Buffer) -> None:
        """Send, or hold until the socket takes it."""
        self._transport.write(data)
