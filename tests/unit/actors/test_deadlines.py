"""The wheel of deadlines: never early, never lost, gone when cancelled."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.deadlines import SLOT_S, Deadlines


class Wheel:
    """A wheel with a hand-turned clock and a list of what fired."""

    def __init__(self, now_s: float = 1000.0) -> None:
        self.now_s = now_s
        self.fired: list[str] = []
        self.faults: list[Exception] = []
        self.deadlines = Deadlines(now_s, self.faults.append)

    def advance(self, seconds: float) -> list[str]:
        self.now_s += seconds
        self.fired = []
        self.deadlines.advance(self.now_s)
        return self.fired

    def fires(self, name: str) -> None:
        self.fired.append(name)


@pytest.mark.parametrize("delay_s", [0.0, 0.01, 0.25, 0.3, 10.0, 3600.0])
def test_a_deadline_never_fires_early_and_at_most_a_slot_late(delay_s: float) -> None:
    wheel = Wheel()
    wheel.deadlines.at(1000.0 + delay_s, lambda: wheel.fires("a"))
    if delay_s:
        assert wheel.advance(delay_s - 0.001) == []
        assert wheel.advance(0.001 + SLOT_S) == ["a"]
    else:
        assert wheel.advance(SLOT_S) == ["a"]
    assert wheel.advance(10_000) == []


def test_one_that_is_long_over_fires_at_the_next_advance() -> None:
    wheel = Wheel()
    wheel.advance(5)
    wheel.deadlines.at(10.0, lambda: wheel.fires("late"))
    assert wheel.advance(SLOT_S) == ["late"]


def test_deadlines_fire_in_the_order_of_their_slots_after_a_long_pause() -> None:
    wheel = Wheel()
    for delay_s in (3, 1, 2):
        wheel.deadlines.at(1000.0 + delay_s, lambda name=str(delay_s): wheel.fires(name))  # type: ignore[misc]
    assert wheel.advance(100_000) == ["1", "2", "3"]


def test_a_cancelled_deadline_does_not_fire_and_leaves_nothing() -> None:
    wheel = Wheel()
    for _ in range(1000):
        wheel.deadlines.at(4600.0, lambda: wheel.fires("never")).cancel()
    assert not wheel.deadlines._slots
    assert wheel.advance(10_000) == []
    assert not wheel.deadlines._slots


def test_a_deadline_may_be_cancelled_twice_and_after_it_fired() -> None:
    wheel = Wheel()
    deadline = wheel.deadlines.at(1001.0, lambda: wheel.fires("a"))
    assert wheel.advance(2) == ["a"]
    deadline.cancel()
    deadline.cancel()


def test_an_action_may_cancel_another_of_its_slot_and_set_new_ones() -> None:
    wheel = Wheel()
    other = wheel.deadlines.at(1001.0, lambda: wheel.fires("cancelled"))

    def again() -> None:
        wheel.fires("again")
        other.cancel()
        wheel.deadlines.at(1000.0, lambda: wheel.fires("once more"))

    wheel.deadlines = Deadlines(1000.0, wheel.faults.append)
    wheel.deadlines.at(1001.0, again)
    other = wheel.deadlines.at(1001.0, lambda: wheel.fires("cancelled"))
    assert wheel.advance(1) == ["again"]
    assert wheel.advance(SLOT_S) == ["once more"]


def test_an_action_that_raises_is_reported_and_the_others_fire() -> None:
    wheel = Wheel()
    fault = RuntimeError("ours")

    def raises() -> None:
        raise fault

    wheel.deadlines.at(1001.0, raises)
    wheel.deadlines.at(1001.0, lambda: wheel.fires("b"))
    assert wheel.advance(1) == ["b"]
    assert wheel.faults == [fault]


def test_advancing_without_deadlines_keeps_nothing_and_misses_nothing() -> None:
    wheel = Wheel()
    wheel.advance(500)
    wheel.deadlines.at(1500.5, lambda: wheel.fires("a"))
    assert wheel.advance(0.5 + SLOT_S) == ["a"]


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("at"), st.floats(-1, 100)),
            st.tuples(st.just("cancel"), st.floats(0, 20)),
            st.tuples(st.just("turn"), st.floats(0, 30)),
        ),
        max_size=40,
    )
)
def test_everything_fires_once_when_it_is_due_unless_it_was_cancelled(steps: list[tuple[str, float]]) -> None:
    wheel = Wheel()
    due: dict[str, float] = {}
    made = []
    for number, (action, value) in enumerate(steps):
        if action == "at":
            due[str(number)] = wheel.now_s + value
            made.append(
                (str(number), wheel.deadlines.at(wheel.now_s + value, lambda name=str(number): wheel.fires(name)))  # type: ignore[misc]
            )
        elif action == "cancel" and made:
            name, deadline = made[int(value) % len(made)]
            deadline.cancel()
            due.pop(name, None)
        elif action == "turn":
            fired = wheel.advance(value)
            assert len(fired) == len(set(fired))
            for name in fired:
                assert due.pop(name) <= wheel.now_s
            assert all(when_s > wheel.now_s - 2 * SLOT_S for when_s in due.values())
    assert not wheel.faults
    wheel.advance(1000)
    assert set(wheel.fired) == set(due)
