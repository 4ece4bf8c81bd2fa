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
from typing import Final

from actors import log, metrics
from actors.limits import Reason
from actors.loop_actor import LoopActor
from actors.peer import LimitError
from actors.worker import Worker
from config.settings import Listener
from transports import websocket
from transports.address import ListenAddress, parse_listen
from transports.proxied import Attach, protocol_factory
from transports.proxy import client_address, forwarded_for
from transports.tcp import TcpEnd
from transports.tls import Tls, map_large_buffers, server_context
from transports.wire import LINGER_S, Wire

_SHOWN_CHARACTERS: Final = 200
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
        listener = self.boot.settings.listeners[slot.listener_index]
        self._worker = Worker(self.boot, self.loop, _transport_name(address))
        await self._worker.start()
        # A descriptor of our own: closing it must not close the one that a successor inherits.
        sock = socket.socket(fileno=socket.dup(slot.socket_fd))
        sock.setblocking(False)
        self._server = await (
            self._serve_websocket(sock, address, listener) if address.websocket else self._serve_tcp(sock, listener)
        )
        _logger.info("listening", slot=slot.name, address=slot.listener)

    def updated(self) -> None:
        """Serve by other settings."""
        self._worker.update(self.boot)

    async def stop(self) -> None:
        """Accept no more, then say goodbye to everybody."""
        self._server.close()
        await self._worker.stop()

    async def _serve_tcp(self, sock: socket.socket, listener: Listener) -> asyncio.Server:
        worker = self._worker
        attach, found = self._doors(listener, self._arrive)
        make = protocol_factory(lambda attach: TcpEnd(worker.flusher, worker.clock, attach), attach, found)
        return await self.loop.create_server(make, sock=sock, backlog=websocket.BACKLOG)

    async def _serve_websocket(self, sock: socket.socket, address: ListenAddress, listener: Listener) -> asyncio.Server:
        worker, slot = self._worker, self.boot.slot
        attach, found = self._doors(listener, self._locate)
        tls: Tls | None = None
        if address.tls:
            map_large_buffers()
            context = server_context(listener.cert_file, listener.key_file, f"listeners[{slot.listener_index}]")
            # Behind the deadline that counts, which is the peer's.
            tls = Tls(context, 2 * self.boot.settings.limits.handshake_timeout_s, LINGER_S)
        return await websocket.serve(sock, worker.flusher, worker.clock, attach, self._admit_upgrade, tls, found)

    def _doors(self, listener: Listener, seen: Attach) -> tuple[Attach, Attach | None]:
        """What a new wire is given to, and what it is given to when its PROXY header is read, if it needs one.

        `seen` is told of each wire once its address is that of whoever is behind the socket.
        """
        worker = self._worker

        def attach(wire: Wire) -> None:
            worker.accept(wire)
            seen(wire)
            worker.wait_for(wire)

        def attach_proxy(wire: Wire) -> None:
            worker.accept(wire)
            if not worker.access.is_trusted_proxy(wire.ip):
                wire.abort(LimitError(Reason.NOT_A_PROXY))
            worker.wait_for(wire)

        return (attach_proxy, seen) if listener.proxy_protocol else (attach, None)

    def _arrive(self, wire: Wire) -> None:
        """TCP: there is no request that would say more."""
        if self._worker.arrived(wire, wire.ip, wire.port) is not None:
            wire.abort()

    def _locate(self, wire: Wire) -> None:
        """WebSocket: a web proxy says in the request for whom it speaks; all others have come too often or have not."""
        worker = self._worker
        if not worker.access.is_trusted_proxy(wire.ip) and (reason := worker.located(wire, wire.ip, wire.port)):
            wire.abort(LimitError(reason))

    def _admit_upgrade(self, wire: Wire, headers: Mapping[str, str]) -> HTTPStatus | None:
        """Who is behind the proxy, and may this page come in? Only the Origin is known to be what the browser says."""
        worker = self._worker
        ip, port = self._client(wire, headers)
        if not worker.access.origin_allowed(headers.get("origin")):
            return worker.refuse(wire, Reason.ORIGIN_DENIED)
        return worker.arrived(wire, ip, port)

    def _client(self, wire: Wire, headers: Mapping[str, str]) -> tuple[str, int]:
        """The address that a trusted proxy names, else that of the socket."""
        own, is_trusted_proxy = (wire.ip, wire.port), self._worker.access.is_trusted_proxy
        told = forwarded_for(headers)
        if not told:
            return own
        client = client_address(headers, *own, is_trusted_proxy) if is_trusted_proxy(wire.ip) else own
        if client == own:
            reason = "unusable" if is_trusted_proxy(wire.ip) else "untrusted"
            metrics.FORWARDED_IGNORED.labels(reason).inc()
            said = told[:_SHOWN_CHARACTERS]
            _logger.debug("forwarded address ignored", reason=reason, address=wire.ip, forwarded=said)
        return client


def _transport_name(address: ListenAddress) -> str:
    if not address.websocket:
        return "tcp"
    return "wss" if address.tls else "ws"
