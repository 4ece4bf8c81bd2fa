"""From what was observed to its likely cause and the next thing to do, in plain words. Tables and texts; no I/O.

docs/check.md explains the same failures at length; a test keeps the two together.
"""

from __future__ import annotations

import errno
import socket
from typing import Final

from supervisor.check.report import Trouble

# Hop statuses, libp2p/specs relay/circuit-v2.md "Status codes and connection rejection".
OK: Final = 100
NO_RESERVATION: Final = 204

STATUSES: Final = {
    200: (
        "RESERVATION_REFUSED: the relay is full, or this address or peer has asked too often",
        "look at its reservations and refusals (status.json, metrics); raise limits.max_reservations or the rate",
    ),
    201: (
        "RESOURCE_LIMIT_EXCEEDED: too many circuits at a time, or too many asked for",
        "look at its circuits and refusals; raise limits.max_circuits or the circuit rates",
    ),
    202: (
        "PERMISSION_DENIED: the relay's access rules do not let this peer or address in",
        "add the peer or the subnet to the allow list, or take it off the deny list ([access])",
    ),
    203: (
        "CONNECTION_FAILED: the relay could not reach the first host, which has a reservation with it",
        "try again; if it stays so, the relay loses connections: look into its log",
    ),
    204: (
        "NO_RESERVATION: the relay has granted a reservation and does not know of it any more",
        "if several relays share a name, give each its own: a call must reach the relay that has the reservation",
    ),
    400: ("MALFORMED_MESSAGE: the relay does not understand the request", "look for a newer version of the relay"),
    401: ("UNEXPECTED_MESSAGE: the relay does not understand the request", "look for a newer version of the relay"),
}

_OS_ERRORS: Final = {
    errno.ECONNREFUSED: (
        "nothing listens there: the port is closed",
        "start the relay (or the proxy in front of it), and compare the port with its listeners",
    ),
    errno.EHOSTUNREACH: (
        "the host is unreachable, or a firewall rejects the connection",
        "check the address, that the machine is up, and the firewalls on the way (ufw allow PORT/tcp)",
    ),
    errno.ENETUNREACH: (
        "this machine has no way to that network",
        "if the address is IPv6, this machine may have none; try the IPv4 address",
    ),
    errno.ECONNRESET: (
        "the connection was reset",
        "another program or a firewall ends it; see what listens on the port (ss -ltnp)",
    ),
}

_NGINX_UPGRADE: Final = (
    'give nginx: proxy_http_version 1.1; proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection "upgrade";'
)
HTTP: Final = {
    200: ("a web page answers: no relay, or a proxy without upgrade headers", _NGINX_UPGRADE),
    301: ("it sends the client elsewhere", "use the address that it names: browsers do not follow a redirect here"),
    400: ("it takes it for no proper request: most often a proxy without upgrade headers", _NGINX_UPGRADE),
    401: ("it asks for a password or token", "put the token into the address, as the relay's settings want it"),
    403: ("it forbids it: an access rule, or a firewall in front", "look at [access] and at the proxy's rules"),
    404: ("there is no WebSocket at this path", "check the path; in nginx the location block and its upgrade headers"),
    426: ("it was not asked to upgrade: a proxy in between dropped the upgrade headers", _NGINX_UPGRADE),
    429: ("it says that there are too many requests", "wait, or raise the limit of the proxy"),
    502: ("the proxy does not reach the relay", "start the relay, and compare proxy_pass with its WebSocket listener"),
    503: ("it says that it is unavailable", "is the relay running, and not draining? Look into its log"),
    504: ("the relay does not answer the proxy", "is the relay running? Does proxy_pass lead to its WebSocket port?"),
}

_HANGS: Final = {
    "resolve": ("no name server answers", "check this machine's name servers (resolvectl status)"),
    "connect": (
        "nothing answers: a firewall drops it, or the host is down",
        "open the port in the firewalls on the way (ufw, and the provider's own); is the address right?",
    ),
    "idle": ("the relay does not answer after the silence", "a proxy forgets idle connections without closing them"),
}
_SILENT: Final = (
    "it is connected and gets no answer",
    "see what listens on the port (ss -ltnp): another program, a proxy whose relay hangs, a firewall that drops data",
)


def hangs(step: str, limit_s: float) -> Trouble:
    """A step that did not end in its time."""
    cause, remedy = _HANGS.get(step, _SILENT)
    return Trouble(f"{cause} ({limit_s:g} s)", remedy)


def status(code: int, asked: str) -> Trouble:
    """A hop answer that is not OK."""
    cause, remedy = STATUSES.get(code, (f"status {code}", "look into the relay's log"))
    return Trouble(f"{asked} refused: {cause}", remedy)


def os_error(error: OSError) -> Trouble:
    """A connection that could not be made."""
    if isinstance(error, socket.gaierror):
        return Trouble(
            f"the name is not known ({error.strerror})",
            "check the spelling, and that the name has an A or AAAA record (dig NAME)",
        )
    if error.errno in _OS_ERRORS:
        return Trouble(*_OS_ERRORS[error.errno])
    return Trouble(f"the system says: {error.strerror or error}", "check the address and the network")


def http_status(code: int, server: str) -> Trouble:
    """An answer to the WebSocket upgrade that is not 101."""
    by = f" from {server}" if server else ""
    cause, remedy = HTTP.get(301 if code in {302, 303, 307, 308} else code, ("", ""))
    return Trouble(
        f"the server answered HTTP {code}{by} instead of 101: {cause or 'it does not speak WebSocket here'}",
        remedy or "is the relay, or a proxy that leads to it, behind this address?",
    )


def certificate(code: int, message: str, name: str, seen: str) -> Trouble:
    """A certificate that does not hold. `code` is OpenSSL's, `seen` describes what was shown."""
    shown = f" ({seen})" if seen else ""
    match code:
        case 10:
            return Trouble(f"the certificate has expired{shown}", "renew it (certbot renew) and let the server load it")
        case 9:
            return Trouble(
                f"the certificate is not valid yet{shown}", "is this machine's clock right? (timedatectl) Else wait"
            )
        case 62 | 64:
            return Trouble(
                f"the certificate is for another name than {name}{shown}",
                f"use a name it is for, or get one for {name} (certbot -d {name})",
            )
        case 18 | 19 | 20 | 21:
            return Trouble(
                f"the certificate is signed by nobody this machine trusts{shown}: {message}",
                "serve the whole chain (fullchain.pem, not cert.pem); for a CA of your own give --ca FILE",
            )
    return Trouble(f"the certificate is refused: {message}{shown}", "get a certificate that browsers accept")


def wrong_way(asked: str, speaks: str) -> Trouble | None:
    """The port speaks something else than it was asked in; None when that is not so."""
    use = {
        "tls": ("speaks TLS", "use …/tls/ws (wss://)"),
        "http": ("speaks plain HTTP, without TLS", "use …/ws (ws://), or give the server its certificate"),
        "libp2p": ("speaks libp2p without WebSocket", "leave out /ws and /tls"),
    }
    if speaks not in use or speaks == asked:
        return None
    what, how = use[speaks]
    return Trouble(f"this port {what}", how)


def wrong_peer(expected: str, found: str) -> Trouble:
    """Another key answers than the address names."""
    return Trouble(
        f"the server is {found}, and the address names {expected}",
        "if the relay has a new key, publish the new address; to keep the old peer ID give it its old key file "
        "(frost-relay id --import)",
    )


def several_relays(first: str, second: str) -> Trouble:
    """Two connections to one address met two relays."""
    return Trouble(
        f"two relays share this address: first {first} answered, now {second}",
        "give each a name of its own: a call must reach the relay that has the reservation",
    )


def no_hop(agent: str) -> Trouble:
    """Identify does not list the relay's protocol."""
    return Trouble(
        f"{agent or 'the server'} is no relay: it does not list /libp2p/circuit/relay/0.2.0/hop",
        "switch its relay service on (go: EnableRelayService; Kubo: Swarm.RelayService), or ask another port",
    )


def cut_while_idle(after_s: float) -> Trouble:
    """Something ended the silent connection."""
    return Trouble(
        f"the connection was closed after {after_s:.0f} s of silence: most often by a proxy that cuts idle connections",
        "nginx: proxy_read_timeout 1h; proxy_send_timeout 1h; HAProxy: timeout tunnel 1h; or a load balancer's timeout",
    )


def bad_clock(off_s: float) -> Trouble:
    """The reservation's expiry is in the past."""
    return Trouble(
        f"the reservation expired {off_s:.0f} s ago by this machine's clock: one of the two clocks is wrong",
        "set both by NTP (timedatectl set-ntp true); compare `date -u` on both",
    )


def ended(step: str, said: str) -> Trouble:
    """The other side, or something in between, ended it without a word that we could read."""
    about = f" ({said})" if said else ""
    if step == "secure":
        return Trouble(
            f"it is connected, and the libp2p handshake breaks off{about}",
            "is it a libp2p node that speaks Noise? Look into its log; a limit of connections ends them like this too",
        )
    return Trouble(f"the server ended it{about}", "look into the relay's log at this moment")
