"""What systemd is told of the relay: sd_notify(3) and the watchdog, in the few lines that they take.

Only main speaks to it. Must never make main wait: what the socket does not take at once goes with what is said next.
Must never feed the watchdog for a tree that cannot repair itself: a process in its restart pause is the supervisor's
business, one that hangs and is not replaced is systemd's.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from typing import Final

from actors import log
from actors.board import Board, BoardRow, State
from actors.messages import Slot
from config.errors import ConfigError

REPORT_S: Final = 5.0
"""How often the status line may change."""
HANG_MARGIN_S: Final = 5.0
"""How much longer than the supervisor we wait for a process that hangs: it is to be replaced first."""
VARIABLES: Final = (
    *("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"),
    *("LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES"),
)
"""What systemd means for main alone."""

_PHASES: Final = frozenset({"READY", "RELOADING", "STOPPING"})
_MAX_PATH_BYTES: Final = 107  # sockaddr_un.sun_path is 108 with its final zero
_MAX_WATCHDOG_USEC: Final = 10**15
_NEVER: Final = float("inf")
_logger = log.get_logger("main")


def forget(environ: MutableMapping[str, str]) -> None:
    """Take systemd's variables out of the environment that children inherit."""
    for name in VARIABLES:
        environ.pop(name, None)


def watchdog_s(environ: Mapping[str, str]) -> float:
    """How long systemd waits for a sign of life, infinity when it does not. Raises ConfigError.

    sd_watchdog_enabled(3): the variables may have been meant for another process, which WATCHDOG_PID then names.
    """
    text = environ.get("WATCHDOG_USEC", "")
    if not text or environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return _NEVER
    if not (text.isascii() and text.isdecimal() and 0 < int(text) <= _MAX_WATCHDOG_USEC):
        raise ConfigError("WATCHDOG_USEC", text, "microseconds, as systemd sets it")
    return int(text) / 1e6


class Notifier:
    """The way to systemd. Without an address nothing is said, and nothing else changes."""

    __slots__ = ("_address", "_complained", "_socket", "_unsent")

    def __init__(self, address: str) -> None:
        """`address` is $NOTIFY_SOCKET: a path, or @name for an abstract socket. Raises ConfigError."""
        if address and (address[0] not in "/@" or len(os.fsencode(address)) > _MAX_PATH_BYTES or len(address) < 2):
            raise ConfigError("NOTIFY_SOCKET", address, "an absolute path or @name of at most 107 bytes")
        self._address = b"\0" + os.fsencode(address[1:]) if address.startswith("@") else os.fsencode(address)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) if address else None
        self._unsent: dict[str, str] = {}
        self._complained = False

    def __bool__(self) -> bool:
        return self._socket is not None

    def tell(self, *assignments: str) -> None:
        """Say `KEY=VALUE`, each key's latest value; what could not be said earlier goes along."""
        for assignment in assignments:
            key = assignment.partition("=")[0]
            self._unsent["phase" if key in _PHASES else key] = assignment
        self.flush()

    def flush(self) -> None:
        """Try again what could not be said."""
        if self._socket is None or not self._unsent:
            return
        try:
            message = "\n".join(self._unsent.values()).encode()
            self._socket.sendto(message, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL, self._address)
        except BlockingIOError:
            return
        except OSError as error:
            if not self._complained:
                _logger.warning("systemd does not listen", socket=os.fsdecode(self._address), error=error.strerror)
            self._complained = True
            return
        self._unsent.clear()


class _Heart:
    """How long a process that serves has not shown that its loop turns."""

    __slots__ = ("_beat", "_row", "silent_s")

    def __init__(self, row: BoardRow) -> None:
        self._row = row
        self._beat = row.beat
        self.silent_s = 0.0

    def look(self, passed_s: float) -> None:
        beat = self._row.beat
        if beat != self._beat or self._row.state is not State.READY:
            self._beat, self.silent_s = beat, 0.0
        else:
            self.silent_s += passed_s


class Reporter:
    """What main says of the tree, from the board: its phase, a status line, and a sign of life while there is one."""

    def __init__(
        self,
        notifier: Notifier,
        watchdog_s: float,
        places: Sequence[tuple[Slot, BoardRow]],
        hang_timeout_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._notifier = notifier
        self._watched = watchdog_s < _NEVER
        self._interval_s = min(REPORT_S, watchdog_s / 2) if notifier else _NEVER
        self._hearts: dict[tuple[str, int], _Heart] = {}  # by name and row
        self._look_at(places)
        self.expect(hang_timeout_s)
        self._clock = clock
        self._last = self._due = clock()
        self._status = ""
        self._silent: list[str] = []
        self._phase = "starting"

    @classmethod
    def from_environ(
        cls, environ: Mapping[str, str], slots: Sequence[Slot], board: Board, hang_timeout_s: float
    ) -> Reporter:
        """As systemd wants it; silent when nobody asked. Raises ConfigError."""
        places = [(slot, board.row(slot.index)) for slot in slots]
        return cls(Notifier(environ.get("NOTIFY_SOCKET", "")), watchdog_s(environ), places, hang_timeout_s)

    def expect(self, hang_timeout_s: float) -> None:
        """The supervisor replaces a process that was silent for so long, from now on."""
        self._hang_s = hang_timeout_s + HANG_MARGIN_S

    def watch(self, slots: Sequence[Slot], board: Board) -> None:
        """A reload has changed which processes there are."""
        self._look_at([(slot, board.row(slot.index)) for slot in slots])

    def _look_at(self, places: Sequence[tuple[Slot, BoardRow]]) -> None:
        staying = [(slot, row) for slot, row in places if not slot.leaving]
        self._listeners = [row for slot, row in staying if slot.role == "listener"]
        rows = {(slot.name, slot.index): row for slot, row in staying if slot.role not in {"main", "system"}}
        self._hearts = {place: self._hearts.get(place) or _Heart(row) for place, row in rows.items()}

    def tick(self) -> float:
        """Say what is due. Returns after how many seconds something will be."""
        if not self._notifier:
            return _NEVER
        now = self._clock()
        if now >= self._due:
            # A machine that was paused is not a tree that hangs: however long it took, it counts for two intervals.
            self._look(min(now - self._last, 2 * self._interval_s))
            self._last, self._due = now, now + self._interval_s
            self._tell_status()
            if self._watched and not self._silent:
                self._notifier.tell("WATCHDOG=1")
            self._notifier.flush()
        return self._due - now

    def ready(self) -> None:
        """Every slot serves; also said at the end of a reload, whatever came of it. Whoever stops goes on stopping."""
        if self._phase != "stopping":
            self._enter("", "READY=1")

    def reloading(self) -> None:
        """A reload begins; `ready` ends it. Type=notify-reload compares the time with that of its signal."""
        if self._phase == "stopping":
            return
        self._enter("reloading", "RELOADING=1", f"MONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")

    def stopping(self, within_s: float) -> None:
        """The end begins and takes `within_s` at most, for which systemd may have to be patient."""
        self._enter("stopping", "STOPPING=1", f"EXTEND_TIMEOUT_USEC={int(within_s * 1e6)}")

    def _enter(self, phase: str, *assignments: str) -> None:
        self._phase = phase
        self._status = self._status_text()
        self._notifier.tell(*assignments, f"STATUS={self._status}")

    def _tell_status(self) -> None:
        status = self._status_text()
        if status != self._status:
            self._status = status
            self._notifier.tell(f"STATUS={status}")

    def _status_text(self) -> str:
        rows = self._listeners
        serving = sum(row.state is State.READY for row in rows)
        counts = (
            f"{sum(row.reservations for row in rows)} reservations",
            f"{sum(row.circuits for row in rows)} circuits",
            f"{sum(row.connections for row in rows)} connections",
            f"{serving} of {len(rows)} workers",
        )
        return ", ".join((self._phase, *counts) if self._phase else counts)

    def _look(self, passed_s: float) -> None:
        for heart in self._hearts.values():
            heart.look(passed_s)
        silent = [name for (name, _), heart in self._hearts.items() if heart.silent_s >= self._hang_s]
        if self._watched and silent != self._silent:
            if silent:
                _logger.error("watchdog not fed", hanging=" ".join(silent))
            else:
                _logger.info("watchdog fed again")
        self._silent = silent
