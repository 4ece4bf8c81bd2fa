"""SupervisorActor in this process, with the clock turned by hand and every message pickled."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import pytest
from thespian.actors import Actor, ActorAddress, ActorExitRequest

from actors.board import Board, BoardRow, State
from actors.messages import Begin, Boot, Outcome, Ready, Reloads, Role, Slot, Stop, Update, Updated
from config.settings import Limits, Settings, Supervision
from supervisor import plan
from supervisor.socket_channel import SocketSender, channel
from supervisor.tree import SupervisorActor
from tests.support.hand_clock import HandClock, hand_clock

LISTENERS = tuple(Slot(4 + n, f"tcp-9090/{n}", "listener", socket_fd=3) for n in range(2))
ADMIN = Slot(6, "admin", "admin")
SLOTS = (plan.MAIN, plan.SYSTEM, plan.SUPERVISOR, plan.REGISTRY, *LISTENERS, ADMIN)
CHILDREN = [slot.name for slot in SLOTS[3:]]


class Child(Actor):  # type: ignore[misc, unused-ignore]  # thespian is not annotated
    """Says Ready when it is told to serve, unless its slot is listed as mute; gets a new process ID each time."""

    seen: ClassVar[list[tuple[str, str]]] = []
    mute: ClassVar[set[str]] = set()
    deaf: ClassVar[set[str]] = set()
    """Who does not answer an Update."""
    circuits: ClassVar[dict[str, int]] = {}
    """limits.max_circuits that each lives by."""
    shown: ClassVar[list[tuple[Outcome, ...]]] = []
    name = ""

    def receiveMessage(self, message: Any, sender: ActorAddress) -> None:  # noqa: N802 - Thespian's name
        if isinstance(message, Reloads):
            Child.shown.append(message.outcomes)
        if isinstance(message, Update) and self.name not in Child.deaf:
            Child.circuits[self.name] = message.settings.limits.max_circuits
            self.send(sender, Updated(self.name, message.number))
        if isinstance(message, Boot):
            self.name = message.slot.name
            Child.circuits[self.name] = message.settings.limits.max_circuits
            assert message.host_seed == b"s" * 32
        Child.seen.append((self.name, type(message).__name__))
        if isinstance(message, Boot) and self.name not in Child.mute:
            self.send(sender, Ready(self.name, 10_000 + len(Child.seen)))


class Supervisor(SupervisorActor):
    """With the clock of the test, and kills that are only noted."""

    killed: ClassVar[list[int]] = []

    def kill(self, pid: int) -> None:
        Supervisor.killed.append(pid)


@dataclass
class Tree:
    clock: HandClock
    board: Board
    event_fd: int
    sockets: SocketSender
    sockets_fd: int
    address: ActorAddress

    def child(self, name: str) -> ActorAddress:
        address: ActorAddress = self.clock.actor(self.address)._addresses[name]
        return address

    def row(self, name: str) -> BoardRow:
        return self.board.row(next(slot.index for slot in SLOTS if slot.name == name))

    def states(self) -> dict[str, State]:
        return {name: self.row(name).state for name in CHILDREN}

    def beat(self, *names: str) -> None:
        for name in names:
            self.row(name).beat = self.clock.now

    def word_to_main(self) -> bool:
        try:
            return os.eventfd_read(self.event_fd) > 0
        except BlockingIOError:
            return False


@pytest.fixture
def tree() -> Iterator[Tree]:
    Child.seen, Child.mute, Supervisor.killed = [], set(), []
    Child.deaf, Child.circuits, Child.shown = set(), {}, []
    board, event_fd = Board.create(len(SLOTS) + 1), os.eventfd(0, os.EFD_NONBLOCK)
    with hand_clock() as clock:
        Supervisor.clock = staticmethod(lambda: clock.now)
        address = clock.system.createActor(Supervisor)
        sockets, sockets_fd = channel()
        yield Tree(clock, board, event_fd, sockets, sockets_fd, address)
    os.close(event_fd)


def begin(tree: Tree) -> None:
    settings = Settings(supervision=Supervision(hang_timeout_s=5.0, backoff_max_s=8.0))
    boot = Boot(plan.SUPERVISOR, settings, "/nowhere", tree.board.fd, -1, b"s" * 32, ("/ip4/127.0.0.1/tcp/1",), SLOTS)
    child = f"{__name__}.Child"
    actors: tuple[tuple[Role, str], ...] = (("registry", child), ("listener", child), ("admin", child))
    tree.clock.tell(tree.address, Begin(boot, actors, tree.event_fd, tree.sockets_fd))


def test_the_registry_is_started_first_and_main_hears_when_all_serve(tree: Tree) -> None:
    begin(tree)
    assert [name for name, _ in Child.seen] == CHILDREN
    assert set(tree.states().values()) == {State.READY}
    assert tree.word_to_main()
    assert tree.row("supervisor").state is State.READY


def test_main_hears_nothing_while_one_is_not_ready(tree: Tree) -> None:
    Child.mute = {"tcp-9090/1"}
    begin(tree)
    assert tree.states()["tcp-9090/1"] is State.STARTING
    assert not tree.word_to_main()
    assert tree.row("supervisor").state is State.STARTING


def test_a_killed_child_is_replaced_at_once_and_a_second_notice_changes_nothing(tree: Tree) -> None:
    begin(tree)
    victim = tree.child("registry")
    before = tree.row("registry").pid
    tree.row("registry").reservations = 7
    tree.clock.kill9(victim)
    assert tree.states()["registry"] is State.READY
    assert tree.row("registry").pid not in {0, before}
    assert tree.row("registry").reservations == 0
    tree.clock.notify_exit(tree.address, victim)
    assert tree.row("registry").restarts == 1
    assert tree.states()["registry"] is State.READY


def test_a_notice_that_comes_twice_is_one_death(tree: Tree, capsys: pytest.CaptureFixture[str]) -> None:
    begin(tree)
    tree.clock.kill9(tree.child("admin"))
    second = tree.child("admin")
    tree.clock.kill9(second)
    assert tree.states()["admin"] is State.BACKOFF
    tree.clock.notify_exit(tree.address, second)
    assert capsys.readouterr().err.count("process ended") == 2


def test_a_child_that_keeps_dying_is_restarted_with_growing_pauses_and_shown_as_failed(tree: Tree) -> None:
    begin(tree)
    shown = []
    for pause_s in (0.0, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 8.0):
        tree.clock.kill9(tree.child("tcp-9090/0"))
        shown.append(tree.states()["tcp-9090/0"])
        if pause_s:
            tree.clock.advance(pause_s - 0.01)
            assert tree.states()["tcp-9090/0"] is not State.READY
            tree.clock.advance(0.02)
        assert tree.states()["tcp-9090/0"] is State.READY
    assert shown == [State.READY, State.BACKOFF, *[State.FAILED] * 6]
    assert tree.states()["tcp-9090/1"] is State.READY
    assert tree.row("tcp-9090/1").restarts == 0


def test_a_child_that_lived_half_a_minute_is_forgiven(tree: Tree) -> None:
    begin(tree)
    for _ in range(4):
        tree.clock.kill9(tree.child("admin"))
        tree.clock.advance(4)
    for _ in range(31):
        tree.clock.advance(1)
        tree.beat(*CHILDREN)
    tree.clock.kill9(tree.child("admin"))
    assert tree.states()["admin"] is State.READY


def test_a_silent_heart_is_killed_and_a_beating_one_is_not(tree: Tree) -> None:
    begin(tree)
    hanging = tree.row("tcp-9090/0").pid
    for _ in range(8):
        tree.clock.advance(1)
        tree.beat(*(name for name in CHILDREN if name != "tcp-9090/0"))
    assert set(Supervisor.killed) == {hanging}


def test_a_child_that_never_says_ready_is_killed_after_ten_seconds(tree: Tree) -> None:
    Child.mute = {"admin"}
    begin(tree)
    tree.row("admin").pid = 77  # as a system with processes would have noted
    for _ in range(9):
        tree.clock.advance(1)
        tree.beat(*CHILDREN)
    assert Supervisor.killed == []
    tree.clock.advance(2)
    assert set(Supervisor.killed) == {77}


def test_the_end_is_asked_of_listeners_then_admin_then_registry(tree: Tree) -> None:
    begin(tree)
    tree.word_to_main()
    Child.seen.clear()
    tree.clock.tell(tree.address, Stop(3.0))
    assert Child.seen == [("tcp-9090/0", "ActorExitRequest"), ("tcp-9090/1", "ActorExitRequest"),
                          ("admin", "ActorExitRequest"), ("registry", "ActorExitRequest")]  # fmt: skip
    assert set(tree.states().values()) == {State.STOPPED}
    assert tree.word_to_main()
    assert tree.row("supervisor").state is State.STOPPED


def test_messages_that_nobody_understands_are_dropped_and_logged(
    tree: Tree, capsys: pytest.CaptureFixture[str]
) -> None:
    begin(tree)
    tree.clock.tell(tree.address, "what is this")
    assert "message not understood" in capsys.readouterr().err
    tree.clock.tell(tree.address, ActorExitRequest())


# --- other settings ---


def update(number: int, circuits: int, slots: tuple[Slot, ...] = SLOTS) -> Update:
    supervision = Supervision(hang_timeout_s=60.0, backoff_max_s=1.0)
    return Update(
        number, Settings(limits=Limits(max_circuits=circuits), supervision=supervision), ("/dns4/a/tcp/1",), slots
    )


def test_other_settings_reach_every_child_and_then_main_and_the_admin_hear_of_it(tree: Tree) -> None:
    begin(tree)
    tree.word_to_main()
    tree.clock.tell(tree.address, update(1, 5))
    assert Child.circuits == dict.fromkeys(CHILDREN, 5)
    assert tree.word_to_main()
    assert tree.row("supervisor").reload == 1
    ((outcome,),) = Child.shown
    assert (outcome.number, outcome.error, outcome.late) == (1, "", ())


def test_older_settings_that_come_late_change_nothing(tree: Tree) -> None:
    begin(tree)
    tree.clock.tell(tree.address, update(2, 5))
    tree.clock.tell(tree.address, update(1, 6))
    assert Child.circuits == dict.fromkeys(CHILDREN, 5)


def test_a_successor_starts_with_the_newest_settings_and_what_came_of_them(tree: Tree) -> None:
    begin(tree)
    tree.clock.tell(tree.address, update(1, 5))
    Child.circuits.clear()
    tree.clock.kill9(tree.child("tcp-9090/0"))
    assert Child.circuits == {"tcp-9090/0": 5}


def test_a_child_that_starts_during_a_reload_is_told_once_it_is_ready(tree: Tree) -> None:
    Child.mute = Child.deaf = {"admin"}
    begin(tree)
    tree.clock.tell(tree.address, update(1, 5))
    assert tree.row("supervisor").reload == 0
    Child.deaf = set()
    tree.clock.tell(tree.address, Ready("admin", tree.row("admin").pid))
    assert Child.circuits["admin"] == 5
    assert tree.row("supervisor").reload == 1


def test_a_child_that_dies_during_a_reload_does_not_hold_it_up(tree: Tree) -> None:
    begin(tree)
    Child.deaf = {"tcp-9090/1"}
    tree.clock.tell(tree.address, update(1, 5))
    assert tree.row("supervisor").reload == 0
    tree.clock.kill9(tree.child("tcp-9090/1"))
    assert tree.row("supervisor").reload == 1
    assert Child.shown[-1][-1].late == ()


def test_a_child_that_does_not_answer_is_told_again_and_named(tree: Tree) -> None:
    begin(tree)
    Child.deaf = {"tcp-9090/1"}
    tree.clock.tell(tree.address, update(1, 5))
    for _ in range(6):
        tree.clock.advance(1)
        tree.beat(*CHILDREN)
    assert tree.row("supervisor").reload == 1
    assert Child.shown[-1][-1].late == ("tcp-9090/1",)
    Child.deaf = set()
    tree.clock.advance(1)
    assert Child.circuits["tcp-9090/1"] == 5


def test_a_refused_configuration_is_shown_and_told_to_no_child(tree: Tree) -> None:
    begin(tree)
    Child.seen.clear()
    refused = Outcome(1, "limits.max_circuits = 0: expected more")
    tree.clock.tell(tree.address, refused)
    assert Child.seen == [("admin", "Reloads")]
    assert Child.shown == [(refused,)]
    tree.clock.kill9(tree.child("admin"))
    assert tree.clock.actor(tree.address)._begin.boot.outcomes == (refused,)


def test_the_supervisor_lives_by_the_new_settings_too(tree: Tree) -> None:
    begin(tree)
    tree.clock.tell(tree.address, update(1, 5))
    for _ in range(8):  # longer than the 5 s of before
        tree.clock.advance(1)
    assert Supervisor.killed == []
    for pause_s in (0, 0.25, 0.5, 1, 1):
        tree.clock.kill9(tree.child("tcp-9090/0"))
        tree.clock.advance(pause_s + 0.01)
        assert tree.states()["tcp-9090/0"] is State.READY


# --- other listeners ---


NEW = Slot(7, "ws-9091/0", "listener")


def test_a_slot_that_is_new_is_started_and_given_what_was_passed_for_it(tree: Tree) -> None:
    begin(tree)
    with socket.socket() as opened:
        new = replace(NEW, socket_fd=opened.fileno())
        tree.sockets.send([opened.fileno()])
        tree.clock.tell(tree.address, update(1, 5, (*SLOTS, new)))
        (given,) = (slot for slot in tree.clock.actor(tree.address)._begin.boot.slots if slot.name == NEW.name)
        assert given.socket_fd != opened.fileno()
        assert os.path.samestat(os.fstat(given.socket_fd), os.fstat(opened.fileno()))
    assert tree.row("registry").state is State.READY
    assert tree.board.row(NEW.index).state is State.READY
    assert Child.circuits[NEW.name] == 5
    os.close(given.socket_fd)


def test_main_hears_when_who_leaves_has_left(tree: Tree) -> None:
    begin(tree)
    leaving = replace(LISTENERS[1], leaving=True, socket_fd=-1)
    tree.clock.tell(tree.address, update(1, 5, tuple(leaving if slot.name == leaving.name else slot for slot in SLOTS)))
    assert tree.states()[leaving.name] is State.DRAINING
    assert (leaving.name, "Drain") in Child.seen
    tree.word_to_main()
    tree.row(leaving.name).busy = 0
    tree.clock.advance(1)
    assert tree.states()[leaving.name] is State.STOPPED
    assert tree.word_to_main()
    tree.clock.tell(tree.address, update(2, 6, tuple(slot for slot in SLOTS if slot.name != leaving.name)))
    assert Child.circuits[leaving.name] == 5
    assert Child.circuits["registry"] == 6
