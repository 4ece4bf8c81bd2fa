"""Main's wait: for a signal, for word from the supervisor, for the death of what the tree cannot live without.

One select over four descriptors, with a look at the supervisor's heartbeat now and then, and a turn for whoever has
something to do in between. It decides when the relay ends and with which exit code; ending the processes is `end_tree`.
It must never wait without a limit once the end has begun.
"""

from __future__ import annotations

import ctypes
import os
import select
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from enum import Enum, auto
from typing import Final

from actors import log
from actors.board import Board, BoardRow, State

_LOOKS: Final = 5
"""How often we look at the supervisor's heart, at least, before it counts as silent for too long."""
_NEVER: Final = float("inf")
_KILLED_LIMIT_S: Final = 2.0
_PR_SET_CHILD_SUBREAPER: Final = 36
_logger = log.get_logger("main")


class Event(Enum):
    """Why `Watch.wait` returned."""

    WORD = auto()
    """The supervisor has changed its state."""
    STOP = auto()
    """SIGTERM or SIGINT."""
    RELOAD = auto()
    """SIGHUP."""
    DEATH = auto()
    """The actor system's admin is gone, or the supervisor hangs."""
    TIMEOUT = auto()


class Signals:
    """Turns signals into bytes on a pipe. Made before the first fork; children reset what they inherit."""

    HANDLED: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)

    def __init__(self) -> None:
        self.fd, write_end = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(write_end, warn_on_full_buffer=False)
        for each in self.HANDLED:
            signal.signal(each, lambda *_: None)

    def read(self) -> list[int]:
        """Signals since the last time."""
        with suppress(BlockingIOError):
            return list(os.read(self.fd, 512))
        return []


class Watch:
    """What main sees of its tree."""

    def __init__(
        self,
        signals: Signals,
        event_fd: int,
        admin_pid: int,
        supervisor: BoardRow,
        hang_timeout_s: float,
        between: Callable[[], float] = lambda: _NEVER,
    ) -> None:
        """`between` is called before each wait and whenever the seconds that it returned are over."""
        self._signals = signals
        self._event_fd = event_fd
        self._admin_fd = os.pidfd_open(admin_pid)
        self._supervisor = supervisor
        self.hang_timeout_s = hang_timeout_s
        self._between = between
        self._beat, self._silent_s = supervisor.beat, 0.0
        self.signal = signal.SIGTERM
        """Which signal STOP was."""

    def wait(self, limit_s: float | None = None, *, ignore: frozenset[Event] = frozenset()) -> Event:
        """The next event that is not in `ignore`; TIMEOUT after `limit_s` seconds."""
        end = _NEVER if limit_s is None else time.monotonic() + limit_s
        while True:
            left_s = min(self.hang_timeout_s / _LOOKS, self._between(), end - time.monotonic())
            if left_s <= 0:
                return Event.TIMEOUT
            event = self._select(left_s)
            if event is None:
                _reap()  # what a process of the tree had started, and lost by its own death
            if event is not None and event not in ignore:
                return event
            if event is None and self._hangs(left_s) and Event.DEATH not in ignore:
                _logger.error("supervisor hangs", pid=self._supervisor.pid)
                return Event.DEATH

    def _hangs(self, waited_s: float) -> bool:
        """Whether the supervisor's heart stands still; counted in what we meant to wait: the machine may sleep."""
        beat = self._supervisor.beat
        self._silent_s = self._silent_s + waited_s if beat == self._beat else 0.0
        self._beat = beat
        return self._silent_s >= self.hang_timeout_s

    def _select(self, limit_s: float) -> Event | None:
        fds = [self._signals.fd, self._event_fd, self._admin_fd]
        ready, _, _ = select.select(fds, [], [], limit_s)
        if self._signals.fd in ready and (asked := self._asked()) is not None:
            return asked
        if self._event_fd in ready:
            os.eventfd_read(self._event_fd)
            return Event.WORD
        return Event.DEATH if self._admin_fd in ready else None

    def _asked(self) -> Event | None:
        """What the signals that came ask for; the end comes first. A number that is no signal of ours is a child's."""
        came = self._signals.read()
        stopping = [number for number in came if number in {signal.SIGTERM, signal.SIGINT}]
        if stopping:
            self.signal = signal.Signals(stopping[0])
            return Event.STOP
        return Event.RELOAD if signal.SIGHUP in came else None


def adopt_orphans() -> None:
    """Make main the parent of whatever loses its own, so that nothing of ours ends as a zombie of somebody else."""
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def end_tree(board: Board) -> None:
    """Kill what is left and wait until it is gone. Works on frozen processes too."""
    pids = {board.row(index).pid for index in range(board.rows)} - {0, os.getpid()}
    waiting = {}
    for pid in pids:
        with suppress(ProcessLookupError):
            waiting[os.pidfd_open(pid)] = pid
    for fd in waiting:
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(fd, signal.SIGKILL)
    end = time.monotonic() + _KILLED_LIMIT_S
    left = set(waiting)
    while left and (left_s := end - time.monotonic()) > 0:
        left -= set(select.select(list(left), [], [], left_s)[0])
    for fd in left:
        _logger.error("process cannot be killed", pid=waiting[fd])
    for fd in waiting:
        os.close(fd)
    _reap()


def _reap() -> None:
    with suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG) != (0, 0):
            continue


def stop_in_order(watch: Watch, ask: Callable[[float], None], supervisor: BoardRow, grace_s: float) -> None:
    """Ask the supervisor to end the tree, and wait for that: `grace_s` and one second and a half, not longer.

    A second signal means: at once.
    """
    end = time.monotonic() + grace_s + 1.5
    ask(grace_s)
    while supervisor.state is not State.STOPPED:
        event = watch.wait(end - time.monotonic(), ignore=frozenset({Event.RELOAD}))
        if event is not Event.WORD:
            _logger.warning("not stopped in order", because=event.name.lower())
            return
