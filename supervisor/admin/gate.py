"""Who may ask the admin interface for what: by the way they came, the token they know, and the name they call us by.

Decides and says why; it answers nothing itself. A secret is compared in constant time and never logged.
"""

from __future__ import annotations

import hmac
import ipaddress
from http import HTTPStatus
from typing import Final, NamedTuple, Protocol

from config.checks import is_loopback
from config.errors import ConfigError
from transports.private_file import read_private_file

_KEY: Final = "admin.token_file"
_LEAST_TOKEN: Final = 16
_MOST_TOKEN: Final = 1024


class Asked(NamedTuple):
    """What a gate is told of a request."""

    public: bool
    """Whether anybody who can connect may know the answer: health, readiness, the status page without its figures."""
    changes: bool
    """Whether it changes something (POST)."""
    host: str
    authorization: str


class Refusal(NamedTuple):
    """Why not."""

    status: HTTPStatus
    text: str


class Gate(Protocol):
    """One way in."""

    def refuse(self, asked: Asked) -> Refusal | None:
        """None when the request may be answered."""


class ControlGate:
    """Through the control socket: its mode (0600) has let in whoever runs the relay, or root."""

    def refuse(self, asked: Asked) -> Refusal | None:
        """Everything is allowed."""
        return None


class NetworkGate:
    """Over TCP, on `host`. With a token, whoever knows it may do everything; without one, look but change nothing.

    On loopback the Host header must name this machine, so that no web page reads us through a name of its own (DNS
    rebinding). Elsewhere there is always a token, which no page of somebody else's has.
    """

    def __init__(self, host: str, token: str) -> None:
        self._checks_host = is_loopback(host)
        self.change_token(token)

    def change_token(self, token: str) -> None:
        """Want this one from now on, on connections that are there too."""
        self._token = token.encode()

    def refuse(self, asked: Asked) -> Refusal | None:
        """One check a line."""
        if self._checks_host and not names_this_machine(asked.host):
            return Refusal(
                HTTPStatus.FORBIDDEN, "the Host header must name this machine: localhost or a loopback address"
            )
        if asked.public:
            return None
        if not self._token:
            return Refusal(HTTPStatus.FORBIDDEN, _CONTROL_ONLY) if asked.changes else None
        scheme, _, credentials = asked.authorization.partition(" ")
        if scheme.lower() != "bearer" or not hmac.compare_digest(credentials.strip().encode(), self._token):
            return Refusal(HTTPStatus.UNAUTHORIZED, "the token of admin.token_file is needed: Authorization: Bearer …")
        return None


_CONTROL_ONLY: Final = "what changes something goes through the control socket, or needs admin.token_file"


def names_this_machine(host: str) -> bool:
    """Whether a Host header is a loopback address or localhost, with or without a port."""
    name = host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0]
    if name.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def read_token(path: str) -> str:
    """The token in `admin.token_file`; "" when there is none to be. Raises ConfigError, which never shows it."""
    if not path:
        return ""
    try:
        content = read_private_file(path, _KEY, _MOST_TOKEN + 64)
    except FileNotFoundError:
        raise ConfigError(_KEY, path, "a file that exists") from None
    token = content.decode("ascii", "replace").strip()
    if not (_LEAST_TOKEN <= len(token) <= _MOST_TOKEN) or not all("!" <= each <= "~" for each in token):
        expected = f"one token of {_LEAST_TOKEN} to {_MOST_TOKEN} letters and digits in it (openssl rand -hex 24)"
        raise ConfigError(_KEY, path, expected)
    return token
