"""One run of the canary: `frost-relay check` as a program, what it prints, and its end.

The check is a program and not a task of this process: it imports py-libp2p, runs under trio, and is gone with all it
took when it has ended. The kernel kills it when this process dies. Nothing here waits: the loop calls when there is
output.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Final

import msgspec

from supervisor.canary.record import Found, Step

STEP_LIMIT_S: Final = 10.0
RUN_LIMIT_S: Final = 90.0
"""A check that has not ended by then is killed. Its steps take milliseconds, or are the last."""
MAX_OUTPUT_BYTES: Final = 65_536
NICENESS: Final = 10
"""A check takes 0.9 s of CPU; peers come first."""
_READ_BYTES: Final = 16_384
_REAP_LIMIT_S: Final = 1.0

# Ours, and not to be joined by a program that we only start.
_NOT_INHERITED: Final = frozenset({"PROMETHEUS_MULTIPROC_DIR", "NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"})
_PR_SET_PDEATHSIG: Final = 1
_libc: Final = ctypes.CDLL(None)
_decode: Final = msgspec.json.Decoder(Found).decode


def command(address: str, ca_file: str) -> list[str]:
    """What is started."""
    trust = ["--ca", ca_file] if ca_file else []
    check = [sys.executable, "-m", "supervisor.cli", "check", "--json", "--timeout", f"{STEP_LIMIT_S:g}", *trust]
    return [*check, "--no-refusal", "--", address]  # a refusal would be counted, and logged


class CheckRun:
    """Starts at once, or raises OSError or subprocess.SubprocessError. Calls `ended` once, unless it is killed."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        arguments: Sequence[str],
        ended: Callable[[Found], None],
        limit_s: float = RUN_LIMIT_S,
    ) -> None:
        self._loop = loop
        self._ended = ended
        self._limit_s = limit_s
        self._output = bytearray()
        self._process = subprocess.Popen(  # noqa: S603 - ourselves, with an address from the settings
            arguments,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={name: value for name, value in os.environ.items() if name not in _NOT_INHERITED},
            preexec_fn=partial(_prepare, os.getpid()),  # noqa: PLW1509 - a process of ours has one thread
        )
        assert self._process.stdout is not None  # noqa: S101 - it is a pipe, as asked
        self._fd = self._process.stdout.fileno()
        os.set_blocking(self._fd, False)
        loop.add_reader(self._fd, self._readable)
        self._deadline = loop.call_later(limit_s, self._too_late)

    @property
    def pid(self) -> int:
        """The process of the check."""
        return self._process.pid

    def kill(self) -> None:
        """End it without a word."""
        self._deadline.cancel()
        self._loop.remove_reader(self._fd)
        self._process.kill()
        self._process.wait(_REAP_LIMIT_S)
        if self._process.stdout is not None:
            self._process.stdout.close()

    def _readable(self) -> None:
        data = os.read(self._fd, _READ_BYTES)
        self._output += data
        if not data or len(self._output) > MAX_OUTPUT_BYTES:
            self.kill()  # it has closed its output: all it had to say is said
            self._ended(self._found())

    def _too_late(self) -> None:
        self.kill()
        self._ended(no_result(f"the check did not end within {self._limit_s:g} s and was killed"))

    def _found(self) -> Found:
        try:
            return _decode(self._output)
        except msgspec.DecodeError:
            return no_result("the check said nothing that can be read")


def no_result(cause: str) -> Found:
    """What a run found that never came to its first step."""
    remedy = "run `frost-relay check` with this address by hand: it says why"
    return Found(ok=False, steps=(Step("check", "failed", 0.0, cause, remedy),))


def _prepare(parent: int) -> None:
    """In the child, before it becomes the check: it ends with its parent, and lets others go first."""
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)
    with suppress(OSError):  # the hardened unit allows no such call
        os.nice(NICENESS)
