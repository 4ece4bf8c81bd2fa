"""What the canary has found so far: one small file in the runtime directory, written by the canary, read by the admin.

The file outlives both processes, so a restart of either forgets nothing. No clock is read here; nothing waits.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, Final

import msgspec
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from config.settings import Canary
from supervisor.check.address import parse

FILE: Final = "canary.json"
MAX_FILE_BYTES: Final = 65_536


class Step(msgspec.Struct, frozen=True):
    """One step of a check, as `frost-relay check --json` prints it."""

    name: str
    outcome: str
    ms: float
    detail: str
    remedy: str = ""


class Found(msgspec.Struct, frozen=True):
    """What a check prints; whatever else it has is not looked at."""

    ok: bool
    steps: tuple[Step, ...]


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """The last run, and what has to be remembered of those before. `/status.json` shows it as it is."""

    address: str
    """What is checked; without the path, which may hold a secret."""
    interval_s: float
    runs: int = 0
    failures: int = 0
    ok: bool | None = None
    """None before the first run has ended."""
    last_run_unix_s: float | None = None
    last_success_unix_s: float | None = None
    failing_since_unix_s: float | None = None
    """When the first of the failures in a row ended; None while all is well."""
    failed_step: str = ""
    cause: str = ""
    remedy: str = ""
    steps: dict[str, float] = {}
    """Seconds for each step of the last run."""

    def after(self, found: Found, now_unix_s: float) -> Record:
        """The record with one more run."""
        failed = next((step for step in found.steps if step.outcome == "failed"), None)
        ok = found.ok and failed is None
        return msgspec.structs.replace(
            self,
            runs=self.runs + 1,
            failures=self.failures + (not ok),
            ok=ok,
            last_run_unix_s=now_unix_s,
            last_success_unix_s=now_unix_s if ok else self.last_success_unix_s,
            failing_since_unix_s=None if ok else self.failing_since_unix_s or now_unix_s,
            failed_step=failed.name if failed else "",
            cause=failed.detail if failed else "",
            remedy=failed.remedy if failed else "",
            steps={step.name: round(step.ms / 1000, 5) for step in found.steps},
        )

    def document(self) -> dict[str, Any]:
        """For `/status.json`."""
        return msgspec.structs.asdict(self)

    def metrics(self) -> Iterator[Metric]:
        """For `/metrics`; what a run has not told yet is left out."""
        runs = CounterMetricFamily("frost_relay_canary_runs", "Runs of the canary, by outcome.", labels=["outcome"])
        runs.add_metric(["ok"], self.runs - self.failures)
        runs.add_metric(["failed"], self.failures)
        yield runs
        if self.ok is not None:
            yield GaugeMetricFamily("frost_relay_canary_up", "1 when the canary's last run was well.", self.ok)
        for what, text, value in (
            ("run", "When the canary's last run ended.", self.last_run_unix_s),
            ("success", "When a run of the canary was last well.", self.last_success_unix_s),
        ):
            if value is not None:
                yield GaugeMetricFamily(f"frost_relay_canary_last_{what}_timestamp_seconds", text, value)
        steps = GaugeMetricFamily("frost_relay_canary_step_seconds", "Time of each step, last run.", labels=["step"])
        for step, seconds in self.steps.items():
            steps.add_metric([step.replace(" ", "_")], seconds)
        yield steps


_decode: Final = msgspec.json.Decoder(Record).decode


def fresh(settings: Canary, announced: tuple[str, ...], peer: str) -> Record:
    """Nothing has run yet."""
    address = str(parse(settings.address)) if settings.address else f"{announced[0]}/p2p/{peer}"
    return Record(address=address, interval_s=settings.interval_s)


def read(directory: str) -> Record | None:
    """What is in the file; None when there is none, or none that can be read."""
    try:
        with open(os.path.join(directory, FILE), "rb") as file:
            return _decode(file.read(MAX_FILE_BYTES))
    except (OSError, msgspec.DecodeError):
        return None


def write(directory: str, record: Record) -> None:
    """Put it in the place of what is there, whole or not at all: then it raises OSError, and what was there stays."""
    path = os.path.join(directory, FILE)
    try:
        with open(f"{path}.new", "wb") as file:
            file.write(msgspec.json.encode(record))
        os.replace(f"{path}.new", path)
    except OSError:
        with suppress(OSError):
            os.unlink(f"{path}.new")
        raise
