"""Crowds that want too much: whoever waits holds what it was granted, and nothing piles up behind it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from actors import hop
from actors.proto.circuit_pb2 import Status
from tests.scenarios.hop_requests import answer_on, connect_to
from tests.scenarios.relays import Relays
from tests.scenarios.scene import Puppet, Scene, joined, until
from tests.support.relay import RelayProcess
from transports.varint import delimited

CIRCUITS, PER_PEER, CALLERS, CALLS = 6, 2, 10, 5


@pytest.fixture(scope="module")
def relay(relays: Relays) -> Iterator[RelayProcess]:
    with relays.started(f"limits.max_circuits={CIRCUITS}", f"limits.max_circuits_per_peer={PER_PEER}") as relay:
        yield relay


async def test_calls_to_targets_that_never_answer_hold_their_slots_and_no_more(solo: Scene) -> None:
    targets = [await solo.reserved(Puppet) for _ in range(CALLERS)]
    callers = [await solo.dial() for _ in range(CALLERS)]
    before = await solo.counted("frost_relay_circuits_opened_total")
    calls = [
        caller.open(hop.PROTOCOL, delimited(connect_to(target.peer_id).SerializeToString()))
        for caller, target in zip(callers, targets, strict=True)
        for _ in range(CALLS)
    ]
    # Whoever is not granted a slot is told at once; the others wait for their targets, as many as there are slots.
    answers = [asyncio.create_task(answer_on(call)) for call in calls]

    async def all_told() -> bool:
        return sum(answer.done() for answer in answers) == CALLERS * CALLS - CIRCUITS

    await until(all_told, "an answer to everybody who is not granted a slot")
    assert {answer.result().status for answer in answers if answer.done()} == {Status.RESOURCE_LIMIT_EXCEEDED}

    async def all_rung() -> bool:
        return sum(target.asked.qsize() for target in targets) == CIRCUITS

    await until(all_rung, "a call for each slot")
    assert max(target.asked.qsize() for target in targets) <= PER_PEER
    for answer in answers:
        answer.cancel()
    await asyncio.gather(*answers, return_exceptions=True)

    await asyncio.gather(*(caller.abort() for caller in callers))
    await solo.registered(circuits=0)
    assert await solo.counted("frost_relay_circuits_opened_total") == before
    source, target = await solo.dial(), await solo.reserved()
    for _ in range(PER_PEER):
        await joined(source, target)
