"""What is granted: the one table of reservations, circuits and connections of all workers.

Every decision is one chain of checks, one a line, each with its reason, and costs the same whatever the number of
peers. No I/O and no clock: `now` is passed in (seconds, CLOCK_MONOTONIC). It must never grant twice for one slot and
never keep what its holder has lost: a slot comes back when the connection, the circuit, the time or the worker ends.
A new registry believes what workers declare, even above its limits, because the one before it granted that.

Rules: relay/circuit-v2.md, 'Reservation' and 'Circuit opening'. Not checked here: access rules, which need no table.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from typing import Final, NamedTuple

from actors.expiry import ExpiryCalendar, whole_second
from actors.holdings import Circuit, Counts, Reservation, Worker
from actors.limits import RateLimiter, Reason
from actors.registry_protocol import Held, HeldCircuit, Superseded
from actors.tokens import Token, Tokens
from config.settings import Limits

_EXPIRED_PER_REQUEST: Final = 8
"""Expired reservations that a request clears away before it is decided, so that they take nobody's place."""

_REVOKED: Final = Token(name="revoked", secret="")

_BUCKETS_PER_PASS: Final = 64
"""Full token buckets of each limiter that one pass of `expire` forgets."""


class Grant(NamedTuple):
    """A reservation was granted until `expires_s`; `replaced`: the peer had a live one, which this one continues."""

    expires_s: int
    replaced: bool


class CircuitGrant(NamedTuple):
    """A circuit was granted; the target's reservation is held by `connection` of `worker`."""

    circuit: int
    worker: str
    connection: int


class Registry:
    """The table. Workers are named by their slot; each must `join` before anything is asked or said in its name.

    `notices` collects what other workers than the asking one must be told; who drives the registry sends and clears it.
    `workers` is for reading (actors/audit.py).
    """

    def __init__(self, limits: Limits, epoch: int | None = None, tokens: Tokens | None = None) -> None:
        self.notices: list[tuple[str, Superseded]] = []
        self._limits = limits
        self.workers: dict[str, Worker] = {}
        # Circuit ids must not come again after a restart: 31 random bits, then a counter.
        self._next_circuit = (secrets.randbits(31) if epoch is None else epoch) << 32
        self._reservations: dict[bytes, Reservation] = {}
        self._calendar: ExpiryCalendar[Reservation] = ExpiryCalendar()
        self._reservations_of_ip: Counts[str] = Counts()
        self._circuit_count = 0
        self._circuits_of_source: Counts[bytes] = Counts()
        self._circuits_of_target: Counts[bytes] = Counts()
        self._connection_count = 0
        self._connections_of_ip: Counts[str] = Counts()
        self._tokens = tokens
        self._connections_of_token: Counts[str] = Counts()
        self._reservations_of_token: Counts[str] = Counts()
        self._reservation_rate_of_peer: RateLimiter[bytes] = RateLimiter(limits.reservation_rate_per_peer)
        self._reservation_rate_of_ip: RateLimiter[str] = RateLimiter(limits.reservation_rate_per_ip)
        self._circuit_rate_of_peer: RateLimiter[bytes] = RateLimiter(limits.circuit_rate_per_peer)
        self._circuit_rate_of_ip: RateLimiter[str] = RateLimiter(limits.circuit_rate_per_ip)

    @property
    def reservation_count(self) -> int:
        """Reservations held, with those that have expired but were not cleared away yet."""
        return len(self._reservations)

    @property
    def circuit_count(self) -> int:
        """Circuits open in all workers."""
        return self._circuit_count

    @property
    def connection_count(self) -> int:
        """Connections counted in all workers."""
        return self._connection_count

    def change_limits(self, limits: Limits, now: float) -> None:
        """Other limits from now on. What is held stays, also above them; what was asked is still charged."""
        if limits == self._limits:
            return
        self._limits = limits
        self._reservation_rate_of_peer.change(limits.reservation_rate_per_peer, now)
        self._reservation_rate_of_ip.change(limits.reservation_rate_per_ip, now)
        self._circuit_rate_of_peer.change(limits.circuit_rate_per_peer, now)
        self._circuit_rate_of_ip.change(limits.circuit_rate_per_ip, now)

    def change_tokens(self, tokens: Tokens) -> None:
        """Other tokens from now on. What their peers hold stays, also above a limit that is lower now."""
        self._tokens = tokens

    # --- reservations ---

    def reserve(self, worker: str, peer: bytes, connection: int, ip: str, now: float) -> Grant | Reason:
        """A reservation for `peer`, or the reason why not. The peer's connection that held one before is superseded."""
        self._clear_expired(now, _EXPIRED_PER_REQUEST)
        held = self._live(peer, now)
        if held is None:
            reason = self._refuse_reservation(peer, ip, self.workers[worker].tokens.get(connection, ""), now)
            if reason is not None:
                return reason
            self._reservation_rate_of_peer.charge(peer, now)
            self._reservation_rate_of_ip.charge(ip, now)
        else:
            self._end_reservation(held)
            if held.connection != connection or held.worker.name != worker:
                self.notices.append((held.worker.name, Superseded(peer, held.connection)))
        expires_s = whole_second(now + self._limits.reservation_ttl_s)
        self._hold(Reservation(peer, self.workers[worker], connection, ip, expires_s))
        return Grant(expires_s, replaced=held is not None)

    def _refuse_reservation(self, peer: bytes, ip: str, token: str, now: float) -> Reason | None:
        """The checks of a RESERVE by a peer that has no live reservation; a renewal passes none of them."""
        limits = self._limits
        if len(self._reservations) >= limits.max_reservations:
            return Reason.RESERVATIONS_FULL
        if _reached(self._reservations_of_ip.get(ip, 0), limits.max_reservations_per_ip):
            return Reason.RESERVATIONS_PER_IP
        if token and _reached(self._reservations_of_token.get(token, 0), self._token(token).max_reservations):
            return Reason.RESERVATIONS_PER_TOKEN
        if not self._reservation_rate_of_peer.allows(peer, now):
            return Reason.RESERVATION_RATE_PER_PEER
        if not self._reservation_rate_of_ip.allows(ip, now):
            return Reason.RESERVATION_RATE_PER_IP
        return None

    def release(self, worker: str, peer: bytes, connection: int) -> None:
        """Ends the reservation of `peer`, if this connection of this worker still holds it."""
        held = self.workers[worker].reservations.get(connection)
        if held is not None and held.peer == peer:
            self._end_reservation(held)

    def _live(self, peer: bytes, now: float) -> Reservation | None:
        """The reservation of `peer`, unless it has expired: that is checked at use, not only by a sweep."""
        held = self._reservations.get(peer)
        if held is None or held.expires_s > now:
            return held
        self._end_reservation(held)
        return None

    def _hold(self, reservation: Reservation) -> None:
        before = reservation.worker.reservations.get(reservation.connection)
        if before is not None:  # a connection is one peer's, so that what it held can only be out of date
            self._end_reservation(before)
        self._reservations[reservation.peer] = reservation
        reservation.worker.reservations[reservation.connection] = reservation
        self._reservations_of_ip.add(reservation.ip)
        if token := reservation.worker.tokens.get(reservation.connection):
            self._reservations_of_token.add(token)
        self._calendar.add(reservation.expires_s, reservation)

    def _end_reservation(self, reservation: Reservation) -> None:
        del self._reservations[reservation.peer]
        del reservation.worker.reservations[reservation.connection]
        self._reservations_of_ip.subtract(reservation.ip)
        if token := reservation.worker.tokens.get(reservation.connection):
            self._reservations_of_token.subtract(token)
        self._calendar.remove(reservation.expires_s, reservation)

    # --- circuits ---

    def open_circuit(
        self, worker: str, source: bytes, target: bytes, source_ip: str, now: float
    ) -> CircuitGrant | Reason:
        """A circuit from `source` to the holder of the reservation of `target`, or the reason why not."""
        held = self._live(target, now)
        if held is None:
            return Reason.NO_RESERVATION
        reason = self._refuse_circuit(source, target, source_ip, now)
        if reason is not None:
            return reason
        self._circuit_rate_of_peer.charge(source, now)
        self._circuit_rate_of_ip.charge(source_ip, now)
        circuit = self._next_circuit
        self._next_circuit += 1
        self._own_circuit(circuit, Circuit(source, target, self.workers[worker]))
        return CircuitGrant(circuit, held.worker.name, held.connection)

    def _refuse_circuit(self, source: bytes, target: bytes, source_ip: str, now: float) -> Reason | None:
        """The checks of a CONNECT whose target has a live reservation."""
        limits = self._limits
        if self._circuit_count >= limits.max_circuits:
            return Reason.CIRCUITS_FULL
        if self._circuits_of_source.get(source, 0) >= limits.max_circuits_per_peer:
            return Reason.CIRCUITS_PER_SOURCE
        if self._circuits_of_target.get(target, 0) >= limits.max_circuits_per_peer:
            return Reason.CIRCUITS_PER_TARGET
        if not self._circuit_rate_of_peer.allows(source, now):
            return Reason.CIRCUIT_RATE_PER_PEER
        if not self._circuit_rate_of_ip.allows(source_ip, now):
            return Reason.CIRCUIT_RATE_PER_IP
        return None

    def close_circuit(self, worker: str, circuit: int) -> None:
        """The circuit has ended, if this worker owns it."""
        ended = self.workers[worker].circuits.pop(circuit, None)
        if ended is not None:
            self._circuit_count -= 1
            self._circuits_of_source.subtract(ended.source)
            self._circuits_of_target.subtract(ended.target)

    def _own_circuit(self, number: int, circuit: Circuit) -> None:
        circuit.worker.circuits[number] = circuit
        self._circuit_count += 1
        self._circuits_of_source.add(circuit.source)
        self._circuits_of_target.add(circuit.target)

    # --- connections ---

    def connected(self, worker: str, connection: int, ip: str, token: str = "") -> Reason | None:
        """Counts a connection; or the reason for which it must be closed, and then it is not counted."""
        limits = self._limits
        if connection in self.workers[worker].connections:
            return None
        if self._connection_count >= limits.max_connections:
            return Reason.CONNECTIONS_FULL
        if _reached(self._connections_of_ip.get(ip, 0), limits.max_connections_per_ip):
            return Reason.CONNECTIONS_PER_IP
        if token and _reached(self._connections_of_token.get(token, 0), self._token(token).max_connections):
            return Reason.CONNECTIONS_PER_TOKEN
        self._count_connection(self.workers[worker], connection, ip, token)
        return None

    def disconnected(self, worker: str, connection: int) -> None:
        """A connection has ended, and with it the reservation on it."""
        holder = self.workers[worker]
        held = holder.reservations.get(connection)
        if held is not None:
            self._end_reservation(held)
        ip = holder.connections.pop(connection, None)
        if ip is not None:
            self._connection_count -= 1
            self._connections_of_ip.subtract(ip)
            if token := holder.tokens.pop(connection, ""):
                self._connections_of_token.subtract(token)

    def _count_connection(self, worker: Worker, connection: int, ip: str, token: str) -> None:
        worker.connections[connection] = ip
        if token:
            worker.tokens[connection] = token
            self._connections_of_token.add(token)
        self._connection_count += 1
        self._connections_of_ip.add(ip)

    def _token(self, name: str) -> Token:
        """A token's limits; one that was revoked has none, and its peers can ask for nothing."""
        token = self._tokens.by_name(name) if self._tokens is not None else None
        return token or _REVOKED

    # --- workers ---

    def join(self, worker: str) -> None:
        """A worker process is there. What another one of the same name held is freed: it is dead, or says it anew."""
        self.worker_gone(worker)
        self.workers[worker] = Worker(worker)

    def declare(
        self,
        worker: str,
        reservations: Iterable[Held],
        circuits: Iterable[HeldCircuit],
        connections: Iterable[tuple[int, str]],
        now: float,
        tokens: Iterable[tuple[int, str]] = (),
    ) -> None:
        """Takes over what a worker was granted before; may be called in parts and in any order of workers."""
        holder = self.workers[worker]
        token_of = dict(tokens)
        for connection, ip in connections:
            if connection not in holder.connections:
                self._count_connection(holder, connection, ip, token_of.get(connection, ""))
        for held in reservations:
            if held.expires_s > now:
                self._redeclare(holder, held, now)
        for circuit in circuits:
            if circuit.circuit not in holder.circuits:
                self._own_circuit(circuit.circuit, Circuit(circuit.source, circuit.target, holder))

    def _redeclare(self, worker: Worker, held: Held, now: float) -> None:
        """Of two holders of one peer's reservation the one with the later expiry keeps it; names decide a tie."""
        declared = Reservation(held.peer, worker, held.connection, held.ip, whole_second(held.expires_s))
        other = self._live(held.peer, now)
        if other is not None:
            if _precedence(other) > _precedence(declared):
                self.notices.append((worker.name, Superseded(held.peer, held.connection)))
                return
            self._end_reservation(other)
            if other.worker is not worker or other.connection != declared.connection:
                self.notices.append((other.worker.name, Superseded(held.peer, other.connection)))
        self._hold(declared)

    def worker_gone(self, worker: str) -> None:
        """Frees at once all that a worker held; nothing happens if it never joined."""
        gone = self.workers.pop(worker, None)
        if gone is None:
            return
        for held in list(gone.reservations.values()):
            self._end_reservation(held)
        for circuit in gone.circuits.values():
            self._circuits_of_source.subtract(circuit.source)
            self._circuits_of_target.subtract(circuit.target)
        for ip in gone.connections.values():
            self._connections_of_ip.subtract(ip)
        for token in gone.tokens.values():
            self._connections_of_token.subtract(token)
        self._circuit_count -= len(gone.circuits)
        self._connection_count -= len(gone.connections)

    # --- time ---

    def expire(self, now: float, at_most: int) -> bool:
        """Clears away `at_most` reservations that have expired, and some idle token buckets; False: more are due."""
        self._reservation_rate_of_peer.forget_full(now, _BUCKETS_PER_PASS)
        self._reservation_rate_of_ip.forget_full(now, _BUCKETS_PER_PASS)
        self._circuit_rate_of_peer.forget_full(now, _BUCKETS_PER_PASS)
        self._circuit_rate_of_ip.forget_full(now, _BUCKETS_PER_PASS)
        return self._clear_expired(now, at_most)

    def _clear_expired(self, now: float, at_most: int) -> bool:
        for _ in range(at_most):
            expired = self._calendar.next_due(now)
            if expired is None:
                return True
            self._end_reservation(expired)
        return False


def _reached(count: int, limit: int) -> bool:
    """Whether a limit that can be switched off with 0 is reached."""
    return 0 < limit <= count


def _precedence(reservation: Reservation) -> tuple[float, str, int]:
    return reservation.expires_s, reservation.worker.name, reservation.connection
