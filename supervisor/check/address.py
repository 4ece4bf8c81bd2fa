"""What `check` is asked to look at: an address of a relay, as an operator types it.

A multiaddr, with or without /p2p, or the address of a web page: whoever runs nginx knows `wss://relay.example.org`.
Everything else is one ConfigError, before anything is opened.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from typing import Final, NoReturn
from urllib.parse import unquote, urlsplit

from config.errors import ConfigError
from transports.identity import IdentityError, parse_peer_id, peer_id_text

KEY: Final = "ADDRESS"
MAX_CHARACTERS: Final = 2048

_HOST_NAME: Final = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(?<!-)(\.(?!-)[A-Za-z0-9_-]{1,63}(?<!-))*\.?")
_SCHEMES: Final = {"wss": True, "https": True, "ws": False, "http": False}
_FORMS: Final = (
    'a multiaddr such as "/dns4/relay.example.org/tcp/443/tls/ws" or "/ip4/203.0.113.7/tcp/9090", or wss://HOST[:PORT]'
)


@dataclass(frozen=True, slots=True)
class Address:
    """Where a relay is to be reached, and how."""

    kind: str
    """ip4, ip6, dns, dns4 or dns6."""
    host: str
    port: int
    websocket: bool = False
    tls: bool = False
    server_name: str = ""
    """The name asked for in TLS when it is not the host."""
    path: str = "/"
    peer: str = ""
    """The peer ID that must answer, in base58; "" takes any."""

    @property
    def is_name(self) -> bool:
        """Whether the host has to be resolved."""
        return self.kind.startswith("dns")

    @property
    def tls_name(self) -> str:
        """The name that the certificate must be for."""
        return self.server_name or self.host

    @property
    def multiaddr(self) -> str:
        """Without the peer ID; in the form that belongs into announce.addresses."""
        text = f"/{self.kind}/{self.host}/tcp/{self.port}"
        if self.tls:
            text += f"/tls/sni/{self.server_name}" if self.server_name else "/tls"
        return text + ("/ws" if self.websocket else "")

    def same_place(self, other: Address) -> bool:
        """Whether both are one door: the same host and port, spoken to in the same way."""
        mine, theirs = self.host.lower().rstrip("."), other.host.lower().rstrip(".")
        return (mine, self.port, self.websocket, self.tls) == (theirs, other.port, other.websocket, other.tls)

    def __str__(self) -> str:
        return self.multiaddr + (f"/p2p/{self.peer}" if self.peer else "")


def parse(text: str, key: str = KEY) -> Address:
    """The address that `text` means. Raises ConfigError, which names it by `key`."""
    try:
        return _parse(text)
    except ConfigError as error:
        raise ConfigError(key, error.value, error.expected) from None


def _parse(text: str) -> Address:
    if len(text) > MAX_CHARACTERS or not text.isprintable():
        _wrong(text, _FORMS)
    if text.startswith("/"):
        return _from_multiaddr(text)
    if "://" in text:
        return _from_url(text)
    if ":" in text or "/" in text:
        _wrong(text, f"to be told how to speak: wss://{text}, ws://{text}, or a multiaddr")
    return _from_url(f"wss://{text}", typed=text)


def _wrong(text: str, expected: str) -> NoReturn:
    raise ConfigError(KEY, text, expected)


def _from_url(url: str, typed: str = "") -> Address:
    text = typed or url
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        _wrong(text, _FORMS)
    tls = _SCHEMES.get(parts.scheme)
    if tls is None:
        _wrong(text, "wss://, https://, ws:// or http://, or a multiaddr")
    if parts.username is not None or parts.fragment:
        _wrong(text, "no user and no fragment in it")
    kind = _kind_of(host) or _wrong(text, _FORMS)
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    if port == 0:
        _wrong(text, "a port from 1 to 65535")
    return Address(kind, host, port or (443 if tls else 80), websocket=True, tls=tls, path=path)


def _kind_of(host: str) -> str:
    try:
        return f"ip{ipaddress.ip_address(host).version}"
    except ValueError:
        return "dns" if _HOST_NAME.fullmatch(host) else ""


def _from_multiaddr(text: str) -> Address:
    parts = text.rstrip("/").split("/")[1:]
    peer = ""
    if len(parts) >= 2 and parts[-2] in {"p2p", "ipfs"}:
        try:
            peer = peer_id_text(parse_peer_id(parts[-1]))
        except IdentityError:
            _wrong(text, "a peer ID such as 12D3KooW… after /p2p/")
        parts = parts[:-2]
    if "p2p-circuit" in parts:
        _wrong(text, "the address of the relay itself, so without /p2p-circuit and what follows it")
    kind, host, port, rest = _head(text, parts)
    websocket, tls, server_name, path = _way(text, rest)
    return Address(kind, host, port, websocket, tls, server_name, path, peer)


def _head(text: str, parts: list[str]) -> tuple[str, str, int, list[str]]:
    if parts[:1] == ["dnsaddr"]:
        _wrong(text, "an address that can be dialled: /dnsaddr only leads to some; name the /dns4 or /ip4 one")
    if len(parts) < 4 or parts[0] not in {"ip4", "ip6", "dns", "dns4", "dns6"}:
        _wrong(text, _FORMS)
    kind, host, transport, port = parts[:4]
    if transport != "tcp":
        _wrong(text, f"a TCP or WebSocket address; this looks at no /{transport}")
    found = _kind_of(host)
    if not found or (kind.startswith("ip") and kind != found):
        _wrong(text, f"{'a host name' if kind.startswith('dns') else f'an {kind} address'} after /{kind}/")
    if not (port.isascii() and port.isdecimal() and 1 <= int(port) <= 65535):
        _wrong(text, "a port from 1 to 65535 after /tcp/")
    return kind, host, int(port), parts[4:]


def _way(text: str, rest: list[str]) -> tuple[bool, bool, str, str]:
    """How to speak, from what stands behind the port: WebSocket, TLS, name asked for, path."""
    server_name, path = "", "/"
    if rest[-2:-1] == ["http-path"]:
        path = "/" + unquote(rest[-1]).lstrip("/")
        rest = rest[:-2]
    if rest[:2] == ["tls", "sni"] and len(rest) > 2:
        server_name = rest[2]
        rest = ["tls", *rest[3:]]
    if rest not in ([], ["ws"], ["wss"], ["tls", "ws"], ["tls", "wss"]):
        _wrong(text, "nothing, /ws, or /tls/ws behind the port")
    return bool(rest), rest not in ([], ["ws"]), server_name, path
