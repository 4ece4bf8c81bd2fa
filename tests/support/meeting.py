"""How two peers meet through the relay, talk and leave: our own, or foreign ones with the relay's own counts."""

from collections.abc import Sequence

from tests.support.client import Client
from tests.support.peers import Peer
from tests.support.placement import wait_until_empty
from tests.support.relay import RelayProcess

# The long one takes several Noise messages and several frames of every layer; the middle one shows that order holds.
TEXTS = ("hello", "twice", ("long: " + "0123456789abcdef" * 3125)[:50_000])


async def meet(address: str) -> None:
    """Two peers of our own."""
    target, source = await Client.dial(address), await Client.dial(address)
    await target.reserve()
    left = await source.connect(target.peer_id)
    _, right = await target.called()
    left.write(b"hello")
    assert await right.read(5) == b"hello"
    await source.abort()
    await target.abort()


def meet_and_leave(
    relay: RelayProcess, called: Peer, called_via: str, caller: Peer, caller_via: str, texts: Sequence[str] = TEXTS
) -> None:
    """Reserve, dial, echo over the circuit, leave; the relay's counts follow, and nothing is left.

    `via` is a transport, or an address of the relay's in words of the peer's own.
    """
    called_at, caller_at = (via if via.startswith("/") else relay.address(via) for via in (called_via, caller_via))
    called.start(f"{called_at}/p2p-circuit")
    relay.wait_status(lambda now: now["reservations"] == 1)

    caller.start()
    link = caller.dial(f"{caller_at}/p2p-circuit/p2p/{called.peer_id}")
    assert link.peer == called.peer_id
    assert link.limited
    relay.wait_status(lambda now: now["circuits"] == 1 and now["connections"] == 2)
    caller.open_echo(link)
    for text in texts:
        assert caller.say(text) == text

    caller.hang_up(relay.peer_id)
    relay.wait_status(lambda now: now["circuits"] == 0 and now["reservations"] == 1 and now["connections"] == 1)
    called.hang_up(relay.peer_id)
    wait_until_empty(relay)
