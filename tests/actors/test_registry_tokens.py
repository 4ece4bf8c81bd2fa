"""Limits of a token, over all workers: what is counted, and that it comes back."""

from __future__ import annotations

import pytest

from actors.limits import Reason
from actors.registry import Grant, Registry
from actors.registry_protocol import Held
from actors.tokens import Token, Tokens
from config.settings import Limits

TOKENS = Tokens(
    (
        Token(name="few", secret="x" * 16, max_connections=2, max_reservations=1),
        Token(name="free", secret="y" * 16),
    )
)


@pytest.fixture
def table() -> Registry:
    limits = Limits(reservation_rate_per_peer=None, reservation_rate_per_ip=None)
    made = Registry(limits, tokens=TOKENS)
    made.join("a")
    made.join("b")
    return made


def reserve(table: Registry, worker: str, connection: int) -> Grant | Reason:
    return table.reserve(worker, b"%d" % connection, connection, "192.0.2.1", 0.0)


def test_connections_by_a_token_are_counted_over_all_workers_and_come_back(table: Registry) -> None:
    assert table.connected("a", 1, "192.0.2.1", "few") is None
    assert table.connected("b", 2, "192.0.2.2", "few") is None
    assert table.connected("b", 3, "192.0.2.3", "few") is Reason.CONNECTIONS_PER_TOKEN
    assert table.connected("b", 4, "192.0.2.3", "free") is None
    table.disconnected("a", 1)
    assert table.connected("b", 3, "192.0.2.3", "few") is None


def test_reservations_by_a_token_are_counted_and_renewals_are_free(table: Registry) -> None:
    table.connected("a", 1, "192.0.2.1", "few")
    table.connected("b", 2, "192.0.2.2", "few")
    table.connected("b", 3, "192.0.2.3", "free")
    assert isinstance(reserve(table, "a", 1), Grant)
    assert reserve(table, "b", 2) is Reason.RESERVATIONS_PER_TOKEN
    assert isinstance(reserve(table, "a", 1), Grant)
    assert isinstance(reserve(table, "b", 3), Grant)
    table.disconnected("a", 1)
    assert isinstance(reserve(table, "b", 2), Grant)


def test_a_dead_worker_holds_nothing_of_a_token(table: Registry) -> None:
    for connection in (1, 2):
        table.connected("a", connection, "192.0.2.1", "few")
    reserve(table, "a", 1)
    table.worker_gone("a")
    assert table.connected("b", 3, "192.0.2.1", "few") is None
    assert isinstance(reserve(table, "b", 3), Grant)
    assert not table._connections_of_token.keys() - {"few"}


def test_a_new_registry_counts_what_workers_declare(table: Registry) -> None:
    table.declare("a", [Held(b"1", 1, "192.0.2.1", 50.0)], [], [(1, "192.0.2.1"), (2, "192.0.2.1")], 0.0, [(1, "few")])
    assert table.connected("b", 3, "192.0.2.1", "few") is None
    assert table.connected("b", 4, "192.0.2.1", "few") is Reason.CONNECTIONS_PER_TOKEN
    assert reserve(table, "b", 3) is Reason.RESERVATIONS_PER_TOKEN
    table.disconnected("a", 1)
    assert isinstance(reserve(table, "b", 3), Grant)


def test_a_token_that_is_gone_has_no_limit_of_its_own(table: Registry) -> None:
    for connection in range(5):
        assert table.connected("a", connection, "192.0.2.1", "revoked-long-ago") is None
