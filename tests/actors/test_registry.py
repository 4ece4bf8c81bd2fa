"""What the registry grants and refuses, with time passed in by hand. Both sides of every boundary."""

from __future__ import annotations

from typing import Any

import pytest

from actors.limits import Reason
from actors.registry import CircuitGrant, Grant, Registry
from actors.registry_protocol import Superseded
from config.rates import Rate
from config.settings import Limits

TTL_S = 100
RATES_OFF: dict[str, Any] = {
    f"{what}_rate_per_{whom}": None for what in ("reservation", "circuit") for whom in ("peer", "ip")
}


def registry(*workers: str, **limits: Any) -> Registry:
    """A registry with rates off, unless they are given, that the workers (default: "w") have joined."""
    made = Registry(Limits(**{"reservation_ttl_s": TTL_S, **RATES_OFF, **limits}))
    for worker in workers or ("w",):
        made.join(worker)
    return made


def reserve(table: Registry, number: int, now: float = 0, *, ip: str = "", worker: str = "w") -> Grant | Reason:
    """Peer and connection `number` ask for a reservation."""
    return table.reserve(worker, b"peer %d" % number, number, ip or f"192.0.2.{number}", now)


def connect(
    table: Registry, source: int, target: int, now: float = 0, *, ip: str = "", worker: str = "w"
) -> CircuitGrant | Reason:
    """Peer `source` asks for a circuit to peer `target`."""
    return table.open_circuit(worker, b"peer %d" % source, b"peer %d" % target, ip or f"192.0.2.{source}", now)


def granted(answer: Grant | CircuitGrant | Reason) -> bool:
    return not isinstance(answer, Reason)


# --- reservations ---


def test_a_reservation_lasts_its_time_in_whole_seconds() -> None:
    assert reserve(registry(), 1, now=5.0) == Grant(105, replaced=False)
    assert reserve(registry(), 1, now=5.1) == Grant(106, replaced=False)


def test_the_last_place_is_granted_and_the_next_refused() -> None:
    table = registry(max_reservations=3)
    assert all(granted(reserve(table, number)) for number in range(3))
    assert reserve(table, 3) is Reason.RESERVATIONS_FULL
    assert table.reservation_count == 3


def test_an_address_gets_its_share_and_no_more() -> None:
    table = registry(max_reservations_per_ip=2)
    assert granted(reserve(table, 1, ip="a"))
    assert granted(reserve(table, 2, ip="a"))
    assert reserve(table, 3, ip="a") is Reason.RESERVATIONS_PER_IP
    assert granted(reserve(table, 4, ip="b"))
    table.release("w", b"peer 1", 1)
    assert granted(reserve(table, 3, ip="a"))


def test_a_peer_that_comes_and_goes_too_often_is_refused() -> None:
    table = registry(reservation_rate_per_peer=Rate(2, 60.0))
    for _ in range(2):
        assert granted(reserve(table, 1))
        table.release("w", b"peer 1", 1)
    assert reserve(table, 1) is Reason.RESERVATION_RATE_PER_PEER
    assert granted(reserve(table, 2))
    assert reserve(table, 1, now=29.9) is Reason.RESERVATION_RATE_PER_PEER
    assert granted(reserve(table, 1, now=30))


def test_an_address_that_asks_too_often_is_refused() -> None:
    table = registry(reservation_rate_per_ip=Rate(2, 60.0))
    assert granted(reserve(table, 1, ip="a"))
    assert granted(reserve(table, 2, ip="a"))
    assert reserve(table, 3, ip="a") is Reason.RESERVATION_RATE_PER_IP
    assert granted(reserve(table, 3, ip="b"))
    assert granted(reserve(table, 4, now=30, ip="a"))


def test_a_refusal_costs_no_token() -> None:
    table = registry(max_reservations=1, reservation_rate_per_peer=Rate(1, 60.0), reservation_rate_per_ip=Rate(2, 60.0))
    assert granted(reserve(table, 1, ip="a"))
    for _ in range(5):
        assert reserve(table, 2, ip="a") is Reason.RESERVATIONS_FULL
    table.release("w", b"peer 1", 1)
    assert reserve(table, 1, ip="a") is Reason.RESERVATION_RATE_PER_PEER
    assert granted(reserve(table, 2, ip="a"))


def test_renewal_is_granted_when_the_table_is_full() -> None:
    table = registry(max_reservations=2, max_reservations_per_ip=2)
    reserve(table, 1, ip="a")
    reserve(table, 2, ip="a")
    assert reserve(table, 1, now=50, ip="a") == Grant(150, replaced=True)
    assert table.reservation_count == 2
    assert table.notices == []


def test_renewal_is_granted_over_every_rate_and_costs_no_token() -> None:
    table = registry(reservation_rate_per_peer=Rate(2, 600.0), reservation_rate_per_ip=Rate(2, 600.0))
    reserve(table, 1)
    assert all(reserve(table, 1, now=1) == Grant(101, replaced=True) for _ in range(50))
    table.release("w", b"peer 1", 1)
    assert granted(reserve(table, 1, now=2))


def test_a_renewed_reservation_ends_at_its_new_time() -> None:
    table = registry()
    reserve(table, 1)
    reserve(table, 1, now=50)
    assert table.expire(149.9, at_most=10)
    assert granted(connect(table, 2, 1, now=149.9))
    assert connect(table, 2, 1, now=150) is Reason.NO_RESERVATION


def test_a_second_connection_takes_the_reservation_over() -> None:
    table = registry("old", "new", max_reservations=1)
    table.reserve("old", b"peer", 1, "a", 0)
    assert table.reserve("new", b"peer", 1, "b", 10) == Grant(110, replaced=True)
    assert table.notices == [("old", Superseded(b"peer", 1))]
    assert table.open_circuit("old", b"caller", b"peer", "c", 10) == CircuitGrant(
        table._next_circuit - 1, worker="new", connection=1
    )


def test_a_second_connection_in_the_same_worker_takes_the_reservation_over() -> None:
    table = registry()
    table.reserve("w", b"peer", 1, "a", 0)
    table.reserve("w", b"peer", 2, "a", 0)
    assert table.notices == [("w", Superseded(b"peer", 1))]
    table.release("w", b"peer", 1)
    assert table.reservation_count == 1
    table.release("w", b"peer", 2)
    assert table.reservation_count == 0


def test_what_was_taken_over_counts_for_the_new_address_only() -> None:
    table = registry(max_reservations_per_ip=1)
    table.reserve("w", b"peer", 1, "a", 0)
    table.reserve("w", b"peer", 2, "b", 0)
    assert granted(table.reserve("w", b"other", 3, "a", 0))
    assert table.reserve("w", b"third", 4, "b", 0) is Reason.RESERVATIONS_PER_IP


@pytest.mark.parametrize(
    ("worker", "peer", "connection"), [("x", b"peer 1", 1), ("w", b"peer 2", 1), ("w", b"peer 1", 2)]
)
def test_nobody_else_releases_a_reservation(worker: str, peer: bytes, connection: int) -> None:
    table = registry("w", "x")
    reserve(table, 1)
    table.release(worker, peer, connection)
    assert table.reservation_count == 1


def test_an_expired_reservation_takes_nobodys_place() -> None:
    table = registry(max_reservations=1)
    reserve(table, 1)
    assert reserve(table, 2, now=99.9) is Reason.RESERVATIONS_FULL
    assert reserve(table, 2, now=100) == Grant(200, replaced=False)
    assert table.reservation_count == 1


def test_an_expired_reservation_is_not_renewed_but_asked_for_anew() -> None:
    table = registry(reservation_rate_per_peer=Rate(1, 1000.0))
    reserve(table, 1)
    assert reserve(table, 1, now=100) is Reason.RESERVATION_RATE_PER_PEER


def test_expiry_is_checked_at_use_not_only_by_a_sweep() -> None:
    table = registry()
    reserve(table, 1)
    assert granted(connect(table, 2, 1, now=99.9))
    assert connect(table, 2, 1, now=100) is Reason.NO_RESERVATION


def test_a_sweep_frees_a_bounded_number_at_a_time() -> None:
    table = registry()
    for number in range(10):
        reserve(table, number)
    assert table.expire(99.9, at_most=4)
    assert table.reservation_count == 10
    assert not table.expire(100, at_most=4)
    assert table.reservation_count == 6
    assert not table.expire(100, at_most=4)
    assert table.expire(100, at_most=4)
    assert table.reservation_count == 0


# --- circuits ---


def test_a_circuit_leads_to_the_holder_of_the_reservation() -> None:
    table = registry("left", "right")
    reserve(table, 1, worker="right")
    answer = connect(table, 2, 1, worker="left")
    assert isinstance(answer, CircuitGrant)
    assert (answer.worker, answer.connection) == ("right", 1)
    assert table.circuit_count == 1


def test_without_a_reservation_that_is_the_answer_even_when_all_is_full() -> None:
    table = registry(max_circuits=1)
    reserve(table, 1)
    connect(table, 2, 1)
    assert connect(table, 2, 9) is Reason.NO_RESERVATION


def test_the_last_circuit_is_granted_and_the_next_refused() -> None:
    table = registry(max_circuits=3, max_circuits_per_peer=10)
    reserve(table, 1)
    assert all(granted(connect(table, number, 1)) for number in (2, 3, 4))
    assert connect(table, 5, 1) is Reason.CIRCUITS_FULL


def test_a_source_gets_its_circuits_and_no_more() -> None:
    table = registry(max_circuits_per_peer=2)
    for number in (1, 2, 3):
        reserve(table, number)
    assert granted(connect(table, 9, 1))
    assert granted(connect(table, 9, 2))
    assert connect(table, 9, 3) is Reason.CIRCUITS_PER_SOURCE
    assert granted(connect(table, 8, 3))


def test_a_target_gets_its_circuits_and_no_more() -> None:
    table = registry(max_circuits_per_peer=2)
    reserve(table, 1)
    assert granted(connect(table, 7, 1))
    assert granted(connect(table, 8, 1))
    assert connect(table, 9, 1) is Reason.CIRCUITS_PER_TARGET


def test_a_peer_counts_as_source_and_as_target_separately() -> None:
    table = registry(max_circuits_per_peer=1)
    reserve(table, 1)
    reserve(table, 2)
    assert granted(connect(table, 1, 2))
    assert granted(connect(table, 2, 1))
    assert connect(table, 1, 2) is Reason.CIRCUITS_PER_SOURCE


def test_a_peer_may_connect_to_itself() -> None:
    table = registry(max_circuits_per_peer=1)
    reserve(table, 1)
    answer = connect(table, 1, 1)
    assert isinstance(answer, CircuitGrant)
    assert connect(table, 1, 1) is Reason.CIRCUITS_PER_SOURCE
    table.close_circuit("w", answer.circuit)
    assert granted(connect(table, 1, 1))


def test_a_peer_that_calls_too_often_is_refused() -> None:
    table = registry(circuit_rate_per_peer=Rate(2, 60.0))
    reserve(table, 1)
    assert granted(connect(table, 2, 1))
    assert granted(connect(table, 2, 1))
    assert connect(table, 2, 1) is Reason.CIRCUIT_RATE_PER_PEER
    assert granted(connect(table, 3, 1, ip="192.0.2.2"))
    assert granted(connect(table, 2, 1, now=30))


def test_an_address_that_calls_too_often_is_refused() -> None:
    table = registry(circuit_rate_per_ip=Rate(2, 60.0))
    reserve(table, 1)
    assert granted(connect(table, 2, 1, ip="a"))
    assert granted(connect(table, 3, 1, ip="a"))
    assert connect(table, 4, 1, ip="a") is Reason.CIRCUIT_RATE_PER_IP
    assert granted(connect(table, 4, 1, ip="b"))


def test_an_ended_circuit_frees_every_count_once() -> None:
    table = registry("w", "x", max_circuits=1, max_circuits_per_peer=1)
    reserve(table, 1)
    for _ in range(3):
        answer = connect(table, 2, 1)
        assert isinstance(answer, CircuitGrant)
        table.close_circuit("x", answer.circuit)  # not its own
        assert connect(table, 3, 1) is Reason.CIRCUITS_FULL
        table.close_circuit("w", answer.circuit)
        table.close_circuit("w", answer.circuit)
        assert table.circuit_count == 0


def test_a_circuit_outlives_the_reservation_it_was_opened_by() -> None:
    table = registry()
    reserve(table, 1)
    connect(table, 2, 1)
    table.expire(1000, at_most=10)
    assert (table.reservation_count, table.circuit_count) == (0, 1)


def test_two_registries_do_not_use_the_same_circuit_ids() -> None:
    first, second = registry(), registry()
    reserve(first, 1)
    reserve(second, 1)
    one, other = connect(first, 2, 1), connect(second, 2, 1)
    assert isinstance(one, CircuitGrant)
    assert isinstance(other, CircuitGrant)
    assert one.circuit >> 32 != other.circuit >> 32
    assert max(one.circuit, other.circuit) < 1 << 63


# --- connections ---


def test_an_address_gets_its_connections_and_the_next_is_evicted() -> None:
    table = registry(max_connections_per_ip=2)
    assert table.connected("w", 1, "a") is None
    assert table.connected("w", 2, "a") is None
    assert table.connected("w", 3, "a") is Reason.CONNECTIONS_PER_IP
    assert table.connected("w", 4, "b") is None
    table.disconnected("w", 3)  # it was not counted
    assert table.connected("w", 5, "a") is Reason.CONNECTIONS_PER_IP
    table.disconnected("w", 1)
    assert table.connected("w", 5, "a") is None


def test_the_last_connection_stays_and_the_next_is_evicted() -> None:
    table = registry("w", "x", max_connections=2)
    assert table.connected("w", 1, "a") is None
    assert table.connected("x", 1, "b") is None
    assert table.connected("w", 2, "c") is Reason.CONNECTIONS_FULL
    assert table.connection_count == 2


def test_a_connection_takes_its_reservation_with_it() -> None:
    table = registry()
    table.connected("w", 1, "a")
    reserve(table, 1)
    table.disconnected("w", 1)
    assert (table.reservation_count, table.connection_count) == (0, 0)


def test_a_connection_whose_reservation_moved_takes_nothing_with_it() -> None:
    table = registry()
    table.connected("w", 1, "a")
    table.reserve("w", b"peer", 1, "a", 0)
    table.reserve("w", b"peer", 2, "a", 0)
    table.disconnected("w", 1)
    assert table.reservation_count == 1


# --- other limits ---


def test_what_is_held_above_a_lower_limit_stays_and_new_ones_wait() -> None:
    table = registry(max_reservations=3)
    assert all(granted(reserve(table, number)) for number in range(3))
    table.change_limits(Limits(**RATES_OFF, max_reservations=2, reservation_ttl_s=TTL_S), 0)
    assert table.reservation_count == 3
    assert granted(reserve(table, 0)), "a renewal"
    assert reserve(table, 3) is Reason.RESERVATIONS_FULL
    table.release("w", b"peer 0", 0)
    assert reserve(table, 3) is Reason.RESERVATIONS_FULL
    table.release("w", b"peer 1", 1)
    assert granted(reserve(table, 3))


def test_other_limits_do_not_give_back_what_was_charged() -> None:
    rate = {**RATES_OFF, "circuit_rate_per_peer": Rate(1, 60.0)}
    table = registry(**rate)
    reserve(table, 2)
    circuit = connect(table, 1, 2)
    assert isinstance(circuit, CircuitGrant)
    table.close_circuit("w", circuit.circuit)
    table.change_limits(Limits(**rate, max_circuits=5), 0)
    assert connect(table, 1, 2) is Reason.CIRCUIT_RATE_PER_PEER
    table.change_limits(Limits(**{**rate, "circuit_rate_per_peer": Rate(2, 60.0)}), 0)
    assert granted(connect(table, 1, 2))
