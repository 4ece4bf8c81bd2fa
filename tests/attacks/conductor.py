"""Plays an attack on a relay that others use, and measures what they notice of it.

Relay, victims, newcomers and attackers are processes of their own; here the relay is only looked at. What is measured
as time is told and never asserted.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from math import ceil
from types import TracebackType
from typing import Any, Final, Self

from supervisor.admin.memory import read_memory_bytes
from tests.attacks.catalogue import Attack, Sign
from tests.scenarios.scene import counter
from tests.support.relay import ROOT, RelayProcess

SETTINGS: Final = (
    # As they are by default: tests have them off.
    'limits.reservation_rate_per_peer="30/1h"',
    'limits.reservation_rate_per_ip="60/1h"',
    'limits.circuit_rate_per_peer="30/1h"',
    'limits.circuit_rate_per_ip="60/1h"',
    'limits.connection_rate_per_ip="600/1m"',
    # The victims' circuit goes on.
    "limits.circuit_duration_s=0",
    "limits.circuit_bytes=0",
)
VISIBLE_LIMIT_S: Final = 15.0
RETURN_LIMIT_S: Final = 20.0
RETURN_SHARE: Final = 1.1
LOOK_S: Final = 0.1
START_LIMIT_S: Final = 30.0


@dataclass(frozen=True)
class Outcome:
    """What one attack did."""

    attack: Attack
    lost: str
    """What the victims lost; "" for nothing."""
    quiet_p99_s: float
    attack_p99_s: float
    came: int
    """Newcomers that began to arrive meanwhile."""
    kept_out: tuple[str, ...]
    """Why those that did not get in did not."""
    memory_before_bytes: int
    memory_most_bytes: int
    memory_after_bytes: int
    seen_s: dict[Sign, float]
    """After how long each sign was in metrics and log."""

    @property
    def let_in(self) -> float:
        """The share of the newcomers that got in."""
        return 1.0 - len(self.kept_out) / self.came if self.came else 0.0

    @property
    def returned(self) -> bool:
        """Whether memory is what it was, within a tenth."""
        return self.memory_after_bytes <= RETURN_SHARE * self.memory_before_bytes


class People:
    """A process of people.py, and what it has said."""

    def __init__(self, role: str, relay: RelayProcess) -> None:
        command = [sys.executable, "-m", "tests.attacks.people", role, relay.address("ws"), relay.address("tcp")]
        self._process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.said: list[dict[str, Any]] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as lines:
            for line in lines:
                self.said.append(json.loads(line))

    def __enter__(self) -> Self:
        wait(lambda: self.said or self._process.poll() is not None, START_LIMIT_S)
        if not self.said or "ready" not in self.said[0]:
            raise AssertionError(f"they did not get ready: {self.said}")
        return self

    def __exit__(self, *details: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._reader.join(5)

    def between(self, from_s: float, to_s: float) -> list[dict[str, Any]]:
        """What began then."""
        return [each for each in self.said[1:] if from_s <= each["at_s"] < to_s]

    def errors(self) -> list[str]:
        """What went wrong."""
        return [each["error"] for each in self.said[1:] if "error" in each]

    def until(self, at_s: float) -> None:
        """Wait until everything that began before is told, for as long as they live."""
        wait(lambda: self.said[-1].get("at_s", 0.0) >= at_s or self._process.poll() is not None, START_LIMIT_S)


class Conductor:
    """Context manager: a relay with its default limits, and those who use it."""

    def __init__(self) -> None:
        self.relay: RelayProcess
        self.victims: People
        self.newcomers: People
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self.relay = stack.enter_context(RelayProcess(*SETTINGS))
            self.victims = stack.enter_context(People("victims", self.relay))
            self.newcomers = stack.enter_context(People("newcomers", self.relay))
            self._pids = [each["pid"] for each in self.relay.status()["workers"]]
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    def play(self, attack: Attack, quiet_s: float, attack_s: float) -> Outcome:
        """One attack, after a time without; it goes on until it has been seen, for VISIBLE_LIMIT_S at most."""
        before_bytes = self._memory_bytes()
        watch = Watch(self.relay, attack)
        quiet_from_s = time.monotonic()
        wait_until(quiet_from_s + quiet_s)
        quiet_to_s = time.monotonic()
        most_bytes = before_bytes
        with self._attackers(attack) as attackers:
            assert attackers.stdout is not None
            assert attackers.stdout.readline() == b"begins\n"
            begun_s = time.monotonic()
            while time.monotonic() < begun_s + (attack_s if watch.complete else VISIBLE_LIMIT_S):
                assert attackers.poll() is None, "the attackers have failed"
                watch.look(begun_s)
                most_bytes = max(most_bytes, self._memory_bytes())
                wait_until(time.monotonic() + LOOK_S)
            ended_s = time.monotonic()
        self.victims.until(ended_s)
        self.newcomers.until(ended_s)
        came = self.newcomers.between(begun_s, ended_s)
        return Outcome(
            attack,
            "; ".join(self.victims.errors()),
            p99(self.victims.between(quiet_from_s, quiet_to_s)),
            p99(self.victims.between(begun_s, ended_s)),
            len(came),
            tuple(each["error"] for each in came if "error" in each),
            before_bytes,
            most_bytes,
            self._memory_afterwards_bytes(before_bytes),
            watch.seen_s,
        )

    @contextmanager
    def _attackers(self, attack: Attack) -> Iterator[subprocess.Popen[bytes]]:
        addresses = [self.relay.address("ws"), self.relay.address("tcp")]
        command = [sys.executable, "-m", "tests.attacks.generator", attack.name, *addresses]
        with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
            try:
                yield process
            finally:
                process.kill()  # the kernel resets what it has

    def _memory_bytes(self) -> int:
        return sum(map(read_memory_bytes, self._pids))

    def _memory_afterwards_bytes(self, before_bytes: int) -> int:
        """As soon as it is what it was, or when it has had time enough."""
        latest = 0

        def returned() -> bool:
            nonlocal latest
            latest = self._memory_bytes()
            return latest <= RETURN_SHARE * before_bytes

        wait(returned, RETURN_LIMIT_S)
        return latest


class Watch:
    """Looks for an attack's signs in metrics and log."""

    def __init__(self, relay: RelayProcess, attack: Attack) -> None:
        self._relay = relay
        self._signs = attack.signs
        self._lines = len(relay.stderr)
        self._before = {sign: self._count(sign) for sign in attack.signs}
        self.seen_s: dict[Sign, float] = {}

    @property
    def complete(self) -> bool:
        """Whether all have been seen."""
        return len(self.seen_s) == len(self._signs)

    def look(self, begun_s: float) -> None:
        """Once more for those that have not been."""
        if self.complete:
            return
        log = self._relay.stderr[self._lines :]
        for sign in self._signs:
            if sign not in self.seen_s and re.search(sign.line, log) and self._count(sign) > self._before[sign]:
                self.seen_s[sign] = time.monotonic() - begun_s

    def _count(self, sign: Sign) -> float:
        return counter(self._relay, sign.metric, **{sign.label: sign.value})


def p99(said: list[dict[str, Any]]) -> float:
    """Of what was told, the time that one in a hundred took longer than; 0 of nothing."""
    took = sorted(each["took_s"] for each in said)
    return took[ceil(0.99 * len(took)) - 1] if took else 0.0


def wait(condition: Callable[[], object], limit_s: float) -> None:
    """Until it holds, or for so long."""
    end_s = time.monotonic() + limit_s
    while not condition() and time.monotonic() < end_s:
        time.sleep(0.02)


def wait_until(at_s: float) -> None:
    """Let time pass."""
    time.sleep(max(0.0, at_s - time.monotonic()))
