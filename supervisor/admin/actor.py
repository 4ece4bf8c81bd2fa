"""AdminActor: the process that answers operators, over TCP on loopback and through the control socket.

It reads the board and the counters' files, and asks the workers what only they know. When it dies, nothing but these
answers is missing until its successor is there. It must never hold up another process.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import time
from collections.abc import Sequence
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

from actors import log
from actors.board import Board
from actors.loop_actor import LoopActor
from actors.messages import Drain, Reloads
from actors.metrics import DIRECTORY_VARIABLE
from supervisor import metrics
from supervisor.admin import page
from supervisor.admin.gate import ControlGate, Gate, NetworkGate
from supervisor.admin.history import History
from supervisor.admin.http import AdminProtocol, Answer, Request, Route
from supervisor.admin.listing import Listing
from supervisor.admin.memory import Memory
from supervisor.admin.pressure import LOOK_S, Pressure
from supervisor.admin.status import Status
from supervisor.admin.workers import Workers

if TYPE_CHECKING:
    from thespian.actors import ActorAddress

DRAIN_TIMEOUT_S: Final = 60.0
MAX_DRAIN_S: Final = 86_400

_logger = log.get_logger("admin")


class AdminActor(LoopActor):
    """Serves the slot's HTTP socket, if there is one, and its control socket."""

    async def start(self) -> None:
        """Serve the sockets that main has opened."""
        board = Board.attach(self.boot.board_fd)
        self._status = Status(self.boot, board, Memory())
        self._main = board.row(next(slot.index for slot in self.boot.slots if slot.role == "main"))
        self._connections: set[AdminProtocol] = set()
        self._servers: list[asyncio.Server] = []
        self._workers = Workers(self.boot.slots, self.boot.runtime_dir)
        self._gate = NetworkGate(self.boot.settings.admin.host, self.boot.admin_token)
        self._history = History(self.boot.runtime_dir)
        self._routes: dict[str, Route] = {
            **Listing(self._workers).routes(),
            **page.routes(),
            "/healthz": Route(self._health, public=True),
            "/readyz": Route(self._readiness, public=True),
            "/metrics": Route(self._metrics),
            "/status.json": Route(self._document),
            "/history.json": Route(self._last_hour),
            "/reload": Route(self._reload, method="POST"),
            "/drain": Route(self._drain, method="POST"),
        }
        self._pressure = Pressure([board.row(index) for index in range(board.rows)], self.row)
        self._look_at_memory()
        self._sample()
        await self._serve(self.boot.slot.control_fd, ControlGate())
        if self.boot.slot.socket_fd >= 0:
            host, port = await self._serve_http()
            _logger.info("admin ready", url=f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}")

    async def stop(self) -> None:
        """Close all connections."""
        for server in self._servers:
            server.close()
        for each in tuple(self._connections):
            each.close()

    async def _serve_http(self) -> tuple[str, int]:
        listening = await self._serve(self.boot.slot.socket_fd, self._gate)
        host, port = listening.getsockname()[:2]
        return host, port

    async def _serve(self, fd: int, gate: Gate) -> socket.socket:
        # A descriptor of our own: closing it must not close the one that a successor inherits.
        listening = socket.socket(fileno=os.dup(fd))

        def connected() -> AdminProtocol:
            return AdminProtocol(self._routes, gate, self._connections)

        if listening.family == socket.AF_UNIX:
            self._servers.append(await self.loop.create_unix_server(connected, sock=listening))
        else:
            self._servers.append(await self.loop.create_server(connected, sock=listening))
        return listening

    def updated(self) -> None:
        """Shows other limits, addresses and processes, and wants another token. Another socket is for a successor."""
        self._status.update(self.boot)
        self._workers.know(self.boot.slots)
        self._gate.change_token(self.boot.admin_token)

    def handle(self, message: object, sender: ActorAddress) -> bool:
        """What came of a reload."""
        if not isinstance(message, Reloads):
            return False
        self._status.note_reloads(message.outcomes)
        return True

    def _health(self, _request: Request) -> Answer:
        return Answer(HTTPStatus.OK, b"ok\n")

    def _readiness(self, _request: Request) -> Answer:
        waiting = self._status.not_ready()
        if waiting:
            return Answer(HTTPStatus.SERVICE_UNAVAILABLE, "".join(f"{each}\n" for each in waiting).encode())
        return Answer(HTTPStatus.OK, b"ready\n")

    def _metrics(self, _request: Request) -> Answer:
        body = metrics.exposition(os.environ[DIRECTORY_VARIABLE], self._status.collector, self._status.metrics())
        return Answer(HTTPStatus.OK, body, metrics.CONTENT_TYPE)

    def _reload(self, _request: Request) -> Answer:
        """Main reads its settings again. Says how many reloads had begun before this one."""
        main = self._main
        begun = main.reload
        os.kill(main.pid, signal.SIGHUP)
        return _json({"begun": begun})

    def _drain(self, request: Request) -> Answer:
        """The relay, or one worker, ends once its circuits have: {"timeout_s": 60, "worker": "ws-9091/0"}."""
        listeners = [slot.name for slot in self.boot.slots if slot.role == "listener" and not slot.leaving]
        try:
            order = drain_order(request.body, listeners)
        except ValueError as error:
            return Answer(HTTPStatus.BAD_REQUEST, f"{error}\n".encode())
        self.send(self.supervisor, order)
        return _json({"draining": order.slot_name or "relay", "timeout_s": order.timeout_s})

    def _document(self, _request: Request) -> Answer:
        return _json({**self._status.document(), "refusals": self._refusals()})

    def _last_hour(self, _request: Request) -> Answer:
        return _json(self._history.document(time.monotonic(), self._status.gauges(), self._refusals()))

    def _look_at_memory(self) -> None:
        self.loop.call_later(LOOK_S, self._look_at_memory)
        self._pressure.look(self._status.memory_limit_bytes)

    def _sample(self) -> None:
        """Note for the last hour what there is now, and again when it is time."""
        now = time.monotonic()
        self.loop.call_later(self._history.next_in_s(now), self._sample)
        self._history.note(now, self._status.gauges(), self._refusals())

    @staticmethod
    def _refusals() -> dict[str, int]:
        return metrics.refusals(os.environ[DIRECTORY_VARIABLE])


def drain_order(body: bytes, listeners: Sequence[str]) -> Drain:
    """What a request to drain asks for. Raises ValueError, in words for who asked."""
    asked = json.loads(body or b"{}")
    if not isinstance(asked, dict):
        raise ValueError("expected an object")
    timeout_s, worker = asked.get("timeout_s", DRAIN_TIMEOUT_S), asked.get("worker", "")
    if isinstance(timeout_s, bool) or not isinstance(timeout_s, int | float) or not 0 <= timeout_s <= MAX_DRAIN_S:
        raise ValueError(f"timeout_s = {timeout_s!r}: expected seconds from 0 to {MAX_DRAIN_S}")
    if worker and worker not in listeners:
        raise ValueError(f"worker = {worker!r}: expected one of {', '.join(listeners)}")
    return Drain(float(timeout_s), worker)


def _json(content: dict[str, Any]) -> Answer:
    return Answer(HTTPStatus.OK, json.dumps(content).encode(), "application/json")
