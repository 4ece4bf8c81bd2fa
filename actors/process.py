"""What every process of the tree does about itself: its name, and its end on purpose. Decides nothing about others."""

from __future__ import annotations

import ctypes
import os
import sys
from typing import Final, NoReturn

from actors import log

EXIT_FAULT: Final = 70
"""Exit code of a process that ends itself because of a fault of ours (EX_SOFTWARE)."""

NAME_PREFIX: Final = "fr:"
"""What the name of each of our processes begins with."""

_PR_SET_NAME: Final = 15
_logger = log.get_logger("process")


def name_process(name: str) -> None:
    """Show the slot's name in ps and top (15 characters of it). Costs one system call."""
    ctypes.CDLL(None).prctl(_PR_SET_NAME, f"{NAME_PREFIX}{name}".encode()[:15], 0, 0, 0)


def die(event: str, **fields: object) -> NoReturn:
    """End this process because of the exception at hand, logged with its stack; its parent decides what follows."""
    _logger.error(event, exc_info=sys.exc_info(), **fields)
    os._exit(EXIT_FAULT)  # not sys.exit: Thespian's exit hooks would try to send, and could wait
