"""A wrong announce list, noticed: peers that came by a host name which no announced address has.

js-libp2p comes back to the addresses that identify told it, and forgets the one it came by. So a relay that announces
the wrong ones loses every browser at its next reconnect, and nothing else would say why. Each such host is said once in
the log, whichever worker saw it, and kept in a file of the runtime directory for the admin process to show. Must never
believe a host of somebody who is no libp2p peer (scanners send any), and never remember more than a bounded number.
"""

from __future__ import annotations

import ipaddress
import json
import os
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import suppress
from hashlib import blake2b
from itertools import pairwise
from typing import Final, NamedTuple

from transports.http_request import SNI

DIRECTORY: Final = "unannounced"
MAX_HOSTS: Final = 32
_MAX_WAITING: Final = 256

_HOST: Final = re.compile(r"(?:\[([0-9A-Fa-f:.]{2,45})\]|([0-9A-Za-z](?:[0-9A-Za-z.-]{0,252})))(?::([0-9]{1,5}))?")


class Unannounced(NamedTuple):
    """A host that peers come by, and the address that should be announced for it."""

    host: str
    address: str


def announced_hosts(announced: Iterable[str]) -> frozenset[str]:
    """The hosts of multiaddrs, and the names that they give to TLS."""
    parts = (text.split("/") for text in announced)
    return frozenset(part.lower() for each in parts for name, part in pairwise(each) if name in _NAMED)


_NAMED: Final = frozenset({"ip4", "ip6", "dns", "dns4", "dns6", "sni"})


def unannounced(headers: Mapping[str, str], secure: bool, known: Collection[str]) -> Unannounced | None:
    """What a request's Host says, if it is a host that is not `known`. `secure`: the relay did TLS itself.

    Where the Host says nothing it is the name that TLS was told; else that adds nothing: clients take both from what
    they dial, and a proxy that does TLS anew puts a name of its own there.
    """
    found = _HOST.fullmatch(headers.get("host", "")) or _HOST.fullmatch(headers.get(SNI, ""))
    if found is None:
        return None
    host = (found[1] or found[2]).lower()
    if host in known or host == "localhost":
        return None
    kind = _kind(host)
    if not kind:
        return None
    # Only a page on https, or a proxy that says so, shows that somebody in front does TLS.
    told = headers.get("x-forwarded-proto", "").lower() == "https" or headers.get("origin", "").startswith("https:")
    tls = secure or told
    port = found[3] or ("443" if tls else "80")
    return Unannounced(host, f"/{kind}/{host}/tcp/{port}{'/tls/ws' if tls else '/ws'}")


def _kind(host: str) -> str:
    """How a multiaddr names the host; "" for loopback, which everybody has."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return "dns4"
    return "" if address.is_loopback else f"ip{address.version}"


class Arrivals:
    """What one worker has seen. `say` is called for a host that no worker has seen before."""

    __slots__ = ("_directory", "_say", "_seen", "_waiting", "known")

    def __init__(self, runtime_dir: str, say: Callable[[Unannounced], None]) -> None:
        self.known: Collection[str] = ()
        """Hosts that are no news: those that are announced, and the machine's own."""
        self._directory = os.path.join(runtime_dir, DIRECTORY)
        self._say = say
        self._seen: set[str] = set()
        self._waiting: dict[int, Unannounced] = {}  # connection -> what it will have shown once it is a libp2p peer

    def came(self, connection: int, found: Unannounced | None) -> None:
        """A request has come by this host."""
        if found is None or found.host in self._seen or len(self._seen) >= MAX_HOSTS:
            return
        if len(self._waiting) < _MAX_WAITING:
            self._waiting[connection] = found

    def upgraded(self, connection: int) -> None:
        """The connection is a libp2p peer's."""
        if not self._waiting:
            return
        found = self._waiting.pop(connection, None)
        if found is not None and found.host not in self._seen:
            self._seen.add(found.host)
            if _keep(self._directory, found):
                self._say(found)

    def lost(self, connection: int) -> None:
        """The connection has ended."""
        if self._waiting:
            self._waiting.pop(connection, None)


def _keep(directory: str, found: Unannounced) -> bool:
    """Write it down for the admin process; False when it is there already, or the directory has as many as it may.

    When it cannot be written (a full disk), nobody else knows: then each worker that sees it says so.
    """
    path = os.path.join(directory, blake2b(found.host.encode(), digest_size=16).hexdigest())
    try:
        os.makedirs(directory, mode=0o700, exist_ok=True)
        if len(os.listdir(directory)) >= MAX_HOSTS:
            return False
        with open(path, "x", encoding="utf-8") as file:
            json.dump(found, file)
    except FileExistsError:
        return False
    except OSError:
        with suppress(OSError):  # half of it would be read as if it were being written for ever
            os.unlink(path)
    return True


def kept(runtime_dir: str) -> list[Unannounced]:
    """What all workers have seen since the relay was started, by host."""
    directory, found = os.path.join(runtime_dir, DIRECTORY), []
    try:
        names = os.listdir(directory)
    except FileNotFoundError:
        return []
    for name in names:
        with open(os.path.join(directory, name), encoding="utf-8") as file:
            text = file.read()
        if text:  # else it is being written at this moment
            found.append(Unannounced(*json.loads(text)))
    return sorted(found)
