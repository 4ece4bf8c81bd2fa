"""Workers that join, die and declare what they hold: nothing is lost, nothing is kept, nothing is granted twice."""

from __future__ import annotations

import itertools

import pytest

from actors.limits import Reason
from actors.registry import CircuitGrant, Grant, Registry
from actors.registry_protocol import Held, HeldCircuit, Superseded
from config.settings import Limits

LIMITS = Limits(
    max_reservations=2,
    max_circuits=2,
    max_circuits_per_peer=1,
    max_connections=2,
    max_connections_per_ip=1,
    reservation_ttl_s=100,
    reservation_rate_per_ip=None,
    circuit_rate_per_ip=None,
)


def registry(*workers: str) -> Registry:
    made = Registry(LIMITS)
    for worker in workers:
        made.join(worker)
    return made


def fill(table: Registry, worker: str) -> None:
    """Every limit of `table` is reached, by what `worker` holds."""
    for number in (1, 2):
        assert table.connected(worker, number, f"ip {number}") is None
        assert isinstance(table.reserve(worker, b"peer %d" % number, number, f"ip {number}", 0), Grant)
    for source, target in ((b"peer 1", b"peer 2"), (b"peer 2", b"peer 1")):
        assert isinstance(table.open_circuit(worker, source, target, "ip", 0), CircuitGrant)


def test_a_dead_worker_frees_all_it_held_at_once() -> None:
    table = registry("dead", "alive")
    fill(table, "dead")
    table.worker_gone("dead")
    assert (table.reservation_count, table.circuit_count, table.connection_count) == (0, 0, 0)
    fill(table, "alive")


def test_a_dead_worker_takes_nothing_of_others_with_it() -> None:
    table = registry("dead", "alive")
    fill(table, "alive")
    table.worker_gone("dead")
    assert (table.reservation_count, table.circuit_count, table.connection_count) == (2, 2, 2)


def test_a_worker_that_never_joined_may_be_gone() -> None:
    table = registry("alive")
    table.worker_gone("nobody")
    fill(table, "alive")


def test_a_worker_that_joins_again_has_nothing_from_before() -> None:
    table = registry("w")
    fill(table, "w")
    table.join("w")
    assert (table.reservation_count, table.circuit_count, table.connection_count) == (0, 0, 0)
    fill(table, "w")


def test_a_circuit_to_a_dead_worker_is_its_owners_to_end() -> None:
    table = registry("source", "target")
    table.reserve("target", b"peer 1", 1, "ip", 0)
    answer = table.open_circuit("source", b"peer 2", b"peer 1", "ip", 0)
    assert isinstance(answer, CircuitGrant)
    table.worker_gone("target")
    assert table.circuit_count == 1
    table.close_circuit("source", answer.circuit)
    assert table.circuit_count == 0


def test_what_is_declared_is_held_as_if_it_had_been_granted() -> None:
    table = registry("w", "x")
    circuit = HeldCircuit(7 << 32, b"peer 2", b"peer 1", "ip 2")
    table.declare("w", [Held(b"peer 1", 1, "ip 1", 50.0)], [circuit], [(1, "ip 1"), (2, "ip 2")], now=10)
    assert table.connected("x", 3, "ip 3") is Reason.CONNECTIONS_FULL
    assert table.open_circuit("x", b"peer 3", b"peer 1", "ip", 10) is Reason.CIRCUITS_PER_TARGET
    assert table.reserve("w", b"peer 1", 1, "ip 1", 20) == Grant(120, replaced=True)
    table.close_circuit("w", 7 << 32)
    assert isinstance(table.open_circuit("x", b"peer 3", b"peer 1", "ip", 119), CircuitGrant)
    table.disconnected("w", 1)
    assert (table.reservation_count, table.circuit_count, table.connection_count) == (0, 1, 1)


def test_declared_reservations_end_when_they_would_have() -> None:
    table = registry("w")
    table.declare("w", [Held(b"a", 1, "ip", 50.0), Held(b"b", 2, "ip", 60.0), Held(b"c", 3, "ip", 9.9)], [], [], now=10)
    assert table.reservation_count == 2
    table.expire(50, at_most=10)
    assert table.reservation_count == 1
    assert table.open_circuit("w", b"x", b"b", "ip", 59.9) is not Reason.NO_RESERVATION
    assert table.open_circuit("w", b"x", b"b", "ip", 60) is Reason.NO_RESERVATION


def test_more_than_the_limits_allow_is_taken_when_declared_and_refused_when_asked() -> None:
    table = registry("w")
    reservations = [Held(b"peer %d" % number, number, "ip", 50.0) for number in range(5)]
    circuits = [HeldCircuit(number, b"peer 1", b"peer 2", "ip") for number in range(5)]
    table.declare("w", reservations, circuits, [(number, "ip") for number in range(5)], now=0)
    assert (table.reservation_count, table.circuit_count, table.connection_count) == (5, 5, 5)
    assert table.reserve("w", b"peer 5", 5, "ip", 0) is Reason.RESERVATIONS_FULL
    assert table.reserve("w", b"peer 4", 4, "ip", 0) == Grant(100, replaced=True)
    assert table.open_circuit("w", b"peer 3", b"peer 4", "ip", 0) is Reason.CIRCUITS_FULL
    assert table.connected("w", 5, "other") is Reason.CONNECTIONS_FULL


def test_the_parts_of_a_declaration_add_up_and_repeating_one_changes_nothing() -> None:
    table = registry("w")
    part = ([Held(b"a", 1, "ip", 50.0)], [HeldCircuit(1, b"a", b"b", "ip")], [(1, "ip")])
    table.declare("w", *part, now=0)
    table.declare("w", *part, now=0)
    table.declare("w", [Held(b"b", 2, "ip", 50.0)], [HeldCircuit(2, b"a", b"b", "ip")], [(2, "ip")], now=0)
    assert (table.reservation_count, table.circuit_count, table.connection_count) == (2, 2, 2)
    assert table.notices == []


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
@pytest.mark.parametrize("expiries", [(50.0, 60.0, 55.0), (60.0, 60.0, 60.0), (60.0, 50.0, 60.0)])
def test_of_holders_of_one_peer_the_latest_keeps_it_in_whatever_order_they_declare(
    order: tuple[int, ...], expiries: tuple[float, ...]
) -> None:
    table = registry("w0", "w1", "w2")
    for index in order:
        table.declare(f"w{index}", [Held(b"peer", index, f"ip {index}", expiries[index])], [], [], now=0)
    winner = max(range(3), key=lambda index: (expiries[index], index))
    answer = table.open_circuit("w0", b"caller", b"peer", "ip", 0)
    assert isinstance(answer, CircuitGrant)
    assert (answer.worker, answer.connection) == (f"w{winner}", winner)
    assert table.reservation_count == 1
    assert sorted(table.notices, key=repr) == [
        (f"w{index}", Superseded(b"peer", index)) for index in range(3) if index != winner
    ]


def test_a_reservation_granted_meanwhile_is_not_lost_to_an_older_one_declared_late() -> None:
    table = registry("here", "there")
    table.reserve("here", b"peer", 1, "ip", 10)
    table.declare("there", [Held(b"peer", 2, "ip", 100.0)], [], [], now=10)
    assert table.notices == [("there", Superseded(b"peer", 2))]
    table.worker_gone("there")
    assert table.reservation_count == 1
