"""The calendar of what ends when."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from actors.expiry import ExpiryCalendar, whole_second


def test_an_entry_is_due_at_its_second_and_not_before() -> None:
    calendar: ExpiryCalendar[str] = ExpiryCalendar()
    calendar.add(10, "a")
    assert calendar.next_due(9.999) is None
    assert calendar.next_due(10.0) == "a"


def test_what_was_taken_off_is_not_due() -> None:
    calendar: ExpiryCalendar[str] = ExpiryCalendar()
    calendar.add(10, "a")
    calendar.add(10, "b")
    calendar.remove(10, "a")
    assert calendar.next_due(11) == "b"
    calendar.remove(10, "b")
    assert calendar.next_due(11) is None


def test_time_is_rounded_up_never_down() -> None:
    assert (whole_second(10.0), whole_second(10.001)) == (10, 11)


def test_coming_and_going_leaves_nothing() -> None:
    calendar: ExpiryCalendar[int] = ExpiryCalendar()
    for number in range(10_000):
        calendar.add(number % 7, number)
        calendar.remove(number % 7, number)
    assert not calendar._entries


def test_a_second_before_all_others_may_be_added_late_and_anew() -> None:
    calendar: ExpiryCalendar[str] = ExpiryCalendar()
    calendar.add(100, "late")
    calendar.add(50, "early")
    assert calendar.next_due(49.9) is None
    assert calendar.next_due(60) == "early"
    calendar.remove(50, "early")
    assert calendar.next_due(99) is None
    calendar.add(70, "over already")
    assert calendar.next_due(99) == "over already"
    calendar.remove(70, "over already")
    assert calendar.next_due(100) == "late"


@given(st.lists(st.one_of(st.tuples(st.just("add"), st.integers(0, 9)), st.tuples(st.just("turn"), st.integers(0, 3)))))
def test_everything_due_comes_once_and_nothing_else(steps: list[tuple[str, int]]) -> None:
    calendar: ExpiryCalendar[int] = ExpiryCalendar()
    model: dict[int, int] = {}
    now = 0
    for number, (action, amount) in enumerate(steps):
        if action == "add":
            model[number] = now + amount
            calendar.add(now + amount, number)
            continue
        now += amount
        came = set()
        while (entry := calendar.next_due(now)) is not None:
            calendar.remove(model[entry], entry)
            came.add(entry)
        assert came == {entry for entry, second in model.items() if second <= now}
        for entry in came:
            del model[entry]
