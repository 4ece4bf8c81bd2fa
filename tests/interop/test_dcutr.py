"""Two peers behind NATs meet at the relay and go on without it: DCUtR, with what it needs of the relay.

That is the bytes of the circuit, in time, and a true `observedAddr`: a peer behind a NAT knows its public address only
from the relay, and tells it to the other, which dials it. So the address that was dialled shows what the relay told.
"""

import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.meeting import TEXTS
from tests.support.nat import Home, Homes, two_homes
from tests.support.peers import Link
from tests.support.programs import BuiltPeer, GoPeer, RustPeer
from tests.support.relay import RelayProcess

pytestmark = pytest.mark.interop

StartAtHome = Callable[[str, Home], BuiltPeer]

UNANSWERED_S = 1.0
LIMIT_S = 40.0  # three attempts of ten seconds each, and what they are agreed in


@pytest.fixture
def homes() -> Iterator[Homes]:
    with two_homes() as built:
        yield built


@pytest.fixture
def start_at_home(homes: Homes, go_binary: Path, rust_binary: Path) -> Iterator[StartAtHome]:
    """Starts a peer of a kind behind a NAT."""
    with ExitStack() as started:

        def start_one(kind: str, home: Home) -> BuiltPeer:
            if kind == "go":
                return started.enter_context(GoPeer(go_binary, within=home.host.prefix))
            return started.enter_context(RustPeer(rust_binary, within=home.host.prefix))

        yield start_one


def test_the_homes_reach_the_relay_and_let_nobody_in_uninvited(homes: Homes) -> None:
    place, left, right = homes.relay, homes.left, homes.right
    with (
        place.inside(lambda: socket.create_server((place.address, 0))) as at_relay,
        left.host.connect(at_relay.getsockname()) as leaving,
        at_relay.accept()[0] as arrived,
    ):
        port: int = leaving.getsockname()[1]
        assert arrived.getpeername() == (left.public, port)
        for stranger in (place, right.host):  # a packet that got in would be answered: nobody listens there
            with pytest.raises(TimeoutError):
                stranger.connect((left.public, port), UNANSWERED_S)


@pytest.mark.parametrize(
    ("called_kind", "caller_kind"), [("go", "rust"), ("rust", "go"), ("go", "go"), ("rust", "rust")]
)
def test_two_peers_behind_nats_reach_each_other_directly_after_they_met_at_the_relay(
    homes: Homes, start_at_home: StartAtHome, called_kind: str, caller_kind: str
) -> None:
    place = homes.relay
    with RelayProcess(
        listeners=[f"/ip4/{place.address}/tcp/9090"], prefix=place.prefix, connect=place.connect
    ) as relay:
        called, caller = start_at_home(called_kind, homes.left), start_at_home(caller_kind, homes.right)
        via = f"{relay.address('tcp')}/p2p-circuit"
        called.start(bound(homes.left), via)
        called.await_hole_punching()
        caller.start(bound(homes.right))
        caller.dial(relay.address("tcp"))
        caller.await_hole_punching()

        circuit = caller.dial(f"{via}/p2p/{called.peer_id}")
        assert circuit.limited
        to_called = direct_link(caller, called, homes.left)
        to_caller = direct_link(called, caller, homes.right)
        relay.wait_status(lambda now: now["circuits"] == 1)

        # rust-libp2p takes any connection for a stream, so it is asked only when one is left.
        speaker, link = (caller, to_called) if caller_kind == "go" else (called, to_caller)
        knows_connections = isinstance(speaker, GoPeer)
        if knows_connections:
            speaker.open_echo(link)
            assert speaker.say("beside the circuit") == "beside the circuit"

        assert relay.stop() == 0
        await_only(caller, to_called)
        await_only(called, to_caller)
        if not knows_connections:
            speaker.open_echo(link)
        for text in TEXTS:
            assert speaker.say(text) == text


def bound(home: Home) -> str:
    """What a peer listens on, to dial from there: a NAT gives both the same port."""
    return f"/ip4/{home.host.address}/tcp/0"


def direct_link(peer: BuiltPeer, other: BuiltPeer, home: Home) -> Link:
    """Wait for the connection that leads to the other's public address, and not through the relay."""
    end = time.monotonic() + LIMIT_S
    while True:
        links = peer.links()
        for link in links:
            if link.peer == other.peer_id and link.address.startswith(f"/ip4/{home.public}/tcp/"):
                assert "/p2p-circuit" not in link.address
                assert not link.limited
                return link
        assert time.monotonic() < end, f"after {LIMIT_S} s only {links}"
        time.sleep(0.1)


def await_only(peer: BuiltPeer, link: Link) -> None:
    """Wait until the peer has noticed that its circuit is gone, and has this connection still."""
    end = time.monotonic() + LIMIT_S
    while (links := peer.links()) != [link]:
        assert time.monotonic() < end, f"after {LIMIT_S} s still {links}"
        time.sleep(0.1)
