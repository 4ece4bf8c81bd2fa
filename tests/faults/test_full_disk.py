"""Full disks under real relays: what needs room at the start says so, what has started goes on."""

from __future__ import annotations

import asyncio
import re
import shlex
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.builds import ROOT
from tests.support.client import Client
from tests.support.relay import RelayProcess
from tests.support.small_disk import SmallDisk

pytestmark = pytest.mark.fault

WAIT_S = 20.0


@pytest.fixture
def disk() -> Iterator[SmallDisk]:
    with SmallDisk(kib=1024) as disk:
        yield disk


def until(holds: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + WAIT_S
    while not holds():
        assert time.monotonic() < end, what
        time.sleep(0.02)


def refused(disk: SmallDisk, *settings: str, runtime: Path) -> str:
    """The one line of a relay that does not start."""
    line = [*disk.prefix, "env", "-u", "RUNTIME_DIRECTORY", f"XDG_RUNTIME_DIR={runtime}"]
    line += [sys.executable, "-m", "supervisor.cli", "run"]
    for text in ('admin.listen=""', 'listeners=[{address="/ip4/127.0.0.1/tcp/0", workers=1}]', *settings):
        line += ["--set", text]
    done = subprocess.run(line, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (2, ""), done
    assert done.stderr.count("\n") == 1, done.stderr
    return done.stderr


async def calls(address: str) -> None:
    """Two peers meet through the relay."""
    target, source = await Client.dial(address), await Client.dial(address)
    await target.reserve()
    left = await source.connect(target.peer_id)
    _, right = await target.called()
    left.stream.write(b"hello")
    assert await right.read(5) == b"hello"
    await source.abort()
    await target.abort()


async def comes_by(host: str, address: str) -> None:
    """A peer that knows the relay by this name."""
    client = await Client.dial(address, name=host)
    assert (await client.identify()).publicKey
    await client.abort()


def test_a_key_that_does_not_fit_is_not_created_at_all(disk: SmallDisk, tmp_path: Path) -> None:
    disk.fill()
    key = disk.path / "relay.key"
    control = f"admin.control_socket={tmp_path}/control.sock"
    told = refused(disk, f"identity.key_file={key}", control, runtime=tmp_path)
    assert told == (
        f'frost-relay: identity.key_file = "{key}": expected a file that can be created (No space left on device)\n'
    )
    assert [each.name for each in disk.seen.iterdir()] == ["filling"]


def test_a_runtime_directory_without_room_for_the_counters_is_said_at_the_start(
    disk: SmallDisk, tmp_path: Path
) -> None:
    disk.fill()
    settings = (f"identity.key_file={tmp_path}/relay.key", f"admin.control_socket={tmp_path}/control.sock")
    told = refused(disk, *settings, runtime=disk.path)
    assert told == (
        f'frost-relay: RUNTIME_DIRECTORY = "{disk.path}": expected a file system with 448 KiB free '
        "(No space left on device)\n"
    )
    assert [each.name for each in disk.seen.iterdir()] == ["filling"]


def test_a_runtime_directory_without_room_for_files_is_said_at_the_start(tmp_path: Path) -> None:
    with SmallDisk(kib=4096, inodes=20) as disk:
        settings = (f"identity.key_file={tmp_path}/relay.key", f"admin.control_socket={tmp_path}/control.sock")
        told = refused(disk, *settings, runtime=disk.path)
        assert re.fullmatch(
            rf'frost-relay: RUNTIME_DIRECTORY = "{disk.path}": expected a file system on which 40 more files can be '
            r"made \(df -i says \d+\)\n",
            told,
        ), told
        assert not list(disk.seen.iterdir())


def test_a_runtime_directory_that_fills_up_under_the_relay_costs_nobody_anything(disk: SmallDisk) -> None:
    prefix = (*disk.prefix, "env", f"XDG_RUNTIME_DIR={disk.path}")
    with RelayProcess("canary.interval_s=10", listeners=("/ip4/127.0.0.1/tcp/0/ws",), prefix=prefix) as relay:
        disk.fill()
        address = relay.address("ws")
        asyncio.run(calls(address))  # the first count of nearly every kind
        asyncio.run(comes_by("elsewhere.test", address))
        until(lambda: "host=elsewhere.test" in relay.stderr, "the wrong announce list is still told")
        until(lambda: "canary's record cannot be written" in relay.stderr, "the canary says so, and goes on")
        for name in (f"ws-{address.split('/')[4]}/0", "registry", "admin", "canary"):
            replaced(relay, name)
            asyncio.run(calls(address))
        assert [each["restarts"] for each in relay.status()["workers"]] == [0, 0, 0, 1, 1, 1, 1]
        assert "frost_relay_circuits_opened_total 6.0" in relay.get("/metrics")[1], "the canary's among them"
    assert "Traceback" not in relay.stderr


def replaced(relay: RelayProcess, name: str) -> None:
    """Kill the process of a slot and wait until its successor serves."""
    killed = relay.kill(name)

    def serves(status: dict[str, Any]) -> bool:
        row = next(each for each in status["workers"] if each["name"] == name)
        return row["state"] == "ready" and row["pid"] not in {0, killed}

    relay.wait_status(serves)


def lines_dropped(relay: RelayProcess) -> float:
    counts = re.findall(r"^frost_relay_log_lines_dropped_total\{.*\} (.*)$", relay.get("/metrics")[1], re.MULTILINE)
    return sum(map(float, counts))


def test_log_lines_that_do_not_fit_are_counted_and_nobody_waits_for_them(disk: SmallDisk) -> None:
    def through_the_control_socket(_where: tuple[str, int]) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(str(relay.control_socket))
        return connection

    log = disk.seen / "log"
    into_a_file = ("sh", "-c", f'exec "$@" 2>>{shlex.quote(str(disk.path))}/log', "sh")
    relay = RelayProcess(
        'admin.listen=""',
        listeners=("/ip4/127.0.0.1/tcp/0/ws",),
        prefix=(*disk.prefix, *into_a_file),
        connect=through_the_control_socket,
    )
    with relay:
        disk.fill()
        replaced(relay, "registry")
        while not lines_dropped(relay):  # the file's last block takes some lines still
            asyncio.run(calls(relay.address("ws")))
        before = log.read_text()
        disk.free()
        replaced(relay, "registry")
        until(lambda: "log: lines dropped count=" in log.read_text()[len(before) :], "the first that fits says so")
        assert relay.stop() == 0
        assert "\n".join(log.read_text().split("\n")[-2:]).endswith("main: stopped\n")


def command(*arguments: str, stdout: str, stderr: str) -> int:
    """The exit code of a command whose output goes to these files."""
    with open(stdout, "w") as out, open(stderr, "w") as err:
        line = [sys.executable, "-m", "supervisor.cli", *arguments]
        return subprocess.run(line, stdout=out, stderr=err, cwd=ROOT, timeout=60, check=False).returncode


def test_where_a_line_does_not_fit_the_exit_code_says_it(tmp_path: Path) -> None:
    told, full = str(tmp_path / "told"), "/dev/full"
    assert command("run", "--set", "limits.max_circuits=0", stdout=told, stderr=full) == 2
    assert command("config", "show", "--set", "log.level=debug", stdout=full, stderr=told) == 1
    assert Path(told).read_text() == "frost-relay: it cannot be written: No space left on device\n"
