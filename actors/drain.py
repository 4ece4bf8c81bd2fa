"""A worker on its way out: who is still served, and how much is still under way.

Calls go on being possible, for peers that are here and reserved would be unreachable otherwise for as long as it lasts;
only shortly before the end no new ones begin, so that none is cut. When the end comes is the supervisor's to say, which
reads from the board how busy each worker is. Must never end anything itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from actors.messages import Drain

if TYPE_CHECKING:
    from actors.worker import Worker

LOOK_S: Final = 0.25
LAST_CALL_S: Final = 10.0
"""How long before the end of the time no circuit begins any more: what wallets signal takes one or two seconds."""


class Draining:
    """From the order to drain to the end of the process."""

    __slots__ = ("_last_call_s", "_whole", "_worker")

    def __init__(self, worker: Worker, order: Drain) -> None:
        self._worker = worker
        self._whole = not order.slot_name
        self._last_call_s = worker.now_s + order.timeout_s - min(LAST_CALL_S, order.timeout_s / 2)
        self._look()

    @property
    def refuses_reservations(self) -> bool:
        """Whether a new one is refused. Not when this worker alone goes: its peers are back in a moment."""
        return self._whole

    @property
    def refuses_circuits(self) -> bool:
        """Whether a new one would not have the time to end."""
        return self._worker.now_s >= self._last_call_s

    def _look(self) -> None:
        worker = self._worker
        worker.row.busy = worker.busy_peers()
        worker.deadlines.at(worker.now_s + LOOK_S, self._look)
