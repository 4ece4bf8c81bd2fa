"""`make soak` in short: everything together for a quarter of a minute, and nothing stays of it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from loadtests.soak.conduct import Soak
from loadtests.soak.report import judge, markdown
from tests.support.builds import ROOT


def test_churn_strangers_and_kills_leave_a_clean_relay(tmp_path: Path) -> None:
    said: list[str] = []
    result = Soak(20.0, 0.3, tmp_path, said.append).run()
    assert [(what, was) for what, was, so in judge(result) if not so] == [], said
    assert len(said) == len(result.kills) >= 3
    done = {name for (kind, name), (times, _) in result.steps.items() if kind != "stranger" and times}
    assert done >= {"connect", "upgrade", "identify", "reserve", "circuit", "message"}
    assert "| **no** |" not in markdown(result)


@pytest.mark.parametrize("minutes", ["0", "soon", "1e9"])
def test_a_number_of_minutes_that_cannot_be_is_named(minutes: str) -> None:
    command = [sys.executable, "-m", "loadtests.soak", "--minutes", minutes]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 2
    assert f"'{minutes}': expected a number of minutes from 0.25 to 10080" in done.stderr
