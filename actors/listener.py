"""ListenerActor: one process that serves one listening socket.

Boot brings the socket (opened in main, before the fork) and the settings; the Worker does the work. Must never open a
listening socket itself: the successor of a killed listener takes the same socket, and no connection that waits in it
is lost.
"""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import Mapping
from contextlib import closing, suppress
from http import HTTPStatus
from typing import TYPE_CHECKING, Final, cast

from actors import log, metrics
from actors.arrivals import unannounced
from actors.certificate import LOOK_S, CertificateKeeper
from actors.doorway import Doorway
from actors.limits import Reason
from actors.loop_actor import LoopActor
from actors.messages import Drain
from actors.peer import LimitError, Peer
from actors.tokens import secret_of
from actors.worker import Worker
from config.settings import Listener
from transports import websocket
from transports.address import ListenAddress, parse_listen
from transports.certificate import Certificate
from transports.kept_certificates import KeptCertificate
from transports.proxied import Attach, protocol_factory
from transports.proxy import client_address, forwarded_for
from transports.sockets import bound_kernel_buffers
from transports.tcp import TcpEnd
from transports.tls import Tls, map_large_buffers
from transports.wire import LINGER_S, Wire

if TYPE_CHECKING:
    from thespian.actors import ActorAddress

_SHOWN_CHARACTERS: Final = 200
_logger = log.get_logger("listener")


class ListenerActor(LoopActor):
    """Accepts on one socket and hands connections to its Worker."""

    _worker: Worker
    _doorway: Doorway
    _certificate: Certificate | None = None
    _keeper: CertificateKeeper | None = None

    async def start(self) -> None:
        """Serve the slot's socket."""
        metrics.show_zeros()
        self.row.sheds = 0  # its predecessor's
        slot = self.boot.slot
        self._address = parse_listen(slot.listener, f"listeners[{slot.listener_index}].address")
        self._doorway = Doorway(self._serve, self.loop)
        self._worker = Worker(self.boot, self.loop, _transport_name(self._address), self._doorway.look)
        await self._worker.start()
        if self._address.tls:
            self._keep_certificate()
        await self._doorway.open()
        _logger.info("listening", slot=slot.name, listener=slot.listener)

    def updated(self) -> None:
        """Serve by other settings."""
        self._worker.update(self.boot)
        if self.boot.slot.leaving:
            self._stop_accepting()
            return
        if self._keeper is not None:
            self._keeper.use(self._certificate_files())
        if self._door() != self._served_as:
            self._doorway.renew()

    def _door(self) -> tuple[float, bool]:
        """What a server is given for good when it begins to accept."""
        return self.boot.settings.limits.handshake_timeout_s, self._listener.proxy_protocol

    def handle(self, message: object, sender: ActorAddress) -> bool:
        """The order to drain."""
        if not isinstance(message, Drain):
            return False
        self._worker.drain(message)
        if not message.slot_name:
            self._stop_accepting()
        return True

    def _stop_accepting(self) -> None:
        """The kernel refuses connections from here on, in place of queueing them for nobody.

        A socket that systemd has opened stays as it is: connections wait in it for the next relay, which is what it is
        for. So does that of a worker that drains alone, for its successor.
        """
        self._doorway.close()
        slot = self.boot.slot
        if not slot.is_passed:
            with closing(socket.socket(fileno=os.dup(slot.socket_fd))) as listening, suppress(OSError):
                listening.shutdown(socket.SHUT_RD)  # OSError: it does not listen any more

    async def stop(self) -> None:
        """Accept no more, then say goodbye to everybody."""
        self._doorway.close()
        await self._worker.stop()

    @property
    def _listener(self) -> Listener:
        """The listener's settings."""
        return self.boot.settings.listeners[self.boot.slot.listener_index]

    def _certificate_files(self) -> tuple[str, str]:
        return self._listener.cert_file, self._listener.key_file

    def _keep_certificate(self) -> None:
        slot, files = self.boot.slot, self._certificate_files()
        first = next(each for each in self.boot.slots if each.listener_index == slot.listener_index)
        map_large_buffers()
        kept = KeptCertificate(self.boot.certificates_fd, slot.listener)
        with kept.files() as good:  # what was served before us, whatever has become of the files meanwhile
            self._certificate = Certificate(*(good or files), f"listeners[{slot.listener_index}]")
            if good is None:
                kept.keep(files)
        speaks = slot.name == first.name
        self._keeper = CertificateKeeper(self._certificate, files, kept, self.row, time.time, speaks=speaks)
        self._look_at_certificate(self._keeper)

    def _look_at_certificate(self, keeper: CertificateKeeper) -> None:
        keeper.look()
        self.loop.call_later(LOOK_S, self._look_at_certificate, keeper)

    async def _serve(self) -> asyncio.Server:
        # A descriptor of our own: closing it must not close the one that a successor inherits.
        sock = socket.socket(fileno=socket.dup(self.boot.slot.socket_fd))
        sock.setblocking(False)
        bound_kernel_buffers(sock)
        self._served_as = self._door()
        return await (self._serve_websocket(sock) if self._address.websocket else self._serve_tcp(sock))

    async def _serve_tcp(self, sock: socket.socket) -> asyncio.Server:
        worker = self._worker
        attach, found = self._doors(self._arrive)
        make = protocol_factory(lambda attach: TcpEnd(worker.flusher, worker.clock, attach), attach, found)
        return await self.loop.create_server(make, sock=sock, backlog=websocket.BACKLOG)

    async def _serve_websocket(self, sock: socket.socket) -> asyncio.Server:
        worker = self._worker
        attach, found = self._doors(self._locate)
        tls: Tls | None = None
        if self._certificate is not None:
            # Behind the deadline that counts, which is the peer's.
            timeout_s = 2 * self.boot.settings.limits.handshake_timeout_s
            tls = Tls(self._certificate.context, timeout_s, LINGER_S, self._certificate.name_asked_for)
        return await websocket.serve(sock, worker.flusher, worker.clock, attach, self._admit_upgrade, tls, found)

    def _doors(self, seen: Attach) -> tuple[Attach, Attach | None]:
        """What a new wire is given to, and what it is given to when its PROXY header is read, if it needs one.

        `seen` is told of each wire once its address is that of whoever is behind the socket.
        """
        worker = self._worker

        def attach(wire: Wire) -> None:
            worker.accept(wire)
            if not wire.closing:
                seen(wire)
            worker.admission.wait_for(wire)

        def attach_proxy(wire: Wire) -> None:
            worker.accept(wire)
            if not wire.closing and not worker.admission.access.is_trusted_proxy(wire.ip):
                wire.abort(LimitError(Reason.NOT_A_PROXY))
            worker.admission.wait_for(wire)

        return (attach_proxy, seen) if self._listener.proxy_protocol else (attach, None)

    def _arrive(self, wire: Wire) -> None:
        """TCP: there is no request that would say more."""
        if self._worker.arrived(wire, wire.ip, wire.port) is not None:
            wire.abort()

    def _locate(self, wire: Wire) -> None:
        """WebSocket: a web proxy says in the request for whom it speaks; all others have come too often or have not."""
        worker, admission = self._worker, self._worker.admission
        if admission.access.is_trusted_proxy(wire.ip):
            return
        if reason := admission.locate(wire, wire.ip, wire.port, worker.now_s):
            wire.abort(LimitError(reason))

    def _admit_upgrade(self, wire: Wire, target: str, headers: Mapping[str, str]) -> HTTPStatus | None:
        """Who is behind the proxy, and may this page come in? Only the Origin is known to be what the browser says."""
        worker = self._worker
        ip, port = self._client(wire, headers)
        if not worker.admission.access.origin_allowed(headers.get("origin")):
            return worker.refuse(wire, Reason.ORIGIN_DENIED)
        refused = worker.arrived(wire, ip, port, secret_of(target))
        if refused is None:
            arrivals, secure = worker.admission.arrivals, worker.transport == "wss"
            arrivals.came(cast("Peer", wire.owner).id, unannounced(headers, secure, arrivals.known))
        return refused

    def _client(self, wire: Wire, headers: Mapping[str, str]) -> tuple[str, int]:
        """The address that a trusted proxy names, else that of the socket."""
        own, is_trusted_proxy = (wire.ip, wire.port), self._worker.admission.access.is_trusted_proxy
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
