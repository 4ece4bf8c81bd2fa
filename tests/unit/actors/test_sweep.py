from __future__ import annotations

import asyncio

import pytest

from actors import sweep
from actors.sweep import Sweep


def test_everybody_is_visited_in_order_and_the_loop_turns_in_between() -> None:
    seen: list[int | str] = []

    async def watch() -> None:
        Sweep(asyncio.get_running_loop(), range(5), seen.append, 2)
        assert seen == [], "nobody is visited from the call that begins it"
        while 4 not in seen:
            seen.append("turn")
            await asyncio.sleep(0)

    asyncio.run(watch())
    assert [each for each in seen if each != "turn"] == [0, 1, 2, 3, 4]
    assert "turn" in seen[2:]


def test_after_the_cancellation_nobody_is_visited() -> None:
    seen: list[int] = []

    async def watch() -> None:
        begun = Sweep(asyncio.get_running_loop(), range(5), seen.append, 1)
        await asyncio.sleep(0)
        assert seen == [0]
        begun.cancel()
        await asyncio.sleep(3 * sweep.PAUSE_S)

    asyncio.run(watch())
    assert seen == [0]


def test_nobody_is_nothing_to_do() -> None:
    async def watch() -> None:
        Sweep(asyncio.get_running_loop(), (), pytest.fail).cancel()

    asyncio.run(watch())
