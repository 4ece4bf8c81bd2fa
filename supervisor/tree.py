"""SupervisorActor: the parent of registry, listeners, admin and canary.

It does what Children decides, and tells it what happened. It holds no connection and runs no event loop: it wakes once
a second to look at the heartbeats, and when a child says something or dies. Other settings pass through it to every
child (rollout.py). If it fails, the whole tree goes
(supervisor/system.py), and the service manager starts the relay again.
"""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from math import inf
from typing import Any, ClassVar, Final

from thespian.actors import Actor, ActorAddress, ActorExitRequest, ChildActorExited, PoisonMessage, WakeupMessage

from actors import log
from actors.blame import CRASHES, DENIED_S, Suspects, is_crash, who
from actors.board import Board, State
from actors.messages import Begin, Drain, Outcome, Ready, Reloads, Slot, Stop, Update, Updated
from actors.process import EXIT_FAULT, die, how_ended, name_process
from supervisor import system
from supervisor.children import HANGS, TICK_S, Action, AllReady, AllStopped, AskToDrain, AskToEnd, Children, Kill, Spawn
from supervisor.rollout import Rollout
from supervisor.socket_channel import SocketReceiver

CHILD_ROLES: Final = frozenset({"registry", "listener", "admin", "canary"})

LEAVE_LIMIT_S: Final = 60.0
"""How long circuits of a worker that leaves may go on when supervision.drain_timeout_s says nothing."""
_TICK: Final = "tick"
_DUE: Final = "due"
_logger = log.get_logger("supervisor")


class SupervisorActor(Actor):
    """The process tree. Its first message is Begin."""

    clock: ClassVar[staticmethod[[], float]] = staticmethod(time.monotonic)

    def receiveMessage(self, message: Any, sender: ActorAddress) -> None:  # noqa: N802 - Thespian's name
        """Called by Thespian for each message; never raises, because it would be called again."""
        try:
            self._dispatch(message)
        except Exception:  # noqa: BLE001 - whatever it is, the tree goes down with its stack in the log
            die("handler failed", message=type(message).__name__)

    def _dispatch(self, message: object) -> None:
        if isinstance(message, WakeupMessage):
            self._on_wakeup(message.payload)
        elif isinstance(message, ChildActorExited):
            self._on_exited(message.childAddress)
        elif isinstance(message, Ready):
            self._on_ready(message)
        elif isinstance(message, Begin):
            self._on_begin(message)
        elif isinstance(message, Update | Updated | Outcome):
            self._on_reload(message)
        elif isinstance(message, Stop | Drain):
            self._on_end(message)
        elif isinstance(message, PoisonMessage):
            _logger.warning("message could not be delivered", message=type(message.poisonMessage).__name__)
        elif not isinstance(message, ActorExitRequest):
            _logger.warning("message not understood", message=repr(message)[:200])

    def _on_begin(self, begin: Begin) -> None:
        boot = begin.boot
        name_process(boot.slot.name)
        board = Board.attach(boot.board_fd)
        limits = boot.settings.supervision
        slots = [slot for slot in boot.slots if slot.role in CHILD_ROLES]
        self._begin, self._actors = begin, dict(begin.actors)
        self._row = board.row(boot.slot.index)
        self._blame = board.blame
        self._suspects = Suspects()
        self._hung: set[int] = set()
        self._addresses: dict[str, ActorAddress] = {}
        self._armed = float("inf")
        self._children = Children(slots, board.row, limits.hang_timeout_s, limits.backoff_max_s)
        self._rollout = Rollout()
        self._sockets = SocketReceiver(begin.sockets_fd, boot.slots)
        now = self.clock()
        self._row.pid, self._row.since, self._row.beat, self._row.state = os.getpid(), now, now, State.STARTING
        self.wakeupAfter(timedelta(seconds=TICK_S), _TICK)
        self._act(self._children.begin(now))

    def _on_end(self, order: Stop | Drain) -> None:
        if isinstance(order, Stop):
            self._act(self._children.stop(self.clock(), order.grace_s))
            return
        _logger.info("draining", what=order.slot_name or "relay", timeout_s=order.timeout_s)
        if not order.slot_name:
            self._row.drains_until = min(self._row.drains_until or inf, self.clock() + order.timeout_s)
            self._tell_main(State.DRAINING)
        grace_s = self._begin.boot.settings.supervision.stop_timeout_s
        self._act(self._children.drain(order, self.clock(), grace_s))

    def _on_wakeup(self, payload: str) -> None:
        self._row.beat = now = self.clock()
        self._row.log_lines_dropped = log.OUTPUT.dropped
        if payload == _TICK:
            self.wakeupAfter(timedelta(seconds=TICK_S), _TICK)
        else:
            self._armed = float("inf")
        self._act(self._children.tick(now))
        if payload == _TICK:
            self._tell_behind()
            self._settle_reload()

    def _on_ready(self, ready: Ready) -> None:
        _logger.info("process serves", name=ready.slot_name, pid=ready.pid)
        self._tell_behind(ready.slot_name)
        self._act(self._children.ready(ready.slot_name, ready.pid, self.clock()))

    def _on_exited(self, address: ActorAddress) -> None:
        """Found by its slot: the notice may come twice, and the second must not meet the successor."""
        name = next((name for name, known in self._addresses.items() if known == address), None)
        if name is None:
            return
        del self._addresses[name]
        self._rollout.gone(name)
        pid = self._children.pid(name)
        code = system.exit_code(self, pid)
        actions = self._children.exited(name, self.clock(), code or 0)
        state = self._children.state(name)
        say = _logger.info if state is State.STOPPED else _logger.warning
        how = how_ended(code) if pid else "not started"
        say("process ended", name=name, pid=pid, how=how, now=state.name.lower())
        self._put_blame(name, pid, code or 0)
        self._act(actions)
        if any(slot.leaving and slot.name == name for slot in self._begin.boot.slots):
            os.eventfd_write(self._begin.event_fd, 1)  # main forgets who has left
        self._settle_reload()

    def _put_blame(self, name: str, pid: int, code: int) -> None:
        """A worker that died over somebody's bytes may have died of them; whoever did that to several is denied."""
        index = next(slot.index for slot in self._begin.boot.slots if slot.name == name)
        hung = pid in self._hung
        self._hung.discard(pid)
        label = self._blame.take(index)
        if not label[0] or not is_crash(code, hung=hung):
            return
        crashes = self._suspects.crashed(label, self.clock())
        _logger.warning("process died of what a peer had sent", name=name, **who(label), crashes=crashes)
        if crashes >= CRASHES:
            self._blame.deny(label, crashes, self.clock())
            _logger.warning("denied for crashing processes", **who(label), for_s=DENIED_S)

    # --- other settings ---

    def _on_reload(self, message: Update | Updated | Outcome) -> None:
        match message:
            case Update():
                self._on_update(message)
            case Updated():
                self._rollout.taken(message.slot_name, message.number)
                self._settle_reload()
            case Outcome():  # main has refused a configuration: nothing changes, but it is shown
                self._rollout.note(message)
                self._show_outcomes()

    def _on_update(self, update: Update) -> None:
        """Live by them ourselves, keep them for who is started from now on, and tell everybody."""
        if update.number <= self._rollout.number:
            return
        update = replace(update, slots=self._sockets.placed(update.slots))
        now, settings = self.clock(), update.settings
        self._rollout.begin(update, now)
        boot = update.applied_to(self._begin.boot)
        self._begin = replace(self._begin, boot=boot)
        log.OUTPUT.change(settings.log.level, settings.log.format, settings.log.privacy)
        limits = settings.supervision
        self._children.set_limits(limits.hang_timeout_s, limits.backoff_max_s)
        self._tell_behind()
        slots = [slot for slot in boot.slots if slot.role in CHILD_ROLES]
        leave_s = limits.drain_timeout_s or LEAVE_LIMIT_S
        self._act(self._children.arrange(slots, now, leave_s, limits.stop_timeout_s))
        self._settle_reload()

    def _tell_behind(self, only: str = "") -> None:
        """Tell the children that live by older settings, again and again: a message may be lost with its receiver."""
        for name in self._rollout.behind():
            if only in {"", name}:
                self.send(self._addresses[name], self._rollout.update)

    def _settle_reload(self) -> None:
        """When the reload under way is over, say so in the log, to main and to the admin process."""
        outcome = self._rollout.over(self.clock(), time.time())
        if outcome is None:
            return
        fields = {"needs_restart": " ".join(outcome.needs_restart)} if outcome.needs_restart else {}
        if outcome.late:
            _logger.warning("reload not taken over in time", number=outcome.number, by=" ".join(outcome.late), **fields)
        else:
            _logger.info("reloaded", number=outcome.number, **fields)
        self._show_outcomes()
        self._row.reload = outcome.number
        os.eventfd_write(self._begin.event_fd, 1)

    def _show_outcomes(self) -> None:
        outcomes = self._rollout.outcomes
        self._begin = replace(self._begin, boot=replace(self._begin.boot, outcomes=outcomes))
        for slot in self._begin.boot.slots:
            if slot.role == "admin" and slot.name in self._addresses:
                self.send(self._addresses[slot.name], Reloads(outcomes))

    # --- what Children decided ---

    def _act(self, actions: list[Action]) -> None:
        for action in actions:
            match action:
                case Spawn(slot):
                    self._spawn(slot)
                case AskToDrain(slot, order):
                    self.send(self._addresses[slot.name], order)
                case AskToEnd(slot):
                    self.send(self._addresses[slot.name], ActorExitRequest())
                case Kill(slot, pid, why):
                    _logger.warning("killing process", name=slot.name, pid=pid, why=why)
                    if why == HANGS:
                        self._hung.add(pid)
                    self.kill(pid)
                case AllReady():
                    self._tell_main(State.READY)
                case AllStopped():
                    self._tell_main(State.STOPPED)
        self._arm()

    def _spawn(self, slot: Slot) -> None:
        address = self.createActor(self._actors[slot.role])
        self._addresses[slot.name] = address
        self._rollout.spawned(slot.name)
        if error := system.start_error(self):
            self._not_started(slot, error)
        self._children.spawned(slot.name, 0 if error else system.newest_child_pid(self))
        self.send(address, replace(self._begin.boot, slot=slot))

    def _not_started(self, slot: Slot, error: str) -> None:
        """No process, no memory. A successor is tried again after a pause; a tree that never served gives up."""
        _logger.error("process cannot be started", name=slot.name, error=error, look_at=system.PROCESS_LIMITS)
        if not self._children.announced:
            os._exit(EXIT_FAULT)

    def kill(self, pid: int) -> None:
        """End a process that does not listen. Its exit notice follows as for any other death."""
        if pid:
            with suppress(ProcessLookupError):  # it is dying already
                os.kill(pid, signal.SIGKILL)

    def _tell_main(self, state: State) -> None:
        """Main waits for this descriptor and then reads our row."""
        self._row.state = state
        os.eventfd_write(self._begin.event_fd, 1)

    def _arm(self) -> None:
        """Wake when a pause is over, if that is sooner than the next regular look."""
        due = self._children.due()
        wait_s = due - self.clock()
        if due < self._armed and wait_s < TICK_S:
            self._armed = due
            self.wakeupAfter(timedelta(seconds=max(0.0, wait_s)), _DUE)
