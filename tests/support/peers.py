"""What a foreign libp2p peer can be asked to do, whatever language it is written in.

The peers live outside the test process (a browser page, a Python program of its own) and take calls of a name and JSON.
Nothing here may know the relay's own code: what these peers say is evidence because it is not ours.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

CALL_TIMEOUT_S = 30.0


class PeerCallError(Exception):
    """The peer answered a call with a failure; the text is the peer's own, with its stack."""


@dataclass(frozen=True)
class Link:
    """One connection as its peer describes it."""

    id: str
    peer: str
    address: str
    limited: bool


class Peer(ABC):
    """A libp2p peer that answers echo streams and does what it is told."""

    peer_id: str = ""

    @abstractmethod
    def call(self, name: str, **argument: Any) -> Any:
        """Run one call in the peer and return its JSON value, within CALL_TIMEOUT_S. Raises PeerCallError."""

    def start(self, *listen: str) -> list[str]:
        """Start the node and return its addresses; with a circuit address in `listen` it then holds a reservation."""
        started = self.call("start", listen=listen)
        self.peer_id = started["peer"]
        addresses: list[str] = started["addresses"]
        return addresses

    def dial(self, address: str) -> Link:
        """Open a connection to a multiaddr that ends in /p2p/<id>."""
        return link_of(self.call("dial", address=address))

    def hang_up(self, peer_id: str) -> None:
        """Close every connection to a peer."""
        self.call("hangUp", peer=peer_id)

    def links(self) -> list[Link]:
        """Every connection that the peer has now."""
        return [link_of(described) for described in self.call("connections")]

    def open_echo(self, link: Link) -> None:
        """Open the stream that `say` uses, on this connection."""
        self.call("openEcho", connection=link.id)

    def say(self, text: str) -> str:
        """Send a text on the echo stream and return as many bytes of answer."""
        answer: str = self.call("say", text=text)
        return answer


def link_of(described: dict[str, Any]) -> Link:
    return Link(described["id"], described["peer"], described["address"], described["limited"])
