"""The supervisor's decisions: which child is started, killed, asked to end, and when.

A plain class: the clock is passed in, what is to be done is handed out as actions, and what happened is reported
back. It starts no process, sends no message and reads no clock; SupervisorActor (tree.py) does that. Notices about a
child may come twice or late; each is taken at most once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from actors.board import BoardRow, State
from actors.messages import Drain, Slot
from supervisor.backoff import Backoff

TICK_S: Final = 1.0
"""How often `tick` is called at least."""
READY_LIMIT_S: Final = 10.0
"""A child that has not said Ready by then is killed."""
STOP_ORDER: Final = ("canary", "listener", "admin", "registry")
STOP_LAST_S: Final = 0.3
"""What the others than listeners get to end; they have nobody to say goodbye to."""
KILL_AFTER_S: Final = 0.3
"""How much longer we wait for who was asked to end: it keeps its own time, and ends better by itself."""
DRAIN_LOOK_S: Final = 0.25
"""How often it is looked whether those who drain are done."""
HANGS: Final = "hangs"
_NEVER: Final = float("inf")

_TRANSITIONS: Final[Mapping[State, frozenset[State]]] = {
    State.EMPTY: frozenset({State.STARTING, State.STOPPED}),
    State.STARTING: frozenset(
        {State.READY, State.STARTING, State.BACKOFF, State.FAILED, State.STOPPING, State.STOPPED}
    ),
    State.READY: frozenset({State.STARTING, State.BACKOFF, State.FAILED, State.STOPPING, State.DRAINING}),
    State.DRAINING: frozenset({State.STARTING, State.BACKOFF, State.FAILED, State.STOPPING, State.STOPPED}),
    State.BACKOFF: frozenset({State.STARTING, State.STOPPED}),
    State.FAILED: frozenset({State.STARTING, State.STOPPED}),
    State.STOPPING: frozenset({State.STOPPED, State.STARTING}),
    State.STOPPED: frozenset(),
}
_ALIVE: Final = frozenset({State.STARTING, State.READY, State.DRAINING, State.STOPPING})


@dataclass(frozen=True, slots=True)
class Spawn:
    """Start a process for this slot, and report its process ID with `spawned`."""

    slot: Slot


@dataclass(frozen=True, slots=True)
class AskToDrain:
    """Tell the slot's process that it will end within this time."""

    slot: Slot
    order: Drain


@dataclass(frozen=True, slots=True)
class AskToEnd:
    """Ask the slot's process to end in order."""

    slot: Slot


@dataclass(frozen=True, slots=True)
class Kill:
    """Kill the slot's process now."""

    slot: Slot
    pid: int
    why: str


@dataclass(frozen=True, slots=True)
class AllReady:
    """Every slot serves, for the first time."""


@dataclass(frozen=True, slots=True)
class AllStopped:
    """Nothing is left of the tree."""


Action = Spawn | AskToDrain | AskToEnd | Kill | AllReady | AllStopped


class Child:
    """What is known of the process in one slot. Its state is on the board, where everybody can see it."""

    __slots__ = ("backoff", "beat", "due", "recycled", "row", "silent_s", "slot")

    def __init__(self, slot: Slot, row: BoardRow, backoff_max_s: float) -> None:
        self.slot = slot
        self.row = row
        self.backoff = Backoff(backoff_max_s)
        self.beat = 0.0
        """The last heartbeat seen."""
        self.silent_s = 0.0
        """How long it has been the last one; while starting, how long that has taken."""
        self.due = _NEVER
        """When the pause before a restart, the time to end, or that to drain is over."""
        self.recycled = False
        """Asked to end after a drain of its own: a successor follows at once."""

    @property
    def state(self) -> State:
        """Where the slot is in its life."""
        return self.row.state

    def is_in(self, slot: Slot | None) -> bool:
        """Whether this slot of the same name is its own, and not one that came when it had left."""
        return slot is not None and slot.index == self.slot.index and (slot.leaving or not self.slot.leaving)

    def move(self, to: State) -> None:
        """Raises ValueError for a change that cannot be."""
        if to not in _TRANSITIONS[self.state]:
            raise ValueError(f"{self.slot.name}: {self.state.name} cannot become {to.name}")
        self.row.state = to


class Children:
    """All slots below the supervisor."""

    def __init__(
        self, slots: Sequence[Slot], row: Callable[[int], BoardRow], hang_timeout_s: float, backoff_max_s: float
    ) -> None:
        self._children = {slot.name: Child(slot, row(slot.index), backoff_max_s) for slot in slots}
        self._row = row
        self._hang_timeout_s = hang_timeout_s
        self._backoff_max_s = backoff_max_s
        self._last_tick = 0.0
        self.announced = False
        """Whether all slots have served at one moment, since the start."""
        self._stopping = False
        self._grace_s = 0.0
        self._draining: Drain | None = None
        self._drained_at_s = _NEVER

    def begin(self, now: float) -> list[Action]:
        """Start the registry, and without one everything; the others follow when it is ready or has failed once."""
        self._last_tick = now
        first = [each for each in self._children.values() if each.slot.role == "registry"]
        return self._start(first or list(self._children.values()), now)

    def set_limits(self, hang_timeout_s: float, backoff_max_s: float) -> None:
        """Other limits from now on; a pause that has begun ends when it would have."""
        self._hang_timeout_s, self._backoff_max_s = hang_timeout_s, backoff_max_s
        for child in self._children.values():
            child.backoff.max_s = backoff_max_s

    def pid(self, name: str) -> int:
        """The process in a slot, 0 for none."""
        return self._children[name].row.pid

    def state(self, name: str) -> State:
        """Where a slot is in its life."""
        return self._children[name].state

    def spawned(self, name: str, pid: int) -> None:
        """The process of a slot exists; pid 0 when that is only told by its Ready."""
        self._children[name].row.pid = pid

    def ready(self, name: str, pid: int, now: float) -> list[Action]:
        """A child serves. A late word from a predecessor changes nothing."""
        child = self._children.get(name)
        if child is None or child.state is not State.STARTING or child.row.pid not in {0, pid}:
            return []
        child.move(State.READY)
        child.row.pid = pid
        child.beat, child.silent_s = child.row.beat, 0.0
        actions = self._start_rest(now)
        if self._draining is not None and child.slot.role == "listener":
            actions += self._drain_child(child, self._draining, self._drained_at_s)
        return actions + self._announce()

    def _announce(self) -> list[Action]:
        """Once, when all serve."""
        staying = (child for child in self._children.values() if not child.slot.leaving)
        if self.announced or any(child.state is not State.READY for child in staying):
            return []
        self.announced = True
        return [AllReady()]

    def exited(self, name: str, now: float, code: int) -> list[Action]:
        """A child is gone, with this exit code. Said twice, it counts once."""
        child = self._children[name]
        if child.state not in _ALIVE:
            return []
        child.row.vacate()
        child.row.ended, child.row.end_code = now, code
        child.due = _NEVER
        if child.recycled and not self._stopping:
            child.recycled = False
            return self._start([child], now)
        if child.slot.leaving and not self._stopping:
            child.move(State.STOPPED)
            return self._look_at_drain(now)
        if child.state is State.STOPPING:
            child.move(State.STOPPED)
            return self._stop_phase(now)
        if self._draining is not None and child.slot.role == "listener":
            child.move(State.STOPPED)  # nobody new is taken in any more, so nobody would need its successor
            return self._look_at_drain(now)
        pause_s = child.backoff.died(now - child.row.since)
        if pause_s == 0.0:
            actions = self._start([child], now)
        else:
            child.move(State.FAILED if child.backoff.failed else State.BACKOFF)
            child.due = now + pause_s
            actions = []
        return actions + self._start_rest(now)

    def tick(self, now: float) -> list[Action]:
        """Whatever is due. At least every TICK_S; more often does no harm."""
        # A machine that was paused is not a tree that hangs: however long it took, a tick counts for two at most.
        passed_s = min(now - self._last_tick, 2 * TICK_S)
        self._last_tick = now
        actions: list[Action] = []
        for child in self._children.values():
            if child.state in {State.STARTING, State.READY, State.DRAINING}:
                actions += self._watch(child, passed_s)
            elif child.state is State.STOPPING:
                if now >= child.due:
                    child.due = now + TICK_S
                    actions.append(Kill(child.slot, child.row.pid, "did not end in time"))
            elif now >= child.due and not self._stopping:
                actions += self._start([child], now)
        return actions + self._look_at_drain(now)

    def _watch(self, child: Child, passed_s: float) -> list[Action]:
        child.silent_s += passed_s
        if child.state is State.STARTING:
            if child.silent_s >= READY_LIMIT_S:
                return [Kill(child.slot, child.row.pid, "not ready in time")]
        elif child.row.beat != child.beat:
            child.beat, child.silent_s = child.row.beat, 0.0
        elif child.silent_s >= self._hang_timeout_s:
            return [Kill(child.slot, child.row.pid, HANGS)]
        return []

    def drain(self, order: Drain, now: float, grace_s: float) -> list[Action]:
        """End once no circuit is left: one worker, whose successor follows, or all of the tree.

        A second order for the whole tree may bring its end nearer, not put it off.
        """
        if self._stopping:
            return []
        self._grace_s = grace_s
        ends_at_s = now + order.timeout_s
        if order.slot_name:
            one = self._children.get(order.slot_name)
            ready = one is not None and one.slot.role == "listener" and one.state is State.READY
            return self._drain_child(one, order, ends_at_s) if one is not None and ready else []
        self._draining, self._drained_at_s = order, min(ends_at_s, self._drained_at_s)
        actions: list[Action] = []
        for child in self._children.values():
            if child.slot.role == "listener" and child.state in {State.READY, State.DRAINING}:
                actions += self._drain_child(child, order, self._drained_at_s)
        return actions + self._look_at_drain(now)

    def _drain_child(self, child: Child, order: Drain, ends_at_s: float) -> list[Action]:
        if child.state is not State.DRAINING:
            child.move(State.DRAINING)
            child.row.busy = 1  # until it says itself how busy it is
        child.due = ends_at_s
        return [AskToDrain(child.slot, order)]

    def _look_at_drain(self, now: float) -> list[Action]:
        """Whoever has no circuit any more, or no time, ends: the relay when that is so for all of it at once."""
        draining = [each for each in self._children.values() if each.state is State.DRAINING]
        if self._draining is not None:
            if now >= self._drained_at_s or not any(each.row.busy for each in draining):
                return self.stop(now, self._grace_s)
            return []
        actions: list[Action] = []
        for child in draining:
            if now >= child.due or not child.row.busy:
                child.recycled = not child.slot.leaving
                actions.append(self._ask_to_end(child, now, self._grace_s))
        return actions

    def arrange(self, slots: Sequence[Slot], now: float, leave_s: float, grace_s: float) -> list[Action]:
        """Other slots, by name: those that are new start, those that leave drain for `leave_s` and have no successor.

        A slot with another socket than before gets a new process. Those that had left are forgotten; their names and
        rows may be those of new ones.
        """
        there = {slot.name: slot for slot in slots}
        for known in tuple(self._children.values()):
            if not known.is_in(there.get(known.slot.name)):
                del self._children[known.slot.name]
        self._grace_s = grace_s
        actions: list[Action] = []
        for slot in slots:
            child = self._children.get(slot.name)
            if child is None:
                self._children[slot.name] = child = Child(slot, self._row(slot.index), self._backoff_max_s)
                child.row.renew()
                continue
            before, child.slot = child.slot, slot
            if slot.leaving and not before.leaving:
                actions += self._leave(child, now, leave_s)
            elif slot.socket_fd != before.socket_fd and child.state in {State.STARTING, State.READY}:
                child.recycled = True
                actions.append(self._ask_to_end(child, now, STOP_LAST_S))
        registry_is_first = any(
            child.slot.role == "registry" and child.state is State.STARTING and not child.row.restarts
            for child in self._children.values()
        )
        return actions + ([] if registry_is_first else self._start_rest(now)) + self._announce()

    def _leave(self, child: Child, now: float, leave_s: float) -> list[Action]:
        """Its listener is gone. Whoever is connected goes on until there is a moment without a circuit."""
        child.recycled = False
        if child.state in {State.READY, State.DRAINING}:
            return self._drain_child(child, Drain(leave_s, child.slot.name), min(now + leave_s, child.due))
        if child.state is State.STARTING:
            return [self._ask_to_end(child, now, self._grace_s)]
        if child.state not in {State.STOPPING, State.STOPPED}:
            child.move(State.STOPPED)
            child.due = _NEVER
        return []

    def _ask_to_end(self, child: Child, now: float, grace_s: float) -> Action:
        child.move(State.STOPPING)
        child.due = now + KILL_AFTER_S + grace_s
        return AskToEnd(child.slot)

    def stop(self, now: float, grace_s: float) -> list[Action]:
        """End the tree in STOP_ORDER: a canary would see the rest end. What does not end within `grace_s` is killed."""
        if self._stopping:
            return []
        self._stopping, self._grace_s = True, grace_s
        for child in self._children.values():
            if child.state not in {*_ALIVE, State.STOPPED}:
                child.move(State.STOPPED)
                child.due = _NEVER
        return self._stop_phase(now)

    def _stop_phase(self, now: float) -> list[Action]:
        """The next role in STOP_ORDER that still has processes, unless one is ending already."""
        alive = [each for each in self._children.values() if each.state in _ALIVE]
        if not alive:
            return [AllStopped()]
        if any(each.state is State.STOPPING for each in alive):
            return []
        role = next(role for role in STOP_ORDER if any(each.slot.role == role for each in alive))
        grace_s = self._grace_s if role == "listener" else STOP_LAST_S
        return [self._ask_to_end(child, now, grace_s) for child in alive if child.slot.role == role]

    def due(self) -> float:
        """When `tick` is next needed, apart from its regular turn; infinity when not at all."""
        due = min((each.due for each in self._children.values()), default=_NEVER)
        if any(each.state is State.DRAINING for each in self._children.values()):
            return min(due, self._last_tick + DRAIN_LOOK_S)
        return due

    def _start(self, children: Sequence[Child], now: float) -> list[Action]:
        for child in children:
            if child.state is not State.EMPTY:
                child.row.restarts += 1
            child.move(State.STARTING)
            child.row.since = now
            child.silent_s, child.due = 0.0, _NEVER
        return [Spawn(child.slot) for child in children]

    def _start_rest(self, now: float) -> list[Action]:
        if self._stopping:
            return []
        return self._start([each for each in self._children.values() if each.state is State.EMPTY], now)
