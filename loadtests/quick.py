"""`make bench-quick`: this relay beside rust and go in under two minutes, and against the last time.

Results stay in .cache/bench/quick of the worktree, one file a run: figures of another machine say nothing here. The CPU
times move with whatever else the machine does, the ratios to the other relays hardly, so both are shown.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import uvloop

from loadtests import measures
from loadtests.machine import commit
from loadtests.relays import CACHE, OurRelay, RelayProgram, go_relay, is_built, rust_relay
from loadtests.runs import Outcome, Run, Step, ratio

STORED: Final = CACHE / "quick"
BUDGET_S: Final = 75.0
ROUNDS_AT_LEAST: Final = 3
STEPS: Final = (
    Step(measures.reservations, 40),
    Step(measures.sessions, 20),
    Step(measures.circuits, 60),
    Step(measures.round_trips, 400),
)
FIGURES: Final = (
    ("reserve_s", "connect+reserve", 1e3, "ms"),
    ("session_s", "session", 1e3, "ms"),
    ("circuit_s", "circuit", 1e6, "µs"),
    ("round_trip_s", "round trip", 1e6, "µs"),
)
OTHERS: Final[dict[str, Callable[[], RelayProgram]]] = {"rust": rust_relay, "go": go_relay}


async def measure(build: bool) -> dict[str, Outcome]:
    """Batches go round for as long as the budget lasts."""
    makers: dict[str, Callable[[], RelayProgram]] = {"ours": OurRelay}
    makers |= {name: make for name, make in OTHERS.items() if build or is_built(name)}
    for name in OTHERS.keys() - makers.keys():
        _say(f"{name} is not built: make bench-quick ARGS=--build measures it too (building takes minutes)")
    outcomes: dict[str, Outcome] = {}
    async with Run(makers, outcomes, _nothing) as run:
        end, turn = time.monotonic() + BUDGET_S, 0
        while turn < ROUNDS_AT_LEAST or time.monotonic() < end:
            await run.round(STEPS, turn)
            turn += 1
    return outcomes


def summary(outcomes: dict[str, Outcome]) -> dict[str, Any]:
    """What is stored, and compared the next time."""
    return {
        "commit": commit(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "relays": {
            name: {
                "failures": outcome.failures,
                "figures": {key: outcome.median(key) for key, *_ in FIGURES},
                "spreads": {key: outcome.spread(key) for key, *_ in FIGURES},
                "ratios": {key: ratio(outcomes["ours"], outcome, key) for key, *_ in FIGURES},
            }
            for name, outcome in outcomes.items()
        },
    }


def table(now: dict[str, Any], last: dict[str, Any] | None) -> str:
    """Both results, line by line, and how one became the other."""
    lines = [f"now:  {now['commit']}, {now['date']}"]
    if last:
        lines.append(f"last: {last['commit']}, {last['date']}")
    lines.append(f"{'':17}{'':21}{'now':>10} {'spread':>7} {'last':>10} {'now/last':>9}")
    for key, title, scale, unit in FIGURES:
        for name, relay in now["relays"].items():
            before = last["relays"].get(name) if last else None
            spread = f"±{relay['spreads'][key] * 50:.0f} %"
            lines.append(f"{title:17}{name + ' ' + unit:21}{_pair(relay, before, 'figures', key, scale, spread)}")
            if name != "ours":
                lines.append(f"{'':17}{'  ours/' + name:21}{_pair(relay, before, 'ratios', key, 1, '')}")
    for name, relay in now["relays"].items():
        lines += [f"{name} fails at {what}: {why}" for what, why in relay["failures"].items()]
    return "\n".join(lines)


def _pair(now: dict[str, Any], last: dict[str, Any] | None, kind: str, key: str, scale: float, spread: str) -> str:
    value, before = now[kind][key], last[kind].get(key) if last else None
    change = f"{value / before:.2f}" if value and before else ""
    return f"{_number(value, scale):>10} {spread:>7} {_number(before, scale):>10} {change:>9}"


def _number(value: float | None, scale: float) -> str:
    return "-" if value is None else f"{value * scale:.3g}"


def _last(named: str | None) -> dict[str, Any] | None:
    stored = sorted(STORED.glob("*.json"))
    path = Path(named) if named else stored[-1] if stored else None
    if path is None:
        return None
    result: dict[str, Any] = json.loads(path.read_text())
    return result


def _say(text: str) -> None:
    sys.stderr.write(text + "\n")


def _nothing(text: str) -> None:
    """A quick run says only what came out."""


def main() -> int:
    """Measure, show, keep."""
    parser = argparse.ArgumentParser(prog="make bench-quick", description=__doc__)
    parser.add_argument("--build", action="store_true", help="build the other relays first if need be")
    parser.add_argument("--against", metavar="FILE", help="the stored result to compare with (default: the last)")
    arguments = parser.parse_args()
    last = _last(arguments.against)
    now = summary(uvloop.run(measure(arguments.build)))
    STORED.mkdir(parents=True, exist_ok=True)
    name = f"{now['date'][:19].replace(':', '')}Z-{now['commit']}.json"
    (STORED / name).write_text(json.dumps(now, indent=1) + "\n")
    sys.stdout.write(table(now, last) + "\n")
    sys.stdout.write(
        f"kept in {(STORED / name).relative_to(Path.cwd())}; ARGS='--against FILE' compares with an older one\n"
    )
    return 1 if now["relays"]["ours"]["failures"] else 0


if __name__ == "__main__":
    sys.exit(main())
