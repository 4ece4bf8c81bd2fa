"""Crowds: what hundreds and a thousand strangers leave behind."""

from __future__ import annotations

import asyncio

import pytest

from tests.scenarios.scene import Scene, joined

RECONNECTS = {"ws": 1000, "tcp": 300, "wss": 300}
AT_ONCE = 20


@pytest.mark.slow
async def test_hundreds_of_reconnects_with_fresh_peer_ids_leave_nothing(solo: Scene) -> None:
    fixed = await solo.reserved()

    async def visit(number: int) -> None:
        client = await solo.dial()
        await client.reserve()
        if number % AT_ONCE == 0:
            circuit = await joined(client, fixed)
            circuit.left.write(b"hello")
            assert await circuit.right.read(5) == b"hello"
        await (client.abort() if number % 2 else client.close())
        solo.forget(client)

    for start in range(0, RECONNECTS[solo.place.transport], AT_ONCE):
        await asyncio.gather(*(visit(number) for number in range(start, start + AT_ONCE)))
    await solo.settled(connections=1, reservations=1, circuits=0)
    await solo.registered(connections=1, reservations=1, circuits=0)
    circuit = await joined(await solo.dial(), fixed)
    circuit.left.write(b"still here")
    assert await circuit.right.read(10) == b"still here"
