from __future__ import annotations

from typing import Any

import pytest

from actors import log
from supervisor.canary.actor import FIRST_RUN_S, first_wait_s, say
from supervisor.canary.record import Found, Record, Step

FRESH = Record(address="A", interval_s=300.0)
WELL = Found(ok=True, steps=())


def failed(step: str) -> Found:
    return Found(ok=False, steps=(Step(step, "failed", 1.0, "because", "do this"),))


@pytest.mark.parametrize(
    ("last_run", "now", "wait_s"),
    [(None, 1000.0, FIRST_RUN_S), (1000.0, 1100.0, 200.0), (1000.0, 5000.0, 0.0), (9000.0, 1000.0, 300.0)],
    ids=["the first", "within an interval", "overdue", "a clock that was set back"],
)
def test_the_next_run_is_an_interval_after_the_last(last_run: float | None, now: float, wait_s: float) -> None:
    known = FRESH if last_run is None else FRESH.after(WELL, last_run)
    assert first_wait_s(known, now) == wait_s


def test_a_short_interval_needs_no_longer_wait_at_the_start() -> None:
    assert first_wait_s(Record(address="A", interval_s=2.0), 0.0) == 2.0


def said(monkeypatch: pytest.MonkeyPatch, *runs: Found) -> list[tuple[str, str, dict[str, Any]]]:
    """Level, event and fields of each line that these runs cause."""
    lines: list[tuple[str, str, dict[str, Any]]] = []
    monkeypatch.setattr(log.OUTPUT, "threshold", log.INFO)
    monkeypatch.setattr(log.OUTPUT, "sink", lambda level, name, event, fields: lines.append((level, event, fields)))
    before = FRESH
    for number, found in enumerate(runs):
        after = before.after(found, 1000.0 + 300 * number)
        say(before, after)
        before = after
    return lines


def test_as_long_as_all_is_well_nothing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    assert said(monkeypatch, WELL, WELL) == []


def test_it_says_once_that_it_fails_and_once_that_it_is_well_again(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = said(monkeypatch, WELL, failed("reserve"), failed("reserve"), WELL, WELL)
    assert lines == [
        ("warning", "canary fails", {"step": "reserve", "cause": "because", "remedy": "do this", "address": "A"}),
        ("info", "canary is well again", {"failed_for_s": 600, "address": "A"}),
    ]


def test_another_failure_is_said_too_and_so_is_one_of_the_first_run(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = said(monkeypatch, failed("connect"), failed("tls"), failed("connect"))
    assert [fields["step"] for _, _, fields in lines] == ["connect", "tls", "connect"]
