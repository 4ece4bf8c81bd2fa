"""`make load`: locust's browsers against a relay of its own, without a web interface.

SECONDS, USERS, SHAPE (ramp, storm or soak; without it USERS come within five seconds and stay) and WORKERS (of the
relay) are taken from the environment. The report stays in .cache/load. The exit code is locust's: not 0 when a
well-behaved user failed.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NoReturn, Self

from loadtests.browsers import SHAPES
from loadtests.returning import ReturningRelay
from tests.support.builds import ROOT
from tests.support.ports import free_port

REPORTS: Final = ROOT / ".cache" / "load"
LOCUSTFILE: Final = ROOT / "loadtests" / "locustfile.py"
STORM: Final = "storm"
RESTART_AT: Final = 0.75
"""When in a storm the relay is stopped and started again, as a share of the time."""
GRACE_S: Final = 60.0
"""How long locust may take beyond its time to start, to let its users leave and to write its report."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run is. `settings` are the relay's, on top of those of a load test."""

    seconds: float
    users: int
    shape: str
    workers: int
    reports: Path = REPORTS
    settings: tuple[str, ...] = ()

    @classmethod
    def from_environment(cls) -> Self:
        """What the user asked for; ends with exit code 2 and a line that says what is wrong."""
        return cls(
            seconds=_number("SECONDS", 120),
            users=_number("USERS", 100),
            shape=_shape(),
            workers=_number("WORKERS", 1),
        )

    def command(self, address: str) -> list[str]:
        """How locust is called."""
        mode = [] if self.shape else ["--users", str(self.users), "--spawn-rate", str(max(1, self.users / 5))]
        limit = [] if self.shape else ["--run-time", f"{self.seconds:.0f}s"]
        report = ["--html", str(self.reports / "report.html"), "--csv", str(self.reports / "figures")]
        output = ["--only-summary", "--loglevel", "WARNING"]
        locust = [sys.executable, "-m", "locust", "-f", str(LOCUSTFILE), "--headless", "--host", address]
        return [*locust, *mode, *limit, *report, *output]


def run(plan: Plan) -> int:
    """Start the relay and locust, in a storm restart the relay; locust's exit code."""
    plan.reports.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="frost-relay-load-") as home:
        port = free_port()
        relay = ReturningRelay(Path(home), port, plan.workers, plan.settings)
        with relay:
            locust = _start(plan, relay.address("/ws/"))
            try:
                _wait(locust, plan.seconds * RESTART_AT if plan.shape == STORM else plan.seconds + GRACE_S)
            except BaseException:
                _end(locust)
                raise
        if locust.returncode is None:  # a storm: everybody has lost the relay
            with ReturningRelay(Path(home), port, plan.workers, plan.settings):
                _wait(locust, plan.seconds + GRACE_S)
                _end(locust)
    return locust.returncode


def _start(plan: Plan, address: str) -> subprocess.Popen[bytes]:
    asked = {"SHAPE": plan.shape, "USERS": str(plan.users), "SECONDS": f"{plan.seconds:.0f}"}
    return subprocess.Popen(plan.command(address), cwd=ROOT, env={**os.environ, **asked}, start_new_session=True)


def _wait(locust: subprocess.Popen[bytes], limit_s: float) -> None:
    try:
        locust.wait(limit_s)
    except subprocess.TimeoutExpired:
        return


def _end(locust: subprocess.Popen[bytes]) -> None:
    if locust.poll() is None:
        locust.terminate()
        _wait(locust, GRACE_S)
    if locust.poll() is None:
        locust.kill()
        locust.wait()


def _number(name: str, default: int) -> int:
    text = os.environ.get(name) or str(default)
    if not text.isdecimal() or not int(text):
        _refuse(name, text, "a whole number above 0")
    return int(text)


def _shape() -> str:
    name = os.environ.get("SHAPE", "")
    if name and name not in SHAPES:
        _refuse("SHAPE", name, f"one of {', '.join(SHAPES)}, or nothing")
    return name


def _refuse(name: str, text: str, expected: str) -> NoReturn:
    sys.stderr.write(f"make load: {name} = {text!r}: expected {expected}\n")
    sys.exit(2)


def main() -> int:
    """The run that was asked for, and where its report is."""
    plan = Plan.from_environment()
    begin = time.monotonic()
    code = run(plan)
    where = (plan.reports / "report.html").relative_to(ROOT)
    verdict = "no well-behaved user failed" if not code else f"failed (exit code {code})"
    sys.stdout.write(f"{time.monotonic() - begin:.0f} s, {verdict}; the report is {where}\n")
    return code


if __name__ == "__main__":
    sys.exit(main())
