"""The registry against a model that keeps plain lists and counts them anew for every question."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import hypothesis.strategies as st
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from actors.limits import Reason
from actors.registry import CircuitGrant, Grant, Registry
from actors.registry_protocol import Held, HeldCircuit
from config.rates import Rate
from config.settings import Limits

LIMITS = Limits(
    max_reservations=3,
    max_circuits=3,
    max_circuits_per_peer=2,
    max_reservations_per_ip=2,
    max_connections=5,
    max_connections_per_ip=2,
    reservation_ttl_s=8,
    reservation_rate_per_peer=Rate(3, 12.0),
    reservation_rate_per_ip=Rate(4, 12.0),
    circuit_rate_per_peer=Rate(3, 12.0),
    circuit_rate_per_ip=Rate(4, 12.0),
)
WORKERS = st.sampled_from(["w1", "w2", "w3"])
PEERS = st.sampled_from([b"a", b"b", b"c", b"d", b"e"])
IPS = st.sampled_from(["x", "y", "z"])
COPIES = st.integers(0, 1)


@dataclass(frozen=True)
class Reserved:
    peer: bytes
    worker: str
    connection: int
    ip: str
    expires_s: int


@dataclass(frozen=True)
class Opened:
    circuit: int
    worker: str
    source: bytes
    target: bytes
    ip: str


@dataclass
class Bucket:
    """Tokens in units of 1/12 (of 12 s, in half seconds), so that all numbers are whole."""

    count: int
    tokens: float = -1.0
    at: float = 0.0

    def has(self, now: float) -> bool:
        self.tokens = (
            self.count if self.tokens < 0 else min(self.count, self.tokens + (now - self.at) * self.count / 12)
        )
        self.at = now
        return self.tokens > 1 - 1e-9


@dataclass
class Model:
    now: float = 0.0
    reserved: list[Reserved] = field(default_factory=list)
    opened: list[Opened] = field(default_factory=list)
    connections: list[tuple[str, int, str]] = field(default_factory=list)
    buckets: dict[tuple[str, object], Bucket] = field(default_factory=dict)

    def bucket(self, kind: str, key: object, count: int) -> Bucket:
        return self.buckets.setdefault((kind, key), Bucket(count))

    def live(self) -> list[Reserved]:
        return [each for each in self.reserved if each.expires_s > self.now]

    def reserve(self, worker: str, peer: bytes, connection: int, ip: str) -> Grant | Reason:
        live = self.live()
        renewed = [each for each in live if each.peer == peer]
        rates = self.bucket("reserve", peer, 3), self.bucket("reserve", ip, 4)
        has = [rate.has(self.now) for rate in rates]
        if not renewed:
            if len(live) >= 3:
                return Reason.RESERVATIONS_FULL
            if sum(each.ip == ip for each in live) >= 2:
                return Reason.RESERVATIONS_PER_IP
            if not has[0]:
                return Reason.RESERVATION_RATE_PER_PEER
            if not has[1]:
                return Reason.RESERVATION_RATE_PER_IP
            for rate in rates:
                rate.tokens -= 1
        expires_s = math.ceil(self.now + 8)
        self.reserved = [each for each in live if each.peer != peer]
        self.reserved.append(Reserved(peer, worker, connection, ip, expires_s))
        return Grant(expires_s, bool(renewed))

    def open(self, source: bytes, target: bytes, ip: str) -> tuple[str, int] | Reason:
        holder = next((each for each in self.live() if each.peer == target), None)
        rates = self.bucket("open", source, 3), self.bucket("open", ip, 4)
        has = [rate.has(self.now) for rate in rates]
        if holder is None:
            return Reason.NO_RESERVATION
        if len(self.opened) >= 3:
            return Reason.CIRCUITS_FULL
        if sum(each.source == source for each in self.opened) >= 2:
            return Reason.CIRCUITS_PER_SOURCE
        if sum(each.target == target for each in self.opened) >= 2:
            return Reason.CIRCUITS_PER_TARGET
        if not has[0]:
            return Reason.CIRCUIT_RATE_PER_PEER
        if not has[1]:
            return Reason.CIRCUIT_RATE_PER_IP
        for rate in rates:
            rate.tokens -= 1
        return holder.worker, holder.connection

    def connect(self, worker: str, connection: int, ip: str) -> Reason | None:
        if any(each[:2] == (worker, connection) for each in self.connections):
            return None
        if len(self.connections) >= 5:
            return Reason.CONNECTIONS_FULL
        if sum(each[2] == ip for each in self.connections) >= 2:
            return Reason.CONNECTIONS_PER_IP
        self.connections.append((worker, connection, ip))
        return None

    def forget(self, worker: str) -> None:
        self.reserved = [each for each in self.reserved if each.worker != worker]
        self.opened = [each for each in self.opened if each.worker != worker]
        self.connections = [each for each in self.connections if each[0] != worker]


def connection_of(peer: bytes, copy: int) -> int:
    """A connection is one peer's; each peer may have two in each worker."""
    return peer[0] * 2 + copy


class RegistryMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.model = Model()
        self.table = self.fresh()

    def fresh(self) -> Registry:
        table = Registry(LIMITS)
        for worker in ("w1", "w2", "w3"):
            table.join(worker)
        return table

    @rule(half_seconds=st.integers(1, 12))
    def time_passes(self, half_seconds: int) -> None:
        self.model.now += half_seconds / 2

    @rule(worker=WORKERS, peer=PEERS, copy=COPIES, ip=IPS)
    def reserve(self, worker: str, peer: bytes, copy: int, ip: str) -> None:
        before = {each.peer: (each.worker, each.connection) for each in self.model.live()}
        connection = connection_of(peer, copy)
        answer = self.table.reserve(worker, peer, connection, ip, self.model.now)
        assert answer == self.model.reserve(worker, peer, connection, ip)
        told = [(to, notice.connection) for to, notice in self.table.notices]
        moved = isinstance(answer, Grant) and before.get(peer, (worker, connection)) != (worker, connection)
        assert told == ([before[peer]] if moved else [])
        self.table.notices.clear()

    @rule(worker=WORKERS, peer=PEERS, copy=COPIES)
    def release(self, worker: str, peer: bytes, copy: int) -> None:
        connection = connection_of(peer, copy)
        self.table.release(worker, peer, connection)
        self.drop_reservation(worker, connection)

    def drop_reservation(self, worker: str, connection: int) -> None:
        kept = [each for each in self.model.reserved if (each.worker, each.connection) != (worker, connection)]
        self.model.reserved = kept

    @rule(worker=WORKERS, source=PEERS, to=PEERS, ip=IPS)
    def open_circuit(self, worker: str, source: bytes, to: bytes, ip: str) -> None:
        answer = self.table.open_circuit(worker, source, to, ip, self.model.now)
        expected = self.model.open(source, to, ip)
        if isinstance(answer, CircuitGrant):
            assert (answer.worker, answer.connection) == expected
            assert all(answer.circuit != each.circuit for each in self.model.opened)
            self.model.opened.append(Opened(answer.circuit, worker, source, to, ip))
        else:
            assert answer == expected

    @rule(worker=WORKERS, data=st.data())
    def close_circuit(self, worker: str, data: st.DataObject) -> None:
        circuit = data.draw(st.sampled_from([each.circuit for each in self.model.opened] or [0]))
        self.table.close_circuit(worker, circuit)
        ended = [each for each in self.model.opened if (each.circuit, each.worker) == (circuit, worker)]
        self.model.opened = [each for each in self.model.opened if each not in ended]

    @rule(worker=WORKERS, peer=PEERS, copy=COPIES, ip=IPS)
    def connected(self, worker: str, peer: bytes, copy: int, ip: str) -> None:
        connection = connection_of(peer, copy)
        assert self.table.connected(worker, connection, ip) == self.model.connect(worker, connection, ip)

    @rule(worker=WORKERS, peer=PEERS, copy=COPIES)
    def disconnected(self, worker: str, peer: bytes, copy: int) -> None:
        connection = connection_of(peer, copy)
        self.table.disconnected(worker, connection)
        self.drop_reservation(worker, connection)
        self.model.connections = [each for each in self.model.connections if each[:2] != (worker, connection)]

    @rule(worker=WORKERS)
    def worker_dies_and_is_replaced(self, worker: str) -> None:
        self.table.worker_gone(worker)
        self.table.join(worker)
        self.model.forget(worker)

    @rule(order=st.permutations(["w1", "w2", "w3"]))
    def registry_dies_and_is_replaced(self, order: list[str]) -> None:
        """A new registry knows what is held, and nothing of who asked how often."""
        self.table = self.fresh()
        self.model.buckets.clear()
        for worker in order:
            self.table.declare(worker, *self.holdings(worker), now=self.model.now)
        assert self.table.notices == []

    @rule(worker=WORKERS)
    def worker_reconnects(self, worker: str) -> None:
        self.table.join(worker)
        self.table.declare(worker, *self.holdings(worker), now=self.model.now)
        assert self.table.notices == []

    def holdings(self, worker: str) -> tuple[list[Held], list[HeldCircuit], list[tuple[int, str]]]:
        model = self.model
        return (
            [Held(r.peer, r.connection, r.ip, r.expires_s) for r in model.reserved if r.worker == worker],
            [HeldCircuit(c.circuit, c.source, c.target, c.ip) for c in model.opened if c.worker == worker],
            [(connection, ip) for of, connection, ip in model.connections if of == worker],
        )

    @rule(at_most=st.integers(1, 4))
    def expire(self, at_most: int) -> None:
        self.table.expire(self.model.now, at_most)

    @invariant()
    def counts_agree(self) -> None:
        assert self.table.circuit_count == len(self.model.opened)
        assert self.table.connection_count == len(self.model.connections)
        live = {each.peer: each for each in self.model.live()}
        held = self.table._reservations
        assert {peer for peer, each in held.items() if each.expires_s > self.model.now} == set(live)
        assert all((held[peer].worker.name, held[peer].ip) == (each.worker, each.ip) for peer, each in live.items())

    @invariant()
    def nothing_is_kept_of_what_ended(self) -> None:
        table = self.table
        held = table._reservations.values()
        assert sum(map(len, table._calendar._entries.values())) == len(held)
        assert sum(table._reservations_of_ip.values()) == len(held)
        assert sum(len(worker.reservations) for worker in table.workers.values()) == len(held)
        assert sum(table._circuits_of_source.values()) == sum(table._circuits_of_target.values()) == table.circuit_count
        assert sum(table._connections_of_ip.values()) == table.connection_count


RegistryMachine.TestCase.settings = settings(max_examples=150, stateful_step_count=60, deadline=None)
TestRegistryAgainstTheModel = RegistryMachine.TestCase
