"""The low layers of a check, one step each: names, TCP, TLS, and the upgrade to WebSocket.

py-libp2p's own transports do all of it in one call and tell little of what went wrong, so it is done here, and
py-libp2p gets a stream that is ready. Whatever waits here is cut off by its caller's deadline.
"""

from __future__ import annotations

import base64
import datetime
import email.utils
import os
import socket
import ssl
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import h11
import trio
from cryptography import x509
from cryptography.x509.oid import NameOID
from libp2p.io.exceptions import ConnectionClosedError
from libp2p.io.trio import TrioTCPStream
from wsproto.connection import Connection, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Message, Ping
from wsproto.utilities import LocalProtocolError, RemoteProtocolError

from supervisor.check import causes
from supervisor.check.address import Address
from supervisor.check.report import Finding, Trouble

MAX_ADDRESSES: Final = 8
"""Of a name; more are not tried."""
MAX_HEADER_BYTES: Final = 16_384
MAX_UNREAD_BYTES: Final = 4 << 20
_READ_BYTES: Final = 65_536
_SOON_DAYS: Final = 14

Where = tuple[socket.AddressFamily, tuple[Any, ...]]
ByteStream = trio.SocketStream | trio.SSLStream


@dataclass(frozen=True, slots=True)
class Trust:
    """Whose certificates are believed."""

    ca_file: str = ""
    """Instead of the system's."""
    insecure: bool = False

    def context(self) -> ssl.SSLContext:
        """For one connection. Raises OSError or ssl.SSLError for a CA file that cannot be used."""
        context = ssl.create_default_context(cafile=self.ca_file or None)
        context.set_alpn_protocols(["http/1.1"])
        if self.insecure:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return context


async def resolve(address: Address) -> list[Where]:
    """The socket addresses behind a host, at most MAX_ADDRESSES."""
    family = {"4": socket.AF_INET, "6": socket.AF_INET6}.get(address.kind[-1], socket.AF_UNSPEC)
    try:
        rows = await trio.socket.getaddrinfo(address.host, address.port, family, socket.SOCK_STREAM)
    except OSError as error:
        raise causes.os_error(error) from error
    except UnicodeError as error:
        raise Trouble(f"{address.host} is no host name", "check the spelling") from error
    return [(row[0], row[4]) for row in rows[:MAX_ADDRESSES]]


async def connect(places: Sequence[Where], limit_s: float) -> trio.SocketStream:
    """A TCP connection to the first place that takes one. Each has its share of the time: the first may be silent."""
    trouble: Trouble | None = None
    for place in places:
        try:
            with trio.fail_after(limit_s / len(places)):
                return await _connect_to(place)
        except OSError as error:
            trouble = trouble or causes.os_error(error)
        except trio.TooSlowError:
            trouble = trouble or causes.hangs("connect", limit_s / len(places))
    raise trouble or causes.os_error(OSError("the name has no address"))


async def _connect_to(place: Where) -> trio.SocketStream:
    family, where = place
    plug = trio.socket.socket(family, socket.SOCK_STREAM)
    try:
        await plug.connect(where)
    except BaseException:
        plug.close()
        raise
    return trio.SocketStream(plug)


async def secure(raw: trio.SocketStream, address: Address, trust: Trust) -> tuple[ByteStream, Finding]:
    """TLS on top. What is wrong with the certificate itself is told by `shown_certificate`."""
    stream = trio.SSLStream(raw, trust.context(), server_hostname=address.tls_name)
    await stream.do_handshake()
    return stream, _certificate_finding(certificate_of(stream), trust)


def certificate_of(stream: trio.SSLStream) -> bytes | None:
    """What the other side has shown, checked or not."""
    der = stream.getpeercert(binary_form=True)
    return der if isinstance(der, bytes) else None


def _certificate_finding(der: bytes | None, trust: Trust) -> Finding:
    if der is None:
        return Finding("no certificate")
    certificate = x509.load_der_x509_certificate(der)
    left = certificate.not_valid_after_utc - datetime.datetime.now(datetime.UTC)
    names = f"{', '.join(_names(certificate))}; {left.days} days left"
    if trust.insecure:
        return Finding(f"certificate not checked, as asked: {names}")
    if left.days < _SOON_DAYS:
        return Finding(f"certificate: {names}", "renew it: certbot renews 30 days ahead, so look why it did not")
    return Finding(f"certificate: {names}")


def describe_certificate(der: bytes) -> str:
    """Names and end of a certificate, for people."""
    certificate = x509.load_der_x509_certificate(der)
    return f"for {', '.join(_names(certificate))}, until {certificate.not_valid_after_utc:%Y-%m-%d %H:%M} UTC"


def _names(certificate: x509.Certificate) -> list[str]:
    """At most four of the names that it is for."""
    try:
        several = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        common = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        return [str(name.value) for name in common[:1]] or ["nobody"]
    found = [str(each.value) for each in several]
    return found[:4] + (["…"] if len(found) > 4 else [])


class WebSocketStream:
    """A WebSocket as the stream of bytes that py-libp2p wants: read, write, close."""

    def __init__(self, stream: ByteStream, early: bytes) -> None:
        self._stream = stream
        self._frames = Connection(ConnectionType.CLIENT)
        self._ready = bytearray()
        self._reading, self._writing = trio.Lock(), trio.Lock()
        if early:
            self._frames.receive_data(early)

    async def read(self, n: int | None = None) -> bytes:
        """At least one byte, at most n; raises ConnectionClosedError at the end."""
        async with self._reading:
            while not self._ready:
                await self._take_frames()
                if self._ready:
                    break
                try:
                    data = await self._stream.receive_some(_READ_BYTES)
                except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
                    raise ConnectionClosedError("the connection was reset", transport="websocket") from error
                if not data:
                    raise ConnectionClosedError("the connection was closed", transport="websocket")
                self._receive(data)
            size = len(self._ready) if n is None else min(n, len(self._ready))
            data = bytes(self._ready[:size])
            del self._ready[:size]
            return data

    def _receive(self, data: bytes) -> None:
        try:
            self._frames.receive_data(data)
        except (RemoteProtocolError, LocalProtocolError) as error:
            raise ConnectionClosedError(f"no WebSocket frame: {error}", transport="websocket") from error

    async def _take_frames(self) -> None:
        try:
            for event in self._frames.events():
                match event:
                    case BytesMessage(data=data):
                        self._ready += data
                    case Ping():
                        await self._send(self._frames.send(event.response()))
                    case CloseConnection(code=code, reason=reason):
                        said = f"closed with code {code:d}{f', {reason}' if reason else ''}"
                        raise ConnectionClosedError(said, transport="websocket")
        except RemoteProtocolError as error:
            raise ConnectionClosedError(f"no WebSocket frame: {error}", transport="websocket") from error
        if len(self._ready) > MAX_UNREAD_BYTES:
            raise ConnectionClosedError("more data than anybody asked for", transport="websocket")

    async def write(self, data: bytes) -> None:
        """Send it as one binary message."""
        await self._send(self._frames.send(Message(data=data)))

    async def _send(self, data: bytes) -> None:
        async with self._writing:
            try:
                await self._stream.send_all(data)
            except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
                raise ConnectionClosedError("the connection was reset", transport="websocket") from error

    async def close(self) -> None:
        """Say goodbye, without waiting for an answer."""
        try:
            await self._send(self._frames.send(CloseConnection(code=1000)))
        except (ConnectionClosedError, LocalProtocolError):
            pass  # it is closed already
        finally:
            await trio.aclose_forcefully(self._stream)

    def get_remote_address(self) -> tuple[str, int] | None:
        """Not told: the proxy's would mean nothing."""
        return None


@dataclass(frozen=True, slots=True)
class Upgraded:
    """An open WebSocket, and what its HTTP answer told besides."""

    stream: WebSocketStream
    server: str
    clock_off_s: float | None
    """How far the server's clock (its Date header) is ahead of ours; None when it does not tell."""


async def upgrade(stream: ByteStream, address: Address, now: Callable[[], float] = time.time) -> Upgraded:
    """Ask for a WebSocket as a browser does (RFC 6455, section 4.1)."""
    http = h11.Connection(h11.CLIENT, max_incomplete_event_size=MAX_HEADER_BYTES)
    await stream.send_all(http.send(_upgrade_request(address)) + http.send(h11.EndOfMessage()))
    while True:
        try:
            event = http.next_event()
        except h11.RemoteProtocolError as error:
            raise NotHttp(str(error)) from error
        if event is h11.NEED_DATA:
            http.receive_data(await stream.receive_some(_READ_BYTES))
        elif isinstance(event, h11.InformationalResponse | h11.Response):
            break
        else:
            raise NotHttp("the connection was closed")
    headers = {name.decode("ascii"): value.decode("ascii", "replace") for name, value in event.headers}
    server = headers.get("server", "")[:80]
    if event.status_code != 101:
        raise causes.http_status(event.status_code, server)
    if headers.get("upgrade", "").lower() != "websocket":
        raise Trouble("the server answered 101 to another upgrade than WebSocket", "is a relay behind this address?")
    early, _closed = http.trailing_data
    return Upgraded(WebSocketStream(stream, early), server, _clock_off_s(headers.get("date", ""), now()))


class NotHttp(Exception):  # noqa: N818 - told apart from Trouble by whoever knows how to find the cause
    """What came back is no HTTP answer."""


def _upgrade_request(address: Address) -> h11.Request:
    host = f"[{address.host}]" if address.kind == "ip6" else address.tls_name
    headers = [
        ("Host", host if address.port == (443 if address.tls else 80) else f"{host}:{address.port}"),
        ("Upgrade", "websocket"),
        ("Connection", "Upgrade"),
        ("Sec-WebSocket-Key", base64.b64encode(os.urandom(16)).decode("ascii")),
        ("Sec-WebSocket-Version", "13"),
        ("User-Agent", "frost-relay-check"),
    ]
    return h11.Request(method="GET", target=address.path, headers=headers)


def _clock_off_s(date: str, now: float) -> float | None:
    try:
        return email.utils.parsedate_to_datetime(date).timestamp() - now
    except ValueError:
        return None


def plain(raw: trio.SocketStream) -> Any:
    """A TCP connection as py-libp2p takes it."""
    return TrioTCPStream(raw)
