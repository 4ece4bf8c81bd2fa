"""`make attacks`: plays every attack of the catalogue and writes what came of it into docs/attacks.md.

python -m tests.attacks.report [--seconds 10] [--only NAME …]
"""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import platform
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import uvloop

from tests.attacks import worst_case
from tests.attacks.catalogue import ATTACKS
from tests.attacks.conductor import Conductor, Outcome
from tests.scenarios.relays import GENEROUS
from tests.support.relay import RelayProcess

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "attacks.md"
BEGIN = "<!-- written by make attacks -->\n"
END = "<!-- end -->\n"
PACKAGES = ("frost-relay", "uvloop", "picows", "cryptography", "PyNaCl")
HEAD = (
    "| attack | seen as, after s | victim lost | its p99 quiet → attacked, ms | newcomers let in | "
    "memory before → most → after, MiB |\n|---|---|---|---|---|---|\n"
)


def row(outcome: Outcome) -> str:
    """One line of the table."""
    attack = outcome.attack
    seen = "<br>".join(
        f"{sign} {outcome.seen_s[sign]:.1f}" if sign in outcome.seen_s else f"{sign} **not seen**"
        for sign in attack.signs
    )
    memory = (outcome.memory_before_bytes, outcome.memory_most_bytes, outcome.memory_after_bytes)
    return (
        f"| **{attack.name}**: {attack.what} | {seen} | {outcome.lost or 'nothing'} | "
        f"{1000 * outcome.quiet_p99_s:.1f} → {1000 * outcome.attack_p99_s:.1f} | "
        f"{outcome.came - len(outcome.kept_out)} of {outcome.came} | "
        f"{' → '.join(f'{size / (1 << 20):.0f}' for size in memory)} |\n"
    )


def section(outcomes: Sequence[Outcome], seconds: float, worst_bytes: int) -> str:
    """What is written between the marks."""
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in PACKAGES)
    when = datetime.now(UTC).strftime("%Y-%m-%d")
    return (
        f"\n{when}, {len(os.sched_getaffinity(0))} cores ({platform.machine()}), Python {platform.python_version()}, "
        f"{versions}. Each attack {seconds:g} s.\n\n{HEAD}{''.join(map(row, outcomes))}\n"
        f"A peer that fills every buffer it can, over WebSocket: {worst_bytes // 1024} KiB.\n"
    )


def replace_section(text: str, new: str) -> str:
    """The document with another section between its marks."""
    before, _, rest = text.partition(BEGIN)
    after = rest.partition(END)[2]
    return before + BEGIN + new + END + after


def main(arguments: Sequence[str]) -> int:
    """Play, print, write; 1 when the victims lost something or an attack was not seen."""
    parser = argparse.ArgumentParser(prog="make attacks")
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--only", nargs="*", default=[])
    options = parser.parse_args(arguments)
    chosen = [attack for attack in ATTACKS if not options.only or attack.name in options.only]
    outcomes = []
    with Conductor() as conductor:
        for attack in chosen:
            outcomes.append(conductor.play(attack, options.seconds / 2, options.seconds))
            sys.stderr.write(row(outcomes[-1]))
            for why in sorted(set(outcomes[-1].kept_out)):
                sys.stderr.write(f"  kept out: {why}\n")
    if not options.only:
        with RelayProcess(*GENEROUS) as relay:
            worst_bytes = uvloop.run(worst_case.measure(relay))
        DOCUMENT.write_text(replace_section(DOCUMENT.read_text(), section(outcomes, options.seconds, worst_bytes)))
    return int(any(each.lost or len(each.seen_s) < len(each.attack.signs) for each in outcomes))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
