"""A machine that gives no further process: a start fails in one line, a relay at work goes on with those it has."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from tests.support.meeting import meet
from tests.support.process_limit import ProcessLimit
from tests.support.relay import RelayProcess

pytestmark = pytest.mark.fault

PROCESSES = 7
TOLD = "Resource temporarily unavailable"


@pytest.fixture
def limit() -> Iterator[ProcessLimit]:
    with ProcessLimit() as limit:
        yield limit


@pytest.mark.parametrize("processes", [1, 2, 3, PROCESSES - 1])
def test_a_relay_without_all_of_its_processes_does_not_start(limit: ProcessLimit, processes: int) -> None:
    limit.allow(processes)
    with pytest.raises(RuntimeError) as caught, RelayProcess(prefix=limit.prefix):
        raise AssertionError("it started")
    told = str(caught.value)
    assert told.startswith("the relay ended with 1:\n")
    assert told.count("ulimit -u, TasksMax= in the unit") == 1, told
    assert "Traceback" not in told


def test_a_successor_that_cannot_be_started_is_tried_again_and_nobody_else_notices(limit: ProcessLimit) -> None:
    with RelayProcess("supervision.backoff_max_s=0.5", prefix=limit.prefix) as relay:
        assert limit.count() == PROCESSES
        before = relay.pids()
        limit.allow(PROCESSES - 1)
        name = next(each for each in before if each.startswith("tcp"))
        relay.kill(name)
        relay.wait_status(lambda _: relay.stderr.count(f'cannot be started name={name} error="{TOLD}"') >= 3)
        status, said = relay.get("/readyz")
        assert (status, name in said) == (503, True)
        asyncio.run(meet(relay.address("ws")))
        limit.allow(None)
        relay.wait_status(lambda now: all(each["state"] == "ready" for each in now["workers"]))
        asyncio.run(meet(relay.address("tcp")))
        after = relay.pids()
        assert {each for each in after if after[each] != before[each]} == {name}
