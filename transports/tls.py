"""TLS for WSS listeners: a server context from certificate and key files, and the handshake on an accepted socket.

Must never start with a certificate that clients will refuse for a reason that is visible here.
"""

from __future__ import annotations

import asyncio
import ctypes
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Self

from uvloop.loop import SSLProtocol  # type: ignore[attr-defined]  # not in its stubs

from config.errors import ConfigError
from transports.errors import PeerError

_M_MMAP_THRESHOLD: Final = -3  # of <malloc.h>
_LARGE_BYTES: Final = 64 * 1024


class TlsError(PeerError):
    """A handshake that failed (no TLS, an old version, no trust in our certificate, gone), or a broken record."""

    reason = "tls"

    @classmethod
    def of(cls, error: OSError) -> Self:
        """What OpenSSL or the socket says."""
        if isinstance(error, ssl.SSLError):
            return cls(_reason(error))
        return cls("the peer left while TLS shook hands")


def broken_record(error: Exception | None) -> TlsError | None:
    """The peer's fault, if this is why a connection was lost."""
    return TlsError.of(error) if isinstance(error, ssl.SSLError) else None


@dataclass(frozen=True, slots=True)
class Tls:
    """How a listener's connections shake hands.

    `timeout_s` is only uvloop's deadline, which cannot be left out: the owner's is earlier and runs from accept.
    `goodbye_s`: how long a peer may take to answer our close_notify. `name_asked_for`: a connection's SNI, or "".
    """

    context: ssl.SSLContext
    timeout_s: float
    goodbye_s: float
    name_asked_for: Callable[[ssl.SSLObject], str]


def shake_hands(
    transport: asyncio.Transport, protocol: asyncio.BaseProtocol, tls: Tls
) -> tuple[asyncio.BufferedProtocol, asyncio.Future[None]]:
    """Put TLS between an accepted transport and its new protocol, inside `connection_made` or while reading pauses.

    The first of the two is the layer, for bytes that were read before it was there.

    When hands are shaken, `protocol.connection_made` gets the transport above TLS and the future ends. It raises
    OSError when they cannot be, and ends too when the socket is lost meanwhile; the protocol then hears nothing.
    """
    # As uvloop's server does it. start_tls comes too late: reading begins when `connection_made` has returned, and the
    # peer's first bytes may be there already.
    loop = asyncio.get_running_loop()
    done = loop.create_future()
    layer = SSLProtocol(
        loop,
        protocol,
        tls.context,
        done,
        server_side=True,
        ssl_handshake_timeout=tls.timeout_s,
        ssl_shutdown_timeout=tls.goodbye_s,
    )
    transport.set_protocol(layer)
    layer.connection_made(transport)
    return layer, done


def map_large_buffers() -> None:
    """Have large blocks mapped, and given back, one by one, so that only the pages in use cost memory.

    uvloop gives each TLS connection a buffer of 256 KiB and uses a few of it; glibc soon begins to carve such blocks
    from its heap, among pages that others have used: 48 KiB a WSS peer (measured) instead of 29. Elsewhere it is a
    matter of the C library.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, _LARGE_BYTES)


def server_context(cert_file: str, key_file: str, key: str) -> ssl.SSLContext:
    """A TLS 1.2+ server context. `key` is the listener's name in the configuration, as in `listeners[2]`.

    Raises ConfigError naming the file that can not be read, or that does not hold what it should.
    """
    _readable(cert_file, f"{key}.cert_file", "a certificate chain in PEM form")
    _readable(key_file, f"{key}.key_file", "a private key in PEM form")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    try:
        context.load_cert_chain(cert_file, key_file, password=_no_password)
    except (ssl.SSLError, ValueError) as error:
        expected = "a PEM certificate chain whose first certificate belongs to the unencrypted PEM key in key_file"
        raise ConfigError(f"{key}.cert_file", cert_file, f"{expected} ({_reason(error)})") from error
    return context


def _readable(path: str, key: str, expected: str) -> None:
    try:
        with open(path, "rb"):
            return
    except OSError as error:
        raise ConfigError(key, path, f"a readable file with {expected} ({error.strerror})") from error


def _no_password() -> str:
    raise ValueError("the key is encrypted")


def _reason(error: Exception) -> str:
    return (getattr(error, "reason", None) or str(error)).lower().replace("_", " ")
