"""The WebSocket edge (picows): payloads of binary frames are a connection's bytes.

A libp2p peer may cut its byte stream into frames as it likes, so frames and fragments are fed on as they come and
never assembled. Must never trust a length or a frame type: what is not binary data ends the connection.

picows as it needs to be run (measured): without aiofastnet, whose listener goes deaf after a peer that resets right
behind a frame; a read buffer of 2 KiB instead of 16 (14 instead of 28 KiB for an idle peer); a backlog of 4096. Its
protocol class is used directly and takes a socket over at the upgrade, so that a connection is ours from accept and
picows never reads a request that strangers wrote.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any, Final, cast

from picows import (
    WSAutoPingStrategy,
    WSCloseCode,
    WSFrame,
    WSListener,
    WSMsgType,
    WSTransport,
)
from picows.picows import WSProtocol  # type: ignore[attr-defined]  # not in its stubs

from transports.errors import PeerError
from transports.http_request import MAX_HEAD_BYTES, Answer, RequestReader, Upgrade, answer
from transports.proxied import Attach, protocol_factory
from transports.wire import HIGH_WATER_BYTES, LINGER_S, LOW_WATER_BYTES, Flusher, Wire
from transports.yamux import Buffer

MAX_FRAME_BYTES: Final = 256 * 1024
READ_BUFFER_BYTES: Final = 2048
BACKLOG: Final = 4096
MAX_EMPTY_FRAMES: Final = 64

# What picows is given to read in place of the request, which http_request.py has read. picows takes heads of 16 KiB and
# versions 7 and 8, and answers 400 to Firefox, which says `Connection: keep-alive, Upgrade`.
_OPENING: Final = (
    b"GET / HTTP/1.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: %b\r\n\r\n"
)
# What every connection reads its request into: 3 KiB less for a WSS peer (measured) than a piece of bytes a read.
_shared = memoryview(bytearray(2 * MAX_HEAD_BYTES))
_DATA: Final = (WSMsgType.BINARY, WSMsgType.CONTINUATION)

Admit = Callable[[Wire, Mapping[str, str]], HTTPStatus | None]
"""Decides on an upgrade request's headers: None lets it in, a status refuses it."""


class WebSocketError(PeerError):
    """A frame that a libp2p peer does not send: text, reserved bits, endless empty fragments."""

    reason = "websocket"


class _Silence:
    """A logger for picows, which logs what peers do wrong as errors; here that is counted.

    One of logging's own would also cost each connection a child logger, 1 KiB.
    """

    def isEnabledFor(self, level: int) -> bool:  # noqa: N802 - logging's name
        return False

    def log(self, *args: Any, **kwargs: Any) -> None:
        """Nothing."""

    debug = info = warning = error = exception = log


_SILENCE: Final = _Silence()


class RequestEnd(asyncio.BufferedProtocol):
    """The socket end of a WebSocket connection from accept to upgrade.

    `attach(wire)` gives the new wire its endpoint and owner; `admit(wire, headers)` is asked at the upgrade. What is no
    upgrade gets an answer, never a hang.
    """

    __slots__ = ("_admit", "_attach", "_flusher", "_now", "_reader", "_transport", "_wire")

    _transport: asyncio.Transport
    _wire: Wire

    def __init__(
        self, flusher: Flusher, now: Callable[[], float], attach: Callable[[Wire], None], admit: Admit
    ) -> None:
        self._flusher = flusher
        self._now = now
        self._attach = attach
        self._admit = admit
        self._reader: RequestReader | None = RequestReader()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """asyncio's: the socket is there; nothing has been read yet."""
        self._transport = cast("asyncio.Transport", transport)
        peername = transport.get_extra_info("peername")
        ip, port = (peername[0], peername[1]) if isinstance(peername, tuple) else ("", 0)
        self._wire = Wire(self, self._flusher, self._now, ip, port)
        self._attach(self._wire)

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
        refused = self._asked(request.headers)
        if refused is None:
            self._upgrade(request)
        else:
            self._settle(Answer(answer(refused)))

    def eof_received(self) -> bool:
        """asyncio's: the peer will send nothing more, so it gets nothing more than what was written."""
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """asyncio's: the socket is gone."""
        self._wire.lost()

    def _asked(self, headers: Mapping[str, str]) -> HTTPStatus | None:
        try:
            return self._admit(self._wire, headers)
        except Exception as error:  # noqa: BLE001 - ours: the smallest thing that can fail is this connection
            self._flusher.on_fault(error)
            return HTTPStatus.INTERNAL_SERVER_ERROR

    def _settle(self, said: Answer) -> None:
        """Answer, and end the connection."""
        transport = self._transport
        transport.write(said.data)
        if said.error is not None:
            self._wire.refuse(said.error)
        if said.error is None or not transport.can_write_eof():
            transport.close()
            return
        # The rest of a bad request may be on its way, and to close over bytes unread is a reset that takes the answer
        # from the peer again (RFC 9112, 9.6). TLS has its own goodbye, and reads until it is answered.
        transport.write_eof()
        self._flusher.call_later(LINGER_S, self.cut)

    def _upgrade(self, request: Upgrade) -> None:
        """From here on the socket is picows'."""
        transport, protocol = self._transport, _Protocol(WebSocketEnd(self._wire))
        transport.set_protocol(protocol)
        protocol.connection_made(transport)
        protocol.take(_OPENING % request.key.encode() + request.rest)

    # To the socket

    def write(self, data: Buffer) -> None:
        """Nothing of a connection's bytes can be said before the upgrade."""

    def shut(self, error: Exception | None) -> None:
        """TCP's goodbye."""
        self._transport.close()

    def cut(self) -> None:
        """Close at once."""
        self._transport.abort()

    def unsent_bytes(self) -> int:
        """What the socket has not taken."""
        return self._transport.get_write_buffer_size()


class WebSocketEnd(WSListener):
    """The socket end of a WebSocket connection from its upgrade."""

    __slots__ = ("_broken", "_empty_frames", "_transport", "_wire")

    _transport: WSTransport

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self._empty_frames = 0
        self._broken = False  # picows has answered a frame that breaks RFC 6455

    def upgrading(self, transport: WSTransport) -> None:
        """The socket is this end's."""
        self._transport = transport
        transport.underlying_transport.set_write_buffer_limits(HIGH_WATER_BYTES, LOW_WATER_BYTES)
        self._wire.end = self

    def on_ws_connected(self, transport: WSTransport) -> None:
        """picows': the upgrade is done. It keeps the request; its headers are not needed any more."""
        transport.request.headers.clear()

    def lost(self) -> None:
        """The socket is gone."""
        self._wire.lost(WebSocketError("a frame that breaks RFC 6455") if self._broken else None)

    # Frames

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        """picows': one frame, its payload valid during the call."""
        kind = frame.msg_type
        if frame.rsv1 or frame.rsv2 or frame.rsv3:  # RFC 6455 section 5.2; picows leaves it to us
            self._wire.close(WebSocketError("a reserved bit without an extension"))
        elif kind in _DATA:
            if frame.payload_size:
                self._empty_frames = 0
                self._wire.feed(frame.get_payload_as_memoryview())
            else:
                self._count_empty()
        elif kind == WSMsgType.PING:
            transport.send_pong(frame.get_payload_as_bytes())
            self._wire.check_reading()
        elif kind == WSMsgType.CLOSE:
            self._wire.close()
        elif kind == WSMsgType.TEXT:
            self._wire.close(WebSocketError("a text frame"))

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        """picows': `lost` follows. A close frame that we did not send was picows' answer to a broken frame."""
        if transport.is_close_frame_sent and not self._wire.closing:
            self._broken = True

    def pause_writing(self) -> None:
        """picows': over the high-water mark."""
        self._wire.pause()

    def resume_writing(self) -> None:
        """picows': under the low-water mark."""
        self._wire.unpause()

    def _count_empty(self) -> None:
        self._empty_frames += 1
        if self._empty_frames > MAX_EMPTY_FRAMES:
            self._wire.close(WebSocketError("empty frames without end"))

    # To the socket

    def write(self, data: Buffer) -> None:
        """One frame, or as many as MAX_FRAME_BYTES asks for."""
        if len(data) <= MAX_FRAME_BYTES:
            self._transport.send(WSMsgType.BINARY, data)
            return
        view = memoryview(data)
        for start in range(0, len(view), MAX_FRAME_BYTES):
            self._transport.send(WSMsgType.BINARY, view[start : start + MAX_FRAME_BYTES])

    def shut(self, error: Exception | None) -> None:
        """A close frame, then TCP's goodbye."""
        transport = self._transport
        if not transport.is_close_frame_sent:
            transport.send_close(WSCloseCode.OK if error is None else WSCloseCode.PROTOCOL_ERROR)
        transport.disconnect(True)

    def cut(self) -> None:
        """Close at once."""
        self._transport.disconnect(False)

    def unsent_bytes(self) -> int:
        """What the socket has not taken."""
        return self._transport.underlying_transport.get_write_buffer_size()


class _Protocol(WSProtocol):  # type: ignore[misc]  # picows' class is Cython
    """picows' protocol, from the upgrade on, telling its end when the socket is gone."""

    __slots__ = ("_end",)

    def __init__(self, end: WebSocketEnd) -> None:
        super().__init__(
            None,  # host and port, path: a client's
            None,
            False,
            lambda _request: end,
            _SILENCE,
            True,  # disconnect on an exception
            None,  # no time-out of picows' own: the owner's runs from accept, over all steps
            False,  # no pings of its own
            0,
            0,
            WSAutoPingStrategy.PING_WHEN_IDLE,
            False,  # pongs are ours, so that they are bounded
            MAX_FRAME_BYTES,
            None,  # extra headers: a client's
            READ_BUFFER_BYTES,
        )
        self._end = end

    def connection_made(self, transport: asyncio.Transport) -> None:
        super().connection_made(transport)
        self._end.upgrading(self.transport)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._end.lost()

    def take(self, data: bytes) -> None:
        """Bytes that were read for it before it was there."""
        view = memoryview(data)
        while view:
            room = self.get_buffer(len(view))
            size = min(len(room), len(view))
            room[:size] = view[:size]
            self.buffer_updated(size)
            view = view[size:]


async def serve(
    sock: socket.socket,
    flusher: Flusher,
    now: Callable[[], float],
    attach: Callable[[Wire], None],
    admit: Admit,
    tls: ssl.SSLContext | None = None,
    tls_handshake_timeout_s: float | None = None,
    found: Attach | None = None,
) -> asyncio.Server:
    """Accept WebSocket connections on a listening socket; `found`: behind a PROXY header, see transports/proxied.py."""
    return await asyncio.get_running_loop().create_server(
        protocol_factory(lambda attach: RequestEnd(flusher, now, attach, admit), attach, found),
        sock=sock,
        ssl=tls,
        ssl_handshake_timeout=tls_handshake_timeout_s,
        backlog=BACKLOG,
    )
