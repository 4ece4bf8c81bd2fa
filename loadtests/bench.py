"""`make bench`: every relay, every measure, in turn; writes docs/bench.md, docs/bench.json and docs/bench.svg.

Each run starts all relays anew, because what a relay has served before shows in its memory.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from typing import Final

import uvloop

from loadtests import measures
from loadtests.doors import Placement
from loadtests.goals import APART, TOGETHER
from loadtests.relays import OurRelay, OurSecureRelay, RelayProgram, go_relay, js_relay, py_relay, rust_relay
from loadtests.report import write
from loadtests.runs import WARM_UP_SESSIONS, Outcome, Run, Step
from tests.support.builds import BuildError, MissingError

SESSIONS: Final = 20
STEPS: Final = (
    Step(measures.reservations, 40),
    Step(measures.sessions, SESSIONS),
    Step(measures.circuits, 60),
    Step(measures.round_trips, 400),
    Step(measures.bulk, 400),
)
PAIRS_A_ROUND: Final = SESSIONS + 3
# What a peer costs in memory is a straight line, and these two take seconds for a hundred.
FEWER_PEERS: Final = {"js-libp2p": 4, "py-libp2p": 4}


def contenders(rounds: int) -> dict[str, Callable[[], RelayProgram]]:
    """The rows of the table. Our own first: what it takes idle is read before another of its kind shares its pages."""
    pairs = WARM_UP_SESSIONS + rounds * PAIRS_A_ROUND
    return {
        TOGETHER[0]: OurRelay,
        "rust-libp2p": rust_relay,
        "go-libp2p": go_relay,
        TOGETHER[1]: lambda: OurRelay(2, Placement.TOGETHER, pairs),
        APART: lambda: OurRelay(2, Placement.APART, pairs),
        "ours, TLS": OurSecureRelay,
        "js-libp2p": js_relay,
        "py-libp2p": py_relay,
    }


async def measure(runs: int, rounds: int, peers: int) -> dict[str, Outcome]:
    """So many runs of so many rounds."""
    outcomes: dict[str, Outcome] = {}
    for number in range(runs):
        _say(f"run {number + 1} of {runs}")
        async with Run(contenders(rounds), outcomes, _say) as run:
            await run.round([Step(measures.peers, peers)], fewer=FEWER_PEERS)
            for turn in range(rounds):
                await run.round(STEPS, turn)
    return outcomes


def _say(text: str) -> None:
    sys.stderr.write(f"{time.strftime('%H:%M:%S')} {text}\n")


def main() -> int:
    """Build, measure, write."""
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--runs", type=int, default=3, help="how often all relays are started anew")
    parser.add_argument("--rounds", type=int, default=5, help="batches of each measure in a run")
    parser.add_argument("--peers", type=int, default=2000, help="reserved peers whose memory is taken")
    arguments = parser.parse_args()
    try:
        for make in (go_relay, rust_relay, js_relay):
            make()  # builds; what cannot be built is to be said before anything is measured
    except (BuildError, MissingError) as error:
        sys.stderr.write(f"make bench: {error}\n")
        return 1
    outcomes = uvloop.run(measure(arguments.runs, arguments.rounds, arguments.peers))
    write(outcomes, arguments.runs, arguments.rounds, arguments.peers)
    return 1 if outcomes[TOGETHER[0]].failures else 0


if __name__ == "__main__":
    sys.exit(main())
