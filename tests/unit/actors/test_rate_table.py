"""The shared table of connection rates, against the limiter that keeps each key by itself."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.limits import RateLimiter
from actors.rate_table import RateTable
from config.rates import Rate

RATE = Rate(5, 10.0)


@contextmanager
def new_table() -> Iterator[RateTable]:
    table = RateTable.create()
    try:
        yield table
    finally:
        os.close(table.fd)


@pytest.fixture
def table() -> Iterator[RateTable]:
    with new_table() as made:
        yield made


def test_a_bucket_gives_what_it_holds_and_fills_again(table: RateTable) -> None:
    assert [table.take("192.0.2.1", RATE, 100.0) for _ in range(6)] == [True] * 5 + [False]
    assert [table.take("192.0.2.1", RATE, 102.0) for _ in range(2)] == [True, False]
    assert [table.take("192.0.2.1", RATE, 200.0) for _ in range(6)] == [True] * 5 + [False]


def test_a_refusal_costs_no_token(table: RateTable) -> None:
    for _ in range(50):
        table.take("192.0.2.1", RATE, 100.0)
    assert table.take("192.0.2.1", RATE, 102.0)


def test_all_processes_take_from_one_bucket(table: RateTable) -> None:
    other = RateTable(table.fd)
    assert [each.take("192.0.2.1", RATE, 100.0) for each in (table, other) * 3] == [True] * 5 + [False]


def test_without_a_rate_everything_is_allowed_and_nothing_kept(table: RateTable) -> None:
    assert all(table.take("192.0.2.1", None, 100.0) for _ in range(100))
    assert table.take("192.0.2.1", Rate(1, 10.0), 100.0)


def test_250_attackers_that_have_used_up_theirs_leave_newcomers_theirs(table: RateTable) -> None:
    for attacker in range(250):
        for _ in range(6):
            table.take(f"203.0.113.{attacker}", RATE, 100.0)
    refused = sum(not table.take(f"2001:db8:0:{number:x}::/64", RATE, 100.0) for number in range(1000))
    assert refused <= 5  # one in 16,000 expected to meet two attackers


def test_each_table_has_a_secret_of_its_own(table: RateTable) -> None:
    """So that nobody can work out which addresses share a victim's places."""
    with new_table() as other:
        assert table._secret != other._secret
        assert len(set(table._secret)) > 1


@given(st.lists(st.tuples(st.sampled_from("abc"), st.floats(0, 5)), max_size=60))
def test_it_decides_as_a_limiter_with_a_bucket_for_each_key(asked: list[tuple[str, float]]) -> None:
    limiter, now = RateLimiter[str](RATE), 100.0
    with new_table() as table:
        for key, pause_s in asked:
            now += pause_s
            allowed = limiter.allows(key, now)
            if allowed:
                limiter.charge(key, now)
            assert table.take(key, RATE, now) == allowed
