from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from actors.board import Board, BoardRow, State
from supervisor.watch import Event, Watch, end_tree, stop_in_order


class FakeSignals:
    """A pipe on which signals arrive, without being sent to this process."""

    def __init__(self) -> None:
        self.fd, self._write = os.pipe()

    def send(self, number: int) -> None:
        os.write(self._write, bytes([number]))

    def read(self) -> list[int]:
        return list(os.read(self.fd, 512))


class World:
    def __init__(self) -> None:
        self.signals = FakeSignals()
        self.event_fd = os.eventfd(0, os.EFD_NONBLOCK)
        self.admin = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        self.board = Board.create(3)
        self.board.row(2).pid = self.admin.pid
        self.row: BoardRow = self.board.row(1)
        self.watch = Watch(self.signals, self.event_fd, self.admin.pid, self.row, hang_timeout_s=0.5)  # type: ignore[arg-type]


@pytest.fixture
def world() -> Iterator[World]:
    world = World()
    yield world
    world.admin.kill()
    world.admin.wait()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_stop_is_told_with_its_number(world: World, number: signal.Signals) -> None:
    world.signals.send(number)
    assert world.watch.wait(5) is Event.STOP
    assert world.watch.signal is number


def test_word_from_the_supervisor_and_the_death_of_the_admin_are_told(world: World) -> None:
    os.eventfd_write(world.event_fd, 1)
    assert world.watch.wait(5) is Event.WORD
    world.admin.kill()
    assert world.watch.wait(5) is Event.DEATH


def test_foreign_signals_end_no_wait(world: World) -> None:
    world.signals.send(signal.SIGCHLD)
    assert world.watch.wait(0.05) is Event.TIMEOUT


def test_sighup_asks_for_a_reload_unless_the_end_was_asked_for_too(world: World) -> None:
    world.signals.send(signal.SIGHUP)
    assert world.watch.wait(5) is Event.RELOAD
    world.signals.send(signal.SIGHUP)
    world.signals.send(signal.SIGTERM)
    assert world.watch.wait(5) is Event.STOP


def test_sighup_does_not_disturb_the_end(world: World) -> None:
    def ask(grace_s: float) -> None:
        world.signals.send(signal.SIGHUP)
        world.row.state = State.STOPPED

    stop_in_order(world.watch, ask, world.row, 30.0)


def test_the_supervisors_heart_may_be_given_another_time(world: World) -> None:
    world.watch.hang_timeout_s = 600.0
    assert world.watch.wait(1.5) is Event.TIMEOUT


def test_a_supervisor_whose_heart_stands_still_is_told_as_a_death(world: World) -> None:
    assert world.watch.wait(30) is Event.DEATH


def test_a_supervisor_whose_heart_beats_is_not(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    real = select.select

    def beating(*arguments: object) -> object:
        world.row.beat += 1
        return real(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(select, "select", beating)
    assert world.watch.wait(1.5) is Event.TIMEOUT


def test_the_orderly_end_waits_for_the_supervisors_word(world: World) -> None:
    asked = []

    def ask(grace_s: float) -> None:
        asked.append(grace_s)
        world.row.state = State.STOPPED
        os.eventfd_write(world.event_fd, 1)

    stop_in_order(world.watch, ask, world.row, 30.0)
    assert asked == [30.0]


def test_the_orderly_end_has_its_limit(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    stop_in_order(world.watch, lambda _: None, world.row, -1.4)
    assert "because=timeout" in capsys.readouterr().err


def test_what_is_left_of_a_tree_is_killed_also_when_it_is_frozen(world: World) -> None:
    frozen = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    os.kill(frozen.pid, signal.SIGSTOP)
    world.row.pid = frozen.pid
    world.board.row(0).pid = os.getpid()
    end_tree(world.board)
    for each in (frozen, world.admin):
        with pytest.raises(ProcessLookupError):
            os.kill(each.pid, 0)
        each.returncode = -signal.SIGKILL  # end_tree has reaped it


def test_what_a_dead_process_of_the_tree_leaves_is_reaped_while_main_waits() -> None:
    """Main is the parent of orphans (adopt_orphans)."""
    code = (
        "import os, time\n"
        "from actors.board import Board\n"
        "from supervisor.watch import Event, Signals, Watch, adopt_orphans\n"
        "adopt_orphans()\n"
        "signals = Signals()\n"
        "read, write = os.pipe()\n"
        "admin = os.fork()\n"
        "if admin == 0: time.sleep(600)\n"
        "middle = os.fork()\n"
        "if middle == 0:\n"
        "    orphan = os.fork()\n"
        "    if orphan: os.write(write, str(orphan).encode())\n"
        "    os._exit(0)\n"
        "orphan = int(os.read(read, 16))\n"
        "row = Board.create(1).row(0)\n"
        "watch = Watch(signals, os.eventfd(0), admin, row, 5.0)\n"
        "while os.path.exists(f'/proc/{orphan}'): watch.wait(0.1, ignore=frozenset({Event.DEATH}))\n"
        "os.kill(admin, 9)\n"
        "print('reaped')"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert said.stdout == "reaped\n"
