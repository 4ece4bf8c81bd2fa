from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from actors.board import Board, State
from actors.messages import Role, Slot
from config.errors import ConfigError
from supervisor import systemd
from supervisor.systemd import Notifier, Reporter

HANG_S = 10.0
WATCHDOG_S = 30.0
ROLES: tuple[Role, ...] = ("main", "system", "supervisor", "registry", "listener", "listener", "admin")
SLOTS = tuple(Slot(index, f"{role}/{index}", role) for index, role in enumerate(ROLES))


class Systemd:
    """The other end: a datagram socket that is read when a test wants to."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(b"\0" + address[1:].encode() if address.startswith("@") else address)
        self._socket.setblocking(False)

    def heard(self) -> list[str]:
        """All messages since the last time."""
        messages = []
        while True:
            try:
                messages.append(self._socket.recv(65536).decode())
            except BlockingIOError:
                return messages

    def close(self) -> None:
        self._socket.close()


@pytest.fixture(params=["path", "abstract"])
def listening(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Systemd]:
    address = f"{tmp_path}/notify" if request.param == "path" else f"@frost-relay-test-{os.getpid()}"
    other = Systemd(address)
    yield other
    other.close()


class Tree:
    """A board whose processes all serve, and a reporter with a hand-turned clock."""

    def __init__(self, address: str, watchdog_s: float = WATCHDOG_S) -> None:
        self.board = Board.create(len(SLOTS))
        self.rows = [self.board.row(slot.index) for slot in SLOTS]
        for row in self.rows:
            row.state = State.READY
        self.now = 100.0
        places = list(zip(SLOTS, self.rows, strict=True))
        self.reporter = Reporter(Notifier(address), watchdog_s, places, HANG_S, lambda: self.now)

    def run(self, seconds: float, *, still: int = -1) -> None:
        """Time passes; every heart beats except that of row `still`."""
        end = self.now + seconds
        while self.now < end:
            self.now = min(end, self.now + self.reporter.tick())
            for index, row in enumerate(self.rows):
                row.beat = row.beat if index == still else self.now
        self.reporter.tick()


def assignments(messages: list[str]) -> list[str]:
    return [line for message in messages for line in message.split("\n")]


def test_each_phase_is_told_with_a_status(listening: Systemd) -> None:
    tree = Tree(listening.address)
    tree.reporter.ready()
    counts = "0 reservations, 0 circuits, 0 connections, 2 of 2 workers"
    assert listening.heard() == [f"READY=1\nSTATUS={counts}"]
    tree.reporter.reloading()
    (message,) = listening.heard()
    phase, since, status = message.split("\n")
    assert (phase, status) == ("RELOADING=1", f"STATUS=reloading, {counts}")
    assert since.startswith("MONOTONIC_USEC=")
    assert since.partition("=")[2].isdecimal()
    tree.reporter.stopping(2.5)
    assert listening.heard() == [f"STOPPING=1\nEXTEND_TIMEOUT_USEC=2500000\nSTATUS=stopping, {counts}"]


def test_the_status_follows_the_board_and_is_told_when_it_changes_and_not_more_often_than_every_five_seconds(
    listening: Systemd,
) -> None:
    tree = Tree(listening.address, watchdog_s=float("inf"))
    tree.reporter.ready()
    listening.heard()
    tree.run(60)
    assert listening.heard() == []
    for row in tree.rows[3:6]:
        row.reservations, row.circuits, row.connections = 4, 1, 5  # the registry's counts are the same ones again
    tree.rows[5].state = State.BACKOFF
    tree.run(4.9)
    assert listening.heard() == []
    tree.run(5)
    assert listening.heard() == ["STATUS=8 reservations, 2 circuits, 10 connections, 1 of 2 workers"]


@pytest.mark.parametrize("watchdog_s", [1.0, 8.0, 30.0, 600.0])
def test_the_watchdog_is_fed_at_least_twice_in_its_time(tmp_path: Path, watchdog_s: float) -> None:
    other = Systemd(f"{tmp_path}/notify")
    tree = Tree(other.address, watchdog_s)
    tree.reporter.ready()
    other.heard()
    for _ in range(20):
        tree.run(watchdog_s / 2)
        assert "WATCHDOG=1" in assignments(other.heard())
    other.close()


@pytest.mark.parametrize("still", [2, 3, 4, 5, 6], ids=lambda index: SLOTS[index].name)
def test_a_process_that_hangs_and_is_not_replaced_ends_the_feeding_until_it_is(
    listening: Systemd, capsys: pytest.CaptureFixture[str], still: int
) -> None:
    tree = Tree(listening.address)
    tree.run(60)
    listening.heard()
    tree.run(HANG_S, still=still)
    assert "WATCHDOG=1" in assignments(listening.heard())  # it is the supervisor's to replace it now
    tree.run(systemd.HANG_MARGIN_S + systemd.REPORT_S, still=still)
    listening.heard()
    tree.run(60, still=still)
    assert listening.heard() == []
    assert f"watchdog not fed hanging={SLOTS[still].name}" in capsys.readouterr().err
    tree.run(10)
    assert "WATCHDOG=1" in assignments(listening.heard())


@pytest.mark.parametrize("state", [State.STARTING, State.BACKOFF, State.FAILED, State.STOPPING, State.STOPPED])
def test_a_process_that_the_supervisor_deals_with_does_not(listening: Systemd, state: State) -> None:
    tree = Tree(listening.address)
    tree.rows[4].state = state
    tree.run(200, still=4)
    listening.heard()
    tree.run(6, still=4)
    assert "WATCHDOG=1" in assignments(listening.heard())


def test_a_machine_that_was_paused_is_not_a_tree_that_hangs(listening: Systemd) -> None:
    tree = Tree(listening.address)
    tree.run(60)
    listening.heard()
    tree.now += 3600
    tree.reporter.tick()
    assert "WATCHDOG=1" in assignments(listening.heard())


def test_what_the_socket_does_not_take_at_once_is_said_later_and_only_the_latest_of_it(tmp_path: Path) -> None:
    other = Systemd(f"{tmp_path}/notify")
    notifier = Notifier(other.address)
    while not notifier._unsent:
        notifier.tell("X=1")
    notifier.tell("RELOADING=1", "STATUS=one")
    notifier.tell("READY=1", "STATUS=two")
    assert "READY=1" not in assignments(other.heard())
    notifier.flush()
    assert other.heard() == ["X=1\nREADY=1\nSTATUS=two"]
    notifier.flush()
    assert other.heard() == []
    other.close()


def test_a_socket_that_is_not_there_is_said_once_and_stops_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    notifier = Notifier(f"{tmp_path}/notify")
    notifier.tell("READY=1")
    notifier.tell("STATUS=x")
    assert capsys.readouterr().err.count("systemd does not listen") == 1
    other = Systemd(f"{tmp_path}/notify")
    notifier.flush()
    assert other.heard() == ["READY=1\nSTATUS=x"]
    other.close()


def test_without_an_address_nothing_is_said_and_nobody_is_woken() -> None:
    tree = Tree("", watchdog_s=1.0)
    tree.reporter.ready()
    tree.reporter.stopping(1)
    assert tree.reporter.tick() == float("inf")


@pytest.mark.parametrize("address", ["notify", "vsock:2:1", "/", "@", "/" + "x" * 107, "@" + "ü" * 54])
def test_an_address_that_is_none_is_refused(address: str) -> None:
    with pytest.raises(ConfigError, match="NOTIFY_SOCKET"):
        Notifier(address)


def test_the_watchdogs_time_is_read_when_it_is_meant_for_us() -> None:
    assert systemd.watchdog_s({"WATCHDOG_USEC": "30000000"}) == 30.0
    assert systemd.watchdog_s({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())}) == 30.0
    assert systemd.watchdog_s({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}) == float("inf")
    assert systemd.watchdog_s({}) == systemd.watchdog_s({"WATCHDOG_USEC": ""}) == float("inf")


@pytest.mark.parametrize("text", ["soon", "0", "-1", "1.5", "²", "9" * 16])
def test_a_watchdogs_time_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="WATCHDOG_USEC"):
        systemd.watchdog_s({"WATCHDOG_USEC": text})


def test_children_get_none_of_systemds_variables() -> None:
    environ = dict.fromkeys(systemd.VARIABLES, "1") | {"PATH": "/bin", "STATE_DIRECTORY": "/x"}
    systemd.forget(environ)
    assert environ == {"PATH": "/bin", "STATE_DIRECTORY": "/x"}
