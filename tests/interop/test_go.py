"""What only go-libp2p does: it checks the voucher and hands it out, has AutoRelay, and is told whom to trust."""

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.certificate import issued_certificate
from tests.support.meeting import meet_and_leave
from tests.support.programs import GoPeer
from tests.support.relay import RelayProcess

pytestmark = pytest.mark.interop

StartGoPeer = Callable[..., GoPeer]

TTL_S = 1800


@pytest.mark.parametrize("via", ["ws", "tcp"])
def test_two_go_peers_on_one_transport_talk_over_a_circuit(start_go_peer: StartGoPeer, via: str) -> None:
    with RelayProcess() as relay:
        meet_and_leave(relay, start_go_peer(), via, start_go_peer(), via)


@pytest.mark.parametrize("via", ["ws", "tcp"])
def test_a_go_peer_accepts_the_voucher_of_its_reservation_and_of_its_renewal(
    start_go_peer: StartGoPeer, via: str
) -> None:
    peer = start_go_peer()
    peer.start()
    with RelayProcess(f"limits.reservation_ttl_s={TTL_S}") as relay:
        address = relay.address(via)
        earliest = int(time.time()) + TTL_S
        granted = [peer.reserve(address), peer.reserve(address)]
        latest = int(time.time()) + TTL_S + 1
        for each in granted:
            assert earliest <= each["expires"] <= latest
            assert each["voucher"] == {"relay": relay.peer_id, "peer": peer.peer_id, "expires": each["expires"]}
            assert each["addresses"] == relay.addresses
        assert granted[0]["expires"] <= granted[1]["expires"]
        relay.wait_status(lambda now: now["reservations"] == 1)


def test_auto_relay_reserves_by_itself_and_lists_what_the_relay_announces(
    go_binary: Path, start_go_peer: StartGoPeer
) -> None:
    caller = start_go_peer()
    # AutoRelay lists circuits through public addresses only. The peer ends before its relay, or it would look for this.
    announced = "/dns4/relay.example.org/tcp/443/tls/ws"
    with RelayProcess(f'announce.addresses=["{announced}"]') as relay, GoPeer(go_binary) as called:
        caller.start()
        # The relay prints what it announces; the peers here dial what is bound.
        (address,) = [
            f"{one['listener']}/p2p/{relay.peer_id}" for one in relay.workers("listener") if "/ws" in one["listener"]
        ]
        listed = called.start_auto_relay(address)
        assert listed == [f"{announced}/p2p/{relay.peer_id}/p2p-circuit/p2p/{called.peer_id}"]
        relay.wait_status(lambda now: now["reservations"] == 1)
        caller.open_echo(caller.dial(f"{address}/p2p-circuit/p2p/{called.peer_id}"))
        assert caller.say("found") == "found"


def test_go_peers_talk_over_secure_websocket(start_go_peer: StartGoPeer, tmp_path: Path) -> None:
    issued = issued_certificate(tmp_path)
    trusting = {"SSL_CERT_FILE": str(issued.authority_pem)}
    with RelayProcess(issued.listener) as relay:
        meet_and_leave(relay, start_go_peer(**trusting), "wss", start_go_peer(**trusting), "wss")
