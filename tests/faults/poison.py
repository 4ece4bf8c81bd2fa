"""The relay as it is, with a fault in its code: a ping, or a line of multistream, that has the poison in it kills.

Where it is is said by the wrapped functions below. The tests start it; the relay knows of nothing.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterable
from typing import Any, Final

SEGV: Final = b"poison: die"
HANG: Final = b"poison: hang"


def _poisonous(original: Callable[..., Any]) -> Callable[..., Any]:
    def receive(self: Any, data: Any) -> Any:
        if SEGV in bytes(data):
            os.kill(os.getpid(), signal.SIGSEGV)
        while HANG in bytes(data):
            pass
        return original(self, data)

    return receive


def _spoilt(preload: Callable[..., None]) -> Callable[..., None]:
    """The faults come in behind all that main imports before it forks."""

    def preload_and_spoil(actors: Iterable[str]) -> None:
        preload(actors)
        from actors.ping import PingStream  # noqa: PLC0415 - not before main has said where counters are
        from transports.multistream import Responder  # noqa: PLC0415

        PingStream.data_received = _poisonous(PingStream.data_received)  # type: ignore[method-assign]
        Responder.receive = _poisonous(Responder.receive)  # type: ignore[method-assign]

    return preload_and_spoil


if __name__ == "__main__":
    from supervisor import main
    from supervisor.cli import main as command

    main._preload = _spoilt(main._preload)
    sys.exit(command())
