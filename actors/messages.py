"""The control plane's messages: what main, the supervisor and its children say to each other over Thespian.

They are few and rare (a spawn, a readiness, other settings, an end). Nothing here may carry what the data plane says;
that goes over the registry and worker links. Every message is a frozen dataclass, because each is pickled on its way.
Thespian may deliver them in another order than they were sent in, so settings carry a number, and an older one never
replaces a newer.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from actors.tokens import Token
    from config.settings import Settings

Role = Literal["main", "system", "supervisor", "registry", "listener", "admin", "canary"]


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
    is_passed: bool = False
    """Whether systemd has opened the socket, which it then keeps; listeners only."""
    leaving: bool = False
    """Whether a reload has taken its listener away: it takes in nobody, and ends without a successor."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a reload. From main to the supervisor when it was refused."""

    number: int
    """Which reload, counted from 1."""
    error: str = ""
    """Why it was refused, in one line; then nothing has changed."""
    needs_restart: tuple[str, ...] = ()
    """Keys whose new value waits for a restart."""
    late: tuple[str, ...] = ()
    """Slots that had not taken the settings over when the time was up; they are told again until they have."""
    at_unix_s: float = 0.0


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
    tokens: tuple[Token, ...] | None = field(default=None, repr=False)
    """Of access.tokens_file; None: nobody needs one."""
    admin_token: str = field(default="", repr=False)
    """What must be known over TCP to ask for more than health; empty: no token. Never logged."""
    certificates_fd: int = -1
    """Inherited memory file of the certificates that were served last (transports/kept_certificates.py)."""
    number: int = 0
    """Of the reload that brought these settings; 0 is the start."""
    first_record: int = 0
    """The first signed peer record's number, the wall clock at main's start in ns; each reload has the next one."""
    outcomes: tuple[Outcome, ...] = ()
    """Of the latest reloads, the newest last."""


@dataclass(frozen=True, slots=True)
class Begin:
    """Main to supervisor: become the parent of this tree."""

    boot: Boot
    """As for any child; its slot is the supervisor's own."""
    actors: tuple[tuple[Role, str], ...]
    """For each role that has children, the dotted name of its actor class."""
    event_fd: int
    """Inherited eventfd, written when every slot serves, when a reload is over, when a worker that was leaving has
    left, and when the last child has ended."""
    sockets_fd: int
    """Inherited end of the channel by which main passes sockets that it opens later."""


@dataclass(frozen=True, slots=True)
class Ready:
    """Child to supervisor: this slot serves."""

    slot_name: str
    pid: int


@dataclass(frozen=True, slots=True)
class Update:
    """Main to supervisor, and on to each child: live by these settings from now on. Answered by Updated."""

    number: int
    """Of the reload, counted from 1."""
    settings: Settings
    announced: tuple[str, ...]
    slots: tuple[Slot, ...]
    """The whole tree. From main with main's descriptors; the supervisor puts its own in their place."""
    needs_restart: tuple[str, ...] = ()
    tokens: tuple[Token, ...] | None = field(default=None, repr=False)
    admin_token: str = field(default="", repr=False)
    is_reload: bool = True
    """Whether the settings were read again; else only the machine's addresses have changed, or workers have left."""

    def applied_to(self, boot: Boot) -> Boot:
        """What a process is to live by that was started with `boot`."""
        return replace(
            boot,
            slot=self._slot(boot.slot),
            number=self.number,
            settings=self.settings,
            announced=self.announced,
            slots=self.slots,
            tokens=self.tokens,
            admin_token=self.admin_token,
        )

    def _slot(self, before: Slot) -> Slot:
        """The same slot by these settings; its process has the descriptors that it was born with."""
        found = next((slot for slot in self.slots if slot.name == before.name), before)
        return replace(found, socket_fd=before.socket_fd, control_fd=before.control_fd)


@dataclass(frozen=True, slots=True)
class Updated:
    """Child to supervisor: this slot lives by the settings of that number."""

    slot_name: str
    number: int


@dataclass(frozen=True, slots=True)
class Reloads:
    """Supervisor to admin: what came of the latest reloads, to be shown."""

    outcomes: tuple[Outcome, ...]
    """The newest last."""


@dataclass(frozen=True, slots=True)
class Drain:
    """Main or admin to supervisor, and on to listeners: end once no circuit is left, after this time at the latest."""

    timeout_s: float
    slot_name: str = ""
    """Only this worker, which is then started anew; empty: the relay."""


@dataclass(frozen=True, slots=True)
class Stop:
    """Main to supervisor: end the tree in order."""

    grace_s: float
    """What listeners get to say goodbye, before they are killed."""
