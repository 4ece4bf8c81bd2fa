"""Reasons and their statuses, and the rate limiter against a token bucket that counts in fractions."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.limits import RateLimiter, Reason, Status, connect_status, limit_of, reserve_status
from actors.proto import circuit_pb2
from config.rates import Rate
from config.settings import Limits

RESERVE_ONLY = [reason for reason in Reason if reason.startswith("reservation")]
CONNECT_ONLY = [reason for reason in Reason if reason.startswith(("circuit", "target"))] + [Reason.NO_RESERVATION]
EITHER = [Reason.PEER_DENIED, Reason.SUBNET_DENIED, Reason.TOKEN_EXPIRED, Reason.TOKEN_REVOKED]
CONNECTION = [
    Reason.ORIGIN_DENIED,
    Reason.CONNECTIONS_FULL,
    Reason.CONNECTIONS_PER_IP,
    Reason.CONNECTION_RATE_PER_IP,
    Reason.CONNECTIONS_PER_TOKEN,
    Reason.TOKEN_MISSING,
    Reason.TOKEN_UNKNOWN,
    Reason.NOT_A_PROXY,
    Reason.MEMORY_SHORT,
    Reason.PENDING_HANDSHAKES_FULL,
    Reason.DESCRIPTORS_SHORT,
    Reason.HANDSHAKE_TIMEOUT,
    Reason.KICKED,
    Reason.CRASHED_WORKERS,
]


def test_statuses_are_those_of_the_wire() -> None:
    wire = {name: value for name, value in circuit_pb2.Status.items() if name != "UNUSED"}
    assert {status.name: status.value for status in Status} == wire


@pytest.mark.parametrize("reason", RESERVE_ONLY)
def test_a_reservation_over_a_limit_is_answered_200(reason: Reason) -> None:
    assert reserve_status(reason) == 200
    with pytest.raises(ValueError, match=reason):
        connect_status(reason)


@pytest.mark.parametrize("reason", CONNECT_ONLY)
def test_a_connect_is_answered_by_what_is_missing(reason: Reason) -> None:
    expected = 204 if reason is Reason.NO_RESERVATION else 201 if reason.startswith("circuit") else 203
    assert connect_status(reason) == expected
    with pytest.raises(ValueError, match=reason):
        reserve_status(reason)


@pytest.mark.parametrize("reason", EITHER)
def test_what_is_denied_is_answered_202(reason: Reason) -> None:
    assert (reserve_status(reason), connect_status(reason)) == (202, 202)


def test_while_it_drains_the_relay_answers_as_one_that_is_full() -> None:
    assert (reserve_status(Reason.DRAINING), connect_status(Reason.DRAINING)) == (200, 201)


def test_without_a_registry_a_reserve_is_refused_and_a_connect_fails() -> None:
    assert reserve_status(Reason.REGISTRY_UNAVAILABLE) == 200
    assert connect_status(Reason.REGISTRY_UNAVAILABLE) == 203


def test_what_cannot_be_understood_is_answered_400_or_401() -> None:
    assert reserve_status(Reason.MALFORMED_MESSAGE) == connect_status(Reason.MALFORMED_MESSAGE) == 400
    assert reserve_status(Reason.UNEXPECTED_MESSAGE) == connect_status(Reason.UNEXPECTED_MESSAGE) == 401


@pytest.mark.parametrize("reason", CONNECTION)
def test_what_closes_a_connection_answers_nothing(reason: Reason) -> None:
    with pytest.raises(ValueError, match=reason):
        reserve_status(reason)
    with pytest.raises(ValueError, match=reason):
        connect_status(reason)


def test_a_limit_that_refuses_is_named_with_what_it_stands_at() -> None:
    limits = Limits(max_circuits=7, circuit_rate_per_ip=Rate(60, 3600.0))
    assert limit_of(Reason.CIRCUITS_FULL, limits) == {"limit": "limits.max_circuits", "value": 7}
    named = limit_of(Reason.CIRCUIT_RATE_PER_IP, limits)
    assert (named["limit"], str(named["value"])) == ("limits.circuit_rate_per_ip", "60/1h")
    assert limit_of(Reason.NO_RESERVATION, limits) == {}
    for reason in Reason:
        for setting in limit_of(reason, limits).get("limit", "").split(".")[1:]:  # type: ignore[attr-defined]
            assert hasattr(limits, setting)


def test_every_reason_that_can_refuse_a_request_has_been_looked_at() -> None:
    others = {Reason.REGISTRY_UNAVAILABLE, Reason.DRAINING, Reason.MALFORMED_MESSAGE, Reason.UNEXPECTED_MESSAGE}
    assert set(Reason) == {*RESERVE_ONLY, *CONNECT_ONLY, *EITHER, *CONNECTION, *others}


def take(limiter: RateLimiter[str], key: str, now: float) -> bool:
    allowed = limiter.allows(key, now)
    if allowed:
        limiter.charge(key, now)
    return allowed


@pytest.mark.parametrize("now", [0.0, 1.0, 1e7])
def test_thirty_an_hour_are_thirty_and_not_thirty_one(now: float) -> None:
    limiter: RateLimiter[str] = RateLimiter(Rate(30, 3600.0))
    assert [take(limiter, "a", now) for _ in range(31)] == [True] * 30 + [False]


def test_a_token_comes_back_after_its_share_of_the_period() -> None:
    limiter: RateLimiter[str] = RateLimiter(Rate(4, 10.0))
    assert all(take(limiter, "a", 0) for _ in range(4))
    assert not limiter.allows("a", 2.49)
    assert take(limiter, "a", 2.5)
    assert not limiter.allows("a", 4.99)


def test_a_bucket_is_full_again_after_its_period_and_holds_no_more() -> None:
    limiter: RateLimiter[str] = RateLimiter(Rate(3, 7.0))
    assert all(take(limiter, "a", 0) for _ in range(3))
    assert [take(limiter, "a", 1000) for _ in range(4)] == [True, True, True, False]


def test_keys_do_not_share_a_bucket() -> None:
    limiter: RateLimiter[str] = RateLimiter(Rate(1, 10.0))
    assert take(limiter, "a", 0)
    assert not take(limiter, "a", 0)
    assert take(limiter, "b", 0)


def test_asking_costs_nothing() -> None:
    limiter: RateLimiter[str] = RateLimiter(Rate(1, 10.0))
    assert all(limiter.allows("a", 0) for _ in range(100))
    assert len(limiter) == 0


def test_a_rate_that_is_off_allows_everything_and_keeps_nothing() -> None:
    limiter: RateLimiter[str] = RateLimiter(None)
    assert all(take(limiter, "a", 0) for _ in range(1000))
    assert len(limiter) == 0


class TokenBucket:
    """The model: tokens as a fraction, refilled when looked at."""

    def __init__(self, rate: Rate) -> None:
        self.count = Fraction(rate.count)
        self.per_s = self.count / Fraction(rate.period_s)
        self.tokens, self.at = self.count, Fraction(0)

    def take(self, now: Fraction) -> bool:
        self.tokens = min(self.count, self.tokens + (now - self.at) * self.per_s)
        self.at = now
        if self.tokens < 1:
            return False
        self.tokens -= 1
        return True


@given(
    rate=st.builds(Rate, st.integers(1, 12), st.integers(1, 20).map(float)),
    steps=st.lists(st.tuples(st.integers(0, 8000), st.sampled_from("abc")), max_size=80),
)
def test_the_limiter_is_a_token_bucket_a_key(rate: Rate, steps: list[tuple[int, str]]) -> None:
    limiter: RateLimiter[str] = RateLimiter(rate)
    model: dict[str, TokenBucket] = {}
    now_ms = 0
    for wait_ms, key in steps:
        now_ms += wait_ms
        expected = model.setdefault(key, TokenBucket(rate)).take(Fraction(now_ms, 1000))
        assert take(limiter, key, now_ms / 1000) == expected


@given(st.lists(st.tuples(st.floats(0, 30), st.integers(0, 40).map(str)), max_size=120))
def test_the_table_never_grows_over_its_cap(steps: list[tuple[float, str]]) -> None:
    limiter: RateLimiter[str] = RateLimiter(Rate(2, 60.0), max_keys=8)
    now = 0.0
    for wait_s, key in steps:
        now += wait_s
        take(limiter, key, now)
        assert len(limiter) <= 8


def test_a_full_table_forgets_who_was_charged_longest_ago() -> None:
    limiter: RateLimiter[str] = RateLimiter(Rate(1, 60.0), max_keys=3)
    for second, key in enumerate("abcd"):
        assert take(limiter, key, second)
    assert take(limiter, "a", 5)
    assert not limiter.allows("c", 5)
    assert not limiter.allows("d", 5)


def test_buckets_that_are_full_again_are_forgotten_as_others_are_charged() -> None:
    limiter: RateLimiter[str] = RateLimiter(Rate(1, 10.0))
    for number in range(100):
        take(limiter, f"old {number}", 0)
    assert len(limiter) == 100
    for number in range(100):
        take(limiter, f"new {number}", 10)
    assert len(limiter) == 100


def test_idle_buckets_are_forgotten_a_few_at_a_time() -> None:
    limiter: RateLimiter[str] = RateLimiter(Rate(1, 10.0))
    for number in range(100):
        take(limiter, str(number), 0)
    assert limiter.forget_full(9.9, at_most=30) == 0
    assert [limiter.forget_full(10.0, at_most=40) for _ in range(4)] == [40, 40, 20, 0]
    assert len(limiter) == 0


# --- another rate ---


def test_an_empty_bucket_stays_empty_under_another_rate() -> None:
    limiter: RateLimiter[str] = RateLimiter(Rate(3, 60.0))
    for _ in range(3):
        limiter.charge("a", 0.0)
    limiter.change(Rate(6, 60.0), 0.0)
    # Three tokens are lacking, so three of six are there.
    for _ in range(3):
        assert limiter.allows("a", 0.0)
        limiter.charge("a", 0.0)
    assert not limiter.allows("a", 0.0)
    assert limiter.allows("b", 0.0)


def test_a_bucket_that_lacks_more_than_it_can_hold_now_is_empty_and_fills() -> None:
    limiter: RateLimiter[str] = RateLimiter(Rate(30, 3600.0))
    for _ in range(30):
        limiter.charge("a", 0.0)
    limiter.change(Rate(2, 10.0), 0.0)
    assert not limiter.allows("a", 4.9)
    assert limiter.allows("a", 5.0)


def test_a_rate_that_is_switched_off_forgets_and_allows() -> None:
    limiter: RateLimiter[str] = RateLimiter(Rate(1, 60.0))
    limiter.charge("a", 0.0)
    limiter.change(None, 0.0)
    assert limiter.allows("a", 0.0)
    assert len(limiter) == 0
    limiter.change(Rate(1, 60.0), 0.0)
    assert limiter.allows("a", 0.0)
    limiter.charge("a", 0.0)
    assert not limiter.allows("a", 0.0)


@given(
    st.integers(1, 20), st.integers(1, 1000), st.integers(1, 20), st.integers(1, 1000),
    st.lists(st.integers(0, 50), max_size=20), st.integers(0, 100),
)  # fmt: skip
def test_what_is_lacking_is_kept_whatever_the_rates(
    count: int, period_s: int, new_count: int, new_period_s: int, charges: list[int], wait_s: int
) -> None:
    limiter: RateLimiter[str] = RateLimiter(Rate(count, float(period_s)))
    now, lacking = 0.0, Fraction(0)
    for pause_s in charges:
        now += pause_s
        lacking = max(Fraction(0), lacking - Fraction(pause_s * count, period_s))
        if limiter.allows("a", now):
            limiter.charge("a", now)
            lacking += 1
    limiter.change(Rate(new_count, float(new_period_s)), now)
    left = new_count - min(lacking, Fraction(new_count)) + Fraction(wait_s * new_count, new_period_s)
    if left >= 1 + Fraction(1, 1000):
        assert limiter.allows("a", now + wait_s)
    elif left <= 1 - Fraction(1, 1000):
        assert not limiter.allows("a", now + wait_s)
