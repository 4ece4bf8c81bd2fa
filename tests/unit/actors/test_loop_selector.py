from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import Iterator

import pytest
import uvloop

from actors.loop_selector import EVENT_READ, EVENT_WRITE, LoopDriver, LoopSelector


@pytest.fixture
def driver() -> Iterator[LoopDriver]:
    loop = uvloop.new_event_loop()
    LoopSelector.driver = LoopDriver(loop)
    yield LoopSelector.driver
    LoopSelector.driver = None
    loop.close()


def selector(*wanted: tuple[int, int]) -> LoopSelector:
    made = LoopSelector()
    for fd, events in wanted:
        made.register(fd, events)
    return made


def ready(wanted: LoopSelector, timeout_s: float | None) -> dict[int, int]:
    return {key.fd: events for key, events in wanted.select(timeout_s)}


@pytest.mark.parametrize("with_loop", [True, False])
def test_a_readable_and_a_writable_socket_are_told_apart(with_loop: bool, request: pytest.FixtureRequest) -> None:
    if with_loop:
        request.getfixturevalue("driver")
    ours, theirs = socket.socketpair()
    theirs.send(b"x")
    fd = ours.fileno()
    assert ready(selector((fd, EVENT_READ)), 5) == {fd: EVENT_READ}
    assert ready(selector((fd, EVENT_WRITE)), 5) == {fd: EVENT_WRITE}
    assert ready(selector((fd, EVENT_READ), (fd, EVENT_WRITE)), 5) == {fd: EVENT_READ | EVENT_WRITE}
    ours.recv(1)
    assert ready(selector((fd, EVENT_READ)), 0) == {}
    theirs.close()
    assert ready(selector((fd, EVENT_READ)), 5)[fd] & EVENT_READ
    ours.close()


def test_the_loop_runs_while_thespian_waits_and_can_end_its_wait(driver: LoopDriver) -> None:
    ours, theirs = socket.socketpair()
    ran: list[str] = []
    driver.loop.call_later(0.01, ran.append, "early")
    driver.loop.call_later(0.02, theirs.send, b"x")
    assert ready(selector((ours.fileno(), EVENT_READ)), None) == {ours.fileno(): EVENT_READ}
    assert ran == ["early"]
    ours.close()
    theirs.close()


def test_a_wait_ends_at_its_time_out(driver: LoopDriver) -> None:
    ours, theirs = socket.socketpair()
    start = time.monotonic()
    assert ready(selector((ours.fileno(), EVENT_READ)), 0.05) == {}
    assert time.monotonic() - start >= 0.045
    ours.close()
    theirs.close()


def test_the_loop_gets_its_turn_when_thespian_is_always_busy(driver: LoopDriver) -> None:
    ours, theirs = socket.socketpair()
    theirs.send(b"x")
    ran: list[int] = []

    async def work() -> None:
        for step in range(5):
            ran.append(step)
            await asyncio.sleep(0)

    task = driver.loop.create_task(work())
    for _ in range(20):
        assert ready(selector((ours.fileno(), EVENT_READ)), None)
    assert ran == list(range(5))
    assert task.done()
    ours.close()
    theirs.close()


def test_a_descriptor_that_is_closed_and_opened_again_is_watched_anew(driver: LoopDriver) -> None:
    ours, theirs = socket.socketpair()
    number = ours.fileno()
    assert ready(selector((number, EVENT_READ)), 0) == {}
    ours.close()
    theirs.close()
    again, other = socket.socketpair()
    os.dup2(again.fileno(), number)
    other.send(b"x")
    assert ready(selector((number, EVENT_READ)), 5) == {number: EVENT_READ}
    os.close(number) if number not in {again.fileno(), other.fileno()} else None
    again.close()
    other.close()


def test_a_closed_descriptor_is_an_error_that_thespian_understands(driver: LoopDriver) -> None:
    ours, theirs = socket.socketpair()
    number = ours.fileno()
    ours.close()
    theirs.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        selector((number, EVENT_READ)).select(0)
    with pytest.raises(ValueError, match="invalid"):
        selector((-1, EVENT_READ))


def test_run_hands_on_results_and_exceptions_and_survives_a_stop_from_before(driver: LoopDriver) -> None:
    async def answer() -> int:
        await asyncio.sleep(0.01)
        return 7

    async def fail() -> None:
        raise LookupError

    driver.loop.call_soon(driver.loop.stop)
    assert driver.run(answer()) == 7
    with pytest.raises(LookupError):
        driver.run(fail())
    assert driver.run(answer()) == 7
