"""LoopActor: an actor whose only thread runs a uvloop event loop, with Thespian inside it (actors/loop_selector.py).

Thespian brings the first message (Boot), other settings (Update), the request to exit and what else is rare; the loop
does the work. This base beats the heart, answers Ready and Updated, bounds the end, and sees to it that a fault in a
handler ends the process on purpose: Thespian would run the handler a second time. It must never touch a peer's bytes.
"""

from __future__ import annotations

import asyncio
import os
import time
from typing import TYPE_CHECKING, Any

import uvloop
from thespian.actors import Actor, ActorExitRequest

from actors import log, metrics
from actors.board import Board, BoardRow
from actors.loop_selector import LoopDriver, LoopSelector
from actors.messages import Boot, Ready, Update, Updated
from actors.process import die, end_without_memory, name_process

if TYPE_CHECKING:
    from thespian.actors import ActorAddress

HEARTBEAT_S = 1.0
_logger = log.get_logger("actor")


class LoopActor(Actor):
    """Base of registry, listener and admin. Subclasses write `start`, `stop`, and `handle` for messages of theirs."""

    loop: asyncio.AbstractEventLoop
    boot: Boot
    row: BoardRow
    supervisor: ActorAddress

    async def start(self) -> None:
        """Serve. When this returns, the supervisor is told Ready; when it raises, the process ends."""

    async def stop(self) -> None:
        """End in order; cut off after supervision.stop_timeout_s."""

    def updated(self) -> None:
        """`boot` has other settings or announced addresses: live by them from now on. Must not wait."""

    def handle(self, message: object, sender: ActorAddress) -> bool:
        """A control message other than Boot, Update and exit. Returns False when it is not one of this actor's."""
        return False

    def receiveMessage(self, message: Any, sender: ActorAddress) -> None:  # noqa: N802 - Thespian's name
        """Called by Thespian for each message; never raises, because it would be called again."""
        try:
            self._dispatch(message, sender)
        except Exception:  # noqa: BLE001 - whatever it is, the process ends with its stack in the log
            die("handler failed", message=type(message).__name__)

    def _dispatch(self, message: object, sender: ActorAddress) -> None:
        if isinstance(message, Boot):
            self._begin(message, sender)
        elif isinstance(message, Update):
            self._update(message, sender)
        elif isinstance(message, ActorExitRequest):
            self._end()
        elif not self.handle(message, sender):
            _logger.warning("message not understood", message=repr(message)[:200], sender=str(sender))

    def _begin(self, boot: Boot, supervisor: ActorAddress) -> None:
        self.boot = boot
        self.supervisor = supervisor
        self.row = Board.attach(boot.board_fd).row(boot.slot.index)
        self.row.reload = boot.number
        _close_those_of_others(boot)
        name_process(boot.slot.name)
        metrics.adopt(str(boot.slot.index))
        self.loop = uvloop.new_event_loop()
        self.loop.set_exception_handler(_log_loop_fault)
        asyncio.set_event_loop(self.loop)
        self._driver = LoopSelector.driver = LoopDriver(self.loop)
        self._due_s = self.loop.time()
        self._beat()
        self._driver.run(self.start())
        self.send(supervisor, Ready(boot.slot.name, os.getpid()))

    def _update(self, update: Update, supervisor: ActorAddress) -> None:
        """Take over newer settings; older ones, which were overtaken on their way, are answered and change nothing.

        Before Boot nothing is answered: the supervisor tells us again once we are ready.
        """
        if getattr(self, "loop", None) is None:
            return
        if update.number > self.boot.number:
            settings = update.settings
            self.boot = update.applied_to(self.boot)
            log.OUTPUT.change(settings.log.level, settings.log.format, settings.log.privacy)
            self.updated()
            self.row.reload = update.number
        self.send(supervisor, Updated(self.boot.slot.name, self.boot.number))

    def _beat(self) -> None:
        self.row.beat = time.monotonic()
        self.row.log_lines_dropped = log.OUTPUT.dropped
        now_s = self.loop.time()
        self.row.loop_lag_s = max(0.0, now_s - self._due_s)
        self._due_s = now_s + HEARTBEAT_S
        self.loop.call_later(HEARTBEAT_S, self._beat)

    def _end(self) -> None:
        """The orderly end. What the subclass does not finish in time is left to the end of the process."""
        if getattr(self, "loop", None) is None or getattr(self, "_ended", False):
            return
        self._ended = True
        limit_s = self.boot.settings.supervision.stop_timeout_s
        try:
            self._driver.run(asyncio.wait_for(self.stop(), limit_s))
        except TimeoutError:
            _logger.warning("stop took too long", slot=self.boot.slot.name, limit_s=limit_s)


def _close_those_of_others(boot: Boot) -> None:
    """Listening sockets of other slots, which came with the fork. A port is free when all of them are closed."""
    own = {boot.slot.socket_fd, boot.slot.control_fd}
    for fd in {fd for slot in boot.slots for fd in (slot.socket_fd, slot.control_fd) if fd >= 0} - own:
        os.close(fd)


def _log_loop_fault(_loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """An exception that nobody caught in a callback or task: ours, so counted and logged; the loop goes on.

    Whose it was is unknown here. A connection's own exceptions have ended that connection before (transports/wire.py).
    """
    error = context.get("exception")
    end_without_memory(error)
    metrics.FAULTS.inc()
    fields = {"exc_info": (type(error), error, error.__traceback__)} if error is not None else {}
    _logger.error(str(context.get("message", "fault in the event loop")), **fields)
