from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.board import Board, State
from actors.messages import Drain, Slot
from supervisor.children import (
    DRAIN_LOOK_S,
    READY_LIMIT_S,
    Action,
    AllReady,
    AllStopped,
    AskToDrain,
    AskToEnd,
    Children,
    Kill,
    Spawn,
)

REGISTRY = Slot(0, "registry", "registry")
ONE, TWO = Slot(1, "ws-1/0", "listener"), Slot(2, "ws-1/1", "listener")
ADMIN = Slot(3, "admin", "admin")
SLOTS = (REGISTRY, ONE, TWO, ADMIN)
LEAVE_S = 30.0


class Machine:
    """Children with a clock and imaginary processes."""

    def __init__(self) -> None:
        self.board = Board.create(len(SLOTS) + 1)
        self.slots: tuple[Slot, ...] = SLOTS
        self.children = Children(SLOTS, self.board.row, hang_timeout_s=5.0, backoff_max_s=30.0)
        self.now = 100.0
        self.next_pid = 1000

    def take(self, actions: list[Action]) -> list[Action]:
        for action in actions:
            if isinstance(action, Spawn):
                self.next_pid += 1
                self.children.spawned(action.slot.name, self.next_pid)
        return actions

    def begin(self) -> list[Action]:
        return self.take(self.children.begin(self.now))

    def ready(self, slot: Slot) -> list[Action]:
        return self.take(self.children.ready(slot.name, self.children.pid(slot.name), self.now))

    def exited(self, slot: Slot) -> list[Action]:
        return self.take(self.children.exited(slot.name, self.now, -9))

    def tick(self, seconds: float) -> list[Action]:
        self.now += seconds
        return self.take(self.children.tick(self.now))

    def all_ready(self) -> None:
        self.begin()
        for slot in SLOTS:
            self.ready(slot)

    def arrange(self, *slots: Slot) -> list[Action]:
        self.slots = slots
        return self.take(self.children.arrange(slots, self.now, LEAVE_S, GRACE_S))

    def beat(self, slot: Slot) -> None:
        row = self.board.row(slot.index)
        row.beat, row.busy = self.now, 0

    def without(self, gone: Slot) -> list[Slot]:
        """The slots there are, with a listener that leaves."""
        leaves = {gone.name} if gone.role == "listener" else set()
        return [replace(each, leaving=each.leaving or each.name in leaves) for each in self.slots]

    def state(self, slot: Slot) -> State:
        return self.children.state(slot.name)


@pytest.fixture
def machine() -> Machine:
    return Machine()


def test_the_others_wait_for_the_registry(machine: Machine) -> None:
    assert machine.begin() == [Spawn(REGISTRY)]
    assert machine.ready(REGISTRY) == [Spawn(ONE), Spawn(TWO), Spawn(ADMIN)]


def test_the_others_do_not_wait_for_a_registry_that_dies(machine: Machine) -> None:
    machine.begin()
    assert machine.exited(REGISTRY) == [Spawn(REGISTRY), Spawn(ONE), Spawn(TWO), Spawn(ADMIN)]


def test_how_and_when_a_process_ended_stands_on_the_board(machine: Machine) -> None:
    machine.all_ready()
    row = machine.board.row(ONE.index)
    assert (row.ended, row.end_code) == (0.0, 0)
    machine.now += 5.0
    machine.exited(ONE)
    machine.ready(ONE)
    assert (row.ended, row.end_code) == (105.0, -9)


def test_all_ready_is_said_once(machine: Machine) -> None:
    machine.begin()
    machine.ready(REGISTRY)
    assert machine.ready(ONE) == []
    assert machine.ready(TWO) == []
    assert machine.ready(ADMIN) == [AllReady()]
    machine.exited(ONE)
    assert machine.ready(ONE) == []


def test_a_late_ready_of_a_predecessor_changes_nothing(machine: Machine) -> None:
    machine.all_ready()
    old = machine.children.pid(ONE.name)
    machine.exited(ONE)
    assert machine.children.ready(ONE.name, old, machine.now) == []
    assert machine.state(ONE) is State.STARTING
    assert machine.children.ready("nobody", 1, machine.now) == []


def test_an_exit_notice_during_the_pause_changes_nothing(machine: Machine) -> None:
    machine.all_ready()
    machine.exited(ONE)
    machine.exited(ONE)
    assert machine.state(ONE) is State.BACKOFF
    assert machine.exited(ONE) == []
    assert machine.tick(0.2) == []
    assert machine.tick(0.05) == [Spawn(ONE)]


def test_the_next_look_is_due_at_the_end_of_the_pause(machine: Machine) -> None:
    machine.all_ready()
    assert machine.children.due() == float("inf")
    machine.exited(ONE)
    machine.exited(ONE)
    assert machine.children.due() == machine.now + 0.25
    machine.tick(0.25)
    assert machine.children.due() == float("inf")


@pytest.mark.parametrize(("silent_s", "killed"), [(4, False), (5, True)])
def test_a_silent_heart_is_killed_at_the_limit_and_not_before(machine: Machine, silent_s: int, killed: bool) -> None:
    machine.all_ready()
    actions: list[Action] = []
    for _ in range(silent_s):
        for slot in (REGISTRY, TWO, ADMIN):
            machine.board.row(slot.index).beat = machine.now
        actions += machine.tick(1.0)
    assert actions == ([Kill(ONE, machine.children.pid(ONE.name), "hangs")] if killed else [])


def test_a_machine_that_was_paused_for_an_hour_kills_nobody(machine: Machine) -> None:
    machine.all_ready()
    assert machine.tick(3600.0) == []
    for slot in SLOTS:
        machine.board.row(slot.index).beat = machine.now
    assert machine.tick(1.0) == []


def test_a_start_that_takes_too_long_is_killed(machine: Machine) -> None:
    machine.begin()
    seconds = int(READY_LIMIT_S)
    for _ in range(seconds - 1):
        assert machine.tick(1.0) == []
    assert machine.tick(1.0) == [Kill(REGISTRY, 1001, "not ready in time")]


def test_the_end_goes_from_listeners_over_admin_to_the_registry(machine: Machine) -> None:
    machine.all_ready()
    assert machine.children.stop(machine.now, 3.0) == [AskToEnd(ONE), AskToEnd(TWO)]
    assert machine.children.stop(machine.now, 3.0) == []
    assert machine.exited(TWO) == []
    assert machine.exited(ONE) == [AskToEnd(ADMIN)]
    assert machine.exited(ADMIN) == [AskToEnd(REGISTRY)]
    assert machine.exited(REGISTRY) == [AllStopped()]
    assert {machine.state(slot) for slot in SLOTS} == {State.STOPPED}
    assert machine.children.due() == float("inf")


def test_who_does_not_end_in_time_is_killed_and_the_end_goes_on(machine: Machine) -> None:
    machine.all_ready()
    machine.children.stop(machine.now, 3.0)
    machine.exited(TWO)
    assert machine.tick(3.2) == []
    assert machine.tick(0.2) == [Kill(ONE, machine.children.pid(ONE.name), "did not end in time")]
    assert machine.exited(ONE) == [AskToEnd(ADMIN)]


def test_nothing_is_started_any_more_once_the_end_has_begun(machine: Machine) -> None:
    machine.all_ready()
    machine.exited(ONE)
    machine.exited(ONE)
    machine.children.stop(machine.now, 3.0)
    assert machine.state(ONE) is State.STOPPED
    assert machine.tick(1.0) == []
    assert machine.children.due() > machine.now


def test_a_tree_that_never_started_is_stopped_at_once(machine: Machine) -> None:
    assert machine.children.stop(machine.now, 3.0) == [AllStopped()]


def test_a_change_that_cannot_be_is_an_error(machine: Machine) -> None:
    child = machine.children._children[ONE.name]
    with pytest.raises(ValueError, match="EMPTY cannot become READY"):
        child.move(State.READY)


# --- drain ---

GRACE_S = 3.0
WHOLE = Drain(60.0)


def busy(machine: Machine, slot: Slot, peers: int) -> None:
    machine.board.row(slot.index).busy = peers


def test_a_draining_tree_ends_at_the_first_moment_without_a_circuit_in_any_worker(machine: Machine) -> None:
    machine.all_ready()
    assert machine.children.drain(WHOLE, machine.now, GRACE_S) == [AskToDrain(ONE, WHOLE), AskToDrain(TWO, WHOLE)]
    assert machine.tick(0.25) == [], "nobody has said yet how busy it is"
    busy(machine, ONE, 0)
    busy(machine, TWO, 2)
    assert machine.tick(0.25) == []
    busy(machine, ONE, 1)
    busy(machine, TWO, 0)
    assert machine.tick(0.25) == []
    busy(machine, ONE, 0)
    assert machine.tick(0.25) == [AskToEnd(ONE), AskToEnd(TWO)]
    machine.exited(ONE)
    assert machine.exited(TWO) == [AskToEnd(ADMIN)]


def test_a_draining_tree_ends_when_its_time_is_up(machine: Machine) -> None:
    machine.all_ready()
    machine.children.drain(Drain(1.0), machine.now, GRACE_S)
    assert machine.tick(0.9) == []
    assert machine.tick(0.2) == [AskToEnd(ONE), AskToEnd(TWO)]


def test_it_is_looked_often_while_a_worker_drains(machine: Machine) -> None:
    machine.all_ready()
    machine.children.drain(WHOLE, machine.now, GRACE_S)
    assert machine.children.due() == machine.now + DRAIN_LOOK_S


def test_a_second_order_may_bring_the_end_nearer_and_not_put_it_off(machine: Machine) -> None:
    machine.all_ready()
    machine.children.drain(Drain(2.0), machine.now, GRACE_S)
    machine.children.drain(Drain(60.0), machine.now, GRACE_S)
    assert machine.tick(1.9) == []
    assert machine.tick(0.2) == [AskToEnd(ONE), AskToEnd(TWO)]


def test_a_worker_that_dies_while_the_tree_drains_is_not_replaced(machine: Machine) -> None:
    machine.all_ready()
    machine.children.drain(WHOLE, machine.now, GRACE_S)
    assert machine.exited(ONE) == []
    assert machine.state(ONE) is State.STOPPED
    busy(machine, TWO, 0)
    assert machine.tick(0.25) == [AskToEnd(TWO)]
    assert machine.exited(TWO) == [AskToEnd(ADMIN)]


def test_the_last_worker_that_dies_ends_the_drain(machine: Machine) -> None:
    machine.all_ready()
    machine.children.drain(WHOLE, machine.now, GRACE_S)
    machine.exited(ONE)
    assert machine.exited(TWO) == [AskToEnd(ADMIN)]


def test_a_registry_that_dies_while_the_tree_drains_is_replaced(machine: Machine) -> None:
    machine.all_ready()
    machine.children.drain(WHOLE, machine.now, GRACE_S)
    assert machine.exited(REGISTRY) == [Spawn(REGISTRY)]


def test_a_worker_that_gets_ready_while_the_tree_drains_is_told_so(machine: Machine) -> None:
    machine.begin()
    for slot in (REGISTRY, ONE):
        machine.ready(slot)
    machine.children.drain(WHOLE, machine.now, GRACE_S)
    assert machine.ready(TWO) == [AskToDrain(TWO, WHOLE)]
    assert machine.state(TWO) is State.DRAINING


def test_one_worker_is_drained_and_followed_at_once_by_another(machine: Machine) -> None:
    machine.all_ready()
    order = Drain(60.0, ONE.name)
    assert machine.children.drain(order, machine.now, GRACE_S) == [AskToDrain(ONE, order)]
    assert machine.tick(0.25) == []
    busy(machine, ONE, 0)
    assert machine.tick(0.25) == [AskToEnd(ONE)]
    assert machine.exited(ONE) == [Spawn(ONE)]
    assert machine.state(TWO) is State.READY
    machine.ready(ONE)
    for _ in range(2):  # nothing of it is held against the successor, nor is it asked to end
        assert machine.tick(0.25) == []
    assert machine.exited(ONE) == [Spawn(ONE)]


def test_a_worker_that_dies_while_it_drains_alone_is_replaced_as_ever(machine: Machine) -> None:
    machine.all_ready()
    machine.children.drain(Drain(60.0, ONE.name), machine.now, GRACE_S)
    assert machine.exited(ONE) == [Spawn(ONE)]


def test_a_worker_that_does_not_end_after_its_drain_is_killed(machine: Machine) -> None:
    machine.all_ready()
    machine.children.drain(Drain(0.0, ONE.name), machine.now, GRACE_S)
    assert machine.tick(0.1) == [AskToEnd(ONE)]
    pid = machine.children.pid(ONE.name)
    assert machine.tick(GRACE_S + 0.4) == [Kill(ONE, pid, "did not end in time")]
    assert machine.exited(ONE) == [Spawn(ONE)]


def test_a_draining_worker_that_hangs_is_killed(machine: Machine) -> None:
    machine.all_ready()
    machine.children.drain(Drain(600.0, ONE.name), machine.now, GRACE_S)
    actions: list[Action] = []
    for _ in range(5):
        for slot in (REGISTRY, TWO, ADMIN):
            machine.board.row(slot.index).beat = machine.now
        actions += machine.tick(1.0)
    assert actions == [Kill(ONE, machine.children.pid(ONE.name), "hangs")]


@pytest.mark.parametrize("name", ["nobody", REGISTRY.name])
def test_only_a_worker_that_serves_can_be_drained_alone(machine: Machine, name: str) -> None:
    machine.all_ready()
    assert machine.children.drain(Drain(1.0, name), machine.now, GRACE_S) == []


def test_the_end_may_come_while_it_drains(machine: Machine) -> None:
    machine.all_ready()
    machine.children.drain(WHOLE, machine.now, GRACE_S)
    machine.exited(ONE)
    assert machine.children.stop(machine.now, GRACE_S) == [AskToEnd(TWO)]
    assert machine.children.drain(WHOLE, machine.now, GRACE_S) == []
    assert machine.exited(TWO) == [AskToEnd(ADMIN)]


# --- other slots ---


THREE = Slot(4, "tcp-2/0", "listener")
TWO_LEAVES = replace(TWO, leaving=True)


def test_a_slot_that_is_new_is_started_in_a_row_that_another_had(machine: Machine) -> None:
    machine.all_ready()
    row = machine.board.row(THREE.index)
    row.restarts, row.state, row.end_code = 7, State.STOPPED, -9
    assert machine.arrange(*SLOTS, THREE) == [Spawn(THREE)]
    assert (row.restarts, row.end_code) == (0, 0)
    assert machine.ready(THREE) == []
    assert machine.state(THREE) is State.READY


def test_slots_that_are_new_wait_for_the_registry_as_all_do(machine: Machine) -> None:
    machine.begin()
    assert machine.arrange(*SLOTS, THREE) == []
    assert machine.ready(REGISTRY) == [Spawn(each) for each in (ONE, TWO, ADMIN, THREE)]


def test_who_leaves_drains_and_has_no_successor(machine: Machine) -> None:
    machine.all_ready()
    assert machine.arrange(REGISTRY, ONE, TWO_LEAVES, ADMIN) == [AskToDrain(TWO_LEAVES, Drain(LEAVE_S, TWO.name))]
    assert machine.state(TWO) is State.DRAINING
    assert machine.arrange(REGISTRY, ONE, TWO_LEAVES, ADMIN) == []
    assert machine.tick(DRAIN_LOOK_S) == []
    machine.board.row(TWO.index).busy = 0
    assert machine.tick(DRAIN_LOOK_S) == [AskToEnd(TWO_LEAVES)]
    assert machine.exited(TWO) == []
    assert machine.state(TWO) is State.STOPPED
    assert machine.tick(1.0) == []
    machine.arrange(REGISTRY, ONE, ADMIN)
    assert machine.children.ready(TWO.name, 1, machine.now) == []


@pytest.mark.parametrize("index", [TWO.index, 4])
def test_a_name_is_given_again_when_its_process_has_left_with_its_row_or_another(machine: Machine, index: int) -> None:
    machine.all_ready()
    machine.arrange(REGISTRY, ONE, TWO_LEAVES, ADMIN)
    machine.exited(TWO)
    again = replace(TWO, index=index)
    assert machine.arrange(REGISTRY, ONE, again, ADMIN) == [Spawn(again)]
    machine.ready(again)
    assert machine.board.row(index).state is State.READY
    assert machine.arrange(REGISTRY, ONE, again, ADMIN) == []


def test_who_leaves_ends_when_its_time_is_up(machine: Machine) -> None:
    machine.all_ready()
    machine.arrange(REGISTRY, ONE, TWO_LEAVES, ADMIN)
    actions: list[Action] = []
    while machine.now < 100.0 + LEAVE_S:
        for slot in (REGISTRY, ONE, TWO, ADMIN):
            machine.board.row(slot.index).beat = machine.now
        assert actions == []
        actions += machine.tick(1.0)
    assert actions == [AskToEnd(TWO_LEAVES)]


def test_who_dies_while_it_leaves_is_not_replaced(machine: Machine) -> None:
    machine.all_ready()
    machine.arrange(REGISTRY, ONE, TWO_LEAVES, ADMIN)
    assert machine.exited(TWO) == []
    assert machine.state(TWO) is State.STOPPED


def test_who_leaves_before_it_serves_just_ends(machine: Machine) -> None:
    machine.begin()
    machine.ready(REGISTRY)
    machine.ready(ONE)
    machine.ready(ADMIN)
    assert machine.arrange(REGISTRY, ONE, TWO_LEAVES, ADMIN) == [AskToEnd(TWO_LEAVES), AllReady()]
    assert machine.exited(TWO) == []
    assert machine.state(TWO) is State.STOPPED


def test_who_leaves_in_its_pause_is_not_started_again(machine: Machine) -> None:
    machine.all_ready()
    for _ in range(4):
        machine.exited(TWO)
    assert machine.state(TWO) in {State.BACKOFF, State.FAILED}
    assert machine.arrange(REGISTRY, ONE, TWO_LEAVES, ADMIN) == []
    assert machine.state(TWO) is State.STOPPED
    assert machine.tick(60.0) == []


def test_a_slot_with_another_socket_gets_another_process(machine: Machine) -> None:
    machine.all_ready()
    elsewhere = replace(ADMIN, socket_fd=9)
    assert machine.arrange(REGISTRY, ONE, TWO, elsewhere) == [AskToEnd(elsewhere)]
    assert machine.exited(ADMIN) == [Spawn(elsewhere)]


def test_the_end_may_come_while_somebody_leaves(machine: Machine) -> None:
    machine.all_ready()
    machine.arrange(REGISTRY, ONE, TWO_LEAVES, ADMIN)
    assert machine.children.stop(machine.now, GRACE_S) == [AskToEnd(ONE), AskToEnd(TWO_LEAVES)]
    machine.exited(ONE)
    assert machine.exited(TWO) == [AskToEnd(ADMIN)]


_HAPPENS = ["ready", "exited", "tick", "beat", "stop", "drain", "drain one", "leave"]
_EVENTS = st.lists(st.tuples(st.sampled_from(_HAPPENS), st.sampled_from(SLOTS), st.floats(0, 3)), max_size=60)


@given(_EVENTS)
def test_whatever_happens_each_slot_has_at_most_one_process(events: list[tuple[str, Slot, float]]) -> None:  # noqa: C901
    machine = Machine()
    alive: set[str] = set()

    def follow(actions: list[Action]) -> None:
        for action in actions:
            if isinstance(action, Spawn):
                assert action.slot.name not in alive
                alive.add(action.slot.name)

    follow(machine.begin())
    for what, slot, seconds in events:
        if what == "ready":
            follow(machine.ready(slot))
        elif what == "exited":
            alive.discard(slot.name)
            follow(machine.exited(slot))
        elif what == "tick":
            follow(machine.tick(seconds))
        elif what == "beat":
            machine.beat(slot)
        elif what == "leave":
            follow(machine.arrange(*machine.without(slot)))
        elif what.startswith("drain"):
            machine.children.drain(Drain(seconds, slot.name if what == "drain one" else ""), machine.now, 3.0)
        else:
            machine.children.stop(machine.now, 3.0)
    living = {State.STARTING, State.READY, State.DRAINING, State.STOPPING}
    assert alive == {slot.name for slot in SLOTS if machine.state(slot) in living}
