"""One timer for all deadlines of a worker: a wheel of slots, each a quarter of a second.

Setting and dropping a deadline is O(1) and costs no timer in the loop; the wheel's owner calls `advance` with the
time. Must never fire early; it may fire up to SLOT_S late.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

SLOT_S: Final = 0.25


class _Slot(dict["Deadline", None]):
    """The calls of a quarter of a second; `forget` takes it off the wheel."""

    __slots__ = ("_number", "_slots")

    def __init__(self, slots: dict[int, _Slot], number: int) -> None:
        super().__init__()
        self._slots = slots
        self._number = number
        slots[number] = self

    def forget(self) -> None:
        """Nobody is in it any more. A wheel that has passed it has forgotten it already."""
        self._slots.pop(self._number, None)


class Deadline:
    """One pending call."""

    __slots__ = ("_slot", "action")

    def __init__(self, action: Callable[[], None], slot: _Slot) -> None:
        self.action: Callable[[], None] | None = action
        self._slot = slot
        slot[self] = None

    def cancel(self) -> None:
        """The call will not be made, and nothing of it stays: peers renew what is due in an hour as they like."""
        if self.action is None:
            return
        self.action = None
        slot = self._slot
        del slot[self]
        if not slot:
            slot.forget()


class Deadlines:
    """Pending calls by the slot of their time. `on_fault` gets what a call raises; the others are still made."""

    __slots__ = ("_next_slot", "_on_fault", "_slots")

    def __init__(self, now_s: float, on_fault: Callable[[Exception], None]) -> None:
        self._slots: dict[int, _Slot] = {}
        self._next_slot = int(now_s / SLOT_S)
        self._on_fault = on_fault

    def at(self, when_s: float, action: Callable[[], None]) -> Deadline:
        """Call `action` once `when_s` (seconds of the clock that `advance` is given) has passed."""
        number = max(math.ceil(when_s / SLOT_S), self._next_slot)
        slot = self._slots.get(number)
        return Deadline(action, _Slot(self._slots, number) if slot is None else slot)

    def advance(self, now_s: float) -> None:
        """Make every call that is due at `now_s`."""
        current = int(now_s / SLOT_S)
        if not self._slots:
            self._next_slot = current + 1
            return
        # After a long pause there may be more slots than entries; then look at the entries.
        if current - self._next_slot > len(self._slots):
            due = sorted(slot for slot in self._slots if slot <= current)
        else:
            due = [slot for slot in range(self._next_slot, current + 1) if slot in self._slots]
        self._next_slot = current + 1
        for slot in due:
            for deadline in tuple(self._slots.pop(slot)):  # a call may cancel another one of its slot
                self._call(deadline)

    def _call(self, deadline: Deadline) -> None:
        action, deadline.action = deadline.action, None
        if action is None:
            return
        try:
            action()
        except Exception as error:  # noqa: BLE001 - one fault must not keep the other deadlines from firing
            self._on_fault(error)
