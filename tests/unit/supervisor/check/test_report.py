from __future__ import annotations

import json

from supervisor.check.report import STEPS, Outcome, Report, Step, closing, line

OK = Step("connect", Outcome.OK, 1.4, "127.0.0.1 port 9090")
NOTE = Step("announced", Outcome.NOTE, 0.6, "not announced", "name it")
FAILED = Step("reserve", Outcome.FAILED, 12.0, "the relay is full", "raise limits.max_reservations")


def test_a_step_is_one_line_with_its_tick_and_its_time() -> None:
    assert line(OK, colour=False) == "✓ connect            1 ms  127.0.0.1 port 9090"


def test_what_to_do_stands_below() -> None:
    assert line(FAILED, colour=False).splitlines()[1] == "  → raise limits.max_reservations"
    assert line(FAILED, colour=False).startswith("✗ reserve")
    assert line(NOTE, colour=False).startswith("! announced")


def test_colour_is_on_the_mark_only() -> None:
    assert line(OK, colour=True) == line(OK, colour=False).replace("✓", "\x1b[32m✓\x1b[0m")
    assert "\x1b" not in line(FAILED, colour=False)


def test_the_last_line_says_how_it_ended() -> None:
    assert list(closing(Report("A", steps=[OK]))) == ["A: all well"]
    assert list(closing(Report("A", steps=[OK, NOTE]))) == ["A: it works; 1 thing to look at"]
    assert list(closing(Report("A", steps=[NOTE, NOTE]))) == ["A: it works; 2 things to look at"]
    assert list(closing(Report("A", steps=[OK, FAILED]))) == ["A: reserve failed"]


def test_the_document_is_json_and_says_first_whether_all_is_well() -> None:
    document = json.loads(json.dumps(Report("A", "P", "agent", 12.5, [OK, FAILED]).document()))
    assert next(iter(document)) == "ok"
    assert document == {
        "ok": False, "address": "A", "peer": "P", "agent": "agent", "at_unix_s": 12.5,
        "steps": [
            {"name": "connect", "outcome": "ok", "ms": 1.4, "detail": "127.0.0.1 port 9090", "remedy": ""},
            {
                "name": "reserve", "outcome": "failed", "ms": 12.0, "detail": "the relay is full",
                "remedy": "raise limits.max_reservations",
            },
        ],
    }  # fmt: skip


def test_the_names_of_the_steps_differ() -> None:
    assert len(set(STEPS)) == len(STEPS)
