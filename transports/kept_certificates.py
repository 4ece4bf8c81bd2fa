"""The certificates that were served last, with their keys: for a worker that starts when its listener's files are bad.

They are in memory that main makes and every process of the tree inherits, never on a disk. Who could read them there
could read the keys in the memory of any worker. Must never hold what has not been served.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import msgspec

_PATH: Final = "/proc/self/fd/{}"
_All = dict[str, tuple[bytes, bytes]]
_decode: Final = msgspec.msgpack.Decoder(_All).decode


def create() -> int:
    """The memory, for the certificates of all listeners; its descriptor is meant to be inherited by fork."""
    return os.memfd_create("frost-relay-certificates")


class KeptCertificate:
    """That of one listener, which is named by its address."""

    __slots__ = ("_fd", "_listener")

    def __init__(self, fd: int, listener: str) -> None:
        self._fd = fd
        self._listener = listener

    def keep(self, files: tuple[str, str]) -> None:
        """Keep what certificate and key file hold in the place of what was kept before. Raises OSError."""
        content = _content(files)
        with self._opened(os.O_RDWR, fcntl.LOCK_EX) as fd:
            data = msgspec.msgpack.encode({**_read(fd), self._listener: content})
            os.ftruncate(fd, len(data))
            os.pwrite(fd, data, 0)

    def holds(self, files: tuple[str, str]) -> bool:
        """Whether these files have what is kept."""
        try:
            return self._content() == _content(files)
        except OSError:
            return False

    @contextmanager
    def files(self) -> Iterator[tuple[str, str] | None]:
        """The paths of certificate and key, for as long as this lasts; None when nothing is kept yet."""
        content = self._content()
        if content is None:
            yield None
            return
        cert_fd, key_fd = _in_memory(content[0]), _in_memory(content[1])
        try:
            yield _PATH.format(cert_fd), _PATH.format(key_fd)
        finally:
            os.close(cert_fd)
            os.close(key_fd)

    def _content(self) -> tuple[bytes, bytes] | None:
        with self._opened(os.O_RDONLY, fcntl.LOCK_SH) as fd:
            return _read(fd).get(self._listener)

    @contextmanager
    def _opened(self, flags: int, lock: int) -> Iterator[int]:
        """A descriptor of our own: what is inherited is one open file for all, and so would be a lock on it."""
        fd = os.open(_PATH.format(self._fd), flags | os.O_CLOEXEC)
        try:
            fcntl.flock(fd, lock)
            yield fd
        finally:
            os.close(fd)


def _read(fd: int) -> _All:
    size_bytes = os.fstat(fd).st_size
    return _decode(os.pread(fd, size_bytes, 0)) if size_bytes else {}


def _content(files: tuple[str, str]) -> tuple[bytes, bytes]:
    with open(files[0], "rb") as cert_file, open(files[1], "rb") as key_file:
        return cert_file.read(), key_file.read()


def _in_memory(content: bytes) -> int:
    fd = os.memfd_create("frost-relay-certificate")
    os.write(fd, content)
    return fd
