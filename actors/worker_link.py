"""Calls across the worker link: reaching a target that is connected to another worker of this relay.

A call is one yamux stream between the workers: `uvarint(length) msgpack(Request)` one way, `uvarint(length)
msgpack(Reply)` back, then the circuit's bytes. The target's worker joins that stream with the stop stream. Must never
hold what a circuit counts or limits: that is the CircuitActor's, in the worker of the source.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final, Protocol

import msgspec

from actors import log
from actors.call import Answer, Call
from actors.deadlines import Deadlines
from actors.limits import Reason
from actors.registry_protocol import same_user
from actors.stop import STOP_TIMEOUT_S
from transports.link import LinkConnection
from transports.tcp import TcpEnd
from transports.varint import DelimitedReader, delimited
from transports.wire import Flusher, Wire
from transports.yamux import Buffer, Stream, StreamHandler

MAX_MESSAGE_BYTES: Final = 1024
# A little more than the stop call at the other end may take, so that its answer is the one that counts.
LINK_TIMEOUT_S: Final = STOP_TIMEOUT_S + 1.0

_logger = log.get_logger("worker link")


class Request(msgspec.Struct, frozen=True, array_like=True):
    """Source's worker to target's worker: call the peer `target` on `connection` for `source`."""

    connection: int
    source: bytes
    target: bytes


class Reply(msgspec.Struct, frozen=True, array_like=True):
    """Target's worker to source's worker: None, and the circuit's bytes follow; or why there is none."""

    reason: Reason | None


_ENCODE = msgspec.msgpack.Encoder().encode
_REQUEST = msgspec.msgpack.Decoder(Request)
_REPLY = msgspec.msgpack.Decoder(Reply)


class LinkHost(Protocol):
    """What the links need of their worker."""

    deadlines: Deadlines
    now_s: float

    def clock(self) -> float:
        """CLOCK_MONOTONIC, seconds."""

    def call_local(self, connection: int, source: bytes, target: bytes, answer: Answer) -> Call | None:
        """Call a target that is connected here; None when it is not (the answer has been called)."""

    def splice(self, link: Stream, target: Stream, early: bytes | bytearray, first: bytes) -> None:
        """Join a link stream with the stream to a target of this worker."""

    def fault(self, error: Exception) -> None:
        """A fault of ours, to be logged."""


class LinkCall:
    """The calling end: the handler of the link stream until the other worker has answered."""

    __slots__ = ("_answer", "_deadline", "_reader", "_request", "_stream")

    def __init__(self, host: LinkHost, request: Request, answer: Answer) -> None:
        self._answer: Answer | None = answer
        self._reader = DelimitedReader(MAX_MESSAGE_BYTES)
        self._request = request
        self._stream: Stream | None = None
        self._deadline = host.deadlines.at(host.now_s + LINK_TIMEOUT_S, self._timed_out)

    def start(self, stream: Stream) -> None:
        """The link is there."""
        if self._answer is None:
            return
        self._stream = stream
        stream.handler = self
        stream.write(delimited(_ENCODE(self._request)))

    def cancel(self) -> None:
        """The source is gone."""
        self._answer = None
        self._deadline.cancel()
        if self._stream is not None:
            self._stream.reset()

    def failed(self) -> None:
        """There is no link to that worker: it has just died, and its peers with it."""
        self._end(Reason.TARGET_GONE, b"")

    def data_received(self, data: Buffer) -> None:
        """Collect the reply; bytes behind it are the circuit's."""
        stream = self._stream
        if stream is None:  # never: bytes come only along the stream
            return
        # No credit for the reply: what is credited on a link is given back to a circuit's sender.
        body = self._reader.feed(data)
        if body is None:
            return
        reason = _REPLY.decode(body).reason
        if reason is None:
            self._end(stream, self._reader.rest())
        else:
            stream.reset()
            self._end(reason, b"")

    def eof_received(self) -> None:
        """The other worker never ends a stream that it has not answered."""
        self.reset_received()

    def reset_received(self) -> None:
        """The other worker is gone, or its target in this moment."""
        self._end(Reason.TARGET_GONE, b"")

    def data_sent(self, count_bytes: int) -> None:
        """The request is not counted."""

    def _timed_out(self) -> None:
        if self._stream is not None:
            self._stream.reset()
        self._end(Reason.TARGET_SILENT, b"")

    def _end(self, outcome: Stream | Reason, rest: bytes) -> None:
        answer, self._answer = self._answer, None
        self._deadline.cancel()
        if answer is not None:
            answer(outcome, rest)


class LinkAnswer:
    """The called end: calls the target, then becomes the splice of link stream and stop stream."""

    __slots__ = ("_call", "_early", "_ended", "_host", "_reader", "_stream")

    def __init__(self, host: LinkHost, stream: Stream) -> None:
        self._host = host
        self._stream = stream
        self._reader: DelimitedReader | None = DelimitedReader(MAX_MESSAGE_BYTES)
        self._call: Call | None = None
        self._early = bytearray()
        self._ended = False

    def data_received(self, data: Buffer) -> None:
        """Collect the request; what follows are the source's first bytes."""
        if self._reader is None:
            self._early += data
            return
        body = self._reader.feed(data)
        if body is None:
            return
        self._early += self._reader.rest()
        self._reader = None
        request = _REQUEST.decode(body)
        self._call = self._host.call_local(request.connection, request.source, request.target, self._answered)

    def eof_received(self) -> None:
        """The source has said all already; the splice sees it when it takes over."""

    def reset_received(self) -> None:
        """The source, or its worker, is gone."""
        self._ended = True
        if self._call is not None:
            self._call.cancel()

    def data_sent(self, count_bytes: int) -> None:
        """The reply is not counted."""

    def _answered(self, outcome: Stream | Reason, first: bytes) -> None:
        self._call = None
        if self._ended:
            return
        reason = outcome if isinstance(outcome, Reason) else None
        self._stream.write(delimited(_ENCODE(Reply(reason))))
        if isinstance(outcome, Reason):
            self._stream.close()
        else:
            self._host.splice(self._stream, outcome, self._early, first)


class _Link:
    """One worker link, either end; the owner of its wire and its yamux session."""

    __slots__ = ("_host", "_on_lost", "_waiting", "connection", "wire")

    def __init__(self, host: LinkHost, on_lost: Callable[[_Link], None]) -> None:
        self._host = host
        self._on_lost = on_lost
        self._waiting: list[LinkCall] | None = []
        self.wire: Wire | None = None
        self.connection: LinkConnection | None = None

    def attach(self, wire: Wire, initiator: bool) -> None:
        """The socket is there."""
        self.wire = wire
        wire.owner = self
        wire.endpoint = self.connection = LinkConnection(initiator, self, wire.wake)
        waiting, self._waiting = self._waiting or [], None
        for call in waiting:
            self.start(call)

    def start(self, call: LinkCall) -> None:
        """Send a call over this link, now or as soon as it is connected."""
        if self._waiting is not None:
            self._waiting.append(call)
        elif self.connection is not None and self.connection.session is not None:
            call.start(self.connection.session.open_stream())

    def failed(self) -> None:
        """The other worker can not be reached."""
        waiting, self._waiting = self._waiting or [], None
        for call in waiting:
            call.failed()

    def stream_opened(self, stream: Stream) -> StreamHandler | None:
        """The other worker calls."""
        return LinkAnswer(self._host, stream)

    def go_away_received(self, code: int) -> None:
        """Workers end their links by closing them."""

    def pong_received(self) -> None:
        """Workers do not ping."""

    def wire_lost(self, error: Exception | None) -> None:
        """The other worker is gone."""
        if error is not None:
            self._host.fault(error)
        self._on_lost(self)


class WorkerLinks:
    """The links of one worker: serves its own socket, dials those of the others when a circuit needs one."""

    def __init__(
        self, host: LinkHost, loop: asyncio.AbstractEventLoop, flusher: Flusher, path_of: Callable[[str], str]
    ) -> None:
        self._host = host
        self._loop = loop
        self._flusher = flusher
        self._path_of = path_of
        self._outbound: dict[str, _Link] = {}
        self._inbound: set[_Link] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    async def serve(self, own_name: str) -> None:
        """Listen on this worker's own socket; a predecessor's socket file is replaced."""
        path = self._path_of(own_name)
        self._server = await self._loop.create_unix_server(
            lambda: TcpEnd(self._flusher, self._host.clock, self._accepted), path, backlog=128
        )

    def call(self, worker: str, request: Request, answer: Answer) -> Call:
        """Ask another worker to call its peer."""
        call = LinkCall(self._host, request, answer)
        link = self._outbound.get(worker)
        if link is None:
            link = self._outbound[worker] = _Link(self._host, lambda lost: self._forget(worker, lost))
            task = self._loop.create_task(self._dial(worker, link))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        link.start(call)
        return call

    def close(self) -> None:
        """End all links; circuits across them are reset."""
        if self._server is not None:
            self._server.close()
        for task in self._tasks:
            task.cancel()
        for link in (*self._outbound.values(), *self._inbound):
            if link.wire is not None:
                link.wire.abort()

    async def _dial(self, worker: str, link: _Link) -> None:
        try:
            await self._loop.create_unix_connection(
                lambda: TcpEnd(self._flusher, self._host.clock, lambda wire: link.attach(wire, True)),
                self._path_of(worker),
            )
        except OSError as error:
            _logger.warning("worker not reached", worker=worker, error=str(error))
            self._forget(worker, link)
            link.failed()

    def _accepted(self, wire: Wire) -> None:
        link = _Link(self._host, self._inbound.discard)
        link.attach(wire, False)
        self._inbound.add(link)
        if not isinstance(wire.end, TcpEnd) or not same_user(wire.end.socket):
            _logger.error("worker link of another user refused")
            wire.abort()

    def _forget(self, worker: str, link: _Link) -> None:
        if self._outbound.get(worker) is link:
            del self._outbound[worker]
