from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable

import psutil
import pytest

from supervisor.canary.record import Found
from supervisor.canary.run import MAX_OUTPUT_BYTES, CheckRun, command

WAIT_S = 30


def run(code: str, limit_s: float = WAIT_S, meanwhile: Callable[[CheckRun], None] = lambda run: None) -> list[Found]:
    """A check that is this Python; all that it was said to have found. No process is left."""

    async def play() -> list[Found]:
        found: list[Found] = []
        told = asyncio.Event()

        def ended(what: Found) -> None:
            found.append(what)
            told.set()

        check = CheckRun(asyncio.get_running_loop(), [sys.executable, "-c", code], ended, limit_s)
        meanwhile(check)
        if psutil.pid_exists(check.pid):
            await asyncio.wait_for(told.wait(), WAIT_S)
        assert not psutil.pid_exists(check.pid)
        return found

    return asyncio.run(play())


def test_what_the_check_prints_is_what_it_found() -> None:
    step = '{"name": "connect", "outcome": "ok", "ms": 1.5, "detail": "d", "remedy": ""}'
    (found,) = run(f'print(\'{{"ok": true, "address": "a", "steps": [{step}]}}\')')
    assert found.ok
    assert found.steps[0].name == "connect"


@pytest.mark.parametrize("code", ["", "print('{')", "raise SystemExit(3)", "print('[]')"])
def test_a_check_that_says_nothing_that_can_be_read_has_failed(code: str) -> None:
    (found,) = run(code)
    assert not found.ok
    assert found.steps[0].outcome == "failed"
    assert "by hand" in found.steps[0].remedy


def test_a_check_that_hangs_is_killed_and_has_failed() -> None:
    (found,) = run("import time; time.sleep(600)", limit_s=0.2)
    assert not found.ok
    assert "within 0.2 s and was killed" in found.steps[0].detail


def test_a_check_that_never_stops_talking_is_cut_off() -> None:
    talk = f"sys.stdout.write('x' * {MAX_OUTPUT_BYTES + 1}); sys.stdout.flush()"
    (found,) = run(f"import sys, time; {talk}; time.sleep(600)")
    assert not found.ok


def test_a_run_that_is_killed_says_nothing() -> None:
    assert run("import time; time.sleep(600)", meanwhile=lambda check: check.kill()) == []


def test_it_does_not_join_the_counters_of_the_relay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", "/somewhere")
    code = "import os; print('{\"ok\": %s, \"steps\": []}' % str('PROMETHEUS_MULTIPROC_DIR' not in os.environ).lower())"
    (found,) = run(code)
    assert found.ok


def test_an_address_is_never_taken_for_an_option() -> None:
    assert command("--help", "")[-2:] == ["--", "--help"]


def test_where_it_may_not_be_nice_it_runs_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """The hardened unit allows no setpriority."""

    def forbidden(_by: int) -> int:
        raise PermissionError

    monkeypatch.setattr(os, "nice", forbidden)
    (found,) = run('print(\'{"ok": true, "steps": []}\')')
    assert found.ok
