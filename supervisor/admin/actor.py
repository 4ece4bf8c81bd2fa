"""AdminActor: the process that answers operators. It reads the board and the counters' files, so it needs no messages.

When it dies, nothing but these answers is missing until its successor is there. It must never hold up another process.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
from http import HTTPStatus

from actors import log
from actors.board import Board
from actors.loop_actor import LoopActor
from actors.metrics import DIRECTORY_VARIABLE
from supervisor import metrics
from supervisor.admin.http import AdminProtocol, Answer
from supervisor.admin.memory import Memory
from supervisor.admin.status import Status

_logger = log.get_logger("admin")


class AdminActor(LoopActor):
    """Serves the slot's HTTP socket."""

    _server: asyncio.Server

    async def start(self) -> None:
        """Serve the socket that main has opened."""
        self._status = Status(self.boot, Board.attach(self.boot.board_fd), Memory())
        self._connections: set[AdminProtocol] = set()
        routes = {
            "/healthz": self._health,
            "/readyz": self._readiness,
            "/metrics": self._metrics,
            "/status.json": self._document,
        }
        # A descriptor of our own: closing it must not close the one that a successor inherits.
        listening = socket.socket(fileno=os.dup(self.boot.slot.socket_fd))
        self._server = await self.loop.create_server(lambda: AdminProtocol(routes, self._connections), sock=listening)
        host, port = listening.getsockname()[:2]
        _logger.info("admin ready", url=f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}")

    async def stop(self) -> None:
        """Close all connections."""
        self._server.close()
        for each in tuple(self._connections):
            each.close()

    def _health(self) -> Answer:
        return Answer(HTTPStatus.OK, b"ok\n")

    def _readiness(self) -> Answer:
        waiting = self._status.not_ready()
        if waiting:
            return Answer(HTTPStatus.SERVICE_UNAVAILABLE, "".join(f"{each}\n" for each in waiting).encode())
        return Answer(HTTPStatus.OK, b"ready\n")

    def _metrics(self) -> Answer:
        body = metrics.exposition(os.environ[DIRECTORY_VARIABLE], self._status.collector)
        return Answer(HTTPStatus.OK, body, metrics.CONTENT_TYPE)

    def _document(self) -> Answer:
        return Answer(HTTPStatus.OK, json.dumps(self._status.document()).encode(), "application/json")
