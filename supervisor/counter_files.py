"""The files that the tree counts in, made with all their blocks before anything is started.

prometheus_client makes such a file by its length alone and maps it. On a file system that is full by then, the first
count would end its process (SIGBUS), and each successor at the same place. So every block is taken at the start, when
one line can still say that there is no room. Must never be asked for more room later: `FILE_BYTES` holds every series
that there can be (actors/metrics.py). For processes that a reload adds it is the same, before anything changes.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Final

from config.errors import ConfigError

DIRECTORY: Final = "counters"
FILE_BYTES: Final = 64 * 1024
"""What prometheus_client makes by itself; all series of a process with every label take 36 KiB."""
BOOT: Final = "boot"
"""Whose file main's is, before it forks."""
_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})


def make(runtime_dir: str, slots: Iterable[int]) -> str:
    """The directory, with a file for main and for each slot. Raises ConfigError when there is no room for them."""
    _make_all(runtime_dir, [BOOT, *map(str, slots)])
    return os.path.join(runtime_dir, DIRECTORY)


def add(runtime_dir: str, slots: Iterable[int]) -> None:
    """Files for those of these slots that have none. Raises ConfigError when there is no room for them."""
    _make_all(runtime_dir, [each for each in map(str, slots) if not os.path.exists(_path(runtime_dir, each))])


def _make_all(runtime_dir: str, owners: Sequence[str]) -> None:
    directory, made = os.path.join(runtime_dir, DIRECTORY), []
    try:
        if not os.path.isdir(directory):
            os.mkdir(directory, 0o700)
        for owner in owners:
            made.append(_path(runtime_dir, owner))
            _make(made[-1])
    except OSError as error:
        for path in made:  # one that has not got its blocks must not be counted in
            with suppress(FileNotFoundError):
                os.unlink(path)
        room = f"a file system with {len(owners) * FILE_BYTES // 1024} KiB free"
        expected = f"{room if error.errno in _FULL else 'a directory that can be written'} ({error.strerror})"
        raise ConfigError("RUNTIME_DIRECTORY", os.path.dirname(runtime_dir), expected) from error


def _path(runtime_dir: str, owner: str) -> str:
    return os.path.join(runtime_dir, DIRECTORY, f"counter_{owner}.db")


def _make(path: str) -> None:
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        os.posix_fallocate(fd, 0, FILE_BYTES)
    finally:
        os.close(fd)
