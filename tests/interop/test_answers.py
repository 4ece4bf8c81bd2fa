"""The relay's answers as go-libp2p and rust-libp2p tell their applications: limits, and why something was refused."""

from collections.abc import Callable

import pytest

from tests.support.peers import PeerCallError
from tests.support.programs import BuiltPeer, Limit, limit_in
from tests.support.relay import RelayProcess

pytestmark = [pytest.mark.interop, pytest.mark.timeout(func_only=True)]  # the first test may have to build its peer

NO_RESERVATION = {"go": "NO_RESERVATION", "rust": "Relay has no reservation for destination"}
RESOURCE_LIMIT_EXCEEDED = {"go": "RESOURCE_LIMIT_EXCEEDED", "rust": "Remote reported resource limit exceeded"}
RESERVATION_REFUSED = {"go": "RESERVATION_REFUSED", "rust": "Reservation refused"}
CONNECT_DENIED = {"go": "PERMISSION_DENIED", "rust": "Remote denied permission"}
# rust-libp2p has no word for this answer to a reservation, and tells the status itself.
RESERVE_DENIED = {"go": "PERMISSION_DENIED", "rust": "PERMISSION_DENIED"}

StartPeer = Callable[[], BuiltPeer]


@pytest.fixture(params=["go", "rust"])
def language(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def start_peer(request: pytest.FixtureRequest, language: str) -> StartPeer:
    start: StartPeer = request.getfixturevalue(f"start_{language}_peer")
    return start


@pytest.mark.parametrize("via", ["ws", "tcp"])
def test_both_ends_are_told_the_limits_that_the_reservation_told(start_peer: StartPeer, via: str) -> None:
    called, caller = start_peer(), start_peer()
    with RelayProcess("limits.circuit_duration_s=90", "limits.circuit_bytes=70000") as relay:
        called.start()
        caller.start()
        limit = Limit(90, 70_000)
        assert limit_in(called.reserve(relay.address(via))) == limit
        link = caller.dial(f"{relay.address(via)}/p2p-circuit/p2p/{called.peer_id}")
        assert caller.limit_of(link) == limit
        # The called side may learn of the connection later than the caller, but not later than of a stream on it.
        caller.open_echo(link)
        assert caller.say("here") == "here"
        (other,) = [link for link in called.links() if link.peer == caller.peer_id]
        assert called.limit_of(other) == limit


def test_without_limits_a_circuit_is_not_marked(start_peer: StartPeer) -> None:
    called, caller = start_peer(), start_peer()
    with RelayProcess("limits.circuit_duration_s=0", "limits.circuit_bytes=0") as relay:
        called.start()
        caller.start()
        assert limit_in(called.reserve(relay.address("tcp"))) is None
        link = caller.dial(f"{relay.address('ws')}/p2p-circuit/p2p/{called.peer_id}")
        assert caller.limit_of(link) is None
        assert not link.limited


def test_nobody_has_reserved(start_peer: StartPeer, language: str) -> None:
    absent, caller = start_peer(), start_peer()
    with RelayProcess() as relay:
        absent.start()
        caller.start()
        with pytest.raises(PeerCallError, match=NO_RESERVATION[language]):
            caller.dial(f"{relay.address('ws')}/p2p-circuit/p2p/{absent.peer_id}")


def test_a_full_relay_refuses_reservations_but_renews_those_it_gave(start_peer: StartPeer, language: str) -> None:
    first, second = start_peer(), start_peer()
    with RelayProcess("limits.max_reservations=1") as relay:
        first.start(f"{relay.address('ws')}/p2p-circuit")
        second.start()
        with pytest.raises(PeerCallError, match=RESERVATION_REFUSED[language]):
            second.reserve(relay.address("tcp"))
        first.reserve(relay.address("ws"))
        relay.wait_status(lambda now: now["reservations"] == 1)


def test_a_circuit_beyond_the_limit_is_refused(start_peer: StartPeer, language: str) -> None:
    called, first, second = start_peer(), start_peer(), start_peer()
    with RelayProcess("limits.max_circuits=1") as relay:
        called.start(f"{relay.address('tcp')}/p2p-circuit")
        target = f"{relay.address('ws')}/p2p-circuit/p2p/{called.peer_id}"
        first.start()
        link = first.dial(target)
        second.start()
        with pytest.raises(PeerCallError, match=RESOURCE_LIMIT_EXCEEDED[language]):
            second.dial(target)
        first.open_echo(link)
        assert first.say("undisturbed") == "undisturbed"


def test_a_denied_peer_may_neither_reserve_nor_dial(start_peer: StartPeer, language: str) -> None:
    denied, allowed = start_peer(), start_peer()
    denied.start()
    with RelayProcess(f'access.deny_peers=["{denied.peer_id}"]') as relay:
        allowed.start(f"{relay.address('ws')}/p2p-circuit")
        with pytest.raises(PeerCallError, match=RESERVE_DENIED[language]):
            denied.reserve(relay.address("ws"))
        with pytest.raises(PeerCallError, match=CONNECT_DENIED[language]):
            denied.dial(f"{relay.address('ws')}/p2p-circuit/p2p/{allowed.peer_id}")
