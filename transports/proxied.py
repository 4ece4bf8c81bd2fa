"""A listener behind a proxy that speaks the PROXY protocol: the header first, then whatever the listener speaks.

Stands in front of another protocol from accept until the header is read, and then hands the transport over, so that
what follows costs nothing more. The connection is the inner protocol's from the start: its owner's deadline runs. Must
never hand on a byte of a connection whose header is not one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final, Protocol, cast, runtime_checkable

from transports.proxy_header import MAX_V2_BYTES, ProxyHeaderError, ProxyHeaderReader
from transports.wire import Wire

Attach = Callable[[Wire], None]
Inner = Callable[[Attach], asyncio.BaseProtocol]
"""Makes the protocol of a new connection, which gives its wire to what it is called with."""


@runtime_checkable
class Waiting(Protocol):
    """An inner protocol that does not begin before the header is read: TLS, which speaks first."""

    def begin(self) -> asyncio.BufferedProtocol:
        """Begin. The transport's protocol is the one that this returns, which gets what came behind the header."""


_shared: Final = memoryview(bytearray(MAX_V2_BYTES))  # what is read is consumed before the next read


def protocol_factory(inner: Inner, attach: Attach, found: Attach | None) -> Callable[[], asyncio.BaseProtocol]:
    """What a server makes for each connection: the inner protocol, behind a PROXY header when `found` is given."""
    if found is None:
        return lambda: inner(attach)
    return lambda: ProxiedProtocol(inner, attach, found)


class ProxiedProtocol(asyncio.BufferedProtocol):
    """The protocol until the header is read. `found(wire)` is called then; the wire's address is now the client's."""

    def __init__(self, inner: Inner, attach: Attach, found: Attach) -> None:
        self._attach = attach
        self._found = found
        self._reader = ProxyHeaderReader()
        self._inner = inner(self._attached)
        self._transport: asyncio.Transport
        self._wire: Wire

    def _attached(self, wire: Wire) -> None:
        self._wire = wire
        self._attach(wire)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """asyncio's: the socket is there."""
        self._transport = cast("asyncio.Transport", transport)
        self._inner.connection_made(transport)

    def get_buffer(self, sizehint: int) -> memoryview:
        """asyncio's: where to read to."""
        return _shared

    def buffer_updated(self, nbytes: int) -> None:
        """asyncio's: `nbytes` were read."""
        wire = self._wire
        if wire.closing:
            return
        try:
            rest = self._reader.feed(_shared[:nbytes])
        except ProxyHeaderError as error:
            wire.abort(error)
            return
        if rest is None:
            return
        # Reading pauses, or the transport would go on to read for the old protocol.
        self._transport.pause_reading()
        self._transport.set_protocol(self._inner)
        self._transport.resume_reading()
        if self._reader.source is not None:
            wire.ip, wire.port = self._reader.source
        self._found(wire)
        if not wire.closing:
            self._pass_on(rest)

    def _begun(self) -> asyncio.BaseProtocol:
        """Whoever reads on."""
        if not isinstance(self._inner, Waiting):
            return self._inner
        self._transport.pause_reading()
        layer = self._inner.begin()
        self._transport.resume_reading()
        return layer

    def _pass_on(self, data: bytes) -> None:
        """What came behind the header, in buffers of the inner protocol if it has such."""
        reader = self._begun()
        if isinstance(reader, asyncio.Protocol):
            if data:
                reader.data_received(data)
            return
        inner, view = cast("asyncio.BufferedProtocol", reader), memoryview(data)
        while view and not self._wire.closing:
            buffer = memoryview(inner.get_buffer(len(view)))
            count = min(len(view), len(buffer))
            buffer[:count] = view[:count]
            inner.buffer_updated(count)
            view = view[count:]

    def eof_received(self) -> bool:
        """asyncio's: the proxy will send nothing more, not even a whole header."""
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """asyncio's: the socket is gone before the header was whole."""
        self._inner.connection_lost(exc)

    def pause_writing(self) -> None:
        """asyncio's: over the high-water mark."""
        self._inner.pause_writing()

    def resume_writing(self) -> None:
        """asyncio's: under the low-water mark."""
        self._inner.resume_writing()
