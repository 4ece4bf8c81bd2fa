"""How long things take and how large they are: histograms in the rows of the board.

One observation is a search in fourteen numbers and two writes to shared memory (0.4 µs), where prometheus_client's own
takes several µs a process file; so an event of the data plane may be observed as it happens. A row is its slot's and
outlives its process, as counters do. Must never take a value that says who somebody is.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from actors.board import BoardRow

FIRST_FIELD: Final = 21
"""Of the board's row; the histograms follow its other fields."""
_BOUNDS: Final = 14
_FIELDS: Final = _BOUNDS + 2  # what is above the last bound, and the sum


class Histogram:
    """One histogram: where it is in a row, and its upper bounds."""

    __slots__ = ("_first", "_sum", "bounds", "help", "name")

    def __init__(self, number: int, name: str, help_text: str, bounds: tuple[float, ...]) -> None:
        if len(bounds) != _BOUNDS:
            raise ValueError(f"{name} has {len(bounds)} bounds")
        self.name = name
        self.help = help_text
        self.bounds = bounds
        self._first = FIRST_FIELD + number * _FIELDS
        self._sum = self._first + _BOUNDS + 1

    def observe(self, row: BoardRow, value: float) -> None:
        """Count `value`; only the row's own process may."""
        row.integers[self._first + bisect_left(self.bounds, value)] += 1
        row.doubles[self._sum] += value

    def counts(self, row: BoardRow) -> list[int]:
        """How many were at most each bound and above the one before, and at last how many were above all."""
        return list(row.integers[self._first : self._sum])

    def sum(self, row: BoardRow) -> float:
        """Of all values."""
        return row.doubles[self._sum]


_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_CIRCUIT_SECONDS: Final = (0.1, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 900.0, 3600.0, 14400.0)
_BYTES: Final = tuple(float(1 << shift) for shift in range(8, 36, 2))

HANDSHAKE: Final = Histogram(0, "frost_relay_handshake_seconds", "From accept to an upgraded connection.", _SECONDS)
RESERVE: Final = Histogram(1, "frost_relay_reserve_seconds", "From a RESERVE to its answer OK.", _SECONDS)
CIRCUIT_SETUP: Final = Histogram(2, "frost_relay_circuit_setup_seconds", "From a CONNECT to its circuit.", _SECONDS)
CIRCUIT_DURATION: Final = Histogram(
    3, "frost_relay_circuit_duration_seconds", "From a circuit's beginning to its end.", _CIRCUIT_SECONDS
)
CIRCUIT_BYTES: Final = Histogram(
    4, "frost_relay_circuit_bytes", "What passed through a circuit, both directions together.", _BYTES
)
ALL: Final = (HANDSHAKE, RESERVE, CIRCUIT_SETUP, CIRCUIT_DURATION, CIRCUIT_BYTES)

ROW_FIELDS: Final = FIRST_FIELD + len(ALL) * _FIELDS
"""Of the board, with everything that is in a row."""
