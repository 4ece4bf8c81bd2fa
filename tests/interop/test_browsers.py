"""Two browsers meet through the relay and go on without it: js-libp2p in headless Chromium, as wallets use it."""

from collections.abc import Callable
from typing import Any

import pytest

from tests.support.browser import JsPeer
from tests.support.peers import Link, Peer
from tests.support.placement import connect_beside, wait_until_empty, workers_with_connections
from tests.support.relay import RelayProcess

pytestmark = [pytest.mark.browser, pytest.mark.interop]

OpenPage = Callable[[], JsPeer]


def links_between(peer: Peer, other: Peer) -> list[Link]:
    return [link for link in peer.links() if link.peer == other.peer_id]


def is_direct(link: Link) -> bool:
    return "/webrtc" in link.address and not link.limited


@pytest.mark.parametrize("same_worker", [True, False], ids=["same-worker", "different-workers"])
def test_two_pages_meet_through_the_relay_and_go_on_without_it(open_page: OpenPage, same_worker: bool) -> None:
    with RelayProcess(workers=2) as relay:
        address = relay.address("ws")
        called, caller = open_page(), open_page()

        listening = called.start(f"{address}/p2p-circuit", "/webrtc")
        (reachable,) = [one for one in listening if one.startswith(f"{address}/p2p-circuit/webrtc/")]
        relay.wait_status(lambda now: now["reservations"] == 1 and now["circuits"] == 0)

        caller.start()
        connect_beside(relay, caller, address, same_worker=same_worker)
        direct = caller.dial(reachable)
        assert is_direct(direct)
        assert any(is_direct(link) for link in links_between(called, caller))
        # The relayed connection that carried the signalling stays open beside the direct one.
        assert any(link.limited for link in links_between(caller, called))
        relay.wait_status(lambda now: now["reservations"] == 1 and now["circuits"] == 1)
        caller.open_echo(direct)
        assert caller.say("beside the relay") == "beside the relay"

        caller.hang_up(relay.peer_id)
        called.hang_up(relay.peer_id)
        wait_until_empty(relay)

        assert caller.say("without the relay") == "without the relay"
        assert links_between(caller, called) == [direct]


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
