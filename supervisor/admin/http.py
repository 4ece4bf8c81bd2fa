"""A small HTTP/1.1 server for the admin interface: h11 over an asyncio protocol, GET, HEAD and POST with short bodies.

It believes nothing: bounded headers and bodies, a deadline for each request, a bounded number of connections, and a
gate (gate.py) that says who may ask. An answer may take a while; the connection reads no more until it is out. It must
never block.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final, Literal, cast
from urllib.parse import parse_qsl

import h11

from actors import log
from actors.process import end_without_memory
from supervisor.admin.gate import Asked, Gate

MAX_HEADER_BYTES: Final = 8192
MAX_BODY_BYTES: Final = 8192
DEADLINE_S: Final = 10.0
"""For a request to be whole, for its answer to be made and taken, and for the next request on the same connection."""
MAX_CONNECTIONS: Final = 64
_MAX_PARAMETERS: Final = 32

_logger = log.get_logger("admin")


@dataclass(frozen=True, slots=True)
class Request:
    """What was asked, as far as a handler may see it."""

    path: str
    query: Mapping[str, str]
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class Answer:
    """What is sent back."""

    status: HTTPStatus
    body: bytes
    content_type: str = "text/plain; charset=utf-8"
    headers: tuple[tuple[str, str], ...] = ()
    """What else is said about it."""


Handler = Callable[[Request], Answer | Awaitable[Answer]]
"""Makes the answer to one path. Runs in the loop: it must not block, but what it returns may be awaited."""


@dataclass(frozen=True, slots=True)
class Route:
    """One path: who answers it, and who may ask."""

    handler: Handler
    method: Literal["GET", "POST"] = "GET"
    """What changes something is a POST. HEAD is answered as GET is, without the body."""
    public: bool = False
    """Answered without a token: what says nothing of the relay but whether it lives."""


class AdminProtocol(asyncio.Protocol):
    """One connection."""

    def __init__(self, routes: Mapping[str, Route], gate: Gate, open_connections: set[AdminProtocol]) -> None:
        self._routes = routes
        self._gate = gate
        self._open = open_connections
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_HEADER_BYTES)
        self._request: h11.Request | None = None
        self._body = bytearray()
        self._answering: asyncio.Task[Answer] | None = None
        self._transport: asyncio.Transport
        self._deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Count it, and give it its time."""
        self._transport = cast("asyncio.Transport", transport)
        if len(self._open) >= MAX_CONNECTIONS:
            self._transport.abort()
            return
        self._open.add(self)
        self._renew_deadline()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget it, and whatever it waited for."""
        self._open.discard(self)
        if self._deadline is not None:
            self._deadline.cancel()
        if self._answering is not None:
            self._answering.cancel()

    def close(self) -> None:
        """End the connection now."""
        self._transport.abort()

    def data_received(self, data: bytes) -> None:
        """Feed it, and answer what is complete."""
        try:
            self._http.receive_data(data)
            self._work()
        except h11.RemoteProtocolError as error:
            self._fail(HTTPStatus(error.error_status_hint))

    def eof_received(self) -> bool:
        """The client will say no more; it may still wait for its answer."""
        self._http.receive_data(b"")
        return self._answering is not None

    def _renew_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
        self._deadline = asyncio.get_running_loop().call_later(DEADLINE_S, self.close)

    def _work(self) -> None:
        """Take what has come, request by request, until one has to wait for its answer."""
        while self._answering is None:
            event = self._http.next_event()
            if event is h11.NEED_DATA or event is h11.PAUSED:
                return
            if isinstance(event, h11.ConnectionClosed):
                self._transport.close()
                return
            if isinstance(event, h11.Request):
                self._request = event
                refusal = self._refusal(event)
                if refusal is not None and not self._answer(refusal):
                    return
            elif isinstance(event, h11.Data):
                self._body += event.data
                if len(self._body) > MAX_BODY_BYTES:
                    self._fail(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
                    return
            elif isinstance(event, h11.EndOfMessage) and not self._handle():
                return

    # --- one request ---

    def _refusal(self, request: h11.Request) -> Answer | None:
        """Why this is not answered, said before a body is read."""
        path = _target(request).partition("?")[0]
        route = self._routes.get(path)
        changes = request.method not in {b"GET", b"HEAD"}
        asked = Asked(
            public=route is not None and route.public,
            changes=changes,
            host=_header(request, b"host"),
            authorization=_header(request, b"authorization"),
        )
        refusal = self._gate.refuse(asked)
        if refusal is not None:
            _logger.info("refused", asked=path, status=refusal.status.value, peer=self._peer())
            return plain(*refusal)
        if route is None:
            return plain(HTTPStatus.NOT_FOUND, "nothing here; there is: " + " ".join(self._routes))
        if changes if route.method == "GET" else request.method != b"POST":
            return plain(HTTPStatus.METHOD_NOT_ALLOWED, "GET or HEAD" if route.method == "GET" else "POST")
        return None

    def _handle(self) -> bool:
        """Make the answer to the whole request; False when the connection has ended or waits."""
        if self._request is None:  # refused, and answered already
            return self._next()
        target, _, query = _target(self._request).partition("?")
        try:
            parameters = dict(parse_qsl(query, keep_blank_values=True, max_num_fields=_MAX_PARAMETERS))
        except ValueError:
            return self._answer(plain(HTTPStatus.BAD_REQUEST, f"at most {_MAX_PARAMETERS} parameters"))
        request = Request(target, parameters, bytes(self._body))
        try:
            answer = self._routes[target].handler(request)
        except Exception as error:
            end_without_memory(error)
            _logger.exception("request failed", target=target)
            answer = _FAILED
        if isinstance(answer, Answer):
            return self._answer(answer)
        self._transport.pause_reading()
        self._answering = asyncio.ensure_future(self._await(answer, target))
        self._answering.add_done_callback(self._answered)
        return False

    async def _await(self, answer: Awaitable[Answer], target: str) -> Answer:
        try:
            return await answer
        except Exception as error:
            end_without_memory(error)
            _logger.exception("request failed", target=target)
            return _FAILED

    def _answered(self, task: asyncio.Task[Answer]) -> None:
        """The answer that was waited for is there; what the client has sent behind its request comes next."""
        self._answering = None
        if task.cancelled() or self._transport.is_closing():
            return
        self._transport.resume_reading()
        try:
            if self._answer(task.result()):
                self._work()
        except h11.RemoteProtocolError as error:
            self._fail(HTTPStatus(error.error_status_hint))

    # --- its answer ---

    def _answer(self, answer: Answer) -> bool:
        """Send it; False when the connection ends with it."""
        request, self._request = self._request, None
        self._send(answer, request)
        if self._http.their_state is h11.SEND_BODY:
            if self._body_follows(request):
                self._transport.close()  # nobody will read it
                return False
            return True
        return self._next()

    @staticmethod
    def _body_follows(request: h11.Request | None) -> bool:
        if request is None:
            return True
        return bool(_header(request, b"transfer-encoding")) or _header(request, b"content-length") not in {"", "0"}

    def _next(self) -> bool:
        """Ready for the next request; False when there is none to come."""
        self._body.clear()
        if self._http.our_state is h11.MUST_CLOSE:
            self._transport.close()
            return False
        self._http.start_next_cycle()
        self._renew_deadline()
        return True

    def _fail(self, status: HTTPStatus) -> None:
        """The request is not one: say so if it is our turn, and end the connection."""
        if self._http.our_state in {h11.IDLE, h11.SEND_RESPONSE}:
            self._send(plain(status, status.phrase), self._request)
        self._transport.close()

    def _send(self, answer: Answer, request: h11.Request | None) -> None:
        headers = [
            ("Content-Type", answer.content_type),
            ("Content-Length", str(len(answer.body))),
            ("Cache-Control", "no-store"),
            ("X-Content-Type-Options", "nosniff"),
            *answer.headers,
        ]
        if answer.status is HTTPStatus.METHOD_NOT_ALLOWED:
            headers.append(("Allow", answer.body.decode().strip().replace(" or", ",")))
        if answer.status is HTTPStatus.UNAUTHORIZED:
            headers.append(("WWW-Authenticate", "Bearer"))
        out = [self._http.send(h11.Response(status_code=answer.status, headers=headers))]
        if request is None or request.method != b"HEAD":
            out.append(self._http.send(h11.Data(data=answer.body)))
        out.append(self._http.send(h11.EndOfMessage()))
        self._transport.write(b"".join(part for part in out if part))

    def _peer(self) -> str:
        name = self._transport.get_extra_info("peername")
        return str(name[0]) if isinstance(name, tuple) else "control socket"


def plain(status: HTTPStatus, text: str) -> Answer:
    """An answer for people: one line of text."""
    return Answer(status, f"{text}\n".encode())


_FAILED: Final = plain(HTTPStatus.INTERNAL_SERVER_ERROR, "failed; the log says why")


def _target(request: h11.Request) -> str:
    return request.target.decode("ascii", "replace")


def _header(request: h11.Request, name: bytes) -> str:
    return next((value.decode("ascii", "replace") for key, value in request.headers if key == name), "")
