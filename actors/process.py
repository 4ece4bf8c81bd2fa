"""What every process of the tree does about itself: its name, its end on purpose. And what an end is called.

Decides nothing about others.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from typing import Final, NoReturn

from actors import log

EXIT_FAULT: Final = 70
"""Exit code of a process that ends itself because of a fault of ours (EX_SOFTWARE)."""

NAME_PREFIX: Final = "fr:"
"""What the name of each of our processes begins with."""

_PR_SET_NAME: Final = 15
_SIGNALS: Final = {each.value: each.name for each in signal.Signals}  # those of real time have no name
_logger = log.get_logger("process")


def name_process(name: str) -> None:
    """Show the slot's name in ps and top (15 characters of it). Costs one system call."""
    ctypes.CDLL(None).prctl(_PR_SET_NAME, f"{NAME_PREFIX}{name}".encode()[:15], 0, 0, 0)


def how_ended(code: int | None) -> str:
    """An exit code as operators read it; a negative one is a signal."""
    if not code:  # None: it said goodbye, and is not quite gone yet
        return "in order"
    return _SIGNALS.get(-code, f"signal {-code}") if code < 0 else f"exit code {code}"


def die(event: str, error: BaseException | None = None, **fields: object) -> NoReturn:
    """End this process because of `error`, or the exception at hand, logged with its stack; its parent goes on."""
    try:
        _logger.error(event, exc_info=(type(error), error, error.__traceback__) if error else sys.exc_info(), **fields)
    finally:  # also when there is no memory for a line
        os._exit(EXIT_FAULT)  # not sys.exit: Thespian's exit hooks would try to send, and could wait


def end_without_memory(error: BaseException | None) -> None:
    """End this process if `error` is that it got no memory: what else was left half done then, nobody knows.

    Whoever catches faults of any kind asks this first. A successor begins with as much as there is.
    """
    if isinstance(error, MemoryError):
        die("out of memory", error)
