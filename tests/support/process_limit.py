"""A limit on the number of processes (the pids controller of cgroups, either version) for what a test starts."""

from __future__ import annotations

import os
import secrets
import time
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from tests.support.toolchain import missing

_ROOT: Final = Path("/sys/fs/cgroup")
_JOIN: Final = 'echo $$ >"$0/cgroup.procs" && exec "$@"'
_WAIT_S: Final = 10.0


class ProcessLimit:
    """Context manager. What is started with `prefix`, and all of its children, count together. Needs root."""

    def __init__(self) -> None:
        parent = _ROOT / "pids" if (_ROOT / "pids").is_dir() else _ROOT
        self._group = parent / f"frost-relay-{os.getpid()}-{secrets.token_hex(4)}"

    def __enter__(self) -> Self:
        try:
            self._group.mkdir()
            if not (self._group / "pids.max").exists():  # version 2, which has to be told
                (self._group.parent / "cgroup.subtree_control").write_text("+pids")
        except OSError as error:
            if self._group.is_dir():
                self._group.rmdir()
            missing(f"a cgroup of the test's own with the pids controller ({error.strerror})")
        self.prefix = ("sh", "-c", _JOIN, str(self._group))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        end = time.monotonic() + _WAIT_S
        while self.count() and time.monotonic() < end:  # what has just ended is counted a moment longer
            time.sleep(0.01)
        self._group.rmdir()

    def count(self) -> int:
        """How many there are."""
        return int((self._group / "pids.current").read_text())

    def allow(self, most: int | None) -> None:
        """No more than so many from now on; None: as many as they like. Those that are there stay."""
        (self._group / "pids.max").write_text("max" if most is None else str(most))
