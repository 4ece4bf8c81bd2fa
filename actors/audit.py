"""The audit: whether the registry holds what its workers hold.

Now and then each worker is asked how much it holds. Counts that differ twice in a row are no message under way any
more, so then it is asked for all of it, and what differs for SETTLE_S is mended: what nobody holds is free, and what a
worker holds is counted again, as a new registry would count it. No I/O and no clock: `now` is passed in. It must never
mend what may only be on its way, and never end anything that a peer uses.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from typing import Final, Literal, NamedTuple

from actors.holdings import Worker
from actors.registry import Registry
from actors.registry_protocol import Ask, Inventory, Tally

SETTLE_S: Final = 10.0
"""How long something must differ. A refused connection takes up to 5 s to close, a registry's answer 2 s to be late."""

Kind = Literal["reservation", "circuit", "connection"]
Holder = Literal["registry", "worker"]

_KINDS: Final[tuple[Kind, ...]] = ("reservation", "circuit", "connection")
_LOOKS: Final = 2  # in a row, at which the counts differ
_SUM: Final = (1 << 63) - 1  # what a sum is cut to, so that it stays an integer of msgpack


class Difference(NamedTuple):
    """One thing that only one of the two holds. The number is that of the connection, or of the circuit."""

    kind: Kind
    number: int
    holder: Holder


class Mended(NamedTuple):
    """What was mended with one worker, by kind: freed what only the registry held, counted what only the worker did."""

    freed: Mapping[str, int]
    counted: Mapping[str, int]


def tally(reservations: Collection[int], circuits: Collection[int], connections: Collection[int]) -> Tally:
    """How many there are of each kind, and the sum of their numbers: equal counts of other things do not pass."""
    return Tally(*((len(numbers), sum(numbers) & _SUM) for numbers in (reservations, circuits, connections)))


def _differing(ours: tuple[int, int], theirs: tuple[int, int]) -> int:
    """How many things of a kind differ at least."""
    return max(abs(ours[0] - theirs[0]), int(ours != theirs))


class _Looks:
    """What the looks at one worker have shown so far."""

    __slots__ = ("at_s", "differed", "differences", "said", "suspects")

    def __init__(self, now: float) -> None:
        self.at_s = now
        """When it was last compared; at first, when it joined."""
        self.differed = 0
        """Looks in a row at which something differed."""
        self.differences = 0
        self.said: list[Inventory] = []
        """The parts of an inventory that goes on."""
        self.suspects: dict[Difference, float] = {}
        """What differs, since when."""

    def compared(self, differences: int, now: float) -> None:
        """One more look."""
        self.at_s = now
        self.differences = differences
        self.differed = self.differed + 1 if differences else 0


class Auditor:
    """Compares `registry` with what each worker says. `mended` counts all that ever was."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._looks: dict[str, _Looks] = {}
        self.mended = 0

    @property
    def differences(self) -> int:
        """In how many things the registry and its workers differed when each was last compared."""
        return sum(looks.differences for looks in self._looks.values())

    @property
    def audited_s(self) -> float:
        """Since when every worker has been compared at least once; 0 without workers."""
        return min((looks.at_s for looks in self._looks.values()), default=0.0)

    def joined(self, worker: str, now: float) -> None:
        """A worker is there; what was known of another one of its name is of no use any more."""
        self._looks[worker] = _Looks(now)

    def gone(self, worker: str) -> None:
        """All that the worker held is free."""
        self._looks.pop(worker, None)

    def question(self, worker: str) -> Ask:
        """What the worker is to be asked this time."""
        return Ask(whole=self._looks[worker].differed >= _LOOKS)

    def take_tally(self, worker: str, said: Tally, now: float) -> None:
        """A worker has counted."""
        held = self._registry.workers[worker]
        ours = tally(held.reservations, held.circuits, held.connections)
        differences = (
            _differing(ours.reservations, said.reservations)
            + _differing(ours.circuits, said.circuits)
            + _differing(ours.connections, said.connections)
        )
        looks = self._looks[worker]
        looks.suspects.clear()
        looks.compared(differences, now)

    def take_inventory(self, worker: str, part: Inventory, now: float) -> Mended | None:
        """A worker has said what it holds, or a part of it; what was mended, if anything was."""
        looks = self._looks[worker]
        looks.said.append(part)
        if part.more:
            return None
        said, looks.said = looks.said, []
        found = _differences(self._registry.workers[worker], said, now)
        looks.suspects = {each: looks.suspects.get(each, now) for each in sorted(found)}
        settled = {each for each, since_s in looks.suspects.items() if now - since_s >= SETTLE_S}
        looks.compared(len(found), now)
        if not settled:
            return None
        self._free(worker, settled)
        self._count(worker, settled, said, now)
        self.mended += len(settled)
        return Mended(_by_kind(settled, "registry"), _by_kind(settled, "worker"))

    def _free(self, worker: str, settled: set[Difference]) -> None:
        """What the worker does not hold, nobody does: its slot is free."""
        registry = self._registry
        for kind, number, holder in settled:
            if holder == "worker":
                continue
            if kind == "reservation":
                held = registry.workers[worker].reservations.get(number)
                if held is not None:  # it may have gone with its connection
                    registry.release(worker, held.peer, number)
            elif kind == "circuit":
                registry.close_circuit(worker, number)
            else:
                registry.disconnected(worker, number)

    def _count(self, worker: str, settled: set[Difference], said: list[Inventory], now: float) -> None:
        """What the worker holds was granted to it once, and peers live by it."""
        for part in said:
            self._registry.declare(
                worker,
                [each for each in part.reservations if Difference("reservation", each.connection, "worker") in settled],
                [each for each in part.circuits if Difference("circuit", each.circuit, "worker") in settled],
                [each for each in part.connections if Difference("connection", each[0], "worker") in settled],
                now,
                part.tokens,
            )


def _by_kind(settled: set[Difference], holder: Holder) -> Mapping[str, int]:
    return Counter(each.kind for each in settled if each.holder == holder)


def _differences(held: Worker, said: list[Inventory], now: float) -> set[Difference]:
    """What only one of the two holds. A reservation that has expired is nobody's, whoever has not noticed yet."""
    ours: tuple[set[int], ...] = (
        {number for number, each in held.reservations.items() if each.expires_s > now},
        set(held.circuits),
        set(held.connections),
    )
    theirs: tuple[set[int], ...] = (
        {each.connection for part in said for each in part.reservations if each.expires_s > now},
        {each.circuit for part in said for each in part.circuits},
        {number for part in said for number, _ in part.connections},
    )
    found: set[Difference] = set()
    for kind, here, there in zip(_KINDS, ours, theirs, strict=True):
        found |= {Difference(kind, number, "registry") for number in here - there}
        found |= {Difference(kind, number, "worker") for number in there - here}
    return found
