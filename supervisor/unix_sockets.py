"""Thespian's TCP transport over Unix sockets in a private directory: no port, no neighbour who could connect.

The transport goes on thinking in (host, port). The port is a file name in the directory; the host is always loopback.
Who connects must have our user ID. Nothing here may open a network socket.
"""

from __future__ import annotations

import errno
import itertools
import os
import socket
import struct
import types
from contextlib import suppress
from typing import Any, ClassVar

from supervisor.thespian_parts import ip_addresses, tcp

ADMIN_PORT = 1
BACKLOG = 1024
_CONNECT_LIMIT = struct.pack("ll", 1, 0)  # struct timeval: one second
_NAMES_A_PROCESS = 1000


class LoopbackAddress(ip_addresses.TCPv4ActorAddress):  # type: ignore[misc]  # thespian is not annotated
    """An actor's address. Stock Thespian looks for this machine's public address here, and binds all interfaces."""

    def __init__(self, ip: object = None, port: int | str = 0, external: object = False) -> None:
        self.af, self.socktype, self.proto = socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP
        self.sockname = self.bindname = ("127.0.0.1", int(port))


class UnixSocket(socket.socket):
    """A Unix stream socket that answers to (host, port); the port is a file name in `directory`."""

    directory: ClassVar[str] = ""
    _bound: int | None = None
    _owner = 0

    def __init__(self, *_inet: int, fileno: int | None = None) -> None:
        super().__init__(socket.AF_UNIX, socket.SOCK_STREAM, 0, fileno=fileno)

    def _path(self, port: int) -> str:
        return f"{self.directory}/{port}"

    def bind(self, address: Any) -> None:
        """Bind the named port, or for port 0 one that carries our process ID."""
        if address[1]:
            self._bind(address[1])
            return
        for number in itertools.count(1):
            try:
                self._bind(os.getpid() * _NAMES_A_PROCESS + number)
            except OSError as error:
                if error.errno != errno.EADDRINUSE:
                    raise
            else:
                return

    def _bind(self, port: int) -> None:
        super().bind(self._path(port))
        self._bound, self._owner = port, os.getpid()

    def connect(self, address: Any) -> None:
        """Connect to a port. A full backlog is EAGAIN here, which Thespian would take for success: wait a little."""
        try:
            super().connect(self._path(address[1]))
        except BlockingIOError:
            self._connect_patiently(address[1])

    def _connect_patiently(self, port: int) -> None:
        """Wait in the kernel; Python's own time-outs are non-blocking underneath and would get EAGAIN again."""
        super().setblocking(True)
        super().setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _CONNECT_LIMIT)
        try:
            super().connect(self._path(port))
        except BlockingIOError as error:
            raise TimeoutError(errno.ETIMEDOUT, "the other actor's backlog is full") from error
        finally:
            super().setblocking(False)

    def accept(self) -> tuple[UnixSocket, tuple[str, int]]:
        """Accept from our own user only. Raises PermissionError for another, which Thespian treats as no connection."""
        fd, _ = self._accept()  # type: ignore[attr-defined]  # the undocumented half of socket.accept, for subclasses
        connection = UnixSocket(fileno=fd)
        _pid, uid, _gid = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
        if uid != os.getuid():
            connection.close()
            raise PermissionError(errno.EPERM, f"connection from user {uid}")
        return connection, ("", 0)

    def getsockname(self) -> tuple[str, int]:
        """Host and port as Thespian knows them."""
        return ("127.0.0.1", self._bound or 0)

    def setsockopt(self, level: int, *rest: Any) -> None:
        """TCP's options have no meaning here."""
        if level != socket.IPPROTO_TCP:
            super().setsockopt(level, *rest)

    def close(self) -> None:
        """Close, and remove the file when this process made it (a forked child closes its copies too)."""
        if self._bound is not None and self._owner == os.getpid():
            with suppress(OSError):
                os.unlink(self._path(self._bound))
            self._bound = None
        super().close()

    def __del__(self) -> None:
        """Thespian leaves some sockets to the garbage collector, which would leave their files."""
        self.close()


def remove_leftovers(pid: int) -> None:
    """Remove the socket files of a process that was killed, and could not do it itself."""
    prefix = str(pid)
    for name in os.listdir(UnixSocket.directory):
        if name.isdecimal() and name[:-3] == prefix:
            with suppress(OSError):
                os.unlink(f"{UnixSocket.directory}/{name}")


def install(directory: str) -> None:
    """Move Thespian's transport into this directory. Before the first fork."""
    UnixSocket.directory = directory
    namespace = types.ModuleType("socket")
    namespace.__dict__.update(socket.__dict__)
    namespace.__dict__["socket"] = UnixSocket
    tcp.socket = namespace  # every socket that the transport makes
    tcp.TCPv4ActorAddress = LoopbackAddress  # every address that it makes
    tcp.LISTEN_DEPTH = BACKLOG  # 100 would make a storm of restarts wait
