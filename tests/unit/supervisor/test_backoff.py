from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from supervisor.backoff import LIVED_WELL_S, Backoff


def test_the_first_death_costs_nothing_and_then_pauses_double_up_to_the_maximum() -> None:
    backoff = Backoff(30.0)
    assert [backoff.died(0.1) for _ in range(11)] == [0.0, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0, 30.0]


def test_a_slot_is_failed_from_the_third_quick_death_on() -> None:
    backoff = Backoff(30.0)
    shown = []
    for _ in range(4):
        backoff.died(1.0)
        shown.append(backoff.failed)
    assert shown == [False, False, True, True]


def test_a_long_life_makes_the_next_death_a_first_one() -> None:
    backoff = Backoff(30.0)
    for _ in range(6):
        backoff.died(0.0)
    assert backoff.died(LIVED_WELL_S - 0.001) > 0.0
    assert backoff.died(LIVED_WELL_S) == 0.0
    assert not backoff.failed
    assert backoff.died(0.0) == 0.25


@given(st.lists(st.floats(0, 29.9), min_size=2, max_size=3000), st.floats(0.1, 3600))
def test_quick_deaths_never_spin_and_never_wait_longer_than_the_maximum(lives: list[float], max_s: float) -> None:
    backoff = Backoff(max_s)
    pauses = [backoff.died(lived_s) for lived_s in lives]
    assert all(min(0.25, max_s) <= pause <= max_s for pause in pauses[1:])
    assert pauses == sorted(pauses)
