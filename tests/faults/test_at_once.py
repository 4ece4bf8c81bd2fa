"""Deaths that come together, or at a bad moment: each is noticed, and what is left behind is right."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from actors.proto.circuit_pb2 import Status
from tests.faults.test_kills import gone
from tests.scenarios.scene import until
from tests.support.client import Client, HopRefusedError
from tests.support.relay import ROOT, RelayProcess

pytestmark = pytest.mark.fault

ROUNDS = 3
PEERS = 60
SLOTS = 40


def die_at_once(relay: RelayProcess, names: Iterable[str]) -> None:
    """SIGKILL to all of them, and wait until their successors serve."""
    before = relay.pids()
    killed = {name: before[name] for name in names}
    for pid in killed.values():
        os.kill(pid, signal.SIGKILL)
    relay.wait_status(
        lambda now: all(each["state"] == "ready" and each["pid"] != killed.get(each["name"]) for each in now["workers"])
    )
    assert {name for name, pid in relay.pids().items() if pid != before[name]} == set(killed)


def test_children_that_die_at_once_are_all_replaced() -> None:
    with RelayProcess("supervision.backoff_max_s=0.1", workers=2) as relay:
        children = [each["name"] for each in relay.status()["workers"]][3:]
        for _ in range(ROUNDS):
            die_at_once(relay, children)
            die_at_once(relay, [each for each in children if each.startswith("ws")])
    assert "hangs" not in relay.stderr
    assert "Traceback" not in relay.stderr


def test_a_registry_that_dies_in_a_storm_of_reserves_leaves_no_request_unanswered_and_no_count_wrong() -> None:
    settings = (f"limits.max_reservations={SLOTS}", "supervision.backoff_max_s=0.1")
    deaths = 0
    with RelayProcess(*settings, listeners=("/ip4/127.0.0.1/tcp/0/ws",), workers=2) as relay:

        async def storm(client: Client, answers: Counter[int]) -> None:
            """Ask, and let go again, until the registry has died often enough."""
            while deaths < ROUNDS:
                try:
                    await client.reserve()  # it raises when nothing comes
                    answers[Status.OK] += 1
                except HopRefusedError as refused:
                    answers[refused.status] += 1

        async def play() -> None:
            nonlocal deaths
            clients = [await Client.dial(relay.address("ws")) for _ in range(PEERS)]
            answers: Counter[int] = Counter()
            storms = [asyncio.ensure_future(storm(client, answers)) for client in clients]
            while deaths < ROUNDS:
                wanted = answers.total() + 2 * PEERS

                async def answered() -> bool:
                    return answers.total() >= wanted  # noqa: B023 - asked in this turn only

                await until(answered, "the storm")
                await asyncio.to_thread(die_at_once, relay, ["registry"])
                deaths += 1
            await asyncio.gather(*storms)
            assert set(answers) <= {Status.OK, Status.RESERVATION_REFUSED}
            relay.wait_status(lambda now: now["reservations"] == relay.worker("registry")["reservations"] == SLOTS)
            await asyncio.gather(*(client.abort() for client in clients))
            relay.wait_status(lambda now: now["reservations"] == relay.worker("registry")["reservations"] == 0)

        asyncio.run(play())
        assert {each["restarts"] for each in relay.workers("listener")} == {0}
    assert "Traceback" not in relay.stderr


@pytest.mark.parametrize("moment", range(2))
def test_a_supervisor_that_dies_in_a_reload_ends_the_relay_and_leaves_nothing(tmp_path: Path, moment: int) -> None:
    file = tmp_path / "relay.toml"
    file.write_text("")
    with RelayProcess(env={"FROST_RELAY_CONFIG": str(file)}, workers=2) as relay:
        pids = relay.pids()
        file.write_text("[limits]\nmax_circuits = 7\n")
        for _ in range(3):  # one under way, one that waits, and one that is asked for in vain
            relay.process.send_signal(signal.SIGHUP)
        time.sleep(moment * 0.004)  # each of the tests hits another moment
        with suppress(ProcessLookupError):
            os.kill(pids["supervisor"], signal.SIGKILL)
        assert relay.process.wait(10) == 1
        assert not gone(list(pids.values()))
        assert not list(relay.directory.glob("frost-relay-*"))


def descendants(pid: int) -> list[int]:
    with suppress(psutil.NoSuchProcess):
        return [each.pid for each in psutil.Process(pid).children(recursive=True)]
    return []


@pytest.mark.parametrize("processes", [1, 3, 6])
def test_main_killed_during_the_start_takes_everything_along(tmp_path: Path, processes: int) -> None:
    """Killed as soon as it has so many processes below it; the next start finds no obstacle."""
    line = [sys.executable, "-m", "supervisor.cli", "run", "--set", f"identity.key_file={tmp_path}/key"]
    line += ["--set", 'admin.listen=""', "--set", f"admin.control_socket={tmp_path}/control.sock"]
    line += ["--set", 'listeners=[{address="/ip4/127.0.0.1/tcp/0", workers=2}]']
    env = {**os.environ, "XDG_RUNTIME_DIR": str(tmp_path)}
    env.pop("RUNTIME_DIRECTORY", None)
    starting = subprocess.Popen(line, cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    try:
        while len(below := descendants(starting.pid)) < processes:
            assert starting.poll() is None
    finally:
        starting.kill()
    assert starting.wait(10) == -signal.SIGKILL
    assert not gone(below)
    again = subprocess.Popen(line, cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert again.stdout is not None
    assert again.stdout.readline().startswith(b"/ip4/127.0.0.1/tcp/")
    assert len(list(tmp_path.glob("frost-relay-*"))) == 1
    again.terminate()
    _, said = again.communicate(timeout=20)
    assert again.returncode == 0, said
    assert sorted(each.name for each in tmp_path.iterdir()) == ["key"]
