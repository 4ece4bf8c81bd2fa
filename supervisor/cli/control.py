"""How a command speaks to the relay that runs: HTTP through its control socket, found by where relays put it.

A command asks with `with_relay`, and gets a Relay. Whatever keeps it from an answer is one line and exit code 1. Must
never wait without an end, and never change anything but by POST.
"""

from __future__ import annotations

import functools
import http.client
import json
import os
import socket
from collections.abc import Callable, Mapping
from typing import Any, Concatenate, Final, ParamSpec, TypeVar
from urllib.parse import urlencode

import click

from config.errors import ConfigError
from config.load import load
from config.paths import control_socket_places
from supervisor.cli.base import FailedError, config_option, say

ANSWER_S: Final = 15.0
"""The relay gives up on a request after 10 s and says so; this is for one that hangs."""

P = ParamSpec("P")
T = TypeVar("T")


class Relay:
    """The relay that runs, as a command sees it. Each request is a connection of its own."""

    def __init__(self, path: str) -> None:
        self.path = path

    def get(self, path: str, parameters: Mapping[str, object] | None = None) -> Any:
        """What the relay shows at `path`, read as JSON. Raises FailedError."""
        query = {key: value for key, value in (parameters or {}).items() if value not in {None, ""}}
        return json.loads(self._ask("GET", f"{path}?{urlencode(query)}" if query else path, None))

    def post(self, path: str, body: Mapping[str, object] | None = None) -> Any:
        """Have the relay do something; what it says of it, read as JSON. Raises FailedError."""
        return json.loads(self._ask("POST", path, json.dumps(body or {}).encode()))

    def lives(self) -> bool:
        """Whether somebody still listens at the socket."""
        probe = _Connection(self.path)
        try:
            probe.connect()
        except OSError:
            return False
        finally:
            probe.close()
        return True

    def _ask(self, method: str, path: str, body: bytes | None) -> bytes:
        connection = _Connection(self.path)
        try:
            connection.request(method, path, body)
            answer = connection.getresponse()
            content = answer.read()
        except TimeoutError:
            raise FailedError(f"the relay at {self.path} does not answer") from None
        except (OSError, http.client.HTTPException) as error:
            raise FailedError(f"the relay at {self.path} went away: {error}") from None
        finally:
            connection.close()
        if answer.status != http.client.OK:
            raise FailedError(content.decode("utf-8", "replace").strip() or f"the relay said {answer.status}")
        return content


class _Connection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=ANSWER_S)
        self._path = path

    def connect(self) -> None:
        """To the socket's file instead of a port."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(ANSWER_S)
        self.sock.connect(self._path)


def find_relay(places: tuple[str, ...]) -> Relay:
    """The relay that answers at the first of these paths. FailedError says in one line where was looked."""
    why: list[str] = []
    for path in places:
        probe = _Connection(path)
        try:
            probe.connect()
        except OSError as error:
            why.append(f"{path} ({error.strerror or error})")
        else:
            return Relay(path)
        finally:
            probe.close()
    raise FailedError(f"no relay runs: looked at {', '.join(why)}; --socket names another place")


def _places(named: str | None, file: str | None, environ: Mapping[str, str]) -> tuple[str, ...]:
    """--socket, else what the settings say, else where relays put it.

    Settings that cannot be used are said and not believed: the relay that runs was started with others.
    """
    if named is not None:
        return (named,)
    try:
        configured = load(file, (), environ).admin.control_socket
    except ConfigError as error:
        say(f"{error} (looking in the usual places)")
        configured = ""
    return (configured,) if configured else control_socket_places(environ)


def with_relay(function: Callable[Concatenate[Relay, P], T]) -> Callable[..., T]:
    """Gives a command `--socket` and `--config`, and as its first argument the relay that runs."""

    @click.option("--socket", "control", metavar="PATH", help="The relay's control socket, if it is in no usual place.")
    @config_option
    @functools.wraps(function)
    def command(control: str | None, file: str | None, *args: P.args, **kwargs: P.kwargs) -> T:
        return function(find_relay(_places(control, file, os.environ)), *args, **kwargs)

    return command
