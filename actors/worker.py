"""A worker: everything that one listener process holds, put together.

Peers, their reservations, the circuits whose source is here, the links to the registry and to the other workers, one
wheel of deadlines. Must never decide what the registry decides; what may be decided here needs no other worker
(access rules, pending handshakes).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from http import HTTPStatus
from importlib.metadata import version
from typing import Final, cast

from actors import histograms, identify, log, metrics
from actors.admission import Admission
from actors.audit import tally
from actors.blame import of_peer
from actors.board import Board, BoardRow
from actors.call import Answer, Call
from actors.circuit import End, Splice
from actors.circuit_table import CircuitTable
from actors.deadlines import SLOT_S, Deadlines
from actors.drain import Draining
from actors.ebb import Ebb
from actors.limits import Reason
from actors.line_limit import LineLimit
from actors.messages import Boot, Drain
from actors.peer import PROTOCOLS, LimitError, Peer
from actors.process import end_without_memory
from actors.proto.circuit_pb2 import HopMessage, Limit, Reservation, Status
from actors.query_protocol import socket_path
from actors.query_server import QueryServer
from actors.registry_link import RegistryLink
from actors.registry_protocol import CircuitGranted, Evict, Held, Hello, Superseded, Tally
from actors.stop import StopCall
from actors.sweep import Sweep
from actors.voucher import reservation_voucher
from actors.worker_link import Request, WorkerLinks
from transports.address import multiaddr_bytes, with_peer
from transports.errors import PeerError
from transports.identity import HostKey
from transports.noise import Role, StaticKey
from transports.upgrade import MUXERS, Connection
from transports.varint import delimited
from transports.wire import Flusher, Wire
from transports.yamux import GoAway, Stream

SPLICE_GRACE_S: Final = 2.0
_OK: Final = Status.OK  # protobuf makes its enumerations' values anew at each look-up, for as much as a whole message
_REFUSED_WITH: Final = {
    Reason.CONNECTION_RATE_PER_IP: HTTPStatus.TOO_MANY_REQUESTS,
    Reason.TOKEN_MISSING: HTTPStatus.UNAUTHORIZED,
    Reason.TOKEN_UNKNOWN: HTTPStatus.UNAUTHORIZED,
    Reason.TOKEN_EXPIRED: HTTPStatus.UNAUTHORIZED,
}
ANSWERS_KEPT: Final = 256
PUSHES_AT_ONCE: Final = 16
"""Of 20,000 peers, the last hears of other addresses after 12 s; the loop is busy for a millisecond in ten."""
Lagging = Callable[[BoardRow, float, float], None]
"""The worker's row, the time, and by how much the tick comes too late."""
AGENT_VERSION: Final = f"frost-relay/{version('frost-relay')}"

_logger = log.get_logger("worker")


class Worker:
    """One worker of the relay. `transport` is how its peers come: tcp, ws or wss; `lagging` hears how late it is."""

    def __init__(self, boot: Boot, loop: asyncio.AbstractEventLoop, transport: str, lagging: Lagging) -> None:
        self.boot = boot
        self.name = boot.slot.name
        self.transport = transport
        self.loop = loop
        self.now_s = time.monotonic()
        self.board = Board.attach(boot.board_fd)
        self.row = self.board.row(boot.slot.index)
        self.deadlines = Deadlines(self.now_s, self.fault)
        blame, place = self.board.blame, self.board.blame.place(boot.slot.index)
        self.flusher = Flusher(loop, self.fault, self.board.memory, place)
        self._blamed = blame.changes
        self.lines = LineLimit()
        self._ebb = Ebb()
        self.peers: dict[int, Peer] = {}
        self.circuits = CircuitTable(self)
        self._next_connection = 1
        watchers = [self.board.row(slot.index) for slot in boot.slots if slot.role == "admin"]
        self.admission = Admission(boot, self.board, self._all_rows(boot), watchers)
        self._lagging = lagging
        self._tick: asyncio.TimerHandle | None = None
        self._tick_due_s = self.now_s
        self._all_gone: asyncio.Event | None = None
        self._host = HostKey.from_seed(boot.host_seed)
        self.static_key = StaticKey(self._host, MUXERS)
        self._sweep: Sweep[Peer] = Sweep(loop, (), self._look_again)
        self._pushes: Sweep[Peer] = Sweep(loop, (), Peer.push_identify)
        self.draining: Draining | None = None
        self._live_by(boot)
        self.registry = RegistryLink(
            f"{boot.runtime_dir}/registry.sock",
            self.name,
            self._declare,
            self._tally,
            self._evicted,
            self._superseded,
            loop,
            time.monotonic,
        )
        self.queries = QueryServer(self, loop)
        self.links = WorkerLinks(self, loop, self.flusher, self._link_path)

    def _all_rows(self, boot: Boot) -> list[BoardRow]:
        """Of all workers there are."""
        return [self.board.row(slot.index) for slot in boot.slots if slot.role == "listener"]

    def _link_path(self, name: str) -> str:
        return f"{self.boot.runtime_dir}/link-{next(s.index for s in self.boot.slots if s.name == name)}.sock"

    def update(self, boot: Boot) -> None:
        """Live by other settings. Whoever is here and still allowed stays, also above a limit that is lower now."""
        self.admission.live_by(boot)
        self.admission.rows = self._all_rows(boot)
        before = self.boot.announced
        self._live_by(boot)
        self._look_at_all()
        if boot.announced != before:
            self._pushes.cancel()
            self._pushes = Sweep(self.loop, self.peers.values(), Peer.push_identify, PUSHES_AT_ONCE)

    def drain(self, order: Drain) -> None:
        """Serve those who are here until the end, and take in nobody else."""
        self.clock()
        self.draining = Draining(self, order)

    def busy_peers(self) -> int:
        """Peers with a circuit, calls that are under way, and peers that have yet to hear of other addresses."""
        return len(self.circuits.granted) + sum(peer.in_circuit for peer in self.peers.values()) + self._pushes.left

    def _look_at_all(self) -> None:
        self._sweep.cancel()
        self._sweep = Sweep(self.loop, self.peers.values(), self._look_again)

    def _look_again(self, peer: Peer) -> None:
        """A peer that was here before the settings changed, or before a token ended."""
        if peer.wire.closing:
            return
        peer.connection.limit_streams(self.settings.limits.max_streams_per_connection)
        reason = self.admission.expelled(peer)
        if self.board.blame.denies(peer.wire.label, self.now_s):
            reason = Reason.CRASHED_WORKERS
        if reason:
            peer.wire.close(LimitError(reason))

    def _live_by(self, boot: Boot) -> None:
        """Settings and announced addresses, and what is made of them."""
        self.boot = boot
        self.settings = boot.settings
        self._prepare_answers()

    def _prepare_answers(self) -> None:
        """What every peer is told alike, serialized once."""
        limits, host = self.settings.limits, self._host
        addresses = [multiaddr_bytes(text) for text in self.boot.announced]
        self.addresses = [with_peer(address, host.peer_id) for address in addresses]
        sequence = self.boot.first_record + self.boot.number  # not the clock's, which may be set back
        self.identify = identify.IdentifyAnswer(host, addresses, PROTOCOLS, AGENT_VERSION, sequence)
        self.limit: Limit | None = None
        if limits.circuit_duration_s or limits.circuit_bytes:
            self.limit = Limit()
            if limits.circuit_duration_s:
                self.limit.duration = int(limits.circuit_duration_s)
            if limits.circuit_bytes:
                self.limit.data = limits.circuit_bytes
        ok = HopMessage(type=HopMessage.STATUS, status=_OK, limit=self.limit)
        self._answers: dict[bytes, tuple[int, bytes]] = {}  # peer -> until when in Unix time, and what it was told
        self.connect_answer = delimited(ok.SerializeToString())

    async def start(self) -> None:
        """Reach the registry and be reachable for the other workers."""
        self.registry.start()
        await self.links.serve(self.name)
        await self.queries.serve(socket_path(self.boot.runtime_dir, self.boot.slot.index))
        self._tick_due_s = self.clock()
        self._advance()

    async def stop(self) -> None:
        """Say goodbye to every peer, and wait until it is said. Whoever calls this bounds the wait."""
        if self._tick is not None:
            self._tick.cancel()
        self._sweep.cancel()
        self._pushes.cancel()
        self.circuits.finish(End.DRAIN)
        for peer in list(self.peers.values()):
            peer.wire.close(None, GoAway.NORMAL)
        if self.peers:
            self._all_gone = asyncio.Event()
            await self._all_gone.wait()
        self.links.close()
        self.queries.close()
        await self.registry.stop()

    def clock(self) -> float:
        """CLOCK_MONOTONIC in seconds; `now_s` keeps the latest reading, for those who need it to the moment only."""
        self.now_s = now_s = time.monotonic()
        return now_s

    def _advance(self) -> None:
        now_s = self.clock()
        self._lagging(self.row, now_s, now_s - self._tick_due_s)
        self._tick_due_s = now_s + SLOT_S
        self.deadlines.advance(now_s)
        self.lines.report(self.now_s, _say_suppressed)
        self._ebb.look(len(self.peers), short=self.admission.shortage() is Reason.MEMORY_SHORT)
        self.admission.report()
        if not self._sweep.left and self.admission.a_token_has_ended():
            self._look_at_all()
        if self._blamed != self.board.blame.changes:  # somebody is denied who may be here
            self._blamed = self.board.blame.changes
            self._look_at_all()
        self._tick = self.loop.call_later(SLOT_S, self._advance)

    # Peers

    def accept(self, wire: Wire) -> None:
        """A new socket: it gets an owner, with a deadline over all that follows, before a byte is read."""
        self.clock()
        peer = Peer(self, wire, self._next_connection, self.transport, self.settings.limits.handshake_timeout_s)
        self._next_connection += 1
        wire.owner = peer
        wire.endpoint = peer.connection
        self.peers[peer.id] = peer
        self.row.connections += 1
        metrics.CONNECTIONS.labels(self.transport).inc()
        if reason := self.admission.shortage():
            wire.abort(LimitError(reason))

    def arrived(self, wire: Wire, ip: str, port: int, secret: str = "") -> HTTPStatus | None:
        """Behind a web proxy it is known only now whose connection it is. Counted by the registry from here on.

        Refused, it is ended; the status is for a request that can still be answered.
        """
        reason = self.admission.admit(wire, ip, port, secret, self.now_s)
        if reason is not None:
            return self.refuse(wire, reason)
        peer = cast("Peer", wire.owner)
        self.registry.connected(peer.id, peer.counted_as, peer.token)
        return None

    def refuse(self, wire: Wire, reason: Reason) -> HTTPStatus:
        """Take nothing from a connection that may not come in; a WebSocket client is told by the status."""
        wire.refuse(LimitError(reason))
        return _REFUSED_WITH.get(reason, HTTPStatus.FORBIDDEN)

    def new_connection(self, peer: Peer, wake: Callable[[], None]) -> Connection:
        """The protocol stack of a new peer."""
        limits = self.settings.limits
        return Connection(Role.RESPONDER, self.static_key, peer, wake, PROTOCOLS, limits.max_streams_per_connection)

    def handshake_done(self, peer: Peer) -> None:
        """The peer is authenticated. Raises LimitError for one of whose bytes workers have died."""
        self.admission.upgraded(peer)
        metrics.HANDSHAKES.labels("ok").inc()
        histograms.HANDSHAKE.observe(self.row, self.now_s - peer.since_s)
        if _logger.debugs:  # a peer's name is 8 µs of base58 the first time
            _logger.debug("connected", peer=peer.name, address=peer.address, transport=self.transport)
        peer.wire.label = self.flusher.memory[self.flusher.place] = of_peer(peer.key)
        if self.board.blame.denies(peer.wire.label, self.now_s):
            raise LimitError(Reason.CRASHED_WORKERS)  # before what it has sent behind the handshake is looked at

    def peer_lost(self, peer: Peer, error: Exception | None) -> None:
        """The peer's socket is closed; `error` says why when it was not a goodbye."""
        del self.peers[peer.id]
        if self._all_gone is not None and not self.peers:
            self._all_gone.set()
        self.row.connections -= 1
        self.registry.disconnected(peer.id, held=bool(peer.reserved_until_s))
        reason = self._reason(error)
        if not peer.key:
            self.admission.left_early(peer, unsaid=error is None)
            metrics.HANDSHAKES.labels(reason).inc()
        metrics.CONNECTIONS_ENDED.labels(reason).inc()
        if isinstance(error, LimitError):
            metrics.REFUSALS.labels(reason).inc()
            peer.log_refusal("connection", Reason(reason))
        elif isinstance(error, PeerError):
            metrics.PEER_ERRORS.labels(reason).inc()
            if self.lines.allows(reason, self.now_s):
                _logger.info("peer erred", reason=reason, error=str(error), peer=peer.name, address=peer.address)
        elif error is not None:
            self.fault(error)
        elif _logger.debugs:
            _logger.debug("disconnected", peer=peer.name, address=peer.address)

    @staticmethod
    def _reason(error: Exception | None) -> str:
        if error is None:
            return "closed"
        return error.reason if isinstance(error, PeerError) else "fault"

    # Reservations

    def reservation_answer(self, peer: bytes, expires_s: float) -> bytes:
        """The delimited STATUS OK for a RESERVE: until when, where, the voucher and the limits of circuits.

        Who asks again within the second gets the same: renewals have no rate, and a signature is dear.
        """
        expire_unix_s = int(time.time() + expires_s - time.monotonic())
        known = self._answers.get(peer)
        if known is not None and known[0] == expire_unix_s:
            return known[1]
        reservation = Reservation(
            expire=expire_unix_s,
            addrs=self.addresses,
            voucher=reservation_voucher(self._host, peer, expire_unix_s),
        )
        message = HopMessage(type=HopMessage.STATUS, status=_OK, reservation=reservation, limit=self.limit)
        answer = delimited(message.SerializeToString())
        if len(self._answers) >= ANSWERS_KEPT:
            self._answers.clear()
        self._answers[peer] = expire_unix_s, answer
        return answer

    def _declare(self) -> Hello:
        """Everything that a new registry must know of this worker."""
        return Hello(
            self.name,
            self.row.pid,
            [Held(p.key, p.id, p.counted_as, p.reserved_until_s) for p in self.peers.values() if p.reserved_until_s],
            [owned.held for owned in self.circuits.granted.values()],
            [(peer.id, peer.counted_as) for peer in self.peers.values() if peer.counted_as],
            tokens=[(peer.id, peer.token) for peer in self.peers.values() if peer.token],
        )

    def _tally(self) -> Tally:
        """How much of that there is (0.8 ms for 10,000 peers)."""
        peers = self.peers.values()
        reserved = [peer.id for peer in peers if peer.reserved_until_s]
        return tally(reserved, self.circuits.granted, [peer.id for peer in peers if peer.counted_as])

    def _evicted(self, evict: Evict) -> None:
        peer = self.peers.get(evict.connection)
        if peer is not None:
            self.end_peer(peer, Reason(evict.reason))

    def end_peer(self, peer: Peer, reason: Reason) -> None:
        """Close a connection that has done nothing wrong, for a reason of ours."""
        peer.wire.close(LimitError(reason))

    def _superseded(self, notice: Superseded) -> None:
        peer = self.peers.get(notice.connection)
        if peer is not None and peer.key == notice.peer:
            peer.forget_reservation()

    # Calls

    def call(self, granted: CircuitGranted, source: bytes, target: bytes, answer: Answer) -> Call | None:
        """Call the target, wherever its connection is; None when the answer is already given."""
        if granted.worker == self.name:
            return self.call_local(granted.connection, source, target, answer)
        return self.links.call(granted.worker, Request(granted.connection, source, target), answer)

    def call_local(self, connection: int, source: bytes, target: bytes, answer: Answer) -> Call | None:
        """Call a target that is connected to this worker."""
        peer = self.peers.get(connection)
        if peer is None or peer.key != target or peer.wire.closing:
            answer(Reason.TARGET_GONE, b"")
            return None
        return StopCall(peer.connection, source, self.limit, self.deadlines, self.now_s, answer)

    def splice(self, link: Stream, target: Stream, early: bytes | bytearray, first: bytes) -> None:
        """Our part of a circuit whose source is in another worker: not counted here, but it ends in time too."""
        limits = self.settings.limits
        # Later than the CircuitActor, which counts and logs why a circuit ended; a reset from here would hide it.
        idle_timeout_s = limits.circuit_idle_timeout_s + SPLICE_GRACE_S
        duration_s = limits.circuit_duration_s + SPLICE_GRACE_S if limits.circuit_duration_s else 0.0
        Splice(self, link, target, duration_s=duration_s, idle_timeout_s=idle_timeout_s).join(early, first)

    def fault(self, error: Exception) -> None:
        """A fault of ours: logged with its stack, and whatever it hit has been ended."""
        end_without_memory(error)
        metrics.FAULTS.inc()
        _logger.error("fault", exc_info=(type(error), error, error.__traceback__))


def _say_suppressed(reason: str, count: int) -> None:
    _logger.info("lines suppressed", reason=reason, count=count)
