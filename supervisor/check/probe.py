"""After a failure: what speaks on that port, and which certificate does it show? Only used to name the cause.

Each question opens a connection of its own, sends at most one greeting and waits a short time.
"""

from __future__ import annotations

import ssl
from typing import Final, Literal

import trio

from supervisor.check.address import Address
from supervisor.check.dialer import Trust, certificate_of, connect, describe_certificate, resolve
from supervisor.check.report import Trouble

WAIT_S: Final = 2.0
"""For each question."""
_MULTISTREAM: Final = b"\x13/multistream/1.0.0\n"

Speaks = Literal["tls", "http", "libp2p", ""]


async def what_speaks(address: Address) -> Speaks:
    """What answers there; "" for nothing that we know."""
    if await shown_certificate(address) is not None:
        return "tls"
    if (await _first_bytes(address, _MULTISTREAM)).startswith(_MULTISTREAM[:8]):
        return "libp2p"
    host = f"[{address.host}]" if address.kind == "ip6" else address.host
    if (await _first_bytes(address, f"GET / HTTP/1.1\r\nHost: {host}\r\n\r\n".encode("ascii"))).startswith(b"HTTP/"):
        return "http"
    return ""


async def shown_certificate(address: Address) -> str | None:
    """The certificate that the port shows, described and unchecked; None when it speaks no TLS."""
    seen: str | None = None
    with trio.move_on_after(WAIT_S):
        try:
            raw = await connect(await resolve(address), WAIT_S)
            async with raw:
                stream = trio.SSLStream(raw, Trust(insecure=True).context(), server_hostname=address.tls_name)
                await stream.do_handshake()
                der = certificate_of(stream)
                seen = describe_certificate(der) if der else ""
        except (Trouble, trio.BrokenResourceError, ssl.SSLError, ValueError):
            pass  # no TLS, or none that we can read
    return seen


async def _first_bytes(address: Address, greeting: bytes) -> bytes:
    first = b""
    with trio.move_on_after(WAIT_S):
        try:
            async with await connect(await resolve(address), WAIT_S) as raw:
                await raw.send_all(greeting)
                first = await raw.receive_some(64)
        except (Trouble, trio.BrokenResourceError):
            pass  # it said nothing
    return first
