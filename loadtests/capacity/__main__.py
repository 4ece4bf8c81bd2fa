"""`make capacity`: measure, write docs/capacity.md and docs/capacity.svg, say how each goal stands."""

from __future__ import annotations

import argparse
import os
import resource
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

import uvloop

from loadtests.capacity.conduct import Conductor
from loadtests.capacity.report import write
from loadtests.capacity.results import GOAL_PEERS, Sizes, judge
from tests.support.builds import ROOT

DOCS: Final = ROOT / "docs"
PEERS_AT_LEAST: Final = 50
IDLE_S: Final = 60
"""Twice the keep-alive's period, so that each peer has had its turn twice."""


def _whole(at_least: int, at_most: int) -> object:
    def read(text: str) -> int:
        if not text.isdecimal() or not at_least <= int(text) <= at_most:
            raise argparse.ArgumentTypeError(f"{text!r}: expected a whole number from {at_least} to {at_most}")
        return int(text)

    return read


def main() -> int:
    """One run."""
    parser = argparse.ArgumentParser(prog="make capacity", description=__doc__)
    parser.add_argument("--peers", type=_whole(PEERS_AT_LEAST, 200_000), default=GOAL_PEERS)  # type: ignore[arg-type]
    parser.add_argument("--idle-s", type=_whole(1, 3600), default=IDLE_S)  # type: ignore[arg-type]
    parser.add_argument("--docs", type=Path, default=DOCS, help="where the report goes")
    arguments = parser.parse_args()
    sizes = Sizes(arguments.peers)
    if not _enough_descriptors(sizes.descriptors):
        return 2
    busy, begin = os.getloadavg()[0], time.monotonic()
    with tempfile.TemporaryDirectory(prefix="frost-relay-capacity-") as home:
        conductor = Conductor(sizes, arguments.idle_s, Path(home), _say)
        result = uvloop.run(conductor.run())
    write(result, busy, arguments.docs)
    for each in judge(result):
        sys.stdout.write(f"{each.verdict.value:16} {each.goal}: {each.measured}\n")
    sys.stdout.write(f"written to {arguments.docs / 'capacity.md'} after {time.monotonic() - begin:.0f} s\n")
    return 0


def _enough_descriptors(needed: int) -> bool:
    """Take as many as the hard limit lets us, for all that is started here."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if needed > hard:
        _say(f"make capacity: ulimit -Hn = {hard}: expected at least {needed} for so many peers, or a smaller PEERS")
        return False
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return True


def _say(text: str) -> None:
    sys.stderr.write(text + "\n")


if __name__ == "__main__":
    sys.exit(main())
