"""What the relay is to cost, as shares of what others cost in the same run, and whether it does."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from loadtests.runs import Outcome, ratio

MIB: Final = 1 << 20
IDLE_LIMIT_BYTES: Final = 90 * MIB
SCALING_GOAL: Final = 1.8
# Rows of ours with both peers in one worker have the first goal, the one with peers apart the other.
TOGETHER: Final = ("ours", "ours, two workers, peers together")
APART: Final = "ours, two workers, peers apart"


@dataclass(frozen=True)
class Goal:
    """At most so many times what the cheapest of `against` costs."""

    measure: str
    title: str
    against: tuple[str, ...]
    together: float
    apart: float


GOALS: Final = (
    Goal("reserve_s", "connect + identify + reserve", ("rust-libp2p",), 0.95, 0.95),
    Goal("peer_bytes", "memory a reserved peer", ("rust-libp2p",), 0.4, 0.4),
    Goal("circuit_s", "circuit", ("rust-libp2p", "go-libp2p"), 0.8, 1.5),
    Goal("round_trip_s", "round trip of 600 bytes", ("rust-libp2p",), 0.9, 1.6),
    Goal("bulk_s_per_gb", "bulk", ("rust-libp2p",), 0.7, 1.3),
    Goal("session_s", "session", ("rust-libp2p",), 0.8, 1.0),
)


@dataclass(frozen=True)
class Verdict:
    """One goal of one row; `found` is None when it could not be measured."""

    title: str
    who: str
    wanted: str
    found: str
    met: bool | None


def verdicts(outcomes: Mapping[str, Outcome]) -> list[Verdict]:
    """All goals."""
    found = [_against(goal, who, outcomes) for goal in GOALS for who in (*TOGETHER, APART)]
    idle = outcomes["ours"].median("idle_bytes")
    found.append(_verdict("idle relay on one core", "ours", "≤ 90 MiB", idle, IDLE_LIMIT_BYTES, "{:.0f} MiB", MIB))
    gain = scaling(outcomes)
    met = None if gain is None else gain >= SCALING_GOAL
    found.append(Verdict("sessions a second, two cores against one", "ours", "≥ 1.8 ×", _said(gain, "{:.2f} ×"), met))
    return found


def scaling(outcomes: Mapping[str, Outcome]) -> float | None:
    """How many times the sessions a second two workers on two cores serve, of what one serves on one.

    Both are limited by the CPU that the whole tree takes for a session; two cores have twice as much of it. The kernel
    puts half of all pairs together and half apart.
    """
    shares = [ratio(outcomes[who], outcomes["ours"], "session_s") for who in (TOGETHER[1], APART) if who in outcomes]
    known = [share for share in shares if share is not None]
    return 2 / (sum(known) / len(known)) if len(known) == 2 else None


def _against(goal: Goal, who: str, outcomes: Mapping[str, Outcome]) -> Verdict:
    limit = goal.apart if who == APART else goal.together
    others = [outcomes[name] for name in goal.against if name in outcomes]
    ratios = [ratio(outcomes[who], other, goal.measure) for other in others] if who in outcomes else []
    known = [each for each in ratios if each is not None]
    names = " and ".join(name.removesuffix("-libp2p") for name in goal.against)
    wanted = f"≤ {limit} × {'the better of ' if len(goal.against) > 1 else ''}{names}"
    # Against the cheapest of them the ratio is the highest.
    return _verdict(goal.title, who, wanted, max(known, default=None), limit, "{:.2f} ×", 1)


def _verdict(title: str, who: str, wanted: str, found: float | None, limit: float, form: str, unit: float) -> Verdict:
    said = _said(None if found is None else found / unit, form)
    return Verdict(title, who, wanted, said, None if found is None else found <= limit)


def _said(value: float | None, form: str) -> str:
    return "not measured" if value is None else form.format(value)
