"""The board: one row a process of the tree, in memory that all of them share.

It answers 'who lives, since when, holding how much?' without a message. Each process writes its own row (beat and
counts), the supervisor writes pid, state and restarts of its children, anybody reads. There is no lock: every field is
eight aligned bytes, which the machine reads and writes whole. Nothing on the board may be a secret, and no decision
that must be exact may be taken from it: it is a picture, a moment old. Behind the rows is what has to outlive a worker:
for whom it works, and who is denied (actors/blame.py).
"""

from __future__ import annotations

import mmap
import os
from enum import IntEnum

from actors import histograms
from actors.blame import Blame

_FIELDS = histograms.ROW_FIELDS
_ROW_BYTES = _FIELDS * 8


class State(IntEnum):
    """Where a slot is in its life. The transitions are in supervisor/children.py."""

    EMPTY = 0
    """Never had a process."""
    STARTING = 1
    READY = 2
    BACKOFF = 3
    """Died, and waits for its restart."""
    FAILED = 4
    """Died quickly three times or more, and waits for its restart."""
    STOPPING = 5
    STOPPED = 6
    DRAINING = 7
    """Serves those it has until their circuits have ended; then it ends. The supervisor's: the whole relay does."""


class _Integer:
    """A row's signed integer, eight bytes."""

    def __init__(self, offset: int) -> None:
        self._offset = offset

    def __get__(self, row: BoardRow, owner: object = None) -> int:
        return row.integers[self._offset]

    def __set__(self, row: BoardRow, value: int) -> None:
        row.integers[self._offset] = value


class _Seconds:
    """A row's moment on the monotonic clock, a double."""

    def __init__(self, offset: int) -> None:
        self._offset = offset

    def __get__(self, row: BoardRow, owner: object = None) -> float:
        return row.doubles[self._offset]

    def __set__(self, row: BoardRow, value: float) -> None:
        row.doubles[self._offset] = value


class BoardRow:
    """One process of the tree. Reading and writing an attribute goes straight to the shared memory (0.1 µs)."""

    __slots__ = ("doubles", "integers")

    beat = _Seconds(0)
    """When the process last showed that its loop turns (time.monotonic)."""
    since = _Seconds(1)
    """When the process was started (time.monotonic)."""
    pid = _Integer(2)
    """0: no process."""
    code = _Integer(3)
    """The State, as a number; `state` is the same, typed."""
    restarts = _Integer(4)
    connections = _Integer(5)
    reservations = _Integer(6)
    circuits = _Integer(7)
    pending_handshakes = _Integer(8)
    log_lines_dropped = _Integer(9)
    reload = _Integer(10)
    """Number of the reload whose settings the process lives by. Main's is the latest that has begun, the supervisor's
    the latest that is over."""

    certificate_expires_unix_s = _Integer(11)
    """When the certificate that a WSS worker serves ends; 0: none."""
    loop_lag_s = _Seconds(12)
    """How much too late the latest beat came: what a callback waits for before it is its turn."""
    busy = _Integer(13)
    """While a worker drains: how many of its peers have a circuit or wait for one."""

    ended = _Seconds(14)
    """When the slot's previous process ended (time.monotonic); 0: it has had none."""
    end_code = _Integer(15)
    """How it ended: its exit code, or a signal as a negative number."""

    audited = _Seconds(16)
    """Since when the registry has compared itself with every worker; 0: there is none. The registry's row only."""
    audit_differences = _Integer(17)
    """In how many things they differed."""
    audit_mended = _Integer(18)
    """How many differences have been mended since the relay was started."""

    sheds = _Integer(19)
    """1: newcomers wait or are refused, so that those who are here do not suffer. A worker's: it does not accept,
    because its loop lags. The admin process's: no worker takes anybody, because memory is short."""

    drains_until = _Seconds(20)
    """While the whole relay drains, when that is over at the latest (time.monotonic). The supervisor's row only."""

    def __init__(self, integers: memoryview[int], doubles: memoryview[float]) -> None:
        self.integers = integers
        self.doubles = doubles

    @property
    def state(self) -> State:
        """The state as its name."""
        return State(self.code)

    @state.setter
    def state(self, value: State) -> None:
        self.code = int(value)

    def renew(self) -> None:
        """The row is another slot's from now on. What was measured stays, as counters do."""
        for field in range(histograms.FIRST_FIELD):
            self.integers[field] = 0

    def vacate(self) -> None:
        """The process is gone, and with it all it held. That memory is short is true until its successor has looked."""
        self.pid = 0
        self.connections = self.reservations = self.circuits = self.pending_handshakes = 0


class Board:
    """All rows. Made once in main, attached by its descriptor in every child."""

    __slots__ = ("_doubles", "_integers", "blame", "fd", "memory", "rows")

    def __init__(self, fd: int, rows: int) -> None:
        size = rows * _ROW_BYTES
        self.memory = mmap.mmap(fd, size + Blame.size(rows))
        self.fd = fd
        self.rows = rows
        self.blame = Blame(self.memory, size, rows)
        table = memoryview(self.memory)[:size]
        self._integers = table.cast("q")
        self._doubles = table.cast("d")

    @classmethod
    def create(cls, rows: int) -> Board:
        """A new board; its descriptor is meant to be inherited by fork."""
        fd = os.memfd_create("frost-relay-board")
        os.ftruncate(fd, rows * _ROW_BYTES + Blame.size(rows))
        return cls(fd, rows)

    @classmethod
    def attach(cls, fd: int) -> Board:
        """The board that `create` made, seen from a process that inherited its descriptor."""
        each = _ROW_BYTES + Blame.size(1) - Blame.size(0)
        return cls(fd, (os.fstat(fd).st_size - Blame.size(0)) // each)

    def used(self) -> list[BoardRow]:
        """All rows that have or had a process, those of slots that are gone among them."""
        return [row for row in map(self.row, range(self.rows)) if row.since]

    def row(self, index: int) -> BoardRow:
        """The row of a slot. Raises IndexError when the board has none such."""
        if not 0 <= index < self.rows:
            raise IndexError(index)
        cut = slice(index * _FIELDS, (index + 1) * _FIELDS)
        return BoardRow(self._integers[cut], self._doubles[cut])
