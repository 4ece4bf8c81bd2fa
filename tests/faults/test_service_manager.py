"""What a service manager sees of a real relay: sd_notify on a socket of the test, and sockets that it passes."""

from __future__ import annotations

import asyncio
import socket
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.client import Client
from tests.support.relay import ROOT, RelayProcess

pytestmark = pytest.mark.fault

WAIT_S = 15.0
ACTIVATE = (sys.executable, str(ROOT / "tests/support/passed_sockets.py"))


class Manager:
    """A notification socket, and all that was ever said on it."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.said: list[str] = []
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(address)

    def hear(self, heard: Callable[[str], bool]) -> str:
        """Wait for a line."""
        end = time.monotonic() + WAIT_S
        while (left_s := end - time.monotonic()) > 0:
            self._socket.settimeout(left_s)
            lines = self._socket.recv(65536).decode().split("\n")
            self.said += lines
            for line in lines:
                if heard(line):
                    return line
        raise TimeoutError(self.said)

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    manager = Manager(f"{tmp_path}/notify")
    yield manager
    manager.close()


async def calls(address: str, meanwhile: Callable[[], object] = lambda: None) -> None:
    """Two peers meet through the relay."""
    target, source = await Client.dial(address), await Client.dial(address)
    await target.reserve()
    left = await source.connect(target.peer_id)
    _, right = await target.called()
    left.stream.write(b"hello")
    assert await right.read(5) == b"hello"
    meanwhile()
    await source.abort()
    await target.abort()


def replaced(relay: RelayProcess, name: str) -> None:
    """Kill the process of a slot and wait for its successor."""
    pid = relay.kill(name)
    relay.wait_status(lambda now: all(each["state"] == "ready" and each["pid"] != pid for each in now["workers"]))


def test_ready_comes_when_all_serve_then_counts_and_signs_of_life_then_stopping(manager: Manager) -> None:
    env = {"NOTIFY_SOCKET": manager.address, "WATCHDOG_USEC": "2000000"}
    with RelayProcess(env=env) as relay:
        manager.hear(lambda line: line == "READY=1")
        assert relay.get("/readyz")[0] == 200
        assert not [line for line in manager.said if line.startswith("STOPPING")]

        def counted() -> None:
            manager.hear(lambda line: line.startswith("STATUS=1 reservations, 1 circuits, 2 connections, 2 of 2"))

        asyncio.run(calls(relay.address("ws"), counted))
        for _ in range(3):
            manager.hear(lambda line: line == "WATCHDOG=1")
        assert relay.stop() == 0
        manager.hear(lambda line: line == "STOPPING=1")
        assert manager.said.count("READY=1") == 1


def test_a_drain_that_was_asked_for_by_command_is_told_with_its_time_and_a_reload_does_not_take_it_back(
    manager: Manager,
) -> None:
    with RelayProcess("supervision.stop_timeout_s=3", env={"NOTIFY_SOCKET": manager.address}) as relay:

        async def meanwhile() -> None:
            target, source = await Client.dial(relay.address("ws")), await Client.dial(relay.address("ws"))
            await target.reserve()
            circuit = await source.connect(target.peer_id)
            await target.called()
            asked = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "supervisor.cli", "drain", "--timeout", "600"),
                *("--socket", str(relay.control_socket)),
                cwd=ROOT,
                stdout=asyncio.subprocess.PIPE,
            )
            await asyncio.to_thread(manager.hear, lambda line: line == "STOPPING=1")
            extended = next(line for line in manager.said if line.startswith("EXTEND_TIMEOUT_USEC="))
            assert 600e6 < int(extended.partition("=")[2]) < 615e6
            assert (await asyncio.to_thread(relay.reload))["ok"]
            circuit.close()
            await source.close()
            said, _ = await asked.communicate()
            assert said == b"the relay has ended\n"
            await target.closed.wait()

        asyncio.run(meanwhile())
        assert relay.process.wait(WAIT_S) == 0
        assert not any(line.startswith("RELOADING") for line in manager.said)
        assert manager.said.count("READY=1") == 1


def test_a_watchdog_that_nobody_feeds_for_long_is_not_asked_for(manager: Manager) -> None:
    with RelayProcess(env={"NOTIFY_SOCKET": manager.address}) as relay:
        manager.hear(lambda line: line == "READY=1")
        assert relay.stop() == 0
        manager.hear(lambda line: line == "STOPPING=1")
    assert "WATCHDOG=1" not in manager.said


@pytest.mark.parametrize("count", [1, 2])
def test_two_workers_serve_the_sockets_that_were_passed_and_their_successors_too(count: int) -> None:
    with socket.socket() as holder:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        holder.bind(("127.0.0.1", 0))
        port = holder.getsockname()[1]
        listeners = (f"/ip4/127.0.0.1/tcp/{port}/ws",)
        with RelayProcess(listeners=listeners, workers=2, prefix=(*ACTIVATE, str(port), str(count)), env={}) as relay:
            asyncio.run(calls(relay.address("ws")))
            for name in (f"ws-{port}/0", f"ws-{port}/1"):
                replaced(relay, name)
                asyncio.run(calls(relay.address("ws")))


def test_a_passed_socket_without_a_listener_is_a_wrong_configuration() -> None:
    with socket.socket() as holder:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        holder.bind(("127.0.0.1", 0))
        prefix = (*ACTIVATE, str(holder.getsockname()[1]), "1")
        with (
            pytest.raises(RuntimeError, match=r'ended with 2:\nfrost-relay: LISTEN_FDS = "name-0": expected'),
            RelayProcess(prefix=prefix),
        ):
            raise AssertionError("it started")
