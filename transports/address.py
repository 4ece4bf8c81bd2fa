"""Multiaddrs: where we listen, what we announce, where a peer was seen.

Text is for configuration and logs, bytes are for the wire. Opens no socket and asks no interface: what the machine has
is passed in. Must never announce a wildcard, nor the address of somebody else.

Spec: libp2p/specs addressing/README.md; the codes are those of github.com/multiformats/multiaddr protocols.csv.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from struct import Struct
from typing import Final, Protocol

from multiaddr import Multiaddr
from multiaddr.exceptions import Error as MultiaddrError

from config.errors import ConfigError
from transports.identity import parse_peer_id, peer_id_text

# A reservation answer takes each address once and 44 bytes for /p2p/<relay> and framing, an identify answer takes each
# twice (once in the signed record); both must fit into 4096 bytes with everything else they hold (under 1 KiB).
MAX_ANNOUNCED_COST_BYTES: Final = 3072
_P2P_AND_FRAMING_BYTES = 44

_TAILS = {(): (False, False), ("ws",): (True, False), ("tls", "ws"): (True, True), ("wss",): (True, True)}
_FAMILIES = {"ip4": socket.AF_INET, "ip6": socket.AF_INET6}
_LISTEN_FORMS = "/ip4/HOST/tcp/PORT with nothing, /ws or /tls/ws behind it, or the same with /ip6"

_HOST_PROTOCOLS = frozenset({"ip4", "ip6", "dns", "dns4", "dns6"})
_ANNOUNCE_TAILS = frozenset({"", "ws", "wss", "tls/ws", "tls/sni/ws"})
_ANNOUNCE_FORMS = "an address to dial, like /dns4/relay.example/tcp/443/tls/ws or /ip4/203.0.113.7/tcp/9090"

# Binary codes: ip4 = 4, ip6 = 41, tcp = 6 with a 16-bit port, tls = 448, ws = 477, p2p = 421 with a length.
_IP4 = b"\x04"
_IP6 = b"\x29"
_TCP = Struct(">BH").pack
_P2P = b"\xa5\x03"
_BINARY_TAILS = {
    (False, False): b"",
    (True, False): b"\xdd\x03",
    (True, True): b"\xc0\x03\xdd\x03",
}
_MAPPED_IP4_PREFIX = bytes(10) + b"\xff\xff"


class InterfaceAddress(Protocol):
    """One row of `psutil.net_if_addrs()`."""

    @property
    def family(self) -> int:
        """AF_INET, AF_INET6 or AF_PACKET."""

    @property
    def address(self) -> str:
        """Its text; a link-local IPv6 address ends in `%interface`."""


@dataclass(frozen=True, slots=True)
class ListenAddress:
    """Where a listener binds. `text` is what the operator wrote; it names the listener and does not follow the port."""

    host: str
    port: int
    family: socket.AddressFamily
    websocket: bool
    tls: bool
    text: str

    @property
    def multiaddr(self) -> str:
        """The canonical text; `/wss` is written as `/tls/ws`."""
        return self.at(self.host)

    def with_port(self, port: int) -> ListenAddress:
        """The same with the port that the kernel chose for port 0."""
        return replace(self, port=port)

    def at(self, host: str) -> str:
        """The canonical text with another host of the same family."""
        version = "ip4" if self.family == socket.AF_INET else "ip6"
        tail = "/tls/ws" if self.tls else "/ws" if self.websocket else ""
        return f"/{version}/{host}/tcp/{self.port}{tail}"


# Where we listen


def parse_listen(text: str, key: str) -> ListenAddress:
    """The listener that a multiaddr describes. `key` is the setting's name; raises ConfigError with it."""
    parts = text.split("/")
    if len(parts) < 5 or parts[0] or parts[1] not in _FAMILIES or parts[3] != "tcp":
        raise ConfigError(key, text, _LISTEN_FORMS)
    tail = _TAILS.get(tuple(parts[5:]))
    if tail is None:
        raise ConfigError(key, text, _LISTEN_FORMS)
    family = _FAMILIES[parts[1]]
    host = _parse_host(family, parts[2])
    if host is None:
        raise ConfigError(key, text, f"an IPv{4 if family == socket.AF_INET else 6} address after /{parts[1]}/")
    port = _parse_port(parts[4])
    if port is None:
        raise ConfigError(key, text, "a port from 0 to 65535 after /tcp/")
    return ListenAddress(host, port, family, websocket=tail[0], tls=tail[1], text=text)


def _parse_host(family: socket.AddressFamily, text: str) -> str | None:
    try:
        if family == socket.AF_INET:
            return str(ipaddress.IPv4Address(text))
        return None if "%" in text else str(ipaddress.IPv6Address(text))
    except ValueError:
        return None


def _parse_port(text: str) -> int | None:
    if not (text.isascii() and text.isdecimal() and len(text) <= 5):
        return None
    port = int(text)
    return port if port <= 65535 else None


# What we announce


def announced_addresses(
    configured: Sequence[str],
    bound: Sequence[ListenAddress],
    interfaces: Mapping[str, Sequence[InterfaceAddress]],
    own_peer: bytes,
) -> tuple[str, ...]:
    """The addresses we are known by, without /p2p, best first, at least one.

    The configured ones, else what the listeners are bound to, with a wildcard standing for every address that
    `interfaces` has for its family (IPv6 wildcards are bound V6ONLY). Loopback stands in for a wildcard only when the
    machine has nothing else. Raises ConfigError for a configured one that cannot be announced, or if there is none.
    """
    announced = _configured_addresses(configured, own_peer) if configured else _bound_addresses(bound, interfaces)
    if not announced:
        expected = "an address to announce, since this machine has none for what the listeners are bound to"
        raise ConfigError("announce.addresses", [], expected)
    return announced


def _configured_addresses(configured: Sequence[str], own_peer: bytes) -> tuple[str, ...]:
    texts: dict[str, None] = {}
    left_bytes = MAX_ANNOUNCED_COST_BYTES
    for index, text in enumerate(configured):
        key = f"announce.addresses[{index}]"
        address = _check_announced(text, key, own_peer)
        if address in texts:
            continue
        texts[address] = None
        left_bytes -= _announced_cost_bytes(address)
        if left_bytes < 0:
            raise ConfigError(key, text, "fewer or shorter addresses: all must fit into one answer of 4096 bytes")
    return tuple(texts)


def _check_announced(text: str, key: str, own_peer: bytes) -> str:
    """The canonical text of a configured address, without our own /p2p behind it."""
    try:
        canonical = str(Multiaddr(text))
        items = [(protocol.name, value) for protocol, value in Multiaddr(canonical).items()]
    except (MultiaddrError, ValueError) as error:
        raise ConfigError(key, text, _ANNOUNCE_FORMS) from error
    if items and items[-1][0] == "p2p":
        if parse_peer_id(items[-1][1] or "") != own_peer:
            raise ConfigError(key, text, f"no /p2p at its end, or this relay's own peer ID {peer_id_text(own_peer)}")
        canonical = canonical.rpartition("/p2p/")[0]
        items.pop()
    host_protocol, tcp, *tail = [name for name, _ in items] if len(items) > 1 else ("", "")
    if host_protocol not in _HOST_PROTOCOLS or tcp != "tcp" or "/".join(tail) not in _ANNOUNCE_TAILS:
        raise ConfigError(key, text, _ANNOUNCE_FORMS)
    host = _literal(items[0][1] or "")
    if (host is not None and host.is_unspecified) or items[1][1] == "0":
        raise ConfigError(key, text, "an address that can be dialled, no wildcard and no port 0")
    return canonical


def _bound_addresses(
    bound: Sequence[ListenAddress], interfaces: Mapping[str, Sequence[InterfaceAddress]]
) -> tuple[str, ...]:
    ranked: dict[str, int] = {}
    stand_ins: dict[str, int] = {}  # loopback behind a wildcard
    for listener in bound:
        wildcard = ipaddress.ip_address(listener.host).is_unspecified
        hosts = _interface_hosts(listener.family, interfaces) if wildcard else [listener.host]
        for host in hosts:
            rank = _rank(host)
            into = stand_ins if wildcard and rank == _RANK_LOOPBACK else ranked
            into[listener.at(host)] = rank
    chosen = ranked or stand_ins
    return _that_fit(sorted(chosen, key=chosen.__getitem__))


def _interface_hosts(
    family: socket.AddressFamily, interfaces: Mapping[str, Sequence[InterfaceAddress]]
) -> Iterable[str]:
    for rows in interfaces.values():
        for row in rows:
            # A link-local address has no meaning without the interface of the one who dials it.
            if row.family == family and not ipaddress.ip_address(row.address).is_link_local:
                yield str(ipaddress.ip_address(row.address))


_RANK_LOOPBACK = 2


def _rank(host: str) -> int:
    """Where in the list an address stands: what the world can dial, what the neighbours can, what only we can."""
    address = ipaddress.ip_address(host)
    if address.is_loopback:
        return _RANK_LOOPBACK
    return 0 if address.is_global else 1


def _that_fit(texts: Iterable[str]) -> tuple[str, ...]:
    """As many from the front as fit; a machine with a hundred bridges must still answer within 4096 bytes."""
    fitting: list[str] = []
    left_bytes = MAX_ANNOUNCED_COST_BYTES
    for text in texts:
        left_bytes -= _announced_cost_bytes(text)
        if left_bytes < 0:
            break
        fitting.append(text)
    return tuple(fitting)


def _announced_cost_bytes(text: str) -> int:
    return 2 * len(multiaddr_bytes(text)) + _P2P_AND_FRAMING_BYTES


def undialable_warnings(announced: Sequence[str]) -> list[str]:
    """One line for the log about each announced address that peers elsewhere cannot dial."""
    warnings = []
    for text in announced:
        host = text.split("/")[2]
        literal = _literal(host)
        if host == "localhost" or (literal is not None and literal.is_loopback):
            warnings.append(f"{text} is a loopback address: only peers on this machine can dial it")
        elif literal is not None and not literal.is_global:
            warnings.append(f"{text} is a private address: only peers in the same network can dial it")
    return warnings


def _literal(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


# Bytes


def multiaddr_bytes(text: str) -> bytes:
    """The binary form of a multiaddr, 8 to 25 µs and more for IPv6: callers keep it. Raises ValueError."""
    try:
        binary: bytes = Multiaddr(text).to_bytes()
    except MultiaddrError as error:
        raise ValueError(f"{text!r} is no multiaddr: {error}") from error
    return binary


def observed_address(ip: str, port: int, websocket: bool, tls: bool) -> bytes:
    """The binary multiaddr of the other end of a connection, once a connection, so without the parser: under 1 µs.

    An IPv4 address mapped into IPv6 is written as IPv4, the zone of a link-local one is left out. Raises ValueError
    for what is no IP address or no port.
    """
    if not 0 <= port <= 65535:
        raise ValueError(f"{port} is no port")
    try:
        if ":" in ip:
            packed = socket.inet_pton(socket.AF_INET6, ip.partition("%")[0])
            host = _IP4 + packed[12:] if packed.startswith(_MAPPED_IP4_PREFIX) else _IP6 + packed
        else:
            host = _IP4 + socket.inet_pton(socket.AF_INET, ip)
    except OSError as error:
        raise ValueError(f"{ip!r} is no IP address") from error
    return host + _TCP(6, port) + _BINARY_TAILS[websocket, tls]


def with_peer(address: bytes, peer: bytes) -> bytes:
    """A binary multiaddr with `/p2p/<peer>` behind it. A peer ID is under 128 bytes, so its length is one byte."""
    return address + _P2P + bytes((len(peer),)) + peer
