"""What the load tests ask of a relay, in small: the figures are there, and peers sit where they are meant to."""

import asyncio

import pytest

from loadtests import measures
from loadtests.doors import Placement
from loadtests.relays import OurRelay, OurSecureRelay, RelayProgram
from loadtests.runs import Outcome, Run, Step

STEPS = [Step(run, 4) for run in (measures.peers, measures.reservations, measures.sessions, measures.circuits)]
STEPS += [Step(run, 4) for run in (measures.round_trips, measures.bulk)]
FOUND = {"idle_bytes", "peer_bytes", "reserve_s", "session_s", "circuit_s", "round_trip_s", "bulk_s_per_gb"}


@pytest.mark.parametrize("kind", [OurRelay, OurSecureRelay])
def test_every_measure_of_a_relay_is_taken(kind: type[OurRelay]) -> None:
    outcomes: dict[str, Outcome] = {}

    async def measure() -> None:
        async with Run({"ours": kind}, outcomes, lambda text: None) as run:
            await run.round(STEPS)

    asyncio.run(measure())
    assert outcomes["ours"].failures == {}
    assert outcomes["ours"].samples.keys() == FOUND


@pytest.mark.parametrize("placement", [Placement.TOGETHER, Placement.APART])
def test_pairs_sit_in_the_workers_that_they_are_meant_for(placement: Placement) -> None:
    async def pairs(relay: OurRelay) -> None:
        door = relay.door()
        for _ in range(4):
            at_target, at_caller = door.pair()
            target, caller = await door.enter(at_target), await door.enter(at_caller)
            counts = sorted(row["connections"] for row in relay.status() if row["name"].startswith("ws-"))
            assert counts == ([0, 2] if placement is Placement.TOGETHER else [1, 1])
            await asyncio.gather(target.close(), caller.close())
            await relay.meter.quiet_cpu_s()

    with OurRelay(2, placement, 4) as relay:
        asyncio.run(pairs(relay))


def test_a_relay_that_does_not_start_is_a_result() -> None:
    outcomes: dict[str, Outcome] = {}

    async def measure() -> None:
        makers = {"ours": OurRelay, "other": lambda: RelayProgram(["sh", "-c", "echo no luck >&2"], 1)}
        async with Run(makers, outcomes, lambda text: None) as run:
            await run.round([Step(measures.round_trips, 2)])

    asyncio.run(measure())
    assert "no luck" in outcomes["other"].failures["start"]
    assert "round_trip_s" in outcomes["ours"].samples
