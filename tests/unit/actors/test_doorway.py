from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from actors import metrics
from actors.board import Board, BoardRow
from actors.doorway import AGAIN_S, LAG_S, LONGEST_S, SAY_EVERY_S, Doorway, Lull
from tests.support.sockets import listening, run


def test_a_lag_begins_a_lull_and_its_end_ends_it() -> None:
    lull = Lull()
    assert not lull.look(0.0, LAG_S)
    assert lull.look(1.0, LAG_S + 0.001)
    assert lull.look(1.25, AGAIN_S + 0.001)
    assert not lull.look(1.5, AGAIN_S)
    assert not lull.look(1.75, LAG_S)


def test_a_lull_is_over_after_its_longest_time_and_the_next_lag_begins_another() -> None:
    lull = Lull()
    assert lull.look(0.0, 1.0)
    assert lull.look(LONGEST_S - 0.001, 1.0)
    assert not lull.look(LONGEST_S, 1.0)
    assert lull.look(LONGEST_S + 0.25, 1.0)


class _House:
    """A doorway with a real socket, and who has come in."""

    def __init__(self) -> None:
        self.row: BoardRow = Board.create(1).row(0)
        self.came = self.failures = 0
        self._listening = listening()
        self.doorway = Doorway(self._serve, asyncio.get_running_loop())

    async def _serve(self) -> asyncio.Server:
        def arrived() -> asyncio.Protocol:
            self.came += 1
            return asyncio.Protocol()

        if self.failures:
            self.failures -= 1
            raise OSError(errno.EMFILE, "Too many open files")
        return await asyncio.get_running_loop().create_server(arrived, sock=self._listening.dup())

    @contextmanager
    def visitor(self) -> Iterator[None]:
        with socket.create_connection(self._listening.getsockname()):
            yield

    async def until(self, came: int) -> None:
        async with asyncio.timeout(5):
            while self.came < came:  # noqa: ASYNC110 - what is waited for has no event
                await asyncio.sleep(0.001)

    def leave(self) -> None:
        self.doorway.close()
        self._listening.close()


async def _turns() -> None:
    """Time for whoever could come in."""
    for _ in range(20):
        await asyncio.sleep(0.001)


def test_who_comes_in_a_lull_waits_in_the_queue_and_is_served_behind_it() -> None:
    async def test() -> None:
        house = _House()
        await house.doorway.open()
        with house.visitor():
            await house.until(1)
        house.doorway.look(house.row, 1.0, LAG_S + 1)
        assert house.row.sheds == 1
        with house.visitor(), house.visitor():
            await _turns()
            assert house.came == 1
            house.doorway.look(house.row, 1.25, 0.0)
            await house.until(3)
        assert house.row.sheds == 0
        house.leave()

    run(test())


def test_other_settings_in_a_lull_do_not_end_it() -> None:
    async def test() -> None:
        house = _House()
        await house.doorway.open()
        house.doorway.look(house.row, 1.0, LAG_S + 1)
        house.doorway.renew()
        with house.visitor():
            await _turns()
            assert house.came == 0
            house.doorway.look(house.row, 1.25, 0.0)
            await house.until(1)
        house.leave()

    run(test())


def test_a_lull_that_begins_while_the_door_is_being_opened_holds() -> None:
    async def test() -> None:
        house = _House()
        await house.doorway.open()
        house.doorway.renew()
        house.doorway.look(house.row, 1.0, LAG_S + 1)  # before the new server is there
        with house.visitor():
            await _turns()
            assert house.came == 0
            house.doorway.look(house.row, 1.25, 0.0)
            await house.until(1)
        house.leave()

    run(test())


def test_a_door_that_cannot_be_opened_is_tried_again() -> None:
    async def test() -> None:
        house = _House()
        await house.doorway.open()
        house.failures = 2  # no descriptor is free
        house.doorway.look(house.row, 1.0, LAG_S + 1)
        house.doorway.look(house.row, 1.25, 0.0)
        with house.visitor():
            await house.until(1)
        assert house.failures == 0
        house.leave()

    run(test())


def test_a_door_that_is_closed_stays_closed() -> None:
    async def test() -> None:
        house = _House()
        await house.doorway.open()
        house.doorway.look(house.row, 1.0, LAG_S + 1)
        house.doorway.close()
        house.doorway.look(house.row, 1.25, 0.0)
        with house.visitor():
            await _turns()
        assert house.came == 0
        house.leave()

    run(test())


def test_lulls_are_counted_and_said_now_and_then(capfd: pytest.CaptureFixture[str]) -> None:
    async def test() -> None:
        house = _House()
        before = metrics.ACCEPT_PAUSES._value.get()
        for at_s in (0.0, 1.0, 2.0, SAY_EVERY_S):
            house.doorway.look(house.row, at_s, LAG_S + 1)
            house.doorway.look(house.row, at_s + 0.25, 0.0)
            await _turns()
        assert metrics.ACCEPT_PAUSES._value.get() - before == 4
        house.leave()

    run(test())
    assert [line.rpartition("times=")[2] for line in capfd.readouterr().err.splitlines()] == ["1", "3"]
