"""The PROXY protocol: the header by which a proxy in front of a listener says whose connection it passes on.

Both forms are read, version 1 (a line of text) and version 2 (binary). No I/O and no clock: bytes in; the client's
address, and the bytes behind the header, out. Must never be asked about anybody but a trusted proxy, never hold more
than one bounded header, and never guess: what is no header is an error, after which the connection ends.

Spec: haproxy.org, doc/proxy-protocol.txt, sections 2.1 and 2.2.
"""

from __future__ import annotations

import socket
from struct import Struct
from typing import Final

from transports.errors import PeerError

MAX_V1_BYTES: Final = 107
"""Section 2.1: "the worst case […] is 107 chars", with its end of line."""
MAX_V2_BYTES: Final = 16 + 2048
"""Addresses take 216 bytes at most; the rest is for what a proxy adds (names, certificates), which is not looked at."""

_V1_START: Final = b"PROXY "
_V1_END: Final = b"\r\n"
_V2_START: Final = b"\r\n\r\n\x00\r\nQUIT\n"
_V2_FIXED: Final = Struct(">12sBBH")
_LOCAL, _PROXY = 0x20, 0x21  # version 2, and who speaks: the proxy for itself, or for a client
_TCP4, _TCP6 = 0x11, 0x21
# Section 2.2: a receiver "automatically falls back to the UNSPEC mode for the valid combinations" it has no use for.
_UNSPECIFIED: Final = frozenset({0x00, 0x12, 0x22, 0x31, 0x32})
_IP4_PORTS: Final = Struct(">4s4sHH")
_IP6_PORTS: Final = Struct(">16s16sHH")

_V1_FAMILIES: Final = {b"TCP4": socket.AF_INET, b"TCP6": socket.AF_INET6}


class ProxyHeaderError(PeerError):
    """A trusted proxy sent something else than a PROXY header."""

    reason = "proxy_header"


class ProxyHeaderReader:
    """Reads one header. `source` is the client's address and port behind it, None when the proxy speaks for itself."""

    __slots__ = ("_buffer", "source")

    def __init__(self) -> None:
        self._buffer = bytearray()
        self.source: tuple[str, int] | None = None

    def feed(self, data: bytes | memoryview) -> bytes | None:
        """What follows the header, once it is whole; None before. Raises ProxyHeaderError."""
        buffer = self._buffer
        buffer += data
        if buffer.startswith(_V1_START[: len(buffer)]):
            return self._read_v1()
        if buffer.startswith(_V2_START[: len(buffer)]):
            return self._read_v2()
        raise ProxyHeaderError("no PROXY header")

    def _read_v1(self) -> bytes | None:
        buffer = self._buffer
        end = buffer.find(_V1_END, 0, MAX_V1_BYTES)
        if end < 0:
            if len(buffer) >= MAX_V1_BYTES:
                raise ProxyHeaderError(f"a line without an end in {MAX_V1_BYTES} bytes")
            return None
        self.source = _v1_source(bytes(buffer[len(_V1_START) : end]))
        return bytes(buffer[end + len(_V1_END) :])

    def _read_v2(self) -> bytes | None:
        buffer = self._buffer
        if len(buffer) < _V2_FIXED.size:
            return None
        _, command, family, length = _V2_FIXED.unpack_from(buffer)
        end = _V2_FIXED.size + length
        if end > MAX_V2_BYTES:
            raise ProxyHeaderError(f"a header of {end} bytes is over {MAX_V2_BYTES}")
        if len(buffer) < end:
            return None
        self.source = _v2_source(command, family, bytes(buffer[_V2_FIXED.size : end]))
        return bytes(buffer[end:])


def _v1_source(line: bytes) -> tuple[str, int] | None:
    """`TCP4 192.0.2.1 198.51.100.1 56324 443`, or UNKNOWN and whatever follows it."""
    family, *rest = line.split(b" ")
    if family == b"UNKNOWN":
        return None
    if family not in _V1_FAMILIES or len(rest) != 4:
        raise ProxyHeaderError("a line that is not FAMILY SOURCE DESTINATION PORT PORT")
    try:
        source, _ = (_address(_V1_FAMILIES[family], text) for text in rest[:2])
    except (OSError, ValueError) as error:
        raise ProxyHeaderError(f"an address that is not {family.decode()}") from error
    port, _ = (_port(text) for text in rest[2:])
    return source, port


def _address(family: socket.AddressFamily, text: bytes) -> str:
    return socket.inet_ntop(family, socket.inet_pton(family, text.decode("ascii")))


def _port(text: bytes) -> int:
    if not text.isdigit() or len(text) > 5 or int(text) > 65535:
        raise ProxyHeaderError("a port that is none")
    return int(text)


def _v2_source(command: int, family: int, body: bytes) -> tuple[str, int] | None:
    if command == _LOCAL:  # "the receiver must accept this connection as valid", whatever else the header holds
        return None
    if command != _PROXY:
        raise ProxyHeaderError(f"version and command {command:#04x}")
    if family in _UNSPECIFIED:
        return None
    if family not in {_TCP4, _TCP6}:
        raise ProxyHeaderError(f"address family {family:#04x}")
    fields, kind = (_IP4_PORTS, socket.AF_INET) if family == _TCP4 else (_IP6_PORTS, socket.AF_INET6)
    if len(body) < fields.size:
        raise ProxyHeaderError(f"{len(body)} bytes of addresses instead of {fields.size}")
    source, _, port, _ = fields.unpack_from(body)
    return socket.inet_ntop(kind, source), port
