"""The WebSocket edge (picows): payloads of binary frames are a connection's bytes.

A libp2p peer may cut its byte stream into frames as it likes, so frames and fragments are fed on as they come and
never assembled. Must never trust a length or a frame type: what is not binary data ends the connection.

picows as it needs to be run (measured): without aiofastnet, whose listener goes deaf after a peer that resets right
behind a frame; a read buffer of 2 KiB instead of 16 (14 instead of 28 KiB for an idle peer); a backlog of 4096.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Final, cast

from picows import (
    WSCloseCode,
    WSFrame,
    WSListener,
    WSMsgType,
    WSTransport,
    WSUpgradeRequest,
    WSUpgradeResponse,
    WSUpgradeResponseWithListener,
    ws_create_server,
)

from transports.errors import PeerError
from transports.wire import HIGH_WATER_BYTES, LOW_WATER_BYTES, Flusher, Wire
from transports.yamux import Buffer

MAX_FRAME_BYTES: Final = 256 * 1024
READ_BUFFER_BYTES: Final = 2048
BACKLOG: Final = 4096
MAX_EMPTY_FRAMES: Final = 64

# picows logs a peer's protocol errors as errors, some with a trace; they are counted here instead.
_silent = logging.getLogger("picows.server")
_silent.setLevel(logging.CRITICAL + 1)

_PAGE = b"This is a libp2p circuit relay (FROST Relay). It speaks WebSocket to libp2p nodes, and nothing to people.\n"

_DATA: Final = (WSMsgType.BINARY, WSMsgType.CONTINUATION)

Attach = Callable[[Wire, Mapping[str, str]], None]


class WebSocketError(PeerError):
    """A frame that a libp2p peer does not send: text, reserved bits, endless empty fragments."""

    reason = "websocket"


class WebSocketEnd(WSListener):
    """The socket end of a WebSocket connection.

    `attach(wire, headers)` gives the new wire its endpoint and owner; the headers are those of the upgrade request.
    """

    __slots__ = ("_attach", "_empty_frames", "_flusher", "_now", "_transport", "_wire")

    _transport: WSTransport
    _wire: Wire

    def __init__(self, flusher: Flusher, now: Callable[[], float], attach: Attach) -> None:
        self._flusher = flusher
        self._now = now
        self._attach = attach
        self._empty_frames = 0

    def on_ws_connected(self, transport: WSTransport) -> None:
        """picows': the upgrade is done."""
        self._transport = transport
        underlying = transport.underlying_transport
        underlying.set_write_buffer_limits(HIGH_WATER_BYTES, LOW_WATER_BYTES)
        peername = underlying.get_extra_info("peername")
        ip, port = (peername[0], peername[1]) if isinstance(peername, tuple) else ("", 0)
        self._wire = Wire(self, self._flusher, self._now, ip, port)
        headers = transport.request.headers
        try:
            self._attach(self._wire, headers)
        except Exception as error:  # noqa: BLE001 - ours; picows would only log it, where nobody counts it
            self._flusher.on_fault(error)
            transport.disconnect(False)
        # picows keeps the request; its headers are needed once, and an idle peer should not pay for them.
        headers.clear()

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        """picows': one frame, its payload valid during the call."""
        kind = frame.msg_type
        if kind in _DATA:
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
        """picows': the socket is gone. A close frame that we did not send was picows' answer to a broken frame."""
        broken = transport.is_close_frame_sent and not self._wire.closing
        self._wire.lost(WebSocketError("a frame that breaks RFC 6455") if broken else None)

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
        if not self._transport.is_close_frame_sent:
            self._transport.send_close(WSCloseCode.OK if error is None else WSCloseCode.PROTOCOL_ERROR)
        self._transport.disconnect(True)

    def cut(self) -> None:
        """Close at once."""
        self._transport.disconnect(False)

    def unsent_bytes(self) -> int:
        """What the socket has not taken."""
        return self._transport.underlying_transport.get_write_buffer_size()


Admit = Callable[[Mapping[str, str]], HTTPStatus | None]
"""Decides on an upgrade request's headers: None lets it in, a status refuses it."""


async def serve(
    sock: socket.socket,
    flusher: Flusher,
    now: Callable[[], float],
    attach: Attach,
    admit: Admit,
    handshake_timeout_s: float,
    tls: ssl.SSLContext | None = None,
) -> asyncio.Server:
    """Accept WebSocket connections on a listening socket. A plain HTTP request gets a short page, never a hang."""

    def answer(request: WSUpgradeRequest) -> WSListener | WSUpgradeResponseWithListener:
        headers = request.headers
        if "upgrade" not in headers:
            return WSUpgradeResponseWithListener(_plain_http(request.path), None)
        refused = admit(headers)
        if refused is not None:
            return WSUpgradeResponseWithListener(WSUpgradeResponse.create_error_response(refused), None)
        return WebSocketEnd(flusher, now, attach)

    return await ws_create_server(
        answer,
        sock=sock,
        ssl=tls,
        backlog=BACKLOG,
        websocket_handshake_timeout=handshake_timeout_s,
        logger_name=_silent,
        enable_auto_pong=False,
        max_frame_size=MAX_FRAME_BYTES,
        read_buffer_init_size=READ_BUFFER_BYTES,
        use_aiofastnet=False,
    )


def _plain_http(path: bytes) -> WSUpgradeResponse:
    if path == b"/":
        return cast("WSUpgradeResponse", WSUpgradeResponse.create_ok_response(_PAGE))
    return cast("WSUpgradeResponse", WSUpgradeResponse.create_error_response(HTTPStatus.NOT_FOUND))
