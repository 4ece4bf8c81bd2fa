"""The private directory of one boot: our Unix sockets and the counters' files, 0700, new each time, gone with us.

A relay that was killed cannot remove its directory. Each directory therefore holds a locked file; the lock is
inherited by every process of the tree, so a directory whose lock is free has no living owner, and the next boot
removes it.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Final

from config.errors import ConfigError

PREFIX: Final = "frost-relay-"
_LOCK: Final = "lock"
_FILES: Final = 16
"""What the tree as a whole makes: the registry's socket, the last hour, the canary's record."""
_FILES_PER_PROCESS: Final = 4
"""Its socket for Thespian, its counters, and a worker's two sockets for questions and other workers."""
_MAX_SOCKET_PATH_BYTES: Final = 107  # sockaddr_un.sun_path is 108 with its final zero
_LONGEST_NAME: Final = "/4194304999"  # the largest process ID and three digits: Thespian's sockets


def parent(environ: Mapping[str, str]) -> str:
    """Where the directory is made: systemd's for the service, the user's, or the machine's for temporary files."""
    for name in ("RUNTIME_DIRECTORY", "XDG_RUNTIME_DIR"):
        directory = environ.get(name, "").split(":")[0]
        if os.path.isabs(directory) and os.path.isdir(directory) and os.access(directory, os.W_OK | os.X_OK):
            return directory
    return tempfile.gettempdir()


@contextmanager
def runtime_directory(environ: Mapping[str, str]) -> Iterator[str]:
    """A new private directory, removed at the end. Raises ConfigError when there is no place for one."""
    base = parent(environ)
    expected = "a directory that can be written"
    try:
        directory = tempfile.mkdtemp(prefix=PREFIX, dir=base)
    except OSError as error:
        raise ConfigError("RUNTIME_DIRECTORY", base, f"{expected} ({error.strerror})") from error
    try:
        if len(os.fsencode(directory + _LONGEST_NAME)) > _MAX_SOCKET_PATH_BYTES:
            raise ConfigError("RUNTIME_DIRECTORY", base, "a shorter path: Unix sockets have 107 bytes for theirs")
        try:
            lock = os.open(os.path.join(directory, _LOCK), os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise ConfigError("RUNTIME_DIRECTORY", base, f"{expected} ({error.strerror})") from error
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        _remove_abandoned(base, directory)
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def check_room(directory: str, processes: int) -> None:
    """Raise ConfigError when there are fewer files left to make than a tree of so many processes makes here."""
    found, needed = os.statvfs(directory), _FILES + _FILES_PER_PROCESS * processes
    if found.f_files and found.f_favail < needed:  # 0: this file system does not count them
        expected = f"a file system on which {needed} more files can be made (df -i says {found.f_favail})"
        raise ConfigError("RUNTIME_DIRECTORY", os.path.dirname(directory), expected)


def _remove_abandoned(base: str, own: str) -> None:
    """Remove what relays of this user left here that no longer live."""
    for name in os.listdir(base):
        directory = os.path.join(base, name)
        if not name.startswith(PREFIX) or directory == own:
            continue
        with suppress(OSError):  # another user's, no directory of a relay, locked, or gone meanwhile
            if os.lstat(directory).st_uid != os.getuid():
                continue
            lock = os.open(os.path.join(directory, _LOCK), os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(directory, ignore_errors=True)
            finally:
                os.close(lock)
