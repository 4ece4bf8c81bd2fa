"""The registry's end of the registry links: a Unix socket to which each worker keeps one connection.

Decodes what workers say, asks the Registry, sends its answers: the answers to one read leave in one write. A worker
whose connection ends is gone, and all it held is free. It must never decide anything itself, and never let one worker's
link hold up another's.
"""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import Callable, Collection
from contextlib import suppress
from typing import Final, assert_never, cast

from actors import log
from actors.audit import Auditor, Mended
from actors.limits import Reason
from actors.loop_actor import LoopActor
from actors.registry import Registry
from actors.registry_protocol import (
    MAX_FRAME_BYTES,
    CircuitGranted,
    CloseCircuit,
    Connected,
    Declare,
    Disconnected,
    Evict,
    FrameDecoder,
    FromRegistry,
    FromWorker,
    Granted,
    Hello,
    Inventory,
    OpenCircuit,
    Refused,
    RegistryLinkError,
    Release,
    Request,
    Reserve,
    Tally,
    encode_frames,
    same_user,
)
from actors.tokens import Tokens
from config.settings import Supervision

SOCKET_NAME: Final = "registry.sock"
GATHER_S: Final = 1.0
"""How long a new registry waits for the workers it expects before it answers anything."""

_BACKLOG: Final = 256
_EXPIRY_S: Final = 1.0  # a pass over what expired
_EXPIRY_BUSY_S: Final = 0.01  # the next pass, when one has not been enough
_EXPIRED_PER_PASS: Final = 256  # about 1 ms
_MAX_UNREAD_BYTES: Final = MAX_FRAME_BYTES  # answers that a worker has not read yet

_logger = log.get_logger("registry")


class _WorkerLink(asyncio.Protocol):
    """One worker's connection, from accept to end. `worker` is empty until it has said Hello."""

    __slots__ = ("_decoder", "_server", "out", "transport", "worker")

    def __init__(self, server: RegistryServer) -> None:
        self._server = server
        self._decoder = FrameDecoder.from_worker()
        self.worker = ""
        self.out: list[FromRegistry] = []
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.transport.set_write_buffer_limits(high=_MAX_UNREAD_BYTES)
        self._server.link_made(self, transport.get_extra_info("socket"))

    def data_received(self, data: bytes) -> None:
        try:
            self._server.take(self, self._decoder.feed(data))
        except RegistryLinkError as error:
            _logger.error("registry link broken", worker=self.worker, error=str(error))
            self.transport.abort()

    def pause_writing(self) -> None:
        """The worker reads no more: what it does not know by now it learns from a new connection."""
        _logger.error("worker does not read its registry link", worker=self.worker)
        self.transport.abort()

    def connection_lost(self, error: Exception | None) -> None:
        self._server.link_lost(self)

    def flush(self) -> None:
        """Everything that waits, in one write."""
        frames = encode_frames(self.out)
        self.out.clear()
        if not self.transport.is_closing():
            self.transport.write(frames)


class RegistryServer:
    """Serves `registry` on the Unix socket `path`. `clock` is CLOCK_MONOTONIC in seconds.

    `expected` names the workers that are there already if this registry replaces one that died: until all of them have
    declared what they hold, or `gather_s` has passed, every request waits. Otherwise slots would be granted twice and
    peers be called unreserved that are not. `on_change` is called after whatever may have changed the counts. Every
    `audit_interval_s` each worker is asked what it holds (actors/audit.py).
    """

    def __init__(
        self,
        registry: Registry,
        path: str,
        clock: Callable[[], float],
        *,
        expected: Collection[str] = (),
        gather_s: float = GATHER_S,
        audit_interval_s: float = Supervision().audit_interval_s,
        on_change: Callable[[], None] = lambda: None,
    ) -> None:
        self.auditor = Auditor(registry)
        self.audit_interval_s = audit_interval_s
        self._registry = registry
        self._path = path
        self._clock = clock
        self._on_change = on_change
        self._links: set[_WorkerLink] = set()
        self._link_of: dict[str, _WorkerLink] = {}
        self._to_flush: set[_WorkerLink] = set()
        self._awaited = set(expected)
        self._gather_s = gather_s
        self._waiting: list[tuple[_WorkerLink, Request]] = []
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._loop: asyncio.AbstractEventLoop
        self._server: asyncio.Server

    async def start(self) -> None:
        """Binds the socket, in place of one that a predecessor left behind, and serves. OSError when it cannot."""
        self._loop = asyncio.get_running_loop()
        with suppress(FileNotFoundError):
            os.unlink(self._path)
        sock = socket.socket(socket.AF_UNIX)
        sock.bind(self._path)
        os.chmod(self._path, 0o600)
        self._server = await self._loop.create_unix_server(lambda: _WorkerLink(self), sock=sock, backlog=_BACKLOG)
        self._timers["expiry"] = self._loop.call_later(_EXPIRY_S, self._expire)
        self._timers["audit"] = self._loop.call_later(self.audit_interval_s, self._audit)
        if self._awaited:
            self._timers["gather"] = self._loop.call_later(self._gather_s, self._stop_waiting)

    async def stop(self) -> None:
        """Ends all links and stops serving. The socket file stays: a successor may have bound it anew."""
        for timer in self._timers.values():
            timer.cancel()
        self._server.close()
        for link in list(self._links):
            link.transport.abort()

    # --- links ---

    def link_made(self, link: _WorkerLink, sock: socket.socket) -> None:
        """A connection was accepted."""
        if not same_user(sock):
            _logger.error("registry link from another user refused")
            link.transport.abort()
            return
        self._links.add(link)

    def link_lost(self, link: _WorkerLink) -> None:
        """A connection has ended: its worker is gone, unless it has said Hello on a newer one."""
        self._links.discard(link)
        self._to_flush.discard(link)
        if self._link_of.get(link.worker) is link:
            del self._link_of[link.worker]
            self._registry.worker_gone(link.worker)
            self.auditor.gone(link.worker)
            self._on_change()

    def take(self, link: _WorkerLink, messages: list[FromWorker]) -> None:
        """Answers what one read brought. RegistryLinkError when the worker may not say it now."""
        now = self._clock()
        try:
            for message in messages:
                self._take(link, message, now)
        finally:
            self._finish()

    def _take(self, link: _WorkerLink, message: FromWorker, now: float) -> None:
        if isinstance(message, Hello):
            self._greet(link, message)
        elif self._link_of.get(link.worker) is not link:
            if not link.worker:
                raise RegistryLinkError(f"{type(message).__name__} before Hello")
            return  # a newer connection of this worker speaks for it
        if isinstance(message, Hello | Declare):
            self._declare(link, message, now)
        elif self._awaited:
            self._waiting.append((link, message))
        else:
            self._answer(link, message, now)

    def _finish(self) -> None:
        """Sends all that was answered, and what other workers must be told of it."""
        for worker, notice in self._registry.notices:
            if worker in self._link_of:
                self._send(self._link_of[worker], notice)
        self._registry.notices.clear()
        while self._to_flush:
            self._to_flush.pop().flush()
        self._on_change()

    def _send(self, link: _WorkerLink, message: FromRegistry) -> None:
        link.out.append(message)
        self._to_flush.add(link)

    # --- what workers say ---

    def _greet(self, link: _WorkerLink, hello: Hello) -> None:
        if link.worker or not hello.worker:
            raise RegistryLinkError("a second Hello" if link.worker else "a Hello without a name")
        older = self._link_of.pop(hello.worker, None)
        if older is not None:
            older.transport.abort()
        link.worker = hello.worker
        self._link_of[hello.worker] = link
        self._registry.join(hello.worker)
        self.auditor.joined(hello.worker, self._clock())
        _logger.info("worker joined", worker=hello.worker, pid=hello.pid)

    def _declare(self, link: _WorkerLink, part: Hello | Declare, now: float) -> None:
        self._registry.declare(link.worker, part.reservations, part.circuits, part.connections, now, part.tokens)
        if not part.more and link.worker in self._awaited:
            self._awaited.discard(link.worker)
            if not self._awaited:
                self._stop_waiting()

    def _stop_waiting(self) -> None:
        """Everybody who was awaited has declared, or the wait was long enough: requests are answered from here on."""
        self._timers.pop("gather").cancel()
        if self._awaited:
            _logger.warning("workers did not declare in time", workers=sorted(self._awaited))
            self._awaited.clear()
        waiting, self._waiting = self._waiting, []
        now = self._clock()
        for link, message in waiting:
            if self._link_of.get(link.worker) is link:
                self._answer(link, message, now)
        self._finish()

    def _answer(self, link: _WorkerLink, message: Request, now: float) -> None:
        registry, worker = self._registry, link.worker
        match message:
            case Reserve(request=request):
                grant = registry.reserve(worker, message.peer, message.connection, message.ip, now)
                answer = Refused(request, grant) if isinstance(grant, Reason) else Granted(request, *grant)
                self._send(link, answer)
            case OpenCircuit(request=request):
                opened = registry.open_circuit(worker, message.source, message.target, message.source_ip, now)
                answered = Refused(request, opened) if isinstance(opened, Reason) else CircuitGranted(request, *opened)
                self._send(link, answered)
            case CloseCircuit():
                registry.close_circuit(worker, message.circuit)
            case Release():
                registry.release(worker, message.peer, message.connection)
            case Connected():
                reason = registry.connected(worker, message.connection, message.ip, message.token)
                if reason is not None:
                    self._send(link, Evict(message.connection, reason))
            case Disconnected():
                registry.disconnected(worker, message.connection)
            case Tally() | Inventory():
                self._compare(worker, message, now)
            case _:
                assert_never(message)

    # --- time ---

    def _expire(self) -> None:
        done = self._registry.expire(self._clock(), _EXPIRED_PER_PASS)
        self._timers["expiry"] = self._loop.call_later(_EXPIRY_S if done else _EXPIRY_BUSY_S, self._expire)
        self._on_change()

    def _compare(self, worker: str, said: Tally | Inventory, now: float) -> None:
        if isinstance(said, Tally):
            self.auditor.take_tally(worker, said, now)
        elif (mended := self.auditor.take_inventory(worker, said, now)) is not None:
            _say_mended(worker, mended)

    def _audit(self) -> None:
        self._timers["audit"] = self._loop.call_later(self.audit_interval_s, self._audit)
        if not self._awaited:
            for worker, link in self._link_of.items():
                self._send(link, self.auditor.question(worker))
            self._finish()


def _say_mended(worker: str, mended: Mended) -> None:
    freed = {f"freed_{kind}s": times for kind, times in sorted(mended.freed.items())}
    counted = {f"counted_{kind}s": times for kind, times in sorted(mended.counted.items())}
    _logger.warning("audit has mended the registry", worker=worker, **freed, **counted)


class RegistryActor(LoopActor):
    """The process that grants. Its row on the board shows the totals of all workers."""

    async def start(self) -> None:
        """Serves `registry.sock` in the runtime directory. After a restart it first hears what the workers hold."""
        path = os.path.join(self.boot.runtime_dir, SOCKET_NAME)
        self._registry = Registry(self.boot.settings.limits, tokens=Tokens(self.boot.tokens or ()))
        self._server = RegistryServer(
            self._registry,
            path,
            time.monotonic,
            expected=self._left_behind(path),
            audit_interval_s=self.boot.settings.supervision.audit_interval_s,
            on_change=self._show_counts,
        )
        self._mended_before = self.row.audit_mended
        await self._server.start()

    async def stop(self) -> None:
        """Ends all links."""
        await self._server.stop()

    def updated(self) -> None:
        """Grants by other limits from now on."""
        self._registry.change_limits(self.boot.settings.limits, time.monotonic())
        self._registry.change_tokens(Tokens(self.boot.tokens or ()))
        self._server.audit_interval_s = self.boot.settings.supervision.audit_interval_s

    def _left_behind(self, path: str) -> list[str]:
        """The workers that a registry which died has left behind; none if there was no registry before."""
        return [slot.name for slot in self.boot.slots if slot.role == "listener"] if os.path.exists(path) else []

    def _show_counts(self) -> None:
        self.row.reservations = self._registry.reservation_count
        self.row.circuits = self._registry.circuit_count
        self.row.connections = self._registry.connection_count
        auditor = self._server.auditor
        self.row.audited = auditor.audited_s
        self.row.audit_differences = auditor.differences
        self.row.audit_mended = self._mended_before + auditor.mended
