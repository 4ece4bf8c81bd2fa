"""Medians, spreads and ratios over batches that went round."""

import pytest

from loadtests.runs import Outcome, ratio


def _outcome(*values: float) -> Outcome:
    return Outcome({"session_s": list(values)})


def test_a_ratio_is_that_of_neighbours() -> None:
    """The machine became three times as dear in the middle: the medians say 1.5, the neighbours 0.5."""
    ours, theirs = _outcome(1, 1, 3, 3, 3), _outcome(2, 2, 6, 2, 2)
    assert ratio(ours, theirs, "session_s") == 0.5


def test_what_one_of_two_cannot_do_has_no_ratio() -> None:
    assert ratio(_outcome(1), Outcome(failures={"session_s": "TimeoutError"}), "session_s") is None


def test_the_spread_is_the_middle_half_as_a_share_of_the_median() -> None:
    assert _outcome(1, 2, 4, 5, 6).median("session_s") == 4
    assert _outcome(1, 2, 4, 5, 6).spread("session_s") == pytest.approx(0.75)
    assert _outcome(1).spread("session_s") == 0
