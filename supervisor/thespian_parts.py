"""Thespian's private modules, imported here and nowhere else, so that what we change of it is seen at one glance.

Importing its IP addressing asks the resolver for this machine's names; a dead DNS server would hold every start for its
time-out. This module must be the first to import it.
"""

from __future__ import annotations

import socket
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def _without_name_service() -> Iterator[None]:
    names = socket.gethostname, socket.getfqdn
    socket.gethostname = lambda: "localhost"
    socket.getfqdn = lambda name="": name or "localhost"
    try:
        yield
    finally:
        socket.gethostname, socket.getfqdn = names


with _without_name_service():
    import thespian.system.multiprocCommon as common  # noqa: N813
    import thespian.system.systemBase as system_base  # noqa: N813
    import thespian.system.transport as transports
    import thespian.system.transport.asyncTransportBase as async_transport  # noqa: N813
    import thespian.system.transport.IPBase as ip_addresses  # noqa: N813
    import thespian.system.transport.streamBuffer as stream  # noqa: N813
    import thespian.system.transport.TCPTransport as tcp  # noqa: N813
    from thespian.system import utilis as utilities
    from thespian.system.messages.multiproc import EndpointConnected, LoggerConnected
    from thespian.system.multiprocTCPBase import ActorSystemBase
    from thespian.system.systemCommon import ActorStartupFailed

__all__ = [
    "ActorStartupFailed",
    "ActorSystemBase",
    "EndpointConnected",
    "LoggerConnected",
    "async_transport",
    "common",
    "ip_addresses",
    "stream",
    "system_base",
    "tcp",
    "transports",
    "utilities",
]
