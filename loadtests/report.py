"""Writes what `make bench` found: a table with ratios and goals, everything as JSON, and a chart."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from loadtests import chart
from loadtests.goals import Verdict, verdicts
from loadtests.machine import commit, describe, versions
from loadtests.runs import Outcome, ratio
from tests.support.builds import ROOT

DOCS: Final = ROOT / "docs"
README: Final = ROOT / "README.md"
README_BEGIN: Final = "<!-- written by make bench -->\n"
README_END: Final = "<!-- end -->\n"
REFERENCE: Final = "rust-libp2p"


@dataclass(frozen=True)
class Column:
    """One measure as it is shown; `step` is the name under which it fails."""

    measure: str
    step: str
    title: str
    scale: float
    digits: int


COLUMNS: Final = (
    Column("reserve_s", "reservations", "connect + identify + reserve, ms", 1e3, 2),
    Column("peer_bytes", "peers", "KiB a reserved peer", 1 / 1024, 1),
    Column("circuit_s", "circuits", "circuit, ms", 1e3, 3),
    Column("round_trip_s", "round_trips", "round trip, µs", 1e6, 0),
    Column("bulk_s_per_gb", "bulk", "bulk, s/GB", 1, 2),
    Column("session_s", "sessions", "session, ms", 1e3, 2),
    Column("idle_bytes", "start", "idle, MiB", 1 / (1 << 20), 0),
)
HOW_TO_READ: Final = """\
## How to read it

- CPU is user and system time of the relay's whole process tree, from the kernel's clock of each process, per operation.
  The client is one process, the same for all relays, over WebSocket; its CPU is not counted.
- **Read the ratios.** The times move by factors with what else the machine does, and are as good as it is quiet. All
  relays are up at the same time, small batches go round from one to the next, and a ratio is the median over all pairs
  of batches that were neighbours.
- ± is how far the middle half of the batches reaches around the median.
- Memory is PSS of the whole tree. A page that is shared counts for each of its users in part; the client shares
  Python's libraries with our relay, which makes it look up to 2 MiB smaller at rest.
- A session is two connections, two identifies, a reservation, a circuit, 12 messages of 500 bytes each way, and
  goodbye. A circuit is CONNECT to STATUS OK with STOP, then closed from both sides. Four sessions, reservations or
  circuits run at a time, one round trip.
- The others have no limits at all. Ours has everything on: limits and rates that are far away but computed, access
  rules, registry, metrics, and a log at level info.
- What fails is said below the table, with the client's words for it, and is not asked again.
"""


def write(outcomes: Mapping[str, Outcome], runs: int, rounds: int, peers: int) -> None:
    """docs/bench.md, docs/bench.json, docs/bench.svg, and the table in the README."""
    facts = {"commit": commit(), "date": datetime.now(UTC).date().isoformat(), **describe()}
    found = verdicts(outcomes)
    how = f"{runs} runs of {rounds} rounds; memory after {peers} peers (a quarter of that for js and py)"
    (DOCS / "bench.md").write_text(markdown(outcomes, found, facts, how))
    (DOCS / "bench.svg").write_text(chart.svg(outcomes, REFERENCE))
    README.write_text(with_table(README.read_text(), "\n".join(_table(outcomes, _both(outcomes[REFERENCE])))))
    stored = {
        "machine": facts,
        "how": how,
        "versions": versions(),
        "goals": [vars(verdict) for verdict in found],
        "relays": {
            name: {
                "medians": {column.measure: outcome.median(column.measure) for column in COLUMNS},
                "ratios": {column.measure: ratio(outcome, outcomes[REFERENCE], column.measure) for column in COLUMNS},
                "samples": outcome.samples,
                "failures": outcome.failures,
            }
            for name, outcome in outcomes.items()
        },
    }
    (DOCS / "bench.json").write_text(json.dumps(stored, indent=1, ensure_ascii=False) + "\n")


def markdown(outcomes: Mapping[str, Outcome], found: Iterable[Verdict], facts: Mapping[str, str], how: str) -> str:
    """The page."""
    machine = f"{facts['cores']} cores of {facts['cpu']}, Linux {facts['kernel']}, Python {facts['python']}"
    lines = [
        "# What the relay costs, beside others",
        "",
        f"Written by `make bench` on {facts['date']} at commit {facts['commit']}; {machine}; {how}.",
        "Do not edit: the next run writes it again. `make bench-quick` takes two minutes, `make profile` shows where",
        "the time goes.",
        "",
        "![cost of each relay as a multiple of rust-libp2p](bench.svg)",
        "",
        "## CPU an operation, and memory",
        "",
        *_table(outcomes, _cost),
        "",
        *_failures(outcomes),
        "## As multiples of rust-libp2p",
        "",
        *_table(outcomes, lambda outcome, column: _multiple(outcome, outcomes[REFERENCE], column)),
        "",
        "## Goals",
        "",
        "| what | whose | goal | found | |",
        "|---|---|---|---|---|",
        *(f"| {one.title} | {one.who} | {one.wanted} | {one.found} | {_met(one)} |" for one in found),
        "",
        "Sessions a second are limited by the CPU that the tree takes for one: two cores have twice as much of it, and",
        "half of all pairs of peers land in one worker, half in two.",
        "",
        HOW_TO_READ,
        "## Versions",
        "",
        *(f"- {name}: {version}" for name, version in versions().items()),
        "",
    ]
    return "\n".join(lines)


def with_table(readme: str, table: str) -> str:
    """The README with this table between its two marks, in place of the last one."""
    head, _, rest = readme.partition(README_BEGIN)
    _, _, tail = rest.partition(README_END)
    return f"{head}{README_BEGIN}{table}\n{README_END}{tail}"


def _table(outcomes: Mapping[str, Outcome], cell: object) -> list[str]:
    assert callable(cell)
    rows = [[name, *(cell(outcome, column) for column in COLUMNS)] for name, outcome in outcomes.items()]
    titles = ["relay", *(column.title for column in COLUMNS)]
    return [_row(titles), "|---" * len(titles) + "|", *map(_row, rows)]


def _row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _cost(outcome: Outcome, column: Column) -> str:
    value = outcome.median(column.measure)
    if value is None:
        return "fails"
    return f"{value * column.scale:.{column.digits}f} ±{outcome.spread(column.measure) * 50:.0f} %"


def _both(reference: Outcome) -> Callable[[Outcome, Column], str]:
    def cell(outcome: Outcome, column: Column) -> str:
        value = outcome.median(column.measure)
        if value is None:
            return "fails"
        return f"{value * column.scale:.{column.digits}f} ({_multiple(outcome, reference, column)})"

    return cell


def _multiple(outcome: Outcome, reference: Outcome, column: Column) -> str:
    value = ratio(outcome, reference, column.measure)
    return "-" if value is None else f"{value:.2f}"


def _failures(outcomes: Mapping[str, Outcome]) -> list[str]:
    told = [f"- {name} fails at {step}: {why}" for name, one in outcomes.items() for step, why in one.failures.items()]
    return [*told, ""] if told else []


def _met(verdict: Verdict) -> str:
    return {True: "met", False: "**missed**", None: "not measured"}[verdict.met]
