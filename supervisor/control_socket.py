"""The control socket's file: made by main before the fork, in a place that commands can find, for its owner only.

A relay that was killed leaves its file behind; the next one replaces it. The socket of a relay that lives is never
taken: as long as one of its processes is there, it can be connected to. Served by AdminActor; nothing here reads it.
"""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import stat
import struct
from contextlib import suppress
from typing import Final

import psutil

from actors.process import NAME_PREFIX
from config.errors import ConfigError

KEY: Final = "admin.control_socket"
_MAX_PATH_BYTES: Final = 107  # sockaddr_un.sun_path is 108 with its final zero
_BACKLOG: Final = 64
_CREDENTIALS: Final = struct.Struct("iII")  # pid, uid, gid: struct ucred of unix(7)


def check_path(path: str) -> None:
    """Raises ConfigError for a path that can hold no socket; touches nothing."""
    if len(os.fsencode(path)) > _MAX_PATH_BYTES:
        raise ConfigError(KEY, path, f"a shorter path: a Unix socket has {_MAX_PATH_BYTES} bytes for it")
    with suppress(OSError):  # nothing is there yet
        if not stat.S_ISSOCK(os.lstat(path).st_mode):
            raise ConfigError(KEY, path, "a path where nothing is, or a socket that an earlier relay left")


class ControlSocket:
    """The listening socket, and the file under which it is found."""

    def __init__(self, path: str) -> None:
        """Raises ConfigError, which names the relay that lives there if one does."""
        check_path(path)
        self._path = path
        try:
            os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
            self._socket = self._take(path)
            self._file = os.stat(path)
        except OSError as error:
            raise ConfigError(KEY, path, f"a place where a socket can be made ({error.strerror})") from error

    @staticmethod
    def _take(path: str) -> socket.socket:
        """Two relays that start together must not both find the file stale, so one at a time looks and binds."""
        directory = os.open(os.path.dirname(path), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(directory, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _remove_stale(path)
            return _listen(path)
        finally:
            os.close(directory)

    def fileno(self) -> int:
        """The descriptor that AdminActor inherits."""
        return self._socket.fileno()

    def close(self) -> None:
        """Serve no more, and remove the file unless it is another's by now."""
        self._socket.close()
        with suppress(OSError):  # somebody has removed it already, or its directory
            if os.path.samestat(os.lstat(self._path), self._file):
                os.unlink(self._path)


def _listen(path: str) -> socket.socket:
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o177)  # the mode is right from the first moment on
    try:
        listening.bind(path)
        listening.listen(_BACKLOG)
    except OSError:
        listening.close()
        raise
    finally:
        os.umask(before)
    listening.setblocking(False)
    return listening


def _remove_stale(path: str) -> None:
    """Remove what a dead relay left. ConfigError when its relay lives."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)  # a queue that is full is a relay that lives
        outcome = probe.connect_ex(path)
        if outcome == errno.ENOENT:
            return
        if outcome == errno.ECONNREFUSED:
            os.unlink(path)
            return
        if outcome not in {0, errno.EAGAIN}:
            raise OSError(outcome, os.strerror(outcome))
        raise ConfigError(KEY, path, f"a path that no running relay has (pid {_owner(probe)} has this one)")


def _owner(probe: socket.socket) -> str:
    """Main of the relay at the other end: whoever listened last is one of its processes."""
    with suppress(OSError, psutil.Error):
        credentials = probe.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        process = psutil.Process(_CREDENTIALS.unpack(credentials)[0])
        # Thespian's own process, which is a child of main, keeps its name: the outermost one is it.
        mains = [each for each in process.parents() if each.name() == f"{NAME_PREFIX}main"]
        return str([process, *mains][-1].pid)
    return "unknown"
