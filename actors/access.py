"""Who may come in: the operator's lists of peers, subnets, web origins and trusted proxies.

Built once from the settings; every question is then answered from tables, at the same cost however long a list is. A
deny list wins over its allow list; an empty allow list allows everyone. It must never count or remember anybody.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, TypeVar
from urllib.parse import urlsplit

from config.errors import ConfigError
from config.settings import Access
from transports.identity import IdentityError, parse_peer_id

MAX_RULES: Final = 100_000
"""Longest list that is taken: a slip of a generator should not cost every worker its memory."""

_PEER: Final = "a peer ID such as 12D3KooW…"
_SUBNET: Final = "a subnet such as 192.0.2.0/24 or 2001:db8::/32 (no bits set behind the prefix)"
_ORIGIN: Final = "an origin such as https://wallet.example, without a path"

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
T = TypeVar("T")

_MAPPED: Final = ipaddress.IPv6Network("::ffff:0:0/96")


def normal_ip(ip: str) -> str:
    """The one way to write an address, so that it is counted once: IPv4-mapped IPv6 (RFC 4291, 2.5.5.2) is IPv4.

    What is no IP address comes back as it is.
    """
    address = _parse_ip(ip)
    return ip if address is None else str(address)


def counted_as(ip: str, ipv6_prefix: int) -> str:
    """Whose an address is, for all that is limited and rated per IP: IPv4 by itself, IPv6 by its leading bits.

    `ip` is as `normal_ip` writes it. A subnet is written with its length, so that no address is taken for it.
    """
    if ":" not in ip or ipv6_prefix == 128:
        return ip
    number = int.from_bytes(socket.inet_pton(socket.AF_INET6, ip.partition("%")[0]))
    host_bits = 128 - ipv6_prefix
    subnet = (number >> host_bits << host_bits).to_bytes(16)
    return f"{socket.inet_ntop(socket.AF_INET6, subnet)}/{ipv6_prefix}"


class SubnetSet:
    """Subnets as sets of prefixes by length: a look-up costs as many steps as there are different lengths."""

    __slots__ = ("_prefixes",)

    def __init__(self, networks: Iterable[Network]) -> None:
        by_shift: dict[tuple[int, int], set[int]] = {}
        for network in networks:
            shift = network.max_prefixlen - network.prefixlen
            by_shift.setdefault((network.version, shift), set()).add(int(network.network_address) >> shift)
        self._prefixes = tuple((version, shift, prefixes) for (version, shift), prefixes in by_shift.items())

    def __bool__(self) -> bool:
        return bool(self._prefixes)

    def __contains__(self, address: Address) -> bool:
        number, version = int(address), address.version
        return any(version == of and number >> shift in prefixes for of, shift, prefixes in self._prefixes)


@dataclass(frozen=True, slots=True)
class AccessRules:
    """The lists, parsed. `from_settings` makes one; the arguments are its parts."""

    allow_peers: frozenset[bytes]
    deny_peers: frozenset[bytes]
    allow_subnets: SubnetSet
    deny_subnets: SubnetSet
    allow_origins: frozenset[str]
    trusted_proxies: SubnetSet

    @classmethod
    def from_settings(cls, access: Access) -> AccessRules:
        """Parses the lists; ConfigError names the entry, as `access.deny_subnets[1]`."""
        return cls(
            allow_peers=frozenset(_parse("allow_peers", access.allow_peers, parse_peer_id, _PEER)),
            deny_peers=frozenset(_parse("deny_peers", access.deny_peers, parse_peer_id, _PEER)),
            allow_subnets=SubnetSet(_parse("allow_subnets", access.allow_subnets, _parse_network, _SUBNET)),
            deny_subnets=SubnetSet(_parse("deny_subnets", access.deny_subnets, _parse_network, _SUBNET)),
            allow_origins=frozenset(_parse("allow_origins", access.allow_origins, _parse_origin, _ORIGIN)),
            trusted_proxies=SubnetSet(_parse("trusted_proxies", access.trusted_proxies, _parse_network, _SUBNET)),
        )

    def peer_allowed(self, peer: bytes) -> bool:
        """Whether the peer with this ID (raw multihash) may reserve, call and be called."""
        return peer not in self.deny_peers and (not self.allow_peers or peer in self.allow_peers)

    def address_allowed(self, ip: str) -> bool:
        """Whether connections from this address are taken. What is no IP address matches no rule that allows."""
        if not self.deny_subnets and not self.allow_subnets:
            return True
        address = _parse_ip(ip)
        if address is None or address in self.deny_subnets:
            return False
        return not self.allow_subnets or address in self.allow_subnets

    def origin_allowed(self, origin: str | None) -> bool:
        """Whether a web page of this origin may connect. No Origin at all is no web page, and the list is about those.

        RFC 6455, 4.2.2: "A connection attempt lacking this header field SHOULD NOT be interpreted as coming from a
        browser client."
        """
        return not self.allow_origins or origin is None or _normal_origin(origin) in self.allow_origins

    def is_trusted_proxy(self, ip: str) -> bool:
        """Whether what this address says about the client's address is believed."""
        address = _parse_ip(ip)
        return address is not None and address in self.trusted_proxies


def _parse(name: str, texts: Sequence[str], parse: Callable[[str], T], expected: str) -> Iterable[T]:
    if len(texts) > MAX_RULES:
        raise ConfigError(f"access.{name}", f"{len(texts)} entries", f"at most {MAX_RULES} entries")
    for index, text in enumerate(texts):
        try:
            yield parse(text)
        except (ValueError, IdentityError) as error:
            raise ConfigError(f"access.{name}[{index}]", text, expected) from error


@lru_cache(maxsize=1024)  # asked several times about each connection, at 7 µs
def _parse_ip(ip: str) -> Address | None:
    try:
        address = ipaddress.ip_address(ip)
    except ValueError:
        return None
    if address.version == 6 and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


def _parse_network(text: str) -> Network:
    """A subnet, or one address; ValueError when bits are set behind the prefix: one of the two is a mistake."""
    network = ipaddress.ip_network(text)
    if network.version == 6 and network.subnet_of(_MAPPED):
        mapped = int(network.network_address) & 0xFFFFFFFF
        return ipaddress.IPv4Network((mapped, network.prefixlen - 96))
    return network


def _parse_origin(text: str) -> str:
    """RFC 6454, 6.2: scheme, host, and port if it is not the default one; or "null". ValueError for anything else."""
    origin = _normal_origin(text)
    parts = urlsplit(origin)
    _ = parts.port  # raises ValueError when it is no port
    if origin != "null" and (not parts.hostname or origin != f"{parts.scheme}://{parts.netloc}" or "@" in origin):
        raise ValueError(text)
    return origin


def _normal_origin(origin: str) -> str:
    return origin.strip().removesuffix("/").lower()
