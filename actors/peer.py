"""One connected peer: its connection, its reservation, its sign of life.

Owns what belongs to the connection and ends it: handshake deadline, keep-alive, the reservation held on it. Decisions
about reservations and circuits are made in hop.py and by the registry. Must never outlive its wire.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from actors import hop, identify, log, metrics, ping
from actors.circuit import Leg
from actors.deadlines import Deadline
from actors.limits import Reason, limit_of
from actors.proto.identify_pb2 import Identify
from actors.registry_protocol import Granted
from actors.stop import StopCall
from transports.address import observed_address
from transports.errors import PeerError
from transports.identity import peer_id_text
from transports.wire import Wire
from transports.yamux import GoAway, Stream, StreamHandler

if TYPE_CHECKING:
    from actors.worker import Worker

ASK_LATEST_S: Final = 1.0
"""When a peer that asks for nothing is asked who it is. Applications of rust wait to be asked; up to 3 s are fine."""
KEEPALIVE_S: Final = 30.0
PONG_TIMEOUT_S: Final = 40.0
LEAVING_S: Final = 1.0
"""How often it is looked whether the circuits of a peer that said goodbye have ended."""

_logger = log.get_logger("peer")


class LimitError(PeerError):
    """The connection is ended for a limit or rule; `reason` is the Reason's value."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(reason.value)
        self.reason = reason.value  # type: ignore[misc]  # a constant of the other errors, but one of many here


class SilentError(PeerError):
    """The peer does not answer pings any more."""

    reason = "ping_timeout"


class Peer:
    """A connection from accept to end; the owner of its wire and of its Connection.

    `key` is the authenticated peer ID (empty before the upgrade), `id` the connection's number in this worker.
    """

    __slots__ = (
        "_asked",
        "_deadline",
        "_pinged",
        "_reservation_deadline",
        "_takes_push",
        "agent",
        "connected",
        "connection",
        "counted_as",
        "id",
        "ip",
        "key",
        "port",
        "reserved_until_s",
        "since_s",
        "token",
        "transport",
        "wire",
        "worker",
    )

    def __init__(self, worker: Worker, wire: Wire, connection_id: int, transport: str, timeout_s: float) -> None:
        self.worker = worker
        self.wire = wire
        self.id = connection_id
        self.transport = transport
        self.ip = wire.ip  # the proxy's until it has said for whom it speaks
        self.port = wire.port
        self.counted_as = ""  # its share of what is limited per IP; "": not counted yet
        self.token = ""  # the name of the one it came with
        self.key = b""
        self.agent = ""
        self._takes_push = False
        self.connected = True
        self.since_s = worker.now_s
        self.reserved_until_s = 0.0
        self._reservation_deadline: Deadline | None = None
        self._asked = False
        self._pinged = False
        self.connection = worker.new_connection(self, wire.wake)
        self._deadline = worker.deadlines.at(worker.now_s + timeout_s, self._handshake_timed_out)

    @property
    def name(self) -> str:
        """The peer ID as people know it, or nothing before the upgrade."""
        return peer_id_text(self.key) if self.key else ""

    @property
    def address(self) -> str:
        """Where the peer comes from, for the log."""
        return f"[{self.ip}]:{self.port}" if ":" in self.ip else f"{self.ip}:{self.port}"

    # The connection's events

    def upgraded(self) -> None:
        """The peer has a name; begin to look after it."""
        worker = self.worker
        self.key = self.connection.peer
        self._deadline.cancel()
        self._deadline = worker.deadlines.at(worker.now_s + ASK_LATEST_S, self._begin_keep_alive)
        worker.handshake_done(self)

    def protocol_opened(self, protocol: bytes, stream: Stream) -> StreamHandler:
        """The peer asks for one of PROTOCOLS. Our own question rides along with the first answer: a write less."""
        self._ask()
        return _OPENERS[protocol](self, stream)

    def _ask(self) -> None:
        """Ask the peer who it is, once."""
        if not self._asked:
            self._asked = True
            ask = identify.HearStream(self.learned)
            ask.stream = self.connection.open_stream(identify.PROTOCOL, ask)

    def _begin_keep_alive(self) -> None:
        self._ask()
        worker = self.worker
        # Spread over half a period, so that peers that came together are not pinged together for ever.
        first_s = KEEPALIVE_S * random.uniform(0.5, 1.0)  # noqa: S311 - nothing secret
        self._deadline = worker.deadlines.at(worker.now_s + first_s, self._keep_alive)

    def peer_erred(self, error: PeerError) -> None:
        """A stream was reset for the peer's fault."""
        metrics.PEER_ERRORS.labels(error.reason).inc()
        if self.worker.lines.allows(error.reason, self.worker.now_s):
            _logger.info("stream erred", reason=error.reason, error=str(error), peer=self.name, address=self.address)

    def go_away_received(self, code: int) -> None:
        """The peer leaves, as js does, which leaves the socket open: close it once its circuits have ended.

        The reservation is free at once.
        """
        self._release()
        self._leave()

    @property
    def in_circuit(self) -> bool:
        """Whether a stream of this peer is one end of a circuit, or a call that it has not answered yet."""
        session = self.connection.session
        return session is not None and any(
            isinstance(each.handler, Leg | StopCall) for each in session.streams.values()
        )

    def _leave(self) -> None:
        if self.in_circuit:
            self._deadline.cancel()
            self._deadline = self.worker.deadlines.at(self.worker.now_s + LEAVING_S, self._leave)
        else:
            self.wire.close(code=None)

    def pong_received(self) -> None:
        """A sign of life."""
        self._pinged = False

    def wire_lost(self, error: Exception | None) -> None:
        """The socket is gone; nothing of this peer stays."""
        self.connected = False
        self._deadline.cancel()
        self.worker.peer_lost(self, error)
        self.forget_reservation()  # the registry frees it with the connection

    # Reservation

    def hold_reservation(self, granted: Granted) -> None:
        """The registry granted or renewed; until it expires, or this connection ends, or another takes it over."""
        worker = self.worker
        new = not self.reserved_until_s
        if new:
            worker.row.reservations += 1
            metrics.RESERVATIONS.labels("renewed" if granted.replaced else "new").inc()
            _logger.info("reservation granted", peer=self.name, address=self.address, transport=self.transport)
        else:
            metrics.RESERVATIONS.labels("renewed").inc()
        self.reserved_until_s = granted.expires_s
        if self._reservation_deadline is not None:
            self._reservation_deadline.cancel()
        self._reservation_deadline = worker.deadlines.at(granted.expires_s, self._reservation_expired)

    def forget_reservation(self) -> None:
        """The registry has given it to another connection, or it has expired there."""
        if self.reserved_until_s:
            self.reserved_until_s = 0.0
            self.worker.row.reservations -= 1
            if self._reservation_deadline is not None:
                self._reservation_deadline.cancel()
                self._reservation_deadline = None

    def _reservation_expired(self) -> None:
        _logger.info("reservation expired", peer=self.name, address=self.address)
        self.forget_reservation()

    def _release(self) -> None:
        if self.reserved_until_s:
            self.forget_reservation()
            self.worker.registry.release(self.key, self.id)

    # Log, deadlines

    def log_refusal(self, asked: str, reason: Reason, **details: object) -> None:
        """One line for each refusal, with all that finds the one refused and the limit that it met."""
        worker = self.worker
        if not worker.lines.allows(reason.value, worker.now_s):
            return
        if self.token:
            details["token"] = self.token
        limit = limit_of(reason, worker.settings.limits)
        _logger.info(
            "refused", asked=asked, reason=reason.value, peer=self.name, address=self.address, **limit, **details
        )

    def _handshake_timed_out(self) -> None:
        self.wire.close(LimitError(Reason.HANDSHAKE_TIMEOUT))

    def _keep_alive(self) -> None:
        """A ping every KEEPALIVE_S keeps proxies from cutting an idle connection; one unanswered ends it."""
        worker, session = self.worker, self.connection.session
        if session is None:
            return
        if self._pinged is False:
            self._pinged = True
            session.ping(self.id & 0xFFFFFFFF)
            self._deadline = worker.deadlines.at(worker.now_s + KEEPALIVE_S, self._pong_due)
        else:
            self.wire.close(SilentError(f"no pong for {PONG_TIMEOUT_S:.0f} s"), GoAway.NORMAL)

    def _pong_due(self) -> None:
        if self._pinged:
            worker = self.worker
            self._deadline = worker.deadlines.at(worker.now_s + PONG_TIMEOUT_S - KEEPALIVE_S, self._keep_alive)
        else:
            self._keep_alive()

    def learned(self, message: Identify) -> None:
        """The peer has said who it is, or what has changed of it."""
        if message.HasField("agentVersion"):
            self.agent = identify.agent_of(message)
        if message.protocols:
            self._takes_push = identify.takes_push(message)

    def push_identify(self) -> None:
        """Tell a peer that wants to know that our addresses have changed."""
        if not self._takes_push or self.wire.closing:
            return
        told = identify.ToldStream()
        told.stream = self.connection.open_stream(identify.PUSH_PROTOCOL, told, self.identify_frame())
        told.stream.close()

    def identify_frame(self) -> bytes:
        """Who we are, and where the peer is seen."""
        observed = observed_address(self.ip, self.port, self.transport != "tcp", self.transport == "wss")
        return self.worker.identify.frame(observed)


def _open_identify(peer: Peer, stream: Stream) -> StreamHandler:
    stream.write(peer.identify_frame())
    stream.close()
    told = identify.ToldStream()
    told.stream = stream
    return told


def _open_push(peer: Peer, stream: Stream) -> StreamHandler:
    heard = identify.HearStream(peer.learned)
    heard.stream = stream
    return heard


def _open_ping(_peer: Peer, stream: Stream) -> StreamHandler:
    return ping.PingStream(stream)


_OPENERS: Final[dict[bytes, Callable[[Peer, Stream], StreamHandler]]] = {
    identify.PROTOCOL: _open_identify,
    identify.PUSH_PROTOCOL: _open_push,
    ping.PROTOCOL: _open_ping,
    hop.PROTOCOL: hop.HopStream,
}
PROTOCOLS: Final = tuple(_OPENERS)
"""What a peer may ask this relay for."""
