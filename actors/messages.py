"""The control plane's messages: what main, the supervisor and its children say to each other over Thespian.

They are few and rare (a spawn, a readiness, an end). Nothing here may carry what the data plane says; that goes over
the registry and worker links. Every message is a frozen dataclass, because each is pickled on its way.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from config.settings import Settings

Role = Literal["main", "system", "supervisor", "registry", "listener", "admin"]


@dataclass(frozen=True, slots=True)
class Slot:
    """One place in the process tree; it outlives the process that fills it."""

    index: int
    """Row on the board."""
    name: str
    """For example "registry", "ws-9091/0", "tcp-9090/0", "admin"."""
    role: Role
    listener: str = ""
    """Multiaddr it listens on, with the port that was bound; listeners only."""
    socket_fd: int = -1
    """Inherited listening socket; listeners, and the admin's HTTP socket unless that is off."""
    control_fd: int = -1
    """Inherited control socket; the admin only."""
    listener_index: int = -1
    """Index in settings.listeners; listeners only."""


@dataclass(frozen=True, slots=True)
class Boot:
    """First message to each child of the supervisor: all it needs to serve."""

    slot: Slot
    settings: Settings
    runtime_dir: str
    """Private directory (0700) of this boot; all our Unix sockets are in it."""
    board_fd: int
    """Inherited memory file of the board (actors/board.py)."""
    rates_fd: int
    """Inherited memory file of the connection rates (actors/rate_table.py)."""
    host_seed: bytes = field(repr=False)
    """Ed25519 seed of the relay's identity, 32 bytes. Never logged."""
    announced: tuple[str, ...]
    """Addresses without /p2p, wildcards resolved."""
    slots: tuple[Slot, ...]
    """The whole tree."""
    admin_token: str = field(default="", repr=False)
    """What must be known over TCP to ask for more than health; empty: no token. Never logged."""


@dataclass(frozen=True, slots=True)
class Begin:
    """Main to supervisor: become the parent of this tree."""

    boot: Boot
    """As for any child; its slot is the supervisor's own."""
    actors: tuple[tuple[Role, str], ...]
    """For each role that has children, the dotted name of its actor class."""
    event_fd: int
    """Inherited eventfd, written once when every slot serves and once when the last child has ended."""


@dataclass(frozen=True, slots=True)
class Ready:
    """Child to supervisor: this slot serves."""

    slot_name: str
    pid: int


@dataclass(frozen=True, slots=True)
class Stop:
    """Main to supervisor: end the tree in order."""

    grace_s: float
    """What listeners get to say goodbye, before they are killed."""
