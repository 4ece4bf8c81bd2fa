"""A worker's end of the registry link: ask, be answered, and never wait for ever.

Called from loop callbacks, with a callback for the answer; no future and no task a request. What one turn of the loop
asks leaves in one write. When the registry dies the link finds its successor, tells it what the worker holds and asks
again what was not answered. It must never decide in the registry's place: without an answer in time, the answer is no.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from itertools import takewhile
from typing import Any, Final, cast

from actors import log
from actors.limits import Reason
from actors.process import end_without_memory
from actors.registry_protocol import (
    Ask,
    CircuitGranted,
    CloseCircuit,
    Connected,
    Declare,
    Disconnected,
    Evict,
    FrameDecoder,
    FromRegistry,
    FromWorker,
    Granted,
    Hello,
    Inventory,
    OpenCircuit,
    Refused,
    RegistryLinkError,
    Release,
    Reserve,
    Superseded,
    Tally,
    encode_frames,
    in_parts,
    same_user,
)

ANSWER_S: Final = 2.0
"""How long a request may take, with a restart of the registry in between."""
MAX_PENDING: Final = 4096
"""Requests without an answer, of one worker; more are refused at once."""

_MAX_UNREAD_BYTES: Final = 64 * 1024 * 1024  # what 500,000 peers take to declare
_LINGER_S: Final = 0.05  # how long what is only counted may wait for company
_LINGERING: Final = 64  # how many may
_FIRST_PAUSE_S: Final = 0.05
_LONGEST_PAUSE_S: Final = 0.5
_STABLE_S: Final = 1.0  # a link that lived this long is replaced without a pause

_logger = log.get_logger("registry link")


class _Pending:
    """A request whose answer is awaited."""

    __slots__ = ("deadline_s", "done", "request")

    def __init__(self, request: Reserve | OpenCircuit, done: Callable[[Any], None], deadline_s: float) -> None:
        self.request = request
        self.done = done
        self.deadline_s = deadline_s


class _Connection(asyncio.Protocol):
    """One connection to the registry, from connect to end."""

    __slots__ = ("_decoder", "_link", "lost", "transport")

    def __init__(self, link: RegistryLink, lost: asyncio.Future[None]) -> None:
        self._link = link
        self._decoder = FrameDecoder.from_registry()
        self.lost = lost
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.transport.set_write_buffer_limits(high=_MAX_UNREAD_BYTES)
        if same_user(transport.get_extra_info("socket")):
            self._link.connection_made(self)
        else:
            _logger.error("registry of another user refused")
            self.transport.abort()

    def data_received(self, data: bytes) -> None:
        try:
            messages = self._decoder.feed(data)
        except RegistryLinkError as error:
            _logger.error("registry link broken", error=str(error))
            self.transport.abort()
            return
        for message in messages:
            self._link.take(message)

    def pause_writing(self) -> None:
        """The registry reads no more: a new connection tells a registry that does all that counts."""
        _logger.error("registry does not read")
        self.transport.abort()

    def connection_lost(self, error: Exception | None) -> None:
        self._link.connection_lost(self)
        if not self.lost.done():
            self.lost.set_result(None)


class RegistryLink:
    """The link of the worker `worker_name` to the registry that serves the Unix socket `path`.

    `declare` returns what the worker holds now: everything granted to it and not given back, as a Hello with `more`
    unset, and `tally` how much that is. `on_evict` is told of connections that must be closed, `on_superseded` of
    reservations that moved to another connection. `clock` is CLOCK_MONOTONIC in seconds.

    A `done` callback is called exactly once, never from within the call that it was given to. It may be called after
    the connection it was about has ended; then the caller gives back what was granted (`release`, `close_circuit`).
    """

    def __init__(  # noqa: PLR0913 - put together in one place, where each is named
        self,
        path: str,
        worker_name: str,
        declare: Callable[[], Hello],
        tally: Callable[[], Tally],
        on_evict: Callable[[Evict], None],
        on_superseded: Callable[[Superseded], None],
        loop: asyncio.AbstractEventLoop,
        clock: Callable[[], float],
        *,
        answer_s: float = ANSWER_S,
        max_pending: int = MAX_PENDING,
    ) -> None:
        self._path = path
        self._worker_name = worker_name
        self._declare = declare
        self._tally = tally
        self._on_evict = on_evict
        self._on_superseded = on_superseded
        self._loop = loop
        self._clock = clock
        self._answer_s = answer_s
        self._max_pending = max_pending
        self._connection: _Connection | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._out: list[FromWorker] = []  # to be written at the end of this turn of the loop
        self._next_request = 1
        self._pending: dict[int, _Pending] = {}  # by request: the oldest, and so the first due, comes first
        self._late: dict[int, Reserve | OpenCircuit] = {}  # refused after their deadline, answer still to come
        self._last_reserve: dict[int, int] = {}  # connection -> its latest unanswered Reserve
        self._unclaimed: set[int] = set()  # connections with a late grant that a later Reserve may still claim
        self._deadline: asyncio.TimerHandle | None = None
        self._flushing = False  # a flush is due at the end of this turn
        self._linger: asyncio.TimerHandle | None = None  # a flush is due a little later

    @property
    def is_connected(self) -> bool:
        """Whether the registry hears us now."""
        return self._connection is not None

    def start(self) -> None:
        """Connects, and connects again whenever the link is lost. What is asked meanwhile waits."""
        self._keeper = self._loop.create_task(self._stay_connected())

    async def stop(self) -> None:
        """Ends the link; the registry frees all that the worker held. What is pending is refused."""
        keeper, self._keeper = self._keeper, None
        if self._connection is not None:
            self._connection.transport.abort()
        for timer in (self._deadline, self._linger):
            if timer is not None:
                timer.cancel()
        for pending in list(self._pending.values()):
            self._give_up(pending)
        if keeper is not None:
            keeper.cancel()
            await asyncio.wait([keeper])

    # --- what the worker asks and says ---

    def reserve(self, peer: bytes, connection: int, ip: str, done: Callable[[Granted | Refused], None]) -> None:
        """Asks for a reservation of `peer` on `connection`."""
        if self._ask(Reserve(self._next_request, peer, connection, ip), done):
            self._last_reserve[connection] = self._next_request
        self._next_request += 1

    def release(self, peer: bytes, connection: int) -> None:
        """The reservation of `peer` has ended, if `connection` still holds it."""
        self._send(Release(peer, connection))

    def open_circuit(
        self, source: bytes, target: bytes, source_ip: str, done: Callable[[CircuitGranted | Refused], None]
    ) -> None:
        """Asks for a circuit from `source`, a peer of this worker, to `target`, wherever it is."""
        self._ask(OpenCircuit(self._next_request, source, target, source_ip), done)
        self._next_request += 1

    def close_circuit(self, circuit: int) -> None:
        """A circuit that was granted has ended, or was not opened."""
        self._send(CloseCircuit(circuit))

    def connected(self, connection: int, ip: str, token: str = "") -> None:
        """A connection was accepted; `on_evict` follows if it may not stay.

        It rides along with what is sent next, which for most connections is their Reserve a few milliseconds later:
        a write of its own would be a third of all that a connection makes a worker write to the registry.
        """
        self._send_later(Connected(connection, ip, token))

    def disconnected(self, connection: int, *, held: bool = True) -> None:
        """A connection has ended, and with it the reservation on it; `held`: it may have one.

        Without one there is nothing to free but a count that is a moment late as it is, so it waits for company.
        """
        if held:
            self._send(Disconnected(connection))
        else:
            self._send_later(Disconnected(connection))

    def _send_later(self, message: Connected | Disconnected) -> None:
        if self._connection is None:
            return
        if self._flushing or len(self._out) >= _LINGERING:
            self._send(message)
            return
        self._out.append(message)
        if self._linger is None:
            self._linger = self._loop.call_later(_LINGER_S, self._flush)

    def _ask(self, request: Reserve | OpenCircuit, done: Callable[[Any], None]) -> bool:
        if self._keeper is None or len(self._pending) + len(self._late) >= self._max_pending:
            self._loop.call_soon(done, Refused(request.request, Reason.REGISTRY_UNAVAILABLE))
            return False
        self._pending[request.request] = _Pending(request, done, self._clock() + self._answer_s)
        if self._deadline is None:
            self._deadline = self._loop.call_later(self._answer_s, self._refuse_overdue)
        self._send(request)
        return True

    def _send(self, message: FromWorker) -> None:
        if self._connection is None:
            return  # requests are asked again on the next connection; all else its Hello tells
        self._out.append(message)
        if not self._flushing:
            self._flushing = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._flushing = False
        if self._linger is not None:
            self._linger.cancel()
            self._linger = None
        if self._out and self._connection is not None and not self._connection.transport.is_closing():
            self._connection.transport.write(encode_frames(self._out))
        self._out.clear()

    # --- what the registry says ---

    def take(self, message: FromRegistry) -> None:
        """One message of the registry."""
        if isinstance(message, Evict):
            self._call(self._on_evict, message)
        elif isinstance(message, Superseded):
            self._call(self._on_superseded, message)
        elif isinstance(message, Ask):
            self._call(self._tell, message)
        elif (pending := self._pending.pop(message.request, None)) is not None:
            if isinstance(pending.request, Reserve):
                self._unclaimed.discard(pending.request.connection)
                self._is_last_reserve(pending.request)
            self._call(pending.done, message)
        elif (request := self._late.pop(message.request, None)) is not None:
            self._give_back(request, message)

    def _tell(self, ask: Ask) -> None:
        """What the worker holds, behind all that it has said so far."""
        if not ask.whole:
            self._send(self._tally())
            return
        for part in in_parts(self._declare()):
            self._send(Inventory(*part))

    def _is_last_reserve(self, request: Reserve) -> bool:
        """Whether no later Reserve of its connection is unanswered; `request` itself is answered now."""
        last = self._last_reserve.get(request.connection) == request.request
        if last:
            del self._last_reserve[request.connection]
        return last

    def _give_back(self, request: Reserve | OpenCircuit, answer: Granted | CircuitGranted | Refused) -> None:
        """The worker was told no already, so what is granted now has no holder."""
        if isinstance(answer, CircuitGranted):
            self._send(CloseCircuit(answer.circuit))
        if not isinstance(request, Reserve):
            return
        if isinstance(answer, Granted) and not answer.replaced:
            self._unclaimed.add(request.connection)
        # A renewal that came late leaves the peer what it had; what a later Reserve may claim is not taken from it.
        if self._is_last_reserve(request) and request.connection in self._unclaimed:
            self._unclaimed.discard(request.connection)
            self._send(Release(request.peer, request.connection))

    def _call(self, callback: Callable[[Any], None], message: FromRegistry) -> None:
        """A fault in what one peer's answer sets off must not take the others' answers with it."""
        try:
            callback(message)
        except Exception as error:
            end_without_memory(error)
            _logger.exception("fault after an answer of the registry", answer=repr(message))

    # --- deadlines ---

    def _refuse_overdue(self) -> None:
        self._deadline = None
        now = self._clock()
        for pending in list(takewhile(lambda pending: pending.deadline_s <= now, self._pending.values())):
            if self._connection is not None:
                self._late[pending.request.request] = pending.request
            self._give_up(pending)
        if self._pending and self._deadline is None:
            oldest = next(iter(self._pending.values()))
            self._deadline = self._loop.call_later(max(0.0, oldest.deadline_s - now), self._refuse_overdue)

    def _give_up(self, pending: _Pending) -> None:
        del self._pending[pending.request.request]
        self._call(pending.done, Refused(pending.request.request, Reason.REGISTRY_UNAVAILABLE))

    # --- the connection ---

    async def _stay_connected(self) -> None:
        pause_s = 0.0
        while True:
            await asyncio.sleep(pause_s)
            since_s = self._clock()
            lost = self._loop.create_future()
            try:
                await self._loop.create_unix_connection(lambda lost=lost: _Connection(self, lost), self._path)  # type: ignore[misc]
                await lost
            except OSError as error:
                _logger.debug("registry not reached", error=str(error))
            except Exception:
                _logger.exception("registry link fault", worker=self._worker_name)
            stable = self._clock() - since_s >= _STABLE_S
            pause_s = 0.0 if stable else min(max(2 * pause_s, _FIRST_PAUSE_S), _LONGEST_PAUSE_S)

    def connection_made(self, connection: _Connection) -> None:
        """A registry hears us: it is told what is held, then asked all that is pending."""
        self._connection = connection
        asked = [pending.request for pending in self._pending.values()]
        self._last_reserve = {each.connection: each.request for each in asked if isinstance(each, Reserve)}
        connection.transport.write(encode_frames([*self._declaration(), *asked]))
        _logger.info("registry reached", worker=self._worker_name, pending=len(asked))

    def connection_lost(self, connection: _Connection) -> None:
        """The registry hears us no more, and owes no answer any more."""
        if self._connection is connection:
            self._connection = None
            self._late.clear()
            self._unclaimed.clear()

    def _declaration(self) -> Iterator[FromWorker]:
        """What the worker holds, in parts."""
        whole = self._declare()
        parts = in_parts(whole)
        yield Hello(self._worker_name, whole.pid, *next(parts))
        for part in parts:
            yield Declare(*part)
