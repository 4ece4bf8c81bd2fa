"""py-libp2p 0.8.1 reserves, dials and talks through the relay over TCP and WebSocket, with its kind and browsers."""

from collections.abc import Callable

import pytest

from tests.support.browser import JsPeer
from tests.support.peers import Peer, PeerCallError
from tests.support.placement import wait_until_empty
from tests.support.pylibp2p import PyPeer
from tests.support.relay import RelayProcess

pytestmark = pytest.mark.interop

OpenPage = Callable[[], JsPeer]
StartPyPeer = Callable[[], PyPeer]

TEXTS = ("hello", "twice", "long: " + "0123456789abcdef" * 1024)


def meet_and_leave(relay: RelayProcess, called: Peer, called_via: str, caller: Peer, caller_via: str) -> None:
    """Reserve, dial, echo over the circuit, leave; the relay's counts follow."""
    called.start(f"{relay.address(called_via)}/p2p-circuit")
    relay.wait_status(lambda now: now["reservations"] == 1)

    caller.start()
    link = caller.dial(f"{relay.address(caller_via)}/p2p-circuit/p2p/{called.peer_id}")
    assert link.peer == called.peer_id
    assert link.limited
    relay.wait_status(lambda now: now["circuits"] == 1 and now["connections"] == 2)
    caller.open_echo(link)
    for text in TEXTS:
        assert caller.say(text) == text

    caller.hang_up(relay.peer_id)
    relay.wait_status(lambda now: now["circuits"] == 0 and now["reservations"] == 1 and now["connections"] == 1)
    called.hang_up(relay.peer_id)
    wait_until_empty(relay)


@pytest.mark.parametrize("caller_via", ["ws", "tcp"])
@pytest.mark.parametrize("called_via", ["tcp", "ws"])
def test_two_py_peers_talk_over_a_circuit(start_py_peer: StartPyPeer, called_via: str, caller_via: str) -> None:
    called, caller = start_py_peer(), start_py_peer()
    with RelayProcess() as relay:
        meet_and_leave(relay, called, called_via, caller, caller_via)


@pytest.mark.browser
def test_a_page_calls_a_py_peer(start_py_peer: StartPyPeer, open_page: OpenPage) -> None:
    called = start_py_peer()
    with RelayProcess() as relay:
        meet_and_leave(relay, called, "tcp", open_page(), "ws")


@pytest.mark.browser
def test_a_py_peer_calls_a_page(start_py_peer: StartPyPeer, open_page: OpenPage) -> None:
    caller = start_py_peer()
    with RelayProcess() as relay:
        meet_and_leave(relay, open_page(), "ws", caller, "tcp")


def test_a_py_peer_understands_that_nobody_has_reserved(start_py_peer: StartPyPeer) -> None:
    absent, caller = start_py_peer(), start_py_peer()
    with RelayProcess() as relay:
        absent.start()
        caller.start()
        with pytest.raises(PeerCallError, match=r"NO_RESERVATION|204"):
            caller.dial(f"{relay.address('ws')}/p2p-circuit/p2p/{absent.peer_id}")
