"""A small HTTP/1.1 server for the admin interface: h11 over an asyncio protocol, GET and HEAD, no bodies.

It believes nothing: bounded headers, a deadline for each request, a bounded number of connections, and a Host header
that must name this machine, so that a web page cannot read it through a name of its own (DNS rebinding). It must
never block.
"""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final, cast

import h11

from actors import log

MAX_HEADER_BYTES: Final = 8192
DEADLINE_S: Final = 10.0
"""For a request's headers, for its answer to be taken, and for the next request on the same connection."""
MAX_CONNECTIONS: Final = 64

_logger = log.get_logger("admin")


@dataclass(frozen=True, slots=True)
class Answer:
    """What is sent back."""

    status: HTTPStatus
    body: bytes
    content_type: str = "text/plain; charset=utf-8"


Handler = Callable[[], Answer]
"""Makes the answer to one path. Runs in the loop: it must not block."""


class AdminProtocol(asyncio.Protocol):
    """One connection."""

    def __init__(self, routes: Mapping[str, Handler], open_connections: set[AdminProtocol]) -> None:
        self._routes = routes
        self._open = open_connections
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_HEADER_BYTES)
        self._request: h11.Request | None = None
        self._transport: asyncio.Transport | None = None
        self._deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Count it, and give it its time."""
        self._transport = cast("asyncio.Transport", transport)
        if len(self._open) >= MAX_CONNECTIONS:
            transport.abort()  # type: ignore[attr-defined]  # a stream's transport, which has it
            return
        self._open.add(self)
        self._renew_deadline()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget it."""
        self._open.discard(self)
        if self._deadline is not None:
            self._deadline.cancel()

    def close(self) -> None:
        """End the connection now."""
        if self._transport is not None:
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        """Feed it, and answer what is complete."""
        try:
            self._http.receive_data(data)
            self._work()
        except h11.RemoteProtocolError as error:
            self._refuse(error.error_status_hint)

    def eof_received(self) -> bool:
        """The client will say no more: nobody to wait for."""
        return False

    def _renew_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
        self._deadline = asyncio.get_running_loop().call_later(DEADLINE_S, self.close)

    def _work(self) -> None:
        while True:
            event = self._http.next_event()
            if event is h11.NEED_DATA or event is h11.PAUSED or isinstance(event, h11.ConnectionClosed):
                return
            if isinstance(event, h11.Request):
                self._request = event
            elif isinstance(event, h11.Data):  # a body: answered without reading it
                self._respond()
                self._finish()
                return
            else:
                self._respond()
                if self._http.our_state is h11.MUST_CLOSE:
                    self._finish()
                    return
                self._http.start_next_cycle()
                self._renew_deadline()

    def _respond(self) -> None:
        if self._request is not None:
            self._send(self._answer(self._request), head=self._request.method == b"HEAD")
            self._request = None

    def _answer(self, request: h11.Request) -> Answer:
        if not _names_this_machine(_header(request, b"host")):
            return _plain(
                HTTPStatus.FORBIDDEN, "the Host header must name this machine: localhost or a loopback address"
            )
        handler = self._routes.get(request.target.decode("ascii", "replace").partition("?")[0])
        if handler is None:
            return _plain(HTTPStatus.NOT_FOUND, "nothing here; there is: " + " ".join(self._routes))
        if request.method not in {b"GET", b"HEAD"}:
            return _plain(HTTPStatus.METHOD_NOT_ALLOWED, "GET or HEAD")
        try:
            return handler()
        except Exception:
            _logger.exception("request failed", target=request.target.decode("ascii", "replace"))
            return _plain(HTTPStatus.INTERNAL_SERVER_ERROR, "failed; the log says why")

    def _refuse(self, status: int) -> None:
        if self._http.our_state in {h11.IDLE, h11.SEND_RESPONSE}:
            self._send(_plain(HTTPStatus(status), HTTPStatus(status).phrase), head=False)
        self._finish()

    def _send(self, answer: Answer, *, head: bool) -> None:
        headers = [
            ("Content-Type", answer.content_type),
            ("Content-Length", str(len(answer.body))),
            ("Cache-Control", "no-store"),
            ("X-Content-Type-Options", "nosniff"),
        ]
        if answer.status is HTTPStatus.METHOD_NOT_ALLOWED:
            headers.append(("Allow", "GET, HEAD"))
        out = [self._http.send(h11.Response(status_code=answer.status, headers=headers))]
        if not head:
            out.append(self._http.send(h11.Data(data=answer.body)))
        out.append(self._http.send(h11.EndOfMessage()))
        if self._transport is not None:
            self._transport.write(b"".join(part for part in out if part))

    def _finish(self) -> None:
        if self._transport is not None:
            self._transport.close()


def _plain(status: HTTPStatus, text: str) -> Answer:
    return Answer(status, f"{text}\n".encode())


def _header(request: h11.Request, name: bytes) -> str:
    return next((value.decode("ascii", "replace") for key, value in request.headers if key == name), "")


def _names_this_machine(host: str) -> bool:
    """Whether a Host header is a loopback address or localhost, with or without a port."""
    name = host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0]
    if name.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False
