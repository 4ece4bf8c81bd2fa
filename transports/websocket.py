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
from collections.abc import Callable
from http import HTTPStatus
from typing import Any, Final

from picows import (
    WSAutoPingStrategy,
    WSCloseCode,
    WSFrame,
    WSListener,
    WSMsgType,
    WSTransport,
    WSUpgradeResponse,
    WSUpgradeResponseWithListener,
)
from picows.picows import WSProtocol  # type: ignore[attr-defined]  # not in its stubs

from transports.errors import PeerError
from transports.http_request import Upgrade
from transports.proxied import Attach, protocol_factory
from transports.request_end import Admit, Gate, RequestEnd, TlsEnd
from transports.tls import Tls, broken_record
from transports.wire import HIGH_WATER_BYTES, LINGER_S, LOW_WATER_BYTES, Flusher, Wire
from transports.yamux import Buffer

MAX_FRAME_BYTES: Final = 256 * 1024
READ_BUFFER_BYTES: Final = 2048
BACKLOG: Final = 4096
MAX_IDLE_FRAMES: Final = 64
"""Empty ones, pings and pongs with no data in between: also who is idle answers a ping of yamux twice a minute."""

# What picows is given to read in place of the request, which http_request.py has read. picows takes heads of 16 KiB and
# versions 7 and 8, and answers 400 to Firefox, which says `Connection: keep-alive, Upgrade`.
_OPENING: Final = (
    b"GET / HTTP/1.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: %b\r\n\r\n"
)
_ACCEPTED: Final = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: %b\r\n\r\n"
)
# Each look-up on an enumeration costs as much as a call.
_BINARY: Final = WSMsgType.BINARY
_DATA: Final = (_BINARY, WSMsgType.CONTINUATION)


class WebSocketError(PeerError):
    """A frame that a libp2p peer does not send: text, reserved bits, frames without data and without end."""

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


class WebSocketEnd(WSListener):
    """The socket end of a WebSocket connection from its upgrade."""

    __slots__ = ("_broken", "_idle_frames", "_transport", "_wire")

    _transport: WSTransport

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self._idle_frames = 0
        self._broken = False  # picows has answered a frame that breaks RFC 6455

    def upgrading(self, transport: WSTransport) -> None:
        """The socket is this end's."""
        self._transport = transport
        transport.underlying_transport.set_write_buffer_limits(HIGH_WATER_BYTES, LOW_WATER_BYTES)
        self._wire.end = self

    def on_ws_connected(self, transport: WSTransport) -> None:
        """picows': the upgrade is done. It keeps the request; its headers are not needed any more."""
        transport.request.headers.clear()

    def lost(self, exc: Exception | None) -> None:
        """The socket is gone."""
        error: PeerError | None = None
        if self._broken:
            error = WebSocketError("a frame that breaks RFC 6455")
        elif not self._wire.closing:
            error = broken_record(exc)
        self._wire.lost(error)

    # Frames

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        """picows': one frame, its payload valid during the call."""
        kind = frame.msg_type
        if frame.rsv1 or frame.rsv2 or frame.rsv3:  # RFC 6455 section 5.2; picows leaves it to us
            self._wire.close(WebSocketError("a reserved bit without an extension"))
        elif kind in _DATA:
            if frame.payload_size:
                self._idle_frames = 0
                self._wire.feed(frame.get_payload_as_memoryview(), frame.last_in_buffer)
            else:
                self._count_idle()
        elif kind == WSMsgType.PING:
            transport.send_pong(frame.get_payload_as_bytes())
            self._wire.check_reading()
            self._count_idle()
        elif kind == WSMsgType.PONG:
            self._count_idle()
        elif kind == WSMsgType.CLOSE:
            self._wire.close(code=None)
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

    def _count_idle(self) -> None:
        self._idle_frames += 1
        if self._idle_frames > MAX_IDLE_FRAMES:
            self._wire.close(WebSocketError("frames without data, and without end"))

    # To the socket

    def write(self, data: Buffer) -> None:
        """One frame, or as many as MAX_FRAME_BYTES asks for."""
        if len(data) <= MAX_FRAME_BYTES:
            self._transport.send(_BINARY, data)
            return
        view = memoryview(data)
        for start in range(0, len(view), MAX_FRAME_BYTES):
            self._transport.send(_BINARY, view[start : start + MAX_FRAME_BYTES])

    def shut(self, error: Exception | None) -> None:
        """A close frame, then TCP's goodbye."""
        transport = self._transport
        if not transport.is_close_frame_sent:
            transport.send_close(WSCloseCode.OK if error is None else WSCloseCode.PROTOCOL_ERROR)
        transport.disconnect(True)
        if transport.underlying_transport.get_extra_info("sslcontext") is not None:
            # What the socket has not taken waits below TLS, where `unsent_bytes` does not see it, and a peer that has
            # ended its side and reads no more would keep it there.
            asyncio.get_running_loop().call_later(LINGER_S, self.cut)

    def cut(self) -> None:
        """Close at once."""
        self._transport.disconnect(False)

    def unsent_bytes(self) -> int:
        """What the socket has not taken."""
        return self._transport.underlying_transport.get_write_buffer_size()


class _Socket:
    """The socket that picows is shown when it is told of a connection: a descriptor, and no answers."""

    __slots__ = ("fileno",)

    def __init__(self, fileno: Callable[[], int]) -> None:
        self.fileno = fileno

    def setsockopt(self, *_: int) -> None:
        """Nothing: uvloop has set TCP_NODELAY."""

    def getsockopt(self, *_: int) -> int:
        """No answer."""
        return 0


class _Underlying:
    """A transport as picows is shown it: what picows asks of one, by name.

    When it is told of a connection, picows asks the socket for two addresses and six options, all for a log line that
    nobody reads: 15 system calls and 6 Python sockets, 3 % of all that a connection costs in its life (measured). The
    two methods that it keeps for each write are the transport's own.
    """

    __slots__ = ("_transport", "get_write_buffer_size", "write")

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self.get_write_buffer_size = transport.get_write_buffer_size
        self.write = transport.write

    def writelines(self, parts: list[Buffer]) -> None:
        """What is too long to be copied."""
        self._transport.writelines(parts)

    def set_write_buffer_limits(self, high: int, low: int) -> None:
        """When to say pause, and when to go on."""
        self._transport.set_write_buffer_limits(high, low)

    def close(self) -> None:
        """Close behind what is still held."""
        self._transport.close()

    def abort(self) -> None:
        """Close at once."""
        self._transport.abort()

    def get_extra_info(self, name: str, default: object = None) -> Any:
        """What a transport knows of its socket without a system call."""
        if name == "socket":
            return _Socket(self._transport.get_extra_info("socket").fileno)
        return default if name in {"peername", "sockname"} else self._transport.get_extra_info(name, default)


class _Accepted(WSUpgradeResponse):
    """The answer to an upgrade; picows' own takes three times as long to make, and more memory to keep."""

    __slots__ = ()

    def __init__(self) -> None:
        self.status = HTTPStatus.SWITCHING_PROTOCOLS
        self.headers = {}  # type: ignore[assignment]  # picows writes one header, which any mapping can hold

    def to_bytes(self) -> bytearray:
        """RFC 6455, 4.2.2. picows has put `Sec-WebSocket-Accept` into the headers."""
        return bytearray(_ACCEPTED % self.headers.pop("Sec-WebSocket-Accept").encode())


class _Protocol(WSProtocol):  # type: ignore[misc]  # picows' class is Cython
    """picows' protocol, from the upgrade on, telling its end when the socket is gone."""

    __slots__ = ("_end",)

    def __init__(self, end: WebSocketEnd) -> None:
        super().__init__(
            None,  # host and port, path: a client's
            None,
            False,
            lambda _request: WSUpgradeResponseWithListener(_Accepted(), end),
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
        super().connection_made(_Underlying(transport))
        self._end.upgrading(self.transport)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._end.lost(exc)

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
    attach: Attach,
    admit: Admit,
    tls: Tls | None = None,
    found: Attach | None = None,
) -> asyncio.Server:
    """Accept WebSocket connections on a listening socket.

    `attach(wire)` gives a new wire its endpoint and owner; `found`: behind a PROXY header, see transports/proxied.py.
    """
    gate = Gate(flusher, now, admit, _take_over)

    def inner(attach: Attach) -> asyncio.BaseProtocol:
        return RequestEnd(gate, attach) if tls is None else TlsEnd(gate, attach, tls, waits=found is not None)

    make = protocol_factory(inner, attach, found)
    return await asyncio.get_running_loop().create_server(make, sock=sock, backlog=BACKLOG)


def _take_over(transport: asyncio.Transport, wire: Wire, request: Upgrade) -> None:
    """From here on the socket is picows'."""
    protocol = _Protocol(WebSocketEnd(wire))
    transport.set_protocol(protocol)
    protocol.connection_made(transport)
    protocol.take(_OPENING % request.key.encode() + request.rest)
