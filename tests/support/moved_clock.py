"""A wall clock that a test sets while a relay runs, for all its processes at once; the monotonic one is left alone.

It is Debian's libfaketime below the relay, so that C sees it too, and reads a file at each look at the clock.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from tests.support.toolchain import missing

_PLACES: Final = ("lib/*/faketime", "lib/faketime", "lib64/faketime", "local/lib/faketime")
_NAME: Final = "libfaketimeMT.so.1"


class MovedClock:
    """`env` is for the relay's environment; `set` moves its clock by so many seconds from the true one."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "faketime"
        self.set(0)
        self.env = {
            "LD_PRELOAD": _library(),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "FAKETIME_DISABLE_SHM": "1",
        }

    def set(self, offset_s: int) -> None:
        """From now on."""
        new = self._file.with_suffix(".new")
        new.write_text(f"{offset_s:+d}")
        new.replace(self._file)


def _library() -> str:
    found = [library for place in _PLACES for library in Path("/usr").glob(f"{place}/{_NAME}")]
    return str(found[0]) if found else missing("libfaketime, to set a relay's clock (Debian: libfaketime)")
