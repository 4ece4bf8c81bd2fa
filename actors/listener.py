"""ListenerActor: one process that serves one listening socket.

Boot brings the socket (opened in main, before the fork) and the settings; the Worker does the work. Must never open a
listening socket itself: the successor of a killed listener takes the same socket, and no connection that waits in it
is lost.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Mapping
from http import HTTPStatus

from actors import log, metrics
from actors.limits import Reason
from actors.loop_actor import LoopActor
from actors.worker import Worker
from transports import websocket
from transports.address import ListenAddress, parse_listen
from transports.proxy import client_address
from transports.tcp import TcpEnd
from transports.tls import server_context
from transports.wire import Wire

_logger = log.get_logger("listener")


class ListenerActor(LoopActor):
    """Accepts on one socket and hands connections to its Worker."""

    _worker: Worker
    _server: asyncio.Server

    async def start(self) -> None:
        """Serve the slot's socket."""
        metrics.show_zeros()
        slot = self.boot.slot
        address = parse_listen(slot.listener, f"listeners[{slot.listener_index}].address")
        self._worker = Worker(self.boot, self.loop, _transport_name(address))
        await self._worker.start()
        # A descriptor of our own: closing it must not close the one that a successor inherits.
        sock = socket.socket(fileno=socket.dup(slot.socket_fd))
        sock.setblocking(False)
        self._server = await (self._serve_websocket(sock, address) if address.websocket else self._serve_tcp(sock))
        _logger.info("listening", slot=slot.name, address=slot.listener)

    async def stop(self) -> None:
        """Accept no more, then say goodbye to everybody."""
        self._server.close()
        await self._worker.stop()

    async def _serve_tcp(self, sock: socket.socket) -> asyncio.Server:
        worker = self._worker
        return await self.loop.create_server(
            lambda: TcpEnd(worker.flusher, worker.clock, self._attach_tcp), sock=sock, backlog=websocket.BACKLOG
        )

    async def _serve_websocket(self, sock: socket.socket, address: ListenAddress) -> asyncio.Server:
        worker, slot = self._worker, self.boot.slot
        listener = self.boot.settings.listeners[slot.listener_index]
        tls, tls_timeout_s = None, None
        if address.tls:
            tls = server_context(listener.cert_file, listener.key_file, f"listeners[{slot.listener_index}]")
            tls_timeout_s = worker.handshake_timeout_s
        return await websocket.serve(
            sock, worker.flusher, worker.clock, worker.accept, self._admit_upgrade, tls, tls_timeout_s
        )

    def _attach_tcp(self, wire: Wire) -> None:
        self._worker.accept(wire)
        if self._worker.arrived(wire, wire.ip, wire.port) is not None:
            wire.abort()

    def _admit_upgrade(self, wire: Wire, headers: Mapping[str, str]) -> HTTPStatus | None:
        """Who is behind the proxy, and may this page come in? Only the Origin is known to be what the browser says."""
        worker = self._worker
        ip, port = wire.ip, wire.port
        if worker.access.is_trusted_proxy(ip):
            ip, port = client_address(headers, ip, port, worker.access.is_trusted_proxy)
        if not worker.access.origin_allowed(headers.get("origin")):
            return worker.refuse(wire, Reason.ORIGIN_DENIED)
        return worker.arrived(wire, ip, port)


def _transport_name(address: ListenAddress) -> str:
    if not address.websocket:
        return "tcp"
    return "wss" if address.tls else "ws"
