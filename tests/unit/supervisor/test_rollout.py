from __future__ import annotations

from actors.messages import Outcome, Update
from config.settings import Settings
from supervisor.rollout import KEPT_OUTCOMES, ROLLOUT_LIMIT_S, Rollout


def update(number: int, *needs_restart: str) -> Update:
    return Update(number, Settings(), (), (), needs_restart)


def rollout(*names: str) -> Rollout:
    made = Rollout()
    for name in names:
        made.spawned(name)
    return made


def test_everybody_is_told_and_it_is_over_when_all_have_answered() -> None:
    made = rollout("a", "b")
    made.begin(update(1, "admin.listen"), 10.0)
    assert made.behind() == ["a", "b"]
    made.taken("a", 1)
    assert made.behind() == ["b"]
    assert made.over(10.0, 99.0) is None
    made.taken("b", 1)
    outcome = Outcome(1, "", ("admin.listen",), (), 99.0)
    assert made.over(10.0, 99.0) == outcome
    assert made.over(10.0, 99.0) is None
    assert made.outcomes == (outcome,)


def test_late_words_of_older_settings_change_nothing() -> None:
    made = rollout("a")
    made.begin(update(3), 0.0)
    assert made.number == 3
    made.taken("a", 3)
    made.taken("a", 1)
    assert made.behind() == []


def test_who_does_not_answer_in_time_is_named_and_still_told() -> None:
    made = rollout("a", "b")
    made.begin(update(1), 10.0)
    made.taken("a", 1)
    assert made.over(10.0 + ROLLOUT_LIMIT_S - 0.1, 0.0) is None
    outcome = made.over(10.0 + ROLLOUT_LIMIT_S, 0.0)
    assert outcome is not None
    assert outcome.late == ("b",)
    assert made.behind() == ["b"]


def test_the_dead_are_not_waited_for_and_their_successors_have_the_newest() -> None:
    made = rollout("a", "b")
    made.begin(update(1), 0.0)
    made.taken("a", 1)
    made.gone("b")
    assert made.over(0.0, 0.0) is not None
    made.spawned("b")
    assert made.behind() == []
    made.gone("a")
    made.taken("a", 1)  # a late word
    assert made.behind() == []


def test_a_tree_without_children_is_reloaded_at_once() -> None:
    made = rollout()
    made.begin(update(1), 0.0)
    assert made.over(0.0, 0.0) is not None


def test_refused_ones_are_noted_and_only_the_latest_kept() -> None:
    made = rollout()
    for number in range(1, KEPT_OUTCOMES + 3):
        made.note(Outcome(number, "wrong"))
    assert [each.number for each in made.outcomes] == list(range(3, KEPT_OUTCOMES + 3))
    assert made.over(0.0, 0.0) is None
