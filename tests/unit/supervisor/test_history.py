from __future__ import annotations

from pathlib import Path

import pytest

from supervisor.admin.history import FILE, POINTS, STEP_S, History

NOW = 50_000.0
NOTHING: dict[str, int] = {}


def gauges(reservations: int = 0) -> dict[str, int]:
    return {"reservations": reservations, "circuits": 1, "connections": 2, "memory_bytes": 1 << 40}


@pytest.fixture
def history(tmp_path: Path) -> History:
    return History(str(tmp_path))


def test_without_a_sample_there_is_nothing_but_the_present(history: History) -> None:
    document = history.document(NOW, gauges(5), {"circuits_full": 3})
    assert document["step_s"] == STEP_S
    assert document["series"]["reservations"] == [None] * POINTS + [5]
    assert document["series"]["refusals"] == [None] * (POINTS + 1)
    assert document["refusals"] == {}


def test_samples_stand_in_their_order_with_the_present_behind_them(history: History) -> None:
    for step in range(3):
        history.note(NOW + step * STEP_S, gauges(step), NOTHING)
    series = history.document(NOW + 2 * STEP_S, gauges(9), NOTHING)["series"]
    assert series["reservations"] == [None] * (POINTS - 3) + [0, 1, 2, 9]
    assert series["memory_bytes"][-1] == 1 << 40
    assert {name: len(values) for name, values in series.items()} == dict.fromkeys(series, POINTS + 1)


def test_the_first_sample_of_a_step_stays(history: History) -> None:
    history.note(NOW, gauges(1), NOTHING)
    history.note(NOW + STEP_S - 0.1, gauges(2), NOTHING)
    assert history.document(NOW, gauges(), NOTHING)["series"]["reservations"][-2] == 1


def test_what_nobody_sampled_is_a_gap(history: History) -> None:
    history.note(NOW, gauges(1), NOTHING)
    history.note(NOW + 3 * STEP_S, gauges(4), NOTHING)
    values = history.document(NOW + 3 * STEP_S, gauges(5), NOTHING)["series"]["reservations"]
    assert values[-5:] == [1, None, None, 4, 5]


def test_after_an_hour_the_oldest_makes_room(history: History) -> None:
    for step in range(POINTS + 5):
        history.note(NOW + step * STEP_S, gauges(step), NOTHING)
    values = history.document(NOW + (POINTS + 4) * STEP_S, gauges(), NOTHING)["series"]["reservations"]
    assert values == [*range(5, POINTS + 5), 0]


def test_what_is_older_than_an_hour_is_not_shown_again(history: History) -> None:
    history.note(NOW, gauges(7), NOTHING)
    shown = history.document(NOW + POINTS * STEP_S, gauges(), NOTHING)["series"]["reservations"]
    assert shown == [None] * POINTS + [0]


def test_a_successor_goes_on_where_its_predecessor_ended(history: History, tmp_path: Path) -> None:
    history.note(NOW, gauges(1), NOTHING)
    successor = History(str(tmp_path))
    successor.note(NOW + STEP_S, gauges(2), NOTHING)
    assert successor.document(NOW + STEP_S, gauges(3), NOTHING)["series"]["reservations"][-3:] == [1, 2, 3]
    assert (tmp_path / FILE).stat().st_mode & 0o777 == 0o600


def test_refusals_are_told_by_step_and_by_reason_for_the_last_minute_and_hour(history: History) -> None:
    for step, total in enumerate([0, 10, 10, 10, 10, 10, 10, 12]):
        history.note(NOW + step * STEP_S, gauges(), {"circuits_full": total, "origin_denied": 0})
    now = {"circuits_full": 13, "origin_denied": 1, "peer_denied": 0}
    document = history.document(NOW + 7 * STEP_S, gauges(), now)
    assert document["series"]["refusals"][-9:] == [None, 10, 0, 0, 0, 0, 0, 2, 2]
    assert document["refusals"] == {
        "circuits_full": {"minute": 3, "hour": 13},
        "origin_denied": {"minute": 1, "hour": 1},
    }


@pytest.mark.parametrize(("passed_s", "rest_s"), [(0.0, STEP_S), (0.5, STEP_S - 0.5), (STEP_S - 0.25, 0.25)])
def test_the_next_sample_is_due_when_the_next_step_begins(passed_s: float, rest_s: float) -> None:
    assert History.next_in_s(NOW + passed_s) == rest_s


def test_where_no_file_can_be_it_is_kept_in_memory(tmp_path: Path) -> None:
    history = History(str(tmp_path / "missing"))
    history.note(NOW, gauges(1), NOTHING)
    assert history.document(NOW, gauges(2), NOTHING)["series"]["reservations"][-2:] == [1, 2]
