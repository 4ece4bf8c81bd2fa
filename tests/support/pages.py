"""What the tests of js-libp2p's behaviour do again and again: reserve in one of the two ways, call, lose a connection.

Nothing here may decide what is right: it acts, counts and waits.
"""

import re
import time
from collections.abc import Callable
from typing import Any

from tests.support.browser import JsPeer
from tests.support.peers import Link
from tests.support.relay import RelayProcess

SEARCH = "/p2p-circuit"
WAIT_S = 10.0


def fixed(relay_address: str) -> str:
    """What to listen on to reserve on one certain relay, without a search."""
    return f"{relay_address}/p2p-circuit"


def circuit_to(relay_address: str, called: JsPeer) -> str:
    return f"{relay_address}/p2p-circuit/p2p/{called.peer_id}"


def listener_address(relay: RelayProcess) -> str:
    """Where the WebSocket listener listens, whatever the relay announces."""
    (address,) = {row["listener"] for row in relay.workers("listener") if row["listener"].endswith("/ws")}
    return f"{address}/p2p/{relay.peer_id}"


def counted(relay: RelayProcess, name: str) -> float:
    """A counter of /metrics over all its labels, or with the labels that the name has in braces."""
    status, text = relay.get("/metrics")
    assert status == 200, text
    values = re.findall(rf"^{re.escape(name)}(?:{{.*}})? (\S+)$", text, re.MULTILINE)
    assert values, f"{name} is not in:\n{text}"
    return sum(map(float, values))


def wait_until(condition: Callable[[], bool], limit_s: float = WAIT_S) -> None:
    end = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < end, f"still not after {limit_s} s"
        time.sleep(0.05)


def search(page: JsPeer, relay: RelayProcess, address: str) -> Link:
    """Reserve as wallets should: the search finds the relay that the page has connected to."""
    before = relay.status()["reservations"]
    page.start(SEARCH)
    link = page.dial(address)
    relay.wait_status(lambda now: now["reservations"] == before + 1)
    return link


def start_wallet(page: JsPeer, relay: RelayProcess) -> list[str]:
    """Start the page as wallet.js does; gives the addresses at which it can be called."""
    page.peer_id = page.call("startWallet", relay=relay.address("ws"))
    addresses: list[str] = page.call("reachableAt")
    return addresses


def kill_worker(relay: RelayProcess) -> None:
    """Every connection over WebSocket is lost, and the relay is there again."""
    (name,) = [row["name"] for row in relay.workers("listener") if row["listener"].endswith("/ws")]
    killed = relay.kill(name)

    def is_replaced(now: dict[str, Any]) -> bool:
        (row,) = [row for row in now["workers"] if row["name"] == name]
        return bool(row["state"] == "ready" and row["pid"] != killed)

    relay.wait_status(is_replaced)


def calls_through(caller: JsPeer, address: str) -> bool:
    """Whether the echo answers over a circuit."""
    link = caller.dial(address)
    caller.open_echo(link)
    return link.limited and caller.say("over the relay") == "over the relay"
