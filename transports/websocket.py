"""The WebSocket edge (picows): payloads of binary frames are a connection's bytes.

A libp2p peer may cut its byte stream into frames as it likes, so frames and fragments are fed on as they come and
never assembled. Must never trust a length or a frame type: what is not binary data ends the connection.

picows as it needs to be run (measured): without aiofastnet, whose listener goes deaf after a peer that resets right
behind a frame; a read buffer of 2 KiB instead of 16 (14 instead of 28 KiB for an idle peer); a backlog of 4096. Its
protocol class is used directly, so that a connection is ours from accept and not only from the upgrade.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable, Mapping
from enum import Enum
from http import HTTPStatus
from typing import Any, Final, cast

from picows import (
    WSAutoPingStrategy,
    WSCloseCode,
    WSFrame,
    WSListener,
    WSMsgType,
    WSTransport,
    WSUpgradeRequest,
    WSUpgradeResponse,
    WSUpgradeResponseWithListener,
)
from picows.picows import WSProtocol  # type: ignore[attr-defined]  # not in its stubs

from transports.errors import PeerError
from transports.wire import HIGH_WATER_BYTES, LOW_WATER_BYTES, Flusher, Wire
from transports.yamux import Buffer

MAX_FRAME_BYTES: Final = 256 * 1024
READ_BUFFER_BYTES: Final = 2048
BACKLOG: Final = 4096
MAX_EMPTY_FRAMES: Final = 64

_PAGE: Final = (
    b"This is a libp2p circuit relay. It speaks WebSocket to libp2p nodes, and has nothing to show to people.\n"
)
_DATA: Final = (WSMsgType.BINARY, WSMsgType.CONTINUATION)

Admit = Callable[[Wire, Mapping[str, str]], HTTPStatus | None]
"""Decides on an upgrade request's headers: None lets it in, a status refuses it."""


class WebSocketError(PeerError):
    """A frame that a libp2p peer does not send: text, reserved bits, endless empty fragments."""

    reason = "websocket"


class RequestError(PeerError):
    """An HTTP request that is none, or no upgrade that RFC 6455 knows; it was answered with 400 where it could be."""

    reason = "http_request"


class _Phase(Enum):
    """Where a connection is; what its end means follows from it."""

    REQUEST = "request"
    SETTLED = "settled"  # no upgrade, and nobody's fault: the page was served, or the peer left
    OPEN = "open"
    BROKEN = "broken"  # picows has answered a frame that breaks RFC 6455


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
    """The socket end of a WebSocket connection, from accept.

    `attach(wire)` gives the new wire its endpoint and owner; `admit(wire, headers)` is asked at the upgrade.
    """

    __slots__ = (
        "_admit",
        "_attach",
        "_empty_frames",
        "_flusher",
        "_now",
        "_phase",
        "_transport",
        "_wire",
    )

    _transport: WSTransport
    _wire: Wire

    def __init__(
        self, flusher: Flusher, now: Callable[[], float], attach: Callable[[Wire], None], admit: Admit
    ) -> None:
        self._flusher = flusher
        self._now = now
        self._attach = attach
        self._admit = admit
        self._empty_frames = 0
        self._phase = _Phase.REQUEST

    # From accept to upgrade

    def accepted(self, transport: WSTransport) -> None:
        """The socket is there; nothing has been read yet."""
        self._transport = transport
        underlying = transport.underlying_transport
        underlying.set_write_buffer_limits(HIGH_WATER_BYTES, LOW_WATER_BYTES)
        peername = underlying.get_extra_info("peername")
        ip, port = (peername[0], peername[1]) if isinstance(peername, tuple) else ("", 0)
        self._wire = Wire(self, self._flusher, self._now, ip, port)
        self._attach(self._wire)

    def answer(self, request: WSUpgradeRequest) -> WSListener | WSUpgradeResponseWithListener:
        """A plain HTTP request gets a short page, never a hang; an upgrade goes to this listener if it is admitted."""
        headers = request.headers
        if "upgrade" not in headers:
            self._phase = _Phase.SETTLED
            return WSUpgradeResponseWithListener(_plain_http(request.path), None)
        try:
            refused = self._admit(self._wire, headers)
        except Exception as error:  # noqa: BLE001 - ours; picows would only log it, where nobody counts it
            self._flusher.on_fault(error)
            refused = HTTPStatus.INTERNAL_SERVER_ERROR
        if refused is not None:
            return WSUpgradeResponseWithListener(WSUpgradeResponse.create_error_response(refused), None)
        return self

    def on_ws_connected(self, transport: WSTransport) -> None:
        """picows': the upgrade is done. It keeps the request; its headers are not needed any more."""
        self._phase = _Phase.OPEN
        transport.request.headers.clear()

    def left(self) -> None:
        """The peer has closed its side, or reset the connection."""
        if self._phase is _Phase.REQUEST:
            self._phase = _Phase.SETTLED

    def lost(self) -> None:
        """The socket is gone, whether it came to the upgrade or not."""
        error: PeerError | None = None
        if self._phase is _Phase.BROKEN:
            error = WebSocketError("a frame that breaks RFC 6455")
        elif self._phase is _Phase.REQUEST and not self._wire.closing:  # so picows closed it
            error = RequestError("a request that can not be upgraded")
        self._wire.lost(error)

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
            self._phase = _Phase.BROKEN

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
        """A close frame if there was an upgrade, then TCP's goodbye."""
        transport = self._transport
        if self._phase is _Phase.OPEN and not transport.is_close_frame_sent:
            transport.send_close(WSCloseCode.OK if error is None else WSCloseCode.PROTOCOL_ERROR)
        transport.disconnect(True)

    def cut(self) -> None:
        """Close at once."""
        self._transport.disconnect(False)

    def unsent_bytes(self) -> int:
        """What the socket has not taken."""
        return self._transport.underlying_transport.get_write_buffer_size()


class _Protocol(WSProtocol):  # type: ignore[misc]  # picows' class is Cython
    """picows' protocol, telling its end of accept and of every end."""

    __slots__ = ("_end",)

    def __init__(self, end: WebSocketEnd) -> None:
        super().__init__(
            None,  # host and port, path: a client's
            None,
            False,
            end.answer,
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
        self._end.accepted(self.transport)

    def eof_received(self) -> bool:
        self._end.left()
        return bool(super().eof_received())

    def connection_lost(self, exc: Exception | None) -> None:
        if exc is not None:
            self._end.left()
        super().connection_lost(exc)
        self._end.lost()


async def serve(
    sock: socket.socket,
    flusher: Flusher,
    now: Callable[[], float],
    attach: Callable[[Wire], None],
    admit: Admit,
    tls: ssl.SSLContext | None = None,
    tls_handshake_timeout_s: float | None = None,
) -> asyncio.Server:
    """Accept WebSocket connections on a listening socket."""
    return await asyncio.get_running_loop().create_server(
        lambda: _Protocol(WebSocketEnd(flusher, now, attach, admit)),
        sock=sock,
        ssl=tls,
        ssl_handshake_timeout=tls_handshake_timeout_s,
        backlog=BACKLOG,
    )


def _plain_http(path: bytes) -> WSUpgradeResponse:
    if path == b"/":
        return cast("WSUpgradeResponse", WSUpgradeResponse.create_ok_response(_PAGE))
    return cast("WSUpgradeResponse", WSUpgradeResponse.create_error_response(HTTPStatus.NOT_FOUND))
