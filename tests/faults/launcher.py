"""The relay as it is, with two more signals: RAISE, an exception in the event loop; LEAK, memory until none is left.

Handlers are set before the first fork, so every process has them; nothing else is changed, and the relay knows of
nothing. Arguments are those of `frost-relay`.
"""

from __future__ import annotations

import signal
import sys
from typing import Any, Final, NoReturn

RAISE: Final = signal.SIGRTMIN + 1
LEAK: Final = signal.SIGRTMIN + 2
SAID: Final = "a fault in the event loop"
BLOCK_BYTES: Final = 1 << 20

_kept: list[bytearray] = []
_set_handler = signal.signal


def _fault(number: int, _frame: object) -> None:
    """In a process with an event loop, in a callback of its own; in one without, where it waits."""
    from actors.loop_selector import LoopSelector  # noqa: PLC0415 - not before the relay imports it

    do = _raise if number == RAISE else _leak
    driver = LoopSelector.driver
    if driver is None:
        do()
    else:
        driver.loop.call_soon_threadsafe(do)


def _raise() -> NoReturn:
    raise RuntimeError(SAID)


def _leak() -> None:
    while True:
        _kept.append(bytearray(BLOCK_BYTES))


def _keep_handlers(number: int, handler: Any) -> Any:
    """In the place of signal.signal: Thespian takes every signal that there is."""
    return None if number in {RAISE, LEAK} else _set_handler(number, handler)


if __name__ == "__main__":
    for each in (RAISE, LEAK):
        _set_handler(each, _fault)
    signal.signal = _keep_handlers  # type: ignore[assignment]
    from supervisor.cli import main

    sys.exit(main())
