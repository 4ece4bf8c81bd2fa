"""How a browser's bytes reach a relay: TCP or WebSocket, with or without TLS, over gevent sockets.

A pipe is opened in two steps, since a load test times them apart: the socket (with TLS), then the handshake of its
transport. It knows nothing of what it carries, and must never keep a byte that has come in.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

from gevent import socket, ssl
from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection, BytesMessage, CloseConnection, Event, Ping, RejectConnection, Request
from wsproto.utilities import ProtocolError, RemoteProtocolError

READ_BYTES: Final = 65536
TIMEOUT_S: Final = 10.0
_HOSTS: Final = frozenset({"ip4", "ip6", "dns", "dns4", "dns6"})
_TAILS: Final = {(): (False, False), ("ws",): (True, False), ("tls", "ws"): (True, True), ("wss",): (True, True)}
_FORMS: Final = "/ip4|ip6|dns4|dns6|dns/HOST/tcp/PORT, then nothing, /ws, /tls/ws or /wss, then /p2p/ID or nothing"


class PipeError(Exception):
    """The relay ended the connection, or did not open it; the text says how."""


class AddressError(ValueError):
    """What was given as a relay's address is none that can be dialled."""


@dataclass(frozen=True, slots=True)
class Target:
    """Where a relay is. `peer` is the text of its ID; empty: whoever answers."""

    host: str
    port: int
    websocket: bool
    tls: bool
    peer: str

    @classmethod
    def parse(cls, text: str) -> Target:
        """The relay at a multiaddr; raises AddressError."""
        address, _, peer = text.strip().partition("/p2p/")
        parts = address.split("/")
        tail = _TAILS.get(tuple(parts[5:]))
        if len(parts) < 5 or parts[0] or parts[1] not in _HOSTS or parts[3] != "tcp" or tail is None:
            raise AddressError(f"host = {text!r}: expected {_FORMS}")
        if not parts[4].isdecimal() or not 0 < int(parts[4]) < 65536:
            raise AddressError(f"host = {text!r}: expected a port from 1 to 65535 behind /tcp/")
        return cls(parts[2], int(parts[4]), websocket=tail[0], tls=tail[1], peer=peer)

    @property
    def transport(self) -> str:
        """Its name in tables."""
        return ("wss" if self.tls else "ws") if self.websocket else "tcp"

    @property
    def loopback(self) -> bool:
        """Whether it is on this machine, which then has an address for each browser."""
        return self.host.startswith("127.")


class Pipe:
    """A TCP connection. Counts the bytes of both directions, as they are on the socket (inside TLS)."""

    def __init__(self, target: Target, source: str | None = None) -> None:
        """`source` is the local address to come from, any if None."""
        self.socket_bytes = 0
        self._target = target
        local = None if source is None else (source, 0)
        plain = socket.create_connection((target.host, target.port), TIMEOUT_S, local)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket = self._secured(plain)

    def _secured(self, plain: Any) -> Any:
        if not self._target.tls:
            return plain
        try:
            return ssl.create_default_context().wrap_socket(plain, server_hostname=self._target.host)
        except OSError:
            plain.close()
            raise

    def open(self) -> None:
        """The transport's own handshake; TCP has none."""
        self._socket.settimeout(None)

    def send(self, data: bytes) -> None:
        """Send all of it, however long the relay takes to read."""
        self.send_raw(data)

    def receive(self) -> Iterator[bytes]:
        """What comes, piece by piece as it comes, until the relay closes."""
        while data := self.receive_raw():
            yield data

    def send_raw(self, data: bytes) -> None:
        """Bytes for the socket as they are."""
        self._socket.sendall(data)
        self.socket_bytes += len(data)

    def receive_raw(self) -> bytes:
        """What the socket has, empty at its end."""
        data: bytes = self._socket.recv(READ_BYTES)
        self.socket_bytes += len(data)
        return data

    def wait_at_most(self, seconds: float) -> None:
        """Sending and receiving take no longer from now on, or raise TimeoutError."""
        self._socket.settimeout(seconds)

    def close(self) -> None:
        """Say that nothing more comes, and let go; a greenlet that reads gets the end."""
        with suppress(OSError):  # the relay was first
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()


class WebSocketPipe(Pipe):
    """A WebSocket. What there is of a frame is handed on: the layers above take bytes as they come."""

    def __init__(self, target: Target, source: str | None = None) -> None:
        super().__init__(target, source)
        self._frames = WSConnection(ConnectionType.CLIENT)
        self._early: list[bytes] = []

    def open(self) -> None:
        """Ask for the upgrade, and wait for it; frames may come right behind."""
        host = f"[{self._target.host}]" if ":" in self._target.host else self._target.host
        self.send_raw(self._frames.send(Request(host=f"{host}:{self._target.port}", target="/")))
        while True:
            events = self._events(self.receive_raw())
            for event in events:
                if isinstance(event, AcceptConnection):
                    self._early = list(self._payloads(events))
                    super().open()
                    return
                if isinstance(event, RejectConnection):
                    raise PipeError(f"the upgrade was answered {event.status_code}")
                if isinstance(event, CloseConnection):
                    raise PipeError("closed during the upgrade")

    def send(self, data: bytes) -> None:
        """One frame."""
        try:
            frame = self._frames.send(BytesMessage(data))
        except ProtocolError as error:
            raise PipeError("closed from here") from error
        self.send_raw(frame)

    def receive(self) -> Iterator[bytes]:
        """The payloads, until the relay's close frame or the end of the socket."""
        yield from self._early
        while True:
            data = self.receive_raw()
            if not data:
                return
            yield from self._payloads(self._events(data))
            if self._frames.state.name in {"CLOSED", "REMOTE_CLOSING"}:
                return

    def close(self) -> None:
        """The close frame first, if it can still be sent."""
        with suppress(OSError, ProtocolError):  # closed before, or never open
            self.send_raw(self._frames.send(CloseConnection(code=1000)))
        super().close()

    def _events(self, data: bytes) -> Iterator[Event]:
        try:
            self._frames.receive_data(data or None)
            yield from self._frames.events()
        except RemoteProtocolError as error:
            raise PipeError(f"WebSocket: {error}") from error

    def _payloads(self, events: Iterator[Event]) -> Iterator[bytes]:
        for event in events:
            if isinstance(event, BytesMessage):
                yield bytes(event.data)
            elif isinstance(event, Ping):
                self.send_raw(self._frames.send(event.response()))


def dial(target: Target, source: str | None = None) -> Pipe:
    """A socket to the relay; `open` it next."""
    return (WebSocketPipe if target.websocket else Pipe)(target, source)
