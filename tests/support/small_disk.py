"""A file system of a few hundred KiB that can be filled, in a mount namespace that ends with the test. Needs root."""

from __future__ import annotations

import os
import subprocess
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from tests.support.builds import ROOT
from tests.support.toolchain import missing, required_program

_HOLD: Final = 'mount -t tmpfs -o "size=$1,nr_inodes=$2,mode=0700" none "$3" && echo mounted && read -r _'
_PIECE: Final = 4096


class SmallDisk:
    """Context manager. `path` is where programs that are started with `prefix` see it, `seen` where the test does."""

    def __init__(self, kib: int, inodes: int = 1000) -> None:
        self._kib, self._inodes = kib, inodes

    def __enter__(self) -> Self:
        unshare = required_program("unshare")
        required_program("nsenter")
        if os.geteuid() != 0:
            missing("root, for a mount namespace")
        self._place = tempfile.TemporaryDirectory(prefix="frost-relay-disk-")
        self.path = Path(self._place.name)
        # It lives as long as somebody is in its namespace: this shell, until its input ends, and what the test starts.
        self._holder = subprocess.Popen(
            [unshare, "--mount", "sh", "-c", _HOLD, "sh", f"{self._kib}k", str(self._inodes), str(self.path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert self._holder.stdout is not None
        assert self._holder.stdout.readline() == b"mounted\n"
        self.seen = Path(f"/proc/{self._holder.pid}/root{self.path}")
        self.prefix = ("nsenter", f"--mount=/proc/{self._holder.pid}/ns/mnt", "env", "-C", str(ROOT), "--")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._holder.communicate()
        self._place.cleanup()

    def fill(self) -> None:
        """Leave no byte free."""
        with open(self.seen / "filling", "ab", buffering=0) as file:
            for size in (_PIECE, 1):
                try:
                    while True:
                        file.write(b"x" * size)
                except OSError:
                    continue

    def free(self) -> None:
        """Give back what `fill` took."""
        (self.seen / "filling").unlink()
