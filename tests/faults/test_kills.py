"""Kills on real process trees: what dies, what lives on, and that nothing is ever left behind."""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil
import pytest

from tests.support.relay import RelayProcess

pytestmark = pytest.mark.fault

TOYS = ("-m", "tests.support.toys")
TCP = ("/ip4/127.0.0.1/tcp/0",)


def gone(pids: Sequence[int], timeout_s: float = 1.0) -> list[int]:
    """Those of `pids` that still run after `timeout_s`."""
    end = time.monotonic() + timeout_s
    while True:
        left = [pid for pid in pids if running(pid)]
        if not left or time.monotonic() > end:
            return left
        time.sleep(0.01)


def running(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def ask(relay: RelayProcess, line: str = "hello", timeout_s: float = 5.0) -> int:
    """The process ID that a toy listener answers with."""
    with connect(relay, timeout_s) as connection:
        connection.sendall(line.encode() + b"\n")
        return int(connection.recv(100))


def connect(relay: RelayProcess, timeout_s: float = 5.0) -> socket.socket:
    port = int(relay.addresses[0].split("/")[4])
    return socket.create_connection(("127.0.0.1", port), timeout=timeout_s)


@pytest.fixture
def toys(tmp_path: Path) -> Iterator[RelayProcess]:
    trouble = {"FROST_RELAY_TEST_TROUBLE": str(tmp_path / "trouble")}
    settings = ("supervision.hang_timeout_s=2", "supervision.backoff_max_s=1")
    with RelayProcess(*settings, listeners=TCP, env=trouble, command=TOYS) as relay:
        yield relay


def test_every_process_of_the_tree_is_listed_and_ready() -> None:
    with RelayProcess() as relay:
        workers = relay.status()["workers"]
        assert [each["role"] for each in workers] == [
            "main", "system", "supervisor", "registry", "listener", "listener", "admin",
        ]  # fmt: skip
        assert {each["state"] for each in workers} == {"ready"}
        tree = {relay.pid, *(child.pid for child in psutil.Process(relay.pid).children(recursive=True))}
        assert {each["pid"] for each in workers} == tree
        assert all(each["memory_bytes"] > 100_000 for each in workers)
        assert relay.get("/readyz") == (200, "ready\n")


@pytest.mark.parametrize("name", ["supervisor", "system"])
def test_nothing_is_left_after_a_vital_process_was_killed(name: str) -> None:
    with RelayProcess() as relay:
        pids = list(relay.pids().values())
        relay.kill(name)
        assert relay.process.wait(5) == 1
        assert not gone(pids)
        assert not list(relay.directory.glob("frost-relay-*"))


def test_nothing_is_left_after_main_was_killed() -> None:
    with RelayProcess() as relay:
        pids = list(relay.pids().values())
        relay.kill("main")
        assert relay.process.wait(5) == -signal.SIGKILL
        assert not gone(pids)


def test_the_directory_of_a_killed_relay_is_removed_by_the_next_one() -> None:
    with RelayProcess() as relay:
        relay.kill("main")
        relay.process.wait(5)
        assert len(list(relay.directory.glob("frost-relay-*"))) == 1
        with RelayProcess(env={"XDG_RUNTIME_DIR": str(relay.directory)}) as successor:
            assert len(list(relay.directory.glob("frost-relay-*"))) == 1
            assert successor.stop() == 0
        assert not list(relay.directory.glob("frost-relay-*"))


@pytest.mark.parametrize("name", ["registry", "admin", "listener"])
def test_a_killed_child_is_replaced_and_the_others_live_on(name: str) -> None:
    with RelayProcess() as relay:
        name = relay.workers("listener")[0]["name"] if name == "listener" else name
        before = relay.pids()
        killed = relay.kill(name)
        relay.wait_status(lambda status: _ready_again(status, name, killed))
        after = relay.pids()
        assert {each for each in before if before[each] != after[each]} == {name}
        assert relay.worker(name)["restarts"] == 1
        assert f'frost_relay_restarts_total{{actor="{name}"' in relay.get("/metrics")[1]


def _ready_again(status: dict[str, Any], name: str, killed: int) -> bool:
    row = next(each for each in status["workers"] if each["name"] == name)
    return row["state"] == "ready" and row["pid"] not in {0, killed}


def test_connections_that_wait_for_a_killed_listener_are_served_by_its_successor(toys: RelayProcess) -> None:
    name = toys.workers("listener")[0]["name"]
    frozen = toys.kill(name, signal.SIGSTOP)
    waiting = [connect(toys) for _ in range(50)]
    for each in waiting:
        each.sendall(b"hello\n")
    os.kill(frozen, signal.SIGKILL)
    answers = set()
    for each in waiting:
        with each:
            answers.add(int(each.recv(100)))
    assert len(answers) == 1
    assert frozen not in answers


def test_a_crashed_listener_dies_of_its_signal_and_is_replaced(toys: RelayProcess) -> None:
    before = ask(toys)
    with connect(toys) as connection:
        connection.sendall(b"segv\n")
        assert connection.recv(10) == b""
    assert ask(toys) != before
    assert "how=SIGSEGV" in toys.stderr


def test_a_fault_in_a_task_is_logged_and_the_process_lives(toys: RelayProcess) -> None:
    before = ask(toys)
    with connect(toys) as connection:
        connection.sendall(b"fault\n")
        assert ask(toys) == before
    toys.stop()
    assert "RuntimeError: a fault in a task" in toys.stderr


@pytest.mark.parametrize("how", ["hang", "freeze"])
def test_a_listener_whose_loop_stands_still_is_replaced(toys: RelayProcess, how: str) -> None:
    before = ask(toys)
    if how == "freeze":
        os.kill(before, signal.SIGSTOP)
    else:
        with connect(toys) as connection:
            connection.sendall(b"hang\n")
    name = toys.workers("listener")[0]["name"]
    toys.wait_status(lambda status: _ready_again(status, name, before), timeout_s=20)
    assert ask(toys) != before
    assert "why=hangs" in toys.stderr


@pytest.mark.parametrize("trouble", ["die", "raise"])
def test_a_listener_that_keeps_dying_is_shown_as_failed_and_never_spins(
    toys: RelayProcess, tmp_path: Path, trouble: str
) -> None:
    name = toys.workers("listener")[0]["name"]
    (tmp_path / "trouble").write_text(f"{name} {trouble}\n")
    toys.kill(name)
    toys.wait_status(lambda status: _state(status, name) == "failed")
    code, body = toys.get("/readyz")
    assert (code, name in body) == (503, True)
    assert toys.get("/healthz")[0] == 200
    restarts, start = toys.worker(name)["restarts"], time.monotonic()
    toys.wait_status(lambda _: time.monotonic() - start > 3)
    more = toys.worker(name)["restarts"] - restarts
    assert 1 <= more <= time.monotonic() - start + 1  # backoff_max_s is 1
    (tmp_path / "trouble").unlink()
    toys.wait_status(lambda status: _state(status, name) == "ready")
    assert toys.get("/readyz")[0] == 200


def _state(status: dict[str, Any], name: str) -> str:
    state: str = next(each["state"] for each in status["workers"] if each["name"] == name)
    return state


def test_a_child_that_never_gets_ready_is_killed(toys: RelayProcess, tmp_path: Path) -> None:
    name = toys.workers("listener")[0]["name"]
    (tmp_path / "trouble").write_text(f"{name} sleep\n")
    toys.kill(name)
    toys.wait_status(lambda status: 'why="not ready in time"' in toys.stderr, timeout_s=30)
    (tmp_path / "trouble").unlink()  # a successor that has read it already sleeps and is killed too
    toys.wait_status(lambda status: _state(status, name) == "ready", timeout_s=40)


def test_sigterm_ends_the_tree_in_order() -> None:
    with RelayProcess() as relay:
        pids = list(relay.pids().values())
        assert relay.stop(signal.SIGTERM) == 0
        assert not gone(pids, 0)
        assert_ended_in_order(relay)
        assert not list(relay.directory.glob("frost-relay-*"))


def assert_ended_in_order(relay: RelayProcess) -> None:
    ends = [line for line in relay.stderr.splitlines() if "process ended" in line]
    names = [line.split("name=")[1].split()[0].partition("-")[0] for line in ends]
    assert sorted(names[:2]) == ["tcp", "ws"]
    assert names[2:] == ["admin", "registry"]
    assert all(line.endswith("now=stopped") for line in ends)
    assert "handler failed" not in relay.stderr


def test_ctrl_c_reaches_the_whole_group_and_ends_the_tree_in_order() -> None:
    with RelayProcess() as relay:
        pids = list(relay.pids().values())
        os.killpg(relay.pid, signal.SIGINT)
        assert relay.process.wait(10) == 0
        relay.stop()  # reads what was said to the end
        assert not gone(pids, 0)
        assert_ended_in_order(relay)


def test_a_signal_to_every_process_at_once_ends_the_tree_in_order() -> None:
    with RelayProcess() as relay:
        pids = list(relay.pids().values())
        for pid in reversed(pids):  # main is the last to hear of it
            os.kill(pid, signal.SIGTERM)
        assert relay.process.wait(10) == 0
        relay.stop()  # reads what was said to the end
        assert not gone(pids, 0)
        assert_ended_in_order(relay)


@pytest.mark.parametrize("name", ["listener", "registry", "supervisor", "system", "admin"])
def test_a_frozen_process_cannot_hold_up_the_end(name: str) -> None:
    with RelayProcess() as relay:
        pids = list(relay.pids().values())
        relay.kill(relay.workers(name)[0]["name"], signal.SIGSTOP)
        start = time.monotonic()
        assert relay.stop(signal.SIGTERM) == 0
        assert time.monotonic() - start < 8
        assert not gone(pids, 0)


def test_a_listener_that_is_slow_to_end_is_cut_off(toys: RelayProcess) -> None:
    ask(toys, "slow")
    assert toys.stop(signal.SIGTERM) == 0
    assert "stop took too long" in toys.stderr
    assert "did not end in time" not in toys.stderr


def test_a_second_signal_ends_the_tree_at_once(toys: RelayProcess) -> None:
    ask(toys, "slow")
    toys.process.send_signal(signal.SIGTERM)
    _await_line(toys, "stopping")
    assert toys.stop(signal.SIGTERM) == 0
    assert "because=stop" in toys.stderr


def _await_line(relay: RelayProcess, text: str) -> None:
    end = time.monotonic() + 10
    while text not in relay.stderr:
        assert time.monotonic() < end, relay.stderr
        time.sleep(0.01)


def test_a_hanging_supervisor_ends_the_relay() -> None:
    with RelayProcess("supervision.hang_timeout_s=2") as relay:
        pids = list(relay.pids().values())
        relay.kill("supervisor", signal.SIGSTOP)
        assert relay.process.wait(30) == 1
        assert not gone(pids)


def test_the_actor_systems_sockets_are_private(toys: RelayProcess) -> None:
    (directory,) = toys.directory.glob("frost-relay-*")
    assert directory.stat().st_mode & 0o777 == 0o700
    ports = {
        connection.laddr.port
        for process in [psutil.Process(pid) for pid in toys.pids().values()]
        for connection in process.net_connections("inet")
        if connection.status == psutil.CONN_LISTEN
    }
    assert ports == {int(toys.addresses[0].split("/")[4]), urlsplit(toys.admin_url).port}


@pytest.mark.parametrize(
    "attack",
    [
        b"5>hello",
        b"-5>abc",
        b"99999999999>" + b"A" * 100_000,
        b"Z" * 500,
        b"abc>def",
        b"21>" + b"x" * 16 + b"cos\n\x80",
    ],
)
def test_foreign_bytes_on_an_actors_socket_change_nothing(toys: RelayProcess, attack: bytes) -> None:
    (directory,) = toys.directory.glob("frost-relay-*")
    before = toys.pids()
    targets = [path for path in directory.iterdir() if path.name.isdecimal()]
    assert len(targets) >= 5
    for path in targets:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(str(path))
            connection.settimeout(0.3)  # main has a socket too, and reads it only while it sends
            try:
                connection.sendall(attack)
                connection.shutdown(socket.SHUT_WR)
                while connection.recv(1000):
                    pass
            except (ConnectionError, TimeoutError):
                continue
    assert toys.pids() == before
    assert toys.worker("registry")["restarts"] == 0
    killed = toys.kill("registry")
    toys.wait_status(lambda status: _ready_again(status, "registry", killed))


def fill(pipe: int) -> None:
    try:
        while True:
            os.write(pipe, b"x" * 4096)
    except BlockingIOError:
        return


def test_an_unread_standard_error_stops_nobody(tmp_path: Path) -> None:
    read_end, write_end = os.pipe()
    os.set_blocking(write_end, False)
    fill(write_end)
    os.set_blocking(write_end, True)
    key = tmp_path / "key"
    process = subprocess.Popen(
        [sys.executable, "-m", "supervisor.cli", "run", "--set", f"identity.key_file={key}", "--set", 'admin.listen=""',
         "--set", 'listeners=[{address="/ip4/127.0.0.1/tcp/0", workers=1}]',
         "--set", f"admin.control_socket={tmp_path}/control.sock"],
        stdout=subprocess.PIPE, stderr=write_end, cwd=Path(__file__).parents[2],
        env={**os.environ, "XDG_RUNTIME_DIR": str(tmp_path)},
    )  # fmt: skip
    os.close(write_end)
    try:
        assert process.stdout is not None
        assert select.select([process.stdout], [], [], 60)[0]
        assert b"/p2p/" in process.stdout.readline()
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
    finally:
        process.kill()
        process.communicate()
        os.close(read_end)
