"""Ports for programs that must be told theirs before they listen."""

from __future__ import annotations

import random
import socket
from contextlib import suppress

# Below those that outgoing connections are given (net.ipv4.ip_local_port_range): between the choice and the use, one of
# them would be taken by whatever connects to something, and many tests run at a time.
_PORTS = range(15_000, 30_000)


def free_port() -> int:
    """A port that nobody listens on, on any address."""
    for port in random.sample(_PORTS, 100):
        with suppress(OSError), socket.create_server(("", port)):
            return port
    raise AssertionError("no port is free")
