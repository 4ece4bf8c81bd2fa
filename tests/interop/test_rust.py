"""What only rust-libp2p does: it renews by itself, and it waits for the relay to ask who it is."""

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.certificate import issued_certificate
from tests.support.meeting import meet_and_leave
from tests.support.programs import RustPeer
from tests.support.relay import RelayProcess

pytestmark = pytest.mark.interop

StartRustPeer = Callable[..., RustPeer]

TTL_S = 4
RENEWALS = 2  # one at three quarters of the time each: together longer than the first grant lasts
LIMIT_S = 30.0


@pytest.mark.parametrize("via", ["ws", "tcp"])
def test_two_rust_peers_on_one_transport_talk_over_a_circuit(start_rust_peer: StartRustPeer, via: str) -> None:
    with RelayProcess() as relay:
        meet_and_leave(relay, start_rust_peer(), via, start_rust_peer(), via)


def test_rust_peers_talk_over_secure_websocket(start_rust_peer: StartRustPeer, tmp_path: Path) -> None:
    issued = issued_certificate(tmp_path)
    trusting = {"TRUSTED_CERTIFICATE": str(issued.authority_der)}
    with RelayProcess(issued.listener) as relay:
        meet_and_leave(relay, start_rust_peer(**trusting), "wss", start_rust_peer(**trusting), "wss")


@pytest.mark.slow
def test_a_rust_peer_renews_ahead_of_expiry_and_stays_reachable(start_rust_peer: StartRustPeer) -> None:
    called, caller = start_rust_peer(), start_rust_peer()
    with RelayProcess(f"limits.reservation_ttl_s={TTL_S}") as relay:
        called.start(f"{relay.address('ws')}/p2p-circuit")
        wait_for_grants(called, 1 + RENEWALS)
        assert [granted["renewal"] for granted in called.reservations()[: 1 + RENEWALS]] == [False] + [True] * RENEWALS

        caller.start()
        link = caller.dial(f"{relay.address('tcp')}/p2p-circuit/p2p/{called.peer_id}")
        caller.open_echo(link)
        assert caller.say("still here") == "still here"
        assert relay.status()["reservations"] == 1


def wait_for_grants(peer: RustPeer, count: int) -> None:
    end = time.monotonic() + LIMIT_S
    while len(peer.reservations()) < count:
        assert time.monotonic() < end, f"{peer.reservations()} after {LIMIT_S} s"
        time.sleep(0.1)
