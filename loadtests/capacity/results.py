"""What a run has measured, and the goals that it is held against. Figures in, verdicts out; measures nothing itself."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from itertools import pairwise
from typing import Final

GIB: Final = 1 << 30
GOAL_PEERS: Final = 40_000
GOAL_IDLE_PEERS: Final = 10_000
GOAL_RAMP_PEERS: Final = 20_000
GOAL_STORM_PEERS: Final = 19_500
GOAL_IDLE_SHARE: Final = 0.015
GOAL_RAMP_DRIFT: Final = 0.15
GOAL_RENEWED_S: Final = 6.0
GOAL_RETURN_CPU_S: Final = 12.0
GOAL_MEMORY_DRIFT: Final = 0.05
RENEW_WITHIN_S: Final = 5.0
PEERS_A_CROWD: Final = 10_000
UNEVEN: Final = 1.02
"""How many times its share the fullest of several workers may hold."""
OTHER_DESCRIPTORS: Final = 100


@dataclass(frozen=True, slots=True)
class Sizes:
    """How many peers each part of a run takes, for a run of so many in all."""

    peers: int

    @property
    def idle(self) -> int:
        """Who is there while the idle CPU and the sessions are measured."""
        return min(self.peers, GOAL_IDLE_PEERS)

    @property
    def ramp(self) -> int:
        """Over whom the first and the last fifth are compared."""
        return min(self.peers, GOAL_RAMP_PEERS)

    @property
    def storm(self) -> int:
        """Who renews, and who comes back."""
        return min(self.peers, GOAL_STORM_PEERS)

    @property
    def workers(self) -> int:
        """How many processes share the port: each may hold 20,000 descriptors, and the kernel deals them unevenly."""
        return 1 if self.peers <= GOAL_STORM_PEERS else -(-self.peers // 18_000)

    @property
    def descriptors(self) -> int:
        """How many a process of the run may need: the fullest of the relay's, or a crowd."""
        return int(max(self.peers / self.workers * UNEVEN, min(self.peers, PEERS_A_CROWD))) + OTHER_DESCRIPTORS

    def steps(self) -> list[int]:
        """At which numbers of peers growth is measured."""
        fifths = {self.ramp * part // 5 for part in range(1, 6)}
        above = {self.ramp + (self.peers - self.ramp) * part // 2 for part in (1, 2)}
        return sorted(fifths | above | {self.idle})


@dataclass(frozen=True, slots=True)
class Growth:
    """One step: from `before` to `peers`."""

    before: int
    peers: int
    cpu_s: float
    wall_s: float
    memory_bytes: int


@dataclass(frozen=True, slots=True)
class Renewals:
    """The renewal storm."""

    peers: int
    answered_s: float
    waits_s: tuple[float, float, float]
    """Median, 99th percentile and maximum of what a peer waited."""
    refused: int
    cpu_s: float
    memory_before_bytes: int
    memory_after_bytes: int


@dataclass(frozen=True, slots=True)
class Return:
    """The restart."""

    peers: int
    back: int
    back_s: float
    tries: int
    cpu_s: float
    listen_overflows: int
    memory_bytes: int
    """Of the relay that they came back to."""


@dataclass(frozen=True, slots=True)
class Result:
    """A whole run."""

    sizes: Sizes
    empty_bytes: int
    growth: tuple[Growth, ...]
    idle_share: float
    """CPU of a core that the idle ones take, keep-alive included."""
    idle_s: float
    session_s: float
    renewals: Renewals
    returned: Return

    def enter_s(self, step: Growth) -> float:
        """CPU of one connect and reserve, without the keep-alive of those who are there meanwhile."""
        keep_alive_s = self.idle_share / self.sizes.idle * (step.before + step.peers) / 2 * step.wall_s
        return (step.cpu_s - keep_alive_s) / (step.peers - step.before)

    def fifths_s(self) -> tuple[float, float]:
        """The cost of the first and of the last fifth of the ramp."""
        fifth = self.sizes.ramp // 5
        first = [step for step in self.growth if step.peers <= fifth]
        last = [step for step in self.growth if self.sizes.ramp - fifth <= step.before < self.sizes.ramp]
        return self._mean_s(first), self._mean_s(last)

    def _mean_s(self, steps: list[Growth]) -> float:
        count = sum(step.peers - step.before for step in steps)
        return sum(self.enter_s(step) * (step.peers - step.before) for step in steps) / count

    def memory_at(self, peers: int) -> float:
        """What the growing relay took with so many, between two steps in proportion."""
        points = [(0, self.empty_bytes), *((step.peers, step.memory_bytes) for step in self.growth)]
        for (low, below), (high, above) in pairwise(points):
            if peers <= high:
                return below + (above - below) * (peers - low) / (high - low)
        return points[-1][1]

    def peer_bytes(self) -> float:
        """Memory of one more peer, over the whole growth."""
        return (self.growth[-1].memory_bytes - self.empty_bytes) / self.growth[-1].peers

    def fit(self, memory_bytes: float) -> int:
        """How many peers fit, by what one takes, once each has renewed."""
        renewal_bytes = (self.renewals.memory_after_bytes - self.renewals.memory_before_bytes) / self.renewals.peers
        return int((memory_bytes - self.empty_bytes) / (self.peer_bytes() + max(0.0, renewal_bytes)))


class Verdict(Enum):
    """How a goal stands."""

    MET = "met"
    MISSED = "missed"
    TOO_SMALL = "not at this size"


@dataclass(frozen=True, slots=True)
class Judged:
    """One goal: what was wanted, what came out."""

    goal: str
    measured: str
    verdict: Verdict


def judge(result: Result) -> Iterator[Judged]:
    """All goals, one a check. A run that is smaller than a goal says nothing about it."""
    sizes, renewals, returned = result.sizes, result.renewals, result.returned

    def judged(goal: str, measured: str, met: bool, size: int, wanted: int) -> Judged:
        return Judged(goal, measured, Verdict.TOO_SMALL if size < wanted else Verdict.MET if met else Verdict.MISSED)

    grown_bytes = result.memory_at(returned.peers)
    held_bytes = result.growth[-1].memory_bytes + max(0, renewals.memory_after_bytes - renewals.memory_before_bytes)
    yield judged(
        "40,000 reserved browsers in 1 GiB, after a storm of renewals too",
        f"{sizes.peers:,} in {held_bytes / GIB:.2f} GiB",
        held_bytes <= GIB,
        sizes.peers,
        GOAL_PEERS,
    )
    yield judged(
        "10,000 idle ones, keep-alive included: under 1.5 % of a core",
        f"{sizes.idle:,} take {result.idle_share:.2%}",
        result.idle_share < GOAL_IDLE_SHARE,
        sizes.idle,
        GOAL_IDLE_PEERS,
    )
    first_s, last_s = result.fifths_s()
    yield judged(
        "connect and reserve: the last fifth of 20,000 within 15 % of the first",
        f"{first_s * 1e3:.2f} and {last_s * 1e3:.2f} ms of CPU ({last_s / first_s - 1:+.0%})",
        abs(last_s / first_s - 1) <= GOAL_RAMP_DRIFT,
        sizes.ramp,
        GOAL_RAMP_PEERS,
    )
    yield judged(
        "19,500 renew within 5 s: all answered within 6 s",
        f"{renewals.peers:,} answered after {renewals.answered_s:.1f} s, {renewals.refused} refused",
        renewals.answered_s <= GOAL_RENEWED_S and not renewals.refused,
        renewals.peers,
        GOAL_STORM_PEERS,
    )
    yield judged(
        "memory after the renewals within 5 % of before",
        _drift(renewals.memory_before_bytes, renewals.memory_after_bytes),
        renewals.memory_after_bytes <= renewals.memory_before_bytes * (1 + GOAL_MEMORY_DRIFT),
        renewals.peers,
        GOAL_STORM_PEERS,
    )
    yield judged(
        "a restart with 19,500: all back and reserved for under 12 s of the relay's CPU",
        f"{returned.back:,} of {returned.peers:,} for {returned.cpu_s:.1f} s",
        returned.back == returned.peers and returned.cpu_s < GOAL_RETURN_CPU_S,
        returned.peers,
        GOAL_STORM_PEERS,
    )
    yield judged(
        "no listen overflow meanwhile",
        f"{returned.listen_overflows} (TcpExtListenOverflows)",
        not returned.listen_overflows,
        returned.peers,
        GOAL_STORM_PEERS,
    )
    yield judged(
        "memory after it within 5 % of what as many took before",
        _drift(grown_bytes, returned.memory_bytes),
        returned.memory_bytes <= grown_bytes * (1 + GOAL_MEMORY_DRIFT),
        returned.peers,
        GOAL_STORM_PEERS,
    )


def _drift(before: float, after: float) -> str:
    return f"{before / 1e6:.0f} and {after / 1e6:.0f} MB ({after / before - 1:+.1%})"
