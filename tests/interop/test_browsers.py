"""Two browsers meet through the relay and go on without it: js-libp2p in headless Chromium, as wallets use it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.browser import JsPeer
from tests.support.example import STEPS, ExamplePage, served_example
from tests.support.placement import land_beside, wait_until_empty, workers_with_connections
from tests.support.relay import RelayProcess

pytestmark = [pytest.mark.browser, pytest.mark.interop]

OpenPage = Callable[[], JsPeer]


@pytest.mark.parametrize("same_worker", [True, False], ids=["same-worker", "different-workers"])
def test_two_pages_meet_through_the_relay_and_go_on_without_it(
    open_example: Callable[[], ExamplePage], example_files: Path, same_worker: bool
) -> None:
    with RelayProcess(workers=2) as relay, served_example(example_files, relay.address("ws")) as url:
        called, caller = open_example(), open_example()
        called.load(url)
        relay.wait_status(lambda now: now["reservations"] == 1 and now["circuits"] == 0)
        land_beside(relay, lambda: caller.load(url), caller.unload, same_worker=same_worker)

        caller.call(called.link())
        for page in (called, caller):
            page.wait_step("leave")
            assert list(page.times_ms()) == list(STEPS)
        wait_until_empty(relay)

        caller.say("without the relay")
        called.wait_heard("without the relay")
        called.say("nobody else is on the way")
        caller.wait_heard("nobody else is on the way")


def test_a_page_takes_the_relays_identify_and_pings_it(open_page: OpenPage) -> None:
    with RelayProcess() as relay:
        address = relay.address("ws")
        page = open_page()
        page.start()
        page.dial(address)
        # js-libp2p pings over the connection it has; identify has ended before the answer of a later stream comes.
        assert page.ping_ms(address) >= 0
        identified = page.identified(relay.peer_id)
        assert "/libp2p/circuit/relay/0.2.0/hop" in identified["protocols"]
        assert sorted(identified["addresses"]) == sorted(one.rpartition("/p2p/")[0] for one in relay.addresses)
        assert identified["signed"]


def test_a_page_that_searches_for_a_relay_is_back_after_its_worker_died(open_page: OpenPage) -> None:
    with RelayProcess() as relay:
        page = open_page()
        page.start("/p2p-circuit", "/webrtc")
        page.dial(relay.address("ws"))
        before = relay.wait_status(lambda now: now["reservations"] == 1)
        (name,) = [name for name, connections in workers_with_connections(before).items() if connections]
        killed = relay.kill(name)

        def is_back(now: dict[str, Any]) -> bool:
            (row,) = [row for row in now["workers"] if row["name"] == name]
            return bool(row["pid"] != killed and row["reservations"] == now["reservations"] == 1)

        relay.wait_status(is_back)
