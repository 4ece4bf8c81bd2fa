"""Deaths that come together, or at a bad moment: each is noticed, and what is left behind is right."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable

import pytest

from tests.support.relay import RelayProcess

pytestmark = pytest.mark.fault

ROUNDS = 5


def die_at_once(relay: RelayProcess, names: Iterable[str]) -> None:
    """SIGKILL to all of them, and wait until their successors serve."""
    before = relay.pids()
    killed = {name: before[name] for name in names}
    for pid in killed.values():
        os.kill(pid, signal.SIGKILL)
    relay.wait_status(
        lambda now: all(each["state"] == "ready" and each["pid"] != killed.get(each["name"]) for each in now["workers"])
    )
    assert {name for name, pid in relay.pids().items() if pid != before[name]} == set(killed)


def test_children_that_die_at_once_are_all_replaced() -> None:
    with RelayProcess("supervision.backoff_max_s=0.1", workers=2) as relay:
        children = [each["name"] for each in relay.status()["workers"]][3:]
        for _ in range(ROUNDS):
            die_at_once(relay, children)
            die_at_once(relay, [each for each in children if each.startswith("ws")])
    assert "hangs" not in relay.stderr
    assert "Traceback" not in relay.stderr
