"""The HTTP request in front of a WebSocket connection: what it must be, and what is answered when it is not.

Sans-IO: bytes in, an Upgrade or an Answer out. Must never hold more than MAX_HEAD_BYTES and one read, and never guess:
what a proxy in between could read in another way is refused. Any path may be upgraded: libp2p's addresses have none,
and a proxy may mount the relay where it likes.

RFC 9110 and 9112 (HTTP), RFC 6455 sections 4.2 and 4.4 (the opening handshake).
"""

from __future__ import annotations

import re
from base64 import b64decode
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

from transports.errors import PeerError

MAX_HEAD_BYTES: Final = 8 * 1024
"""Request line, headers and the empty line that ends them."""

_END: Final = b"\r\n\r\n"
_NAME: Final = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"  # RFC 9110, 5.6.2
_REQUEST_LINE: Final = re.compile(rf"({_NAME}) ([\x21-\x7e]+) HTTP/([0-9]\.[0-9])")
_HEADER: Final = re.compile(rf"({_NAME}):([\t\x20-\x7e\x80-\xff]*)")
_FIRST_BYTES: Final = frozenset(byte for byte in range(128) if re.fullmatch(_NAME, chr(byte)))
_WEBSOCKET_HEADERS: Final = frozenset(("upgrade", "sec-websocket-key", "sec-websocket-version"))
_KEY_BYTES: Final = 16

_PAGE: Final = (
    b"This is a libp2p circuit relay. It speaks WebSocket to libp2p nodes, and has nothing to show to people.\n"
)
_EXPLANATIONS: Final = {
    HTTPStatus.UNAUTHORIZED: b"This relay takes only those who know a token, in the path: /t/SECRET\n",
    HTTPStatus.UPGRADE_REQUIRED: b"Only WebSocket, version 13, is spoken here. "
    b"A proxy in between must speak HTTP/1.1 to the relay and pass Upgrade and Connection on.\n",
}
_HEADERS: Final = {
    HTTPStatus.UNAUTHORIZED: 'WWW-Authenticate: Path realm="/t/SECRET"\r\n',  # RFC 9110, 15.5.2: there must be one
    HTTPStatus.METHOD_NOT_ALLOWED: "Allow: GET, HEAD\r\n",
    HTTPStatus.UPGRADE_REQUIRED: "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n",  # RFC 6455, 4.4
}


class RequestError(PeerError):
    """A request that is none, or that asks for what is not here; it is answered with `status`."""

    reason = "http_request"

    def __init__(self, text: str, status: HTTPStatus = HTTPStatus.BAD_REQUEST) -> None:
        super().__init__(text)
        self.status = status


class HeadTooLongError(RequestError):
    """Request line and headers over MAX_HEAD_BYTES."""

    reason = "http_head_too_long"

    def __init__(self) -> None:
        super().__init__(
            f"request line and headers over {MAX_HEAD_BYTES} bytes", HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE
        )


SNI: Final = ":sni"
"""Under this name the headers of a request that came by TLS have what TLS was told; no header can be called so."""


@dataclass(frozen=True, slots=True)
class Upgrade:
    """A request that opens a WebSocket. Names of headers are in lower case; `rest` came right behind the request."""

    headers: Mapping[str, str]
    key: str
    rest: bytes
    target: str
    """Path and query, as they were sent."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What ends a connection that is not upgraded; `error` says how the peer erred, None that it did not."""

    data: bytes
    error: RequestError | None = None


class RequestReader:
    """Reads one request."""

    __slots__ = ("_head",)

    def __init__(self) -> None:
        self._head = b""

    def feed(self, data: bytes) -> Upgrade | Answer | None:
        """Bytes of the request; None while it is not complete."""
        searched = max(0, len(self._head) - len(_END) + 1)
        self._head = head = self._head + data
        try:
            if head and head[0] not in _FIRST_BYTES:  # TLS, multistream: nothing would ever end such a request
                raise RequestError("no HTTP")
            end = head.find(_END, searched)
            size = end + len(_END) if end >= 0 else len(head) + 1  # at least one more is to come
            if size > MAX_HEAD_BYTES:
                raise HeadTooLongError
            return None if end < 0 else _decide(head[:end].decode("latin-1"), head[size:])
        except RequestError as error:
            return Answer(answer(error.status), error)


def answer(status: HTTPStatus, body: bytes = b"", *, headers_only: bool = False) -> bytes:
    """A whole response that ends the connection."""
    body = body or _EXPLANATIONS.get(status) or f"{status.phrase}\n".encode()
    connection = "close, Upgrade" if status is HTTPStatus.UPGRADE_REQUIRED else "close"  # RFC 9110, 7.8
    head = (
        f"HTTP/1.1 {status.value} {status.phrase}\r\nConnection: {connection}\r\n{_HEADERS.get(status, '')}"
        f"Content-Type: text/plain; charset=utf-8\r\nContent-Length: {len(body)}\r\n\r\n"
    ).encode()
    return head if headers_only else head + body


def _decide(head: str, rest: bytes) -> Upgrade | Answer:
    """The one place that says what a request is answered; raises RequestError."""
    method, target, version, headers = _parse(head)
    if not version.startswith("1."):
        raise RequestError(f"HTTP/{version}", HTTPStatus.HTTP_VERSION_NOT_SUPPORTED)
    if version != "1.0" and "," in headers.get("host", ","):  # RFC 9112, 3.2
        raise RequestError("no Host header, or several")
    if method not in {"GET", "HEAD"}:
        raise RequestError(f"method {method[:16]}", HTTPStatus.METHOD_NOT_ALLOWED)
    if headers.keys().isdisjoint(_WEBSOCKET_HEADERS):
        return _page(target, headers_only=method == "HEAD")
    if method != "GET":
        raise RequestError("an upgrade asked for by HEAD", HTTPStatus.METHOD_NOT_ALLOWED)
    if version == "1.0":  # RFC 9110, 7.8: its Upgrade header means nothing
        raise RequestError("an upgrade of HTTP/1.0", HTTPStatus.UPGRADE_REQUIRED)
    return _upgrade(target, headers, rest)


def _upgrade(target: str, headers: Mapping[str, str], rest: bytes) -> Upgrade:
    """RFC 6455, 4.2.1; raises RequestError."""
    if "upgrade" not in _listed(headers, "connection"):
        raise RequestError("no upgrade: a proxy in between may have dropped it", HTTPStatus.UPGRADE_REQUIRED)
    if "websocket" not in _listed(headers, "upgrade"):
        raise RequestError("an upgrade to something else than WebSocket", HTTPStatus.UPGRADE_REQUIRED)
    if headers.get("sec-websocket-version") != "13":
        raise RequestError("another version of WebSocket than 13", HTTPStatus.UPGRADE_REQUIRED)
    if "transfer-encoding" in headers or headers.get("content-length", "0") != "0":
        raise RequestError("an upgrade with a body")
    key = headers.get("sec-websocket-key", "")
    if not _is_key(key):
        raise RequestError("a Sec-WebSocket-Key that is none")
    return Upgrade(headers, key, rest, target)


def _parse(head: str) -> tuple[str, str, str, dict[str, str]]:
    """Method, target, version and headers. Lines of the same name are one list (RFC 9110, 5.3)."""
    request_line, *lines = head.split("\r\n")
    request = _REQUEST_LINE.fullmatch(request_line)
    if request is None:
        raise RequestError("no HTTP request line")
    headers: dict[str, str] = {}
    for line in lines:
        header = _HEADER.fullmatch(line)
        if header is None:
            raise RequestError("a line that is no header")
        name, value = header[1].lower(), header[2].strip(" \t")
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return request[1], request[2], request[3], headers


def _listed(headers: Mapping[str, str], name: str) -> list[str]:
    """The members of a header that is a list; Firefox says `Connection: keep-alive, Upgrade`."""
    return [each.strip(" \t") for each in headers.get(name, "").lower().split(",")]


def _is_key(key: str) -> bool:
    """Whether it is "a base64-encoded value that, when decoded, is 16 bytes in length" (RFC 6455, 4.2.1)."""
    try:
        return len(b64decode(key, validate=True)) == _KEY_BYTES
    except ValueError:
        return False


def _page(target: str, *, headers_only: bool) -> Answer:
    if target.partition("?")[0] == "/":
        return Answer(answer(HTTPStatus.OK, _PAGE, headers_only=headers_only))
    return Answer(answer(HTTPStatus.NOT_FOUND, headers_only=headers_only))
