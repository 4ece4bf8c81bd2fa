"""py-libp2p 0.8.1 reserves, dials and talks through the relay over TCP and WebSocket, with its kind."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.certificate import issued_certificate
from tests.support.meeting import meet_and_leave
from tests.support.peers import PeerCallError
from tests.support.pylibp2p import PyPeer
from tests.support.relay import RelayProcess

pytestmark = pytest.mark.interop

StartPyPeer = Callable[..., PyPeer]


@pytest.mark.parametrize("caller_via", ["ws", "tcp"])
@pytest.mark.parametrize("called_via", ["tcp", "ws"])
def test_two_py_peers_talk_over_a_circuit(start_py_peer: StartPyPeer, called_via: str, caller_via: str) -> None:
    called, caller = start_py_peer(), start_py_peer()
    with RelayProcess() as relay:
        meet_and_leave(relay, called, called_via, caller, caller_via)


def test_py_peers_talk_over_secure_websocket(start_py_peer: StartPyPeer, tmp_path: Path) -> None:
    issued = issued_certificate(tmp_path)
    trusting = {"SSL_CERT_FILE": str(issued.authority_pem)}
    with RelayProcess(issued.listener) as relay:
        # The same by its other name: 0.8.1 does not dial /tls/ws when /p2p follows.
        address = relay.address("wss").replace("/tls/ws/", "/wss/")
        meet_and_leave(relay, start_py_peer(**trusting), address, start_py_peer(**trusting), address)


def test_a_py_peer_understands_that_nobody_has_reserved(start_py_peer: StartPyPeer) -> None:
    absent, caller = start_py_peer(), start_py_peer()
    with RelayProcess() as relay:
        absent.start()
        caller.start()
        with pytest.raises(PeerCallError, match=r"NO_RESERVATION|204"):
            caller.dial(f"{relay.address('ws')}/p2p-circuit/p2p/{absent.peer_id}")
