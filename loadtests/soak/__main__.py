"""`make soak MINUTES=30`: run it, write docs/soak.md, say how each point stands. Exit code 1 when one does not."""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Final

from loadtests.soak.conduct import Soak
from loadtests.soak.report import LONG_S, judge, write
from tests.support.builds import ROOT

DOCS: Final = ROOT / "docs"
MOST_MINUTES: Final = 10_080.0


def _minutes(text: str) -> float:
    try:
        minutes = float(text)
    except ValueError:
        minutes = 0.0
    if not 0.25 <= minutes <= MOST_MINUTES:
        raise argparse.ArgumentTypeError(f"{text!r}: expected a number of minutes from 0.25 to {MOST_MINUTES:.0f}")
    return minutes


def main() -> int:
    """One run. One that is too short to say anything of memory writes no document, unless told where."""
    parser = argparse.ArgumentParser(prog="make soak", description=__doc__)
    parser.add_argument("--minutes", type=_minutes, default=30.0)
    parser.add_argument("--users", type=float, default=1.0, help="how many, as a share of the usual number")
    parser.add_argument("--docs", type=Path, default=None, help="where the report goes")
    arguments = parser.parse_args()
    seconds = 60 * arguments.minutes
    with tempfile.TemporaryDirectory(prefix="frost-relay-soak-") as folder:
        result = Soak(seconds, arguments.users, Path(folder), _say).run()
    verdicts = list(judge(result))
    for what, was, so in verdicts:
        sys.stdout.write(f"{'yes' if so else 'NO ':4} {what}: {was}\n")
    where = arguments.docs or (DOCS if seconds >= LONG_S else None)
    if where is not None:
        write(result, where)
        sys.stdout.write(f"written to {where / 'soak.md'}\n")
    return 0 if all(so for _, _, so in verdicts) else 1


def _say(text: str) -> None:
    sys.stderr.write(text + "\n")


if __name__ == "__main__":
    sys.exit(main())
