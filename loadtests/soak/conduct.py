"""The soak itself: users and strangers by locust, kills by chance, a sample now and then, and the look at the end.

One worker, like main, system and supervisor, is never killed, and in the second half neither are the registry and the
admin process: their memory then is one process's, and a leak would show. Must never end the relay before all has left.
"""

from __future__ import annotations

import csv
import os
import random
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from loadtests.load import Plan
from tests.support.builds import ROOT
from tests.support.leftovers import assert_gone, shared_memory, tree
from tests.support.relay import RelayProcess

SETTINGS: Final = (
    'listeners=[{address="/ip4/127.0.0.1/tcp/0/ws", workers=2}, {address="/ip4/127.0.0.1/tcp/0", workers=1}]',
    "limits.max_circuits=1000",
    "limits.max_circuits_per_peer=100",
    "supervision.hang_timeout_s=2",
    "supervision.backoff_max_s=2",
)
USERS: Final = {"ws": 40, "tcp": 12}
KILLED_BY: Final = (signal.SIGKILL, signal.SIGKILL, signal.SIGSEGV, signal.SIGSTOP)
SUCCESSOR_WITHIN_S: Final = 30.0
EMPTY_WITHIN_S: Final = 60.0
"""The last stranger who says nothing is ended after handshake_timeout_s."""
LEAVE_S: Final = 60.0
"""What locust gets to let its users leave."""


@dataclass(frozen=True)
class Sample:
    """The memory of each process at one moment, by its slot, and who it was."""

    at_s: float
    bytes: dict[str, int]
    pids: dict[str, int]


@dataclass(frozen=True)
class Kill:
    """One process that was ended, and how long its successor took to serve."""

    name: str
    how: str
    after_s: float


@dataclass
class Result:
    """All that is reported."""

    seconds: float
    users: dict[str, int]
    """How many, by their transport."""
    samples: list[Sample] = field(default_factory=list)
    kills: list[Kill] = field(default_factory=list)
    steps: dict[tuple[str, str], tuple[int, int]] = field(default_factory=dict)
    """What users did, by kind and name: how often, and how often it failed."""
    errors: Counter[str] = field(default_factory=Counter)
    """Why, of those who behave well."""
    audits: dict[str, Any] = field(default_factory=dict)
    empty_after_s: float | None = None
    """How long after the last user the relay held nothing; None: it still did."""
    held: dict[str, int] = field(default_factory=dict)
    faults: int = 0
    refusals: dict[str, int] = field(default_factory=dict)
    left: list[str] = field(default_factory=list)
    """What was there after the end and should not have been."""

    @property
    def half_s(self) -> float:
        """When the second half begins."""
        return self.seconds / 2


class Soak:
    """One run. `say` is told what happens, a line each."""

    def __init__(self, seconds: float, users: float, folder: Path, say: Callable[[str], None], seed: int = 7) -> None:
        """`users`: a share of the usual number."""
        self._seconds = seconds
        self._folder = folder
        self._say = say
        self._chance = random.Random(seed)
        self._result = Result(seconds, {name: max(3, round(usual * users)) for name, usual in USERS.items()})
        self._every_s = min(max(seconds / 60, 3.0), 20.0)

    def run(self) -> Result:
        """From the start of the relay to its end."""
        with RelayProcess(*SETTINGS, listeners=()) as relay:
            locusts = [self._locust(relay, transport, users) for transport, users in self._result.users.items()]
            try:
                self._live(relay)
                for each in locusts:
                    each.wait(LEAVE_S)
            finally:
                for each in locusts:
                    each.kill()
                    each.wait()
            self._look(relay)
            self._end(relay)
        self._read_steps()
        return self._result

    def _locust(self, relay: RelayProcess, transport: str, users: int) -> subprocess.Popen[bytes]:
        plan = Plan(self._seconds, users, "soak", 1, self._folder / transport)
        plan.reports.mkdir(parents=True, exist_ok=True)
        asked = {"SHAPE": plan.shape, "USERS": str(plan.users), "SECONDS": f"{plan.seconds:.0f}"}
        command = plan.command(relay.address(transport))
        with (plan.reports / "log").open("wb") as log:
            return subprocess.Popen(command, cwd=ROOT, env={**os.environ, **asked}, stdout=log, stderr=log)

    # --- while it goes on ---

    def _live(self, relay: RelayProcess) -> None:
        began_s = time.monotonic()
        next_kill_s = self._every_s
        while (now_s := time.monotonic() - began_s) < self._seconds:
            self._sample(relay, now_s)
            if now_s >= next_kill_s and self._seconds - now_s > self._every_s:
                self._kill(relay, second_half=now_s > self._result.half_s)
                next_kill_s += self._every_s
            time.sleep(min(5.0, self._every_s / 2))

    def _sample(self, relay: RelayProcess, now_s: float) -> None:
        workers = relay.wait_status(lambda _: True)["workers"]
        sizes = {each["name"]: each["memory_bytes"] for each in workers if each["state"] == "ready"}
        pids = {each["name"]: each["pid"] for each in workers}
        self._result.samples.append(Sample(now_s, sizes, pids))

    def _kill(self, relay: RelayProcess, *, second_half: bool) -> None:
        workers = relay.wait_status(lambda _: True)["workers"]
        listeners = [each for each in workers if each["role"] == "listener"][1:]  # the first is spared
        others = [each for each in workers if each["role"] in {"registry", "admin"}]
        victim = self._chance.choice(listeners if second_half else [*listeners, *others])
        how = self._chance.choice(KILLED_BY)
        name, pid = victim["name"], victim["pid"]
        began_s = time.monotonic()
        if not pid:
            return
        os.kill(pid, how)

        def serves(status: dict[str, Any]) -> bool:
            row = next(each for each in status["workers"] if each["name"] == name)
            return row["pid"] not in {0, pid} and row["state"] == "ready"

        relay.wait_status(serves, SUCCESSOR_WITHIN_S)
        self._result.kills.append(Kill(name, how.name, time.monotonic() - began_s))
        self._say(f"{how.name} {name}: served again after {self._result.kills[-1].after_s * 1000:.0f} ms")

    # --- when all have left ---

    def _look(self, relay: RelayProcess) -> None:
        """Nothing may be held any more, and the registry has to agree."""
        begin_s = time.monotonic()

        def empty(status: dict[str, Any]) -> bool:
            registry = next(each for each in status["workers"] if each["role"] == "registry")
            names = ("connections", "reservations", "circuits")
            self._result.held = {name: max(status[name], registry[name]) for name in names}
            return not any(self._result.held.values()) and not status["pending_handshakes"]

        try:
            relay.wait_status(empty, EMPTY_WITHIN_S)
            self._result.empty_after_s = time.monotonic() - begin_s
        except TimeoutError:
            self._say(f"still held: {self._result.held}")
        settled_s = time.monotonic()
        status = relay.wait_status(lambda now: (now["audit"]["age_s"] or 1e9) < time.monotonic() - settled_s, 60)
        self._result.audits = status["audit"]
        self._result.refusals = {reason: count for reason, count in status["refusals"].items() if count}
        self._result.faults = int(_counter(relay, "frost_relay_faults_total"))

    def _end(self, relay: RelayProcess) -> None:
        pids = tree(relay.pid)
        shared = shared_memory(pids)
        left = self._result.left
        code = relay.stop()
        if code:
            left.append(f"exit code {code}")
        try:
            assert_gone(pids)
        except AssertionError as error:
            left.append(f"processes {error}")
        left += [str(path.name) for path in relay.directory.glob("frost-relay-*")]
        left += [str(relay.control_socket.name)] if relay.control_socket.exists() else []
        left += sorted(str(path) for path in shared if path.exists())
        if "Traceback" in relay.stderr:
            left.append("a stack trace in the log")
            self._say(relay.stderr)

    def _read_steps(self) -> None:
        for transport in self._result.users:
            folder = self._folder / transport
            for row in _rows(folder / "figures_stats.csv"):
                if row["Name"] != "Aggregated":
                    key = row["Type"], row["Name"]
                    self._result.steps[key] = int(row["Request Count"]), int(row["Failure Count"])
            for row in _rows(folder / "figures_failures.csv"):
                if row["Method"] != "stranger":
                    self._result.errors[f"{row['Name']}: {row['Error']}"] += int(row["Occurrences"])


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def _counter(relay: RelayProcess, name: str) -> float:
    _, text = relay.get("/metrics")
    return sum(float(line.rpartition(" ")[2]) for line in text.splitlines() if line.startswith(f"{name} "))
