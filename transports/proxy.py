"""Who is behind a reverse proxy: the client's address from X-Forwarded-For.

Only asked for connections that come from a trusted proxy. Must never believe an entry that a client could have
written: the rightmost one that is not itself a trusted proxy was written by a proxy that we trust.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Mapping
from typing import Final

MAX_HEADER_CHARACTERS: Final = 1024


def forwarded_for(headers: Mapping[str, str]) -> str:
    """X-Forwarded-For, "" when there is none.

    Some proxies (HAProxy) add a line of their own behind the client's: all lines are one list (RFC 9110, 5.3).
    """
    return ",".join(value for name, value in headers.items() if name.lower() == "x-forwarded-for")


def client_address(
    headers: Mapping[str, str], ip: str, port: int, is_trusted: Callable[[str], bool]
) -> tuple[str, int]:
    """The address and port of the client, given the proxy's own; the proxy's when the header says nothing usable.

    A proxy that does not write the client's port leaves 0: the port is unknown.
    """
    header = forwarded_for(headers)
    if not header or len(header) > MAX_HEADER_CHARACTERS:
        return ip, port
    for entry in reversed(header.split(",")):
        parsed = _parse(entry.strip())
        if parsed is None:
            return ip, port
        if not is_trusted(parsed[0]):
            return parsed
    return ip, port


def _parse(entry: str) -> tuple[str, int] | None:
    """`1.2.3.4`, `1.2.3.4:5`, `::1`, `[::1]` or `[::1]:5`."""
    host, port = entry, "0"
    if entry.startswith("["):
        host, _, tail = entry[1:].partition("]")
        port = tail[1:] if tail.startswith(":") else "0"
    elif entry.count(":") == 1:
        host, port = entry.split(":")
    try:
        address = str(ipaddress.ip_address(host))
    except ValueError:
        return None
    if not (port.isascii() and port.isdigit()) or int(port) > 65535:
        return None
    return address, int(port)
