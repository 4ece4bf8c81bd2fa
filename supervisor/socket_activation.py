"""Listening sockets that systemd has opened for us (sd_listen_fds(3)), so that port 443 takes no privilege.

A listener whose address a passed socket is bound to uses it instead of opening its own. Must never leave one that
nobody serves: its clients would connect, and wait.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from typing import Final

from config.errors import ConfigError
from transports.address import ListenAddress

FIRST_FD: Final = 3
MAX_SOCKETS: Final = 1024
_WANTED: Final = "a listening TCP socket bound to the address of one of the [[listeners]], and that is {}"


class PassedSockets:
    """The sockets that came with us, each to be taken by one listener."""

    def __init__(self, named: list[tuple[str, socket.socket]]) -> None:
        self._left = named

    def take(self, address: ListenAddress) -> list[socket.socket]:
        """All that are bound to the address; with ReusePort= there may be several. They are ours to close no more."""
        taken = [each for _, each in self._left if _is_at(each, address)]
        self._left = [(name, each) for name, each in self._left if each not in taken]
        for each in taken:
            each.setblocking(False)
            each.set_inheritable(False)
        return taken

    def close(self) -> None:
        """Close what nobody took."""
        for _, each in self._left:
            each.close()
        self._left = []

    def check_all_taken(self) -> None:
        """Raises ConfigError for the first socket that no listener has taken."""
        for name, each in self._left:
            text = name or f"descriptor {each.fileno()}"
            raise ConfigError("LISTEN_FDS", text, _WANTED.format(_describe(each)))


def passed_sockets(environ: Mapping[str, str]) -> PassedSockets:
    """What systemd passed to this process. Raises ConfigError for variables or descriptors that make no sense."""
    text = environ.get("LISTEN_FDS", "")
    if not text or environ.get("LISTEN_PID") != str(os.getpid()):
        return PassedSockets([])
    if not (text.isascii() and text.isdecimal() and int(text) <= MAX_SOCKETS):
        raise ConfigError("LISTEN_FDS", text, f"a number of sockets from 0 to {MAX_SOCKETS}, as systemd sets it")
    count = int(text)
    names = environ.get("LISTEN_FDNAMES", "").split(":")
    names += [""] * (count - len(names))
    return PassedSockets(
        [(name, _adopt(fd)) for name, fd in zip(names, range(FIRST_FD, FIRST_FD + count), strict=False)]
    )


def _adopt(fd: int) -> socket.socket:
    try:
        return socket.socket(fileno=fd)
    except OSError as error:
        raise ConfigError("LISTEN_FDS", f"descriptor {fd}", f"a socket ({error.strerror})") from error


def _is_at(passed: socket.socket, address: ListenAddress) -> bool:
    if passed.family != address.family or passed.type != socket.SOCK_STREAM:
        return False
    if not passed.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        return False
    where: tuple[str, int] = passed.getsockname()[:2]
    return where == (address.host, address.port)


def _describe(passed: socket.socket) -> str:
    if passed.family in {socket.AF_INET, socket.AF_INET6}:
        host, port = passed.getsockname()[:2]
        return f"bound to [{host}]:{port}" if ":" in host else f"bound to {host}:{port}"
    return f"of family {socket.AddressFamily(passed.family).name}"
