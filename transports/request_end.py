"""The edge of a WebSocket connection from accept to upgrade: TLS if there is any, one HTTP request, its answer.

A connection has its Wire, and so its owner, its deadline and its place in every count, from accept on, whatever it
still has to shake hands at. Must never let a request hang, and never close over an answer that is on its way.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import Final, cast

from transports.http_request import MAX_HEAD_BYTES, SNI, Answer, RequestReader, Upgrade, answer
from transports.proxied import Attach
from transports.tls import Tls, TlsError, broken_record, shake_hands
from transports.transport_end import TransportEnd
from transports.wire import LINGER_S, Flusher, SocketEnd, Wire
from transports.yamux import Buffer

# What every connection reads its request into: nothing of a request is kept but what is not complete.
_shared: Final = memoryview(bytearray(2 * MAX_HEAD_BYTES))

Admit = Callable[[Wire, str, Mapping[str, str]], HTTPStatus | None]
"""Decides on an upgrade request's target and headers (with SNI among them): None lets it in, a status refuses it."""

TakeOver = Callable[[asyncio.Transport, Wire, Upgrade], None]
"""Makes a WebSocket of a connection whose upgrade was let in."""


@dataclass(frozen=True, slots=True)
class Gate:
    """What the connections of a listener have in common."""

    flusher: Flusher
    now: Callable[[], float]
    admit: Admit
    take_over: TakeOver

    def wire(self, end: SocketEnd, transport: asyncio.BaseTransport, attach: Attach) -> Wire:
        """The wire of a connection that was accepted; its owner may have refused it already."""
        peername = transport.get_extra_info("peername")
        ip, port = (peername[0], peername[1]) if isinstance(peername, tuple) else ("", 0)
        wire = Wire(end, self.flusher, self.now, ip, port)
        attach(wire)
        return wire


class RequestEnd(TransportEnd, asyncio.BufferedProtocol):
    """The socket end of a connection until its upgrade. What is no upgrade gets an answer, never a hang."""

    __slots__ = ("_attach", "_gate", "_reader", "_wire")

    _wire: Wire

    def __init__(self, gate: Gate, attach: Attach) -> None:
        self._gate = gate
        self._attach = attach
        self._reader: RequestReader | None = RequestReader()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """asyncio's: the socket is there; nothing has been read yet."""
        self._transport = cast("asyncio.Transport", transport)
        self._wire = self._gate.wire(self, transport, self._attach)

    def get_buffer(self, sizehint: int) -> memoryview:
        """asyncio's: where to read to."""
        return _shared

    def buffer_updated(self, nbytes: int) -> None:
        """asyncio's: a piece of the request. What follows one that was answered is dropped."""
        if self._reader is None or self._wire.closing:
            return
        request = self._reader.feed(bytes(_shared[:nbytes]))
        if request is None:
            return
        self._reader = None
        if isinstance(request, Answer):
            self._settle(request)
            return
        refused = self._asked(request)
        if refused is None:
            self._gate.take_over(self._transport, self._wire, request)
        else:
            self._settle(Answer(answer(refused)))

    def eof_received(self) -> bool:
        """asyncio's: the peer will send nothing more, so it gets nothing more than what was written."""
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """asyncio's: the socket is gone."""
        self._wire.lost(None if self._wire.closing else broken_record(exc))

    def _asked(self, request: Upgrade) -> HTTPStatus | None:
        try:
            return self._gate.admit(self._wire, request.target, request.headers)
        except Exception as error:  # noqa: BLE001 - ours: the smallest thing that can fail is this connection
            self._gate.flusher.on_fault(error)
            return HTTPStatus.INTERNAL_SERVER_ERROR

    def _settle(self, said: Answer) -> None:
        """Answer, and end the connection."""
        transport = self._transport
        transport.write(said.data)
        if said.error is not None:
            self._wire.refuse(said.error)
        if said.error is not None and transport.can_write_eof():
            # The rest of a bad request may be on its way, and to close over bytes unread is a reset that takes the
            # answer from the peer again (RFC 9112, 9.6). TLS has its own goodbye, and reads until it is answered.
            transport.write_eof()
        else:
            transport.close()
        self._gate.flusher.call_later(LINGER_S, self.cut)

    # To the socket

    def write(self, data: Buffer) -> None:
        """Nothing of a connection's bytes can be said before the upgrade."""


class _RequestAboveTls(RequestEnd):
    """The socket end of a connection that has its wire already."""

    __slots__ = ("_name", "_tls")

    def __init__(self, gate: Gate, attach: Attach, wire: Wire, tls: Tls) -> None:
        super().__init__(gate, attach)
        self._wire = wire
        self._tls = tls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """asyncio's: TLS has shaken hands."""
        self._transport = cast("asyncio.Transport", transport)
        self._wire.end = self
        self._name = self._tls.name_asked_for(transport.get_extra_info("ssl_object"))

    def _asked(self, request: Upgrade) -> HTTPStatus | None:
        if self._name:
            request = replace(request, headers={**request.headers, SNI: self._name})
        return super()._asked(request)


class TlsEnd(TransportEnd, asyncio.Protocol):
    """The socket end of a connection while TLS shakes hands; then a RequestEnd takes the wire over.

    uvloop's own way, create_server(ssl=…), shows a connection when TLS has shaken hands, and one that fails at it
    never: neither deadline nor count could begin at accept.
    """

    __slots__ = ("_attach", "_gate", "_tls", "_waits", "_wire")

    _wire: Wire

    def __init__(self, gate: Gate, attach: Attach, tls: Tls, *, waits: bool) -> None:
        """`waits`: a PROXY header is read first, and `begin` called behind it."""
        self._gate = gate
        self._attach = attach
        self._tls = tls
        self._waits = waits

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """asyncio's: the socket is there. TLS begins, unless the owner has refused the connection."""
        self._transport = cast("asyncio.Transport", transport)
        wire = self._wire = self._gate.wire(self, transport, self._attach)
        if not (wire.closing or self._waits):
            self.begin()

    def begin(self) -> asyncio.BufferedProtocol:
        """Begin TLS; gives what is to be fed with bytes that were read already."""
        above = _RequestAboveTls(self._gate, self._attach, self._wire, self._tls)
        layer, done = shake_hands(self._transport, above, self._tls)
        done.add_done_callback(self._shaken)
        return layer

    def connection_lost(self, exc: Exception | None) -> None:
        """asyncio's: the socket is gone before TLS began."""
        self._wire.lost()

    def _shaken(self, done: asyncio.Future[None]) -> None:
        failure = done.exception()
        if isinstance(failure, OSError):  # TLS' own are some too
            self._wire.lost(TlsError.of(failure))
        elif self._wire.end is self:
            self._wire.lost(failure if isinstance(failure, Exception) else None)

    # To the socket

    def write(self, data: Buffer) -> None:
        """Nothing can be said before TLS."""
