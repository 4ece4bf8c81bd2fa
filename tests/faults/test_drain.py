"""Drains of real relays: who is still served, who is refused and how, what comes last, and how it ends."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

import pytest
import uvloop

from actors.limits import Reason, Status
from tests.scenarios.scene import Circuit, counter, joined, until
from tests.support.client import Client, HopRefusedError, StreamResetError
from tests.support.relay import ROOT, RelayProcess

pytestmark = pytest.mark.fault

LONG = "supervision.drain_timeout_s=600"


def play(scene: Callable[[], Coroutine[Any, Any, None]]) -> None:
    uvloop.run(scene())


async def pair(relay: RelayProcess, transport: str = "ws") -> Circuit:
    target = await Client.dial(relay.address(transport))
    await target.reserve()
    return await joined(await Client.dial(relay.address(transport)), target)


async def echoes(circuit: Circuit) -> bool:
    circuit.left.write(b"still there?")
    circuit.right.write(b"yes")
    return await circuit.right.read(12) == b"still there?" and await circuit.left.read(3) == b"yes"


async def draining(relay: RelayProcess) -> None:
    async def told() -> bool:
        return await asyncio.to_thread(relay.get, "/readyz") == (503, "draining\n")

    await until(told, "503 draining")


async def is_refused(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 5).close()
    except ConnectionRefusedError:
        return True
    return False


@pytest.mark.parametrize("transport", ["ws", "tcp"])
def test_a_circuit_ends_in_its_own_time_then_comes_goaway_then_the_relay_ends(transport: str) -> None:
    with RelayProcess(LONG) as relay:

        async def scene() -> None:
            circuit = await pair(relay, transport)
            bystander = await Client.dial(relay.address("ws"))
            await bystander.reserve()
            relay.process.send_signal(signal.SIGTERM)
            await draining(relay)
            assert await echoes(circuit)
            assert [each.go_away for each in (circuit.source, circuit.target, bystander)] == [None] * 3
            await bystander.reserve()  # a renewal
            circuit.left.close()
            assert await circuit.right.read_to_end() == b""
            circuit.right.close()
            for each in (circuit.source, circuit.target, bystander):
                await asyncio.wait_for(each.closed.wait(), 20)
                assert each.go_away == 0

        play(scene)
        assert relay.process.wait(20) == 0
        relay.stop()
        assert "drained" in relay.stderr
        assert "reason=finished" in relay.stderr
        assert "handler failed" not in relay.stderr


def test_nobody_new_is_taken_in_and_calls_to_who_is_there_go_on() -> None:
    with RelayProcess(LONG, workers=2) as relay:

        async def scene() -> None:
            circuit = await pair(relay)
            idle = await Client.dial(relay.address("ws"))
            relay.process.send_signal(signal.SIGTERM)
            await draining(relay)
            for address in relay.addresses:  # each worker has heard of it once no port takes anybody
                await until(partial(is_refused, int(address.split("/")[4])), "no connections")
            with pytest.raises(HopRefusedError) as refused:
                await idle.reserve()
            assert refused.value.status == Status.RESERVATION_REFUSED
            again = await joined(idle, circuit.target)
            assert await echoes(again)
            assert await echoes(circuit)

        play(scene)
        assert counter(relay, "frost_relay_refusals_total", reason=Reason.DRAINING) == 1
        assert relay.stop(signal.SIGTERM) == 0  # the second signal: at once


def test_what_is_left_when_the_time_is_up_is_cut() -> None:
    with RelayProcess("supervision.drain_timeout_s=2") as relay:

        async def scene() -> None:
            circuit = await pair(relay)
            relay.process.send_signal(signal.SIGTERM)
            await draining(relay)

            async def refuses() -> bool:
                try:
                    again = await circuit.source.connect(circuit.target.peer_id)
                except HopRefusedError as error:
                    return error.status == Status.RESOURCE_LIMIT_EXCEEDED
                again.abort()
                return False

            await until(refuses, "no new circuits shortly before the end")
            with pytest.raises(StreamResetError):
                await circuit.left.read(1)

        play(scene)
        assert relay.process.wait(20) == 0
        relay.stop()
        assert "reason=drain " in relay.stderr


def test_a_relay_without_circuits_is_drained_at_once() -> None:
    with RelayProcess(LONG) as relay:
        assert relay.stop(signal.SIGTERM) == 0
        assert "drained" in relay.stderr
        assert not list(relay.directory.glob("frost-relay-*"))


def test_ctrl_c_does_not_wait_for_anybody() -> None:
    with RelayProcess(LONG) as relay:
        play(lambda: _with_a_circuit(relay, signal.SIGINT))
        assert relay.process.wait(20) == 0
        relay.stop()
        assert "draining" not in relay.stderr


async def _with_a_circuit(relay: RelayProcess, sig: signal.Signals) -> None:
    circuit = await pair(relay)
    relay.process.send_signal(sig)
    await asyncio.wait_for(circuit.source.closed.wait(), 20)


@pytest.mark.parametrize("role", ["listener", "registry", "admin"])
def test_a_process_that_dies_during_a_drain_does_not_keep_it_from_its_end(role: str) -> None:
    with RelayProcess(LONG) as relay:

        async def scene() -> None:
            circuit = await pair(relay, "tcp")
            relay.process.send_signal(signal.SIGTERM)
            await draining(relay)
            name = next(each["name"] for each in relay.workers(role) if not each["name"].startswith("tcp"))
            killed = await asyncio.to_thread(relay.kill, name)
            if role != "listener":
                await asyncio.to_thread(relay.wait_status, lambda now: _pid(now, name) not in {0, killed})
            assert await echoes(circuit)
            circuit.left.abort()
            await asyncio.wait_for(circuit.source.closed.wait(), 20)

        play(scene)
        assert relay.process.wait(20) == 0


def _pid(status: dict[str, Any], name: str) -> int:
    return next(int(each["pid"]) for each in status["workers"] if each["name"] == name)


def test_a_supervisor_that_dies_during_a_drain_ends_the_relay() -> None:
    with RelayProcess(LONG) as relay:

        async def scene() -> None:
            await pair(relay)
            relay.process.send_signal(signal.SIGTERM)
            await draining(relay)
            relay.kill("supervisor")

        play(scene)
        assert relay.process.wait(20) == 1


# --- frost-relay drain ---


def command(relay: RelayProcess, *arguments: str) -> subprocess.Popen[str]:
    line = [sys.executable, "-m", "supervisor.cli", "drain", *arguments, "--socket", str(relay.control_socket)]
    return subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT)


def test_the_command_waits_until_the_relay_has_ended() -> None:
    with RelayProcess() as relay:

        async def scene() -> None:
            circuit = await pair(relay)
            asked = command(relay, "--timeout", "600")
            await draining(relay)
            assert asked.poll() is None
            circuit.left.abort()
            out, err = await asyncio.to_thread(asked.communicate, timeout=30)
            assert (asked.returncode, out, err) == (0, "the relay has ended\n", "")

        play(scene)
        assert relay.process.wait(20) == 0


def test_a_worker_is_recycled_between_two_calls_and_nobody_is_refused() -> None:
    with RelayProcess(workers=1) as relay:
        name = relay.workers("listener")[0]["name"]
        assert name.startswith("ws")
        before = relay.pids()

        async def scene() -> None:
            circuit = await pair(relay)
            beside = await Client.dial(relay.address("tcp"))
            await beside.reserve()
            asked = command(relay, "--worker", name, "--timeout", "600")
            await asyncio.to_thread(relay.wait_status, lambda now: _state(now, name) == "draining")
            assert await asyncio.to_thread(relay.get, "/readyz") == (200, "ready\n")
            newcomer = await Client.dial(relay.address("ws"))
            await newcomer.reserve()
            assert await echoes(circuit)
            circuit.left.abort()
            await asyncio.wait_for(circuit.target.closed.wait(), 20)
            assert circuit.target.go_away == 0
            again = await Client.dial(relay.address("ws"))  # at once: it waits in the socket for the successor
            await again.reserve()
            out, err = await asyncio.to_thread(asked.communicate, timeout=30)
            assert (asked.returncode, out, err) == (0, f"{name} was started anew\n", "")
            assert (await beside.identify()).publicKey
            assert beside.go_away is None

        play(scene)
        after = relay.pids()
        assert {each for each in before if before[each] != after[each]} == {name}
        assert counter(relay, "frost_relay_refusals_total", reason=Reason.DRAINING) == 0


def _state(status: dict[str, Any], name: str) -> str:
    return next(str(each["state"]) for each in status["workers"] if each["name"] == name)


def test_a_worker_that_there_is_not_is_named_with_those_that_there_are() -> None:
    with RelayProcess() as relay:
        asked = command(relay, "--worker", "ws-1/9")
        out, err = asked.communicate(timeout=30)
        assert (asked.returncode, out) == (1, "")
        assert relay.workers("listener")[0]["name"] in err
        assert os.path.exists(relay.control_socket)
