"""Listening sockets, opened once in main and inherited by the workers.

One SO_REUSEPORT socket a worker slot: the kernel spreads connections over them, and a slot's socket stays open while
its process is replaced, so that what has queued meanwhile is served by the successor. A socket that workers opened
themselves would lose them. Nothing here reads or writes a connection.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Collection, Sequence
from contextlib import suppress
from typing import Final

import psutil

from config.errors import ConfigError
from transports.address import ListenAddress

BACKLOG: Final = 4096
"""With picows' 100, 19,500 peers that reconnect at once overflow the queue 29,015 times; with this never. The kernel
cuts it to net.core.somaxconn."""
KERNEL_BUFFER_BYTES: Final = 256 * 1024
"""A window of yamux: more of one circuit is never under way."""

_REASONS: Final = {
    errno.EADDRNOTAVAIL: "an address that this machine has",
    errno.EACCES: "a port that this user may open (below 1024 it takes CAP_NET_BIND_SERVICE)",
    errno.EPERM: "a port that this user may open",
    errno.EAFNOSUPPORT: "an address of a family that this machine speaks",
}


def open_listener(address: ListenAddress, key: str) -> socket.socket:
    """A bound, listening, non-blocking socket. `key` names the setting; raises ConfigError with it.

    Port 0 lets the kernel choose; further sockets of the same listener then bind what `getsockname` says.
    """
    bound = _bind(address.family, address.host, address.port, key, address.text, shared=True)
    bound.listen(BACKLOG)
    return bound


def open_listeners(
    address: ListenAddress, workers: int, key: str, ours: Collection[int] = ()
) -> tuple[ListenAddress, list[socket.socket]]:
    """One socket a worker, all on one port, and the address with that port. Raises ConfigError, leaving none open.

    `ours`: ports that this relay listens on, and may go on sharing with itself for a moment.
    """
    # Two relays that share a port would take each other's peers, so ask once without sharing.
    if address.port and address.port not in ours:
        _bind(address.family, address.host, address.port, key, address.text, shared=False).close()
    opened: list[socket.socket] = []
    try:
        for _ in range(workers):
            opened.append(open_listener(address, key))
            address = address.with_port(opened[0].getsockname()[1])
    except ConfigError:
        close_all(opened)
        raise
    return address, opened


def bound_kernel_buffers(listening: socket.socket) -> None:
    """What the kernel may hold of one connection each way; those that are accepted inherit it.

    Left to itself it takes up to 6 MiB from one peer. A read then brings as much at once, and picows, which doubles its
    buffer whenever a read fills it, keeps one of 8 MiB for that connection until it ends.
    """
    for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
        listening.setsockopt(socket.SOL_SOCKET, option, KERNEL_BUFFER_BYTES)


def open_private(host: str, port: int, key: str, value: str) -> socket.socket:
    """A listening socket for one process alone (the admin's). `host` is an IP address or "localhost". ConfigError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    bound = _bind(family, host, port, key, value, shared=False)
    bound.listen(BACKLOG)
    return bound


def close_all(sockets: Sequence[socket.socket]) -> None:
    """Close what is not needed after all."""
    for each in sockets:
        each.close()


def _bind(family: int, host: str, port: int, key: str, value: str, *, shared: bool) -> socket.socket:
    listener: socket.socket | None = None
    try:
        listener = socket.socket(family, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.bind((host, port))
        listener.setblocking(False)
    except OSError as error:
        if listener is not None:
            listener.close()
        raise ConfigError(key, value, _expected(error, port)) from error
    return listener


def _expected(error: OSError, port: int) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"an address that no other program uses (port {port} is taken{_by_whom(port)})"
    reason = _REASONS.get(error.errno or 0, "an address that can be bound")
    return f"{reason} ({error.strerror})"


def _by_whom(port: int) -> str:
    """` by pid 123 nginx`, when we are allowed to see it."""
    with suppress(psutil.Error, OSError):
        for each in psutil.net_connections("tcp"):
            taken = each.status == psutil.CONN_LISTEN and each.laddr and each.laddr.port == port
            if taken and each.pid and each.pid != os.getpid():
                return f" by pid {each.pid} {psutil.Process(each.pid).name()}"
    return ""
