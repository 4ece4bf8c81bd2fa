"""`make load` in short: locust runs in a process of its own, since it patches whatever it is imported into."""

from __future__ import annotations

import csv
import subprocess
from pathlib import Path

import pytest

from loadtests.load import Plan, run
from tests.support.builds import ROOT
from tests.support.ports import free_port

STEPS = {"connect", "upgrade", "identify", "reserve", "renew", "circuit", "message", "leave"}


def rows(folder: Path, name: str) -> list[dict[str, str]]:
    with (folder / f"figures_{name}.csv").open() as file:
        return list(csv.DictReader(file))


def test_well_behaved_users_come_through_a_storm_and_a_restart_without_a_failure(tmp_path: Path) -> None:
    plan = Plan(7, 16, "storm", 1, tmp_path, ("limits.handshake_timeout_s=1",))
    code = run(plan)
    assert [row for row in rows(tmp_path, "failures") if row["Method"] != "stranger"] == []
    assert code == 0
    told = {row["Name"]: row for row in rows(tmp_path, "stats")}
    assert set(told) >= STEPS | {"goodbye"}
    assert float(told["message"]["Average Content Size"]) > 500
    assert "<html" in (tmp_path / "report.html").read_text()


def test_a_failure_of_a_well_behaved_user_is_named_and_fails_the_run(tmp_path: Path) -> None:
    code = run(Plan(4, 15, "", 1, tmp_path, ("limits.max_reservations=1", "limits.max_reservations_per_ip=1")))
    assert code == 1
    failed = {(row["Name"], row["Error"]) for row in rows(tmp_path, "failures")}
    assert ("reserve", "RefusedError('RESERVATION_REFUSED')") in failed


def test_an_address_that_cannot_be_dialled_is_named(tmp_path: Path) -> None:
    command = Plan(3, 1, "", 1, tmp_path).command("http://127.0.0.1:1")
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 2
    assert "host = 'http://127.0.0.1:1': expected /ip4|ip6" in done.stderr


def test_a_relay_that_is_not_there_fails_the_run(tmp_path: Path) -> None:
    command = Plan(1, 1, "", 1, tmp_path).command(f"/ip4/127.0.0.1/tcp/{free_port()}/ws")
    assert subprocess.run(command, cwd=ROOT, capture_output=True, check=False, timeout=60).returncode == 1


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("SECONDS", "soon", "a whole number above 0"),
        ("USERS", "0", "a whole number above 0"),
        ("SHAPE", "wave", "one of ramp, soak, storm, or nothing"),
    ],
)
def test_what_was_asked_for_wrongly_is_named(
    name: str, value: str, expected: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit) as end:
        Plan.from_environment()
    assert end.value.code == 2
    assert capsys.readouterr().err == f"make load: {name} = {value!r}: expected {expected}\n"
