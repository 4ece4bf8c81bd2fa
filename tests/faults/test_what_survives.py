"""Kills on the relay at work: who is hit, who goes on, and whose slots come back."""

from __future__ import annotations

import os
import signal
import ssl
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
import uvloop

from actors.proto.circuit_pb2 import Status
from tests.scenarios.scene import TRIES, Circuit, Place, Scene, gone, joined, until
from tests.support.client import Client, HopRefusedError, StreamResetError
from tests.support.relay import RelayProcess

pytestmark = pytest.mark.fault

WORDS = b"numbered and never lost "


def play(*settings: str, act: Callable[[Scene], Coroutine[Any, Any, None]]) -> RelayProcess:
    """One relay with two WebSocket workers, one act; the processes that it kills are its own affair."""
    with RelayProcess(*settings, listeners=("/ip4/127.0.0.1/tcp/0/ws",), workers=2) as relay:

        async def main() -> None:
            scene = Scene(relay, Place("ws", together=False), ssl.create_default_context())
            await act(scene)
            await scene.leave()
            await scene.settled(connections=0, reservations=0, circuits=0)

        uvloop.run(main())
    assert "Traceback" not in relay.stderr, relay.stderr
    return relay


async def echoed(circuit: Circuit, times: int = 20) -> None:
    """The circuit carries bytes both ways, all of them and in order."""
    for number in range(times):
        words = WORDS + str(number).encode()
        circuit.left.write(words)
        assert await circuit.right.read(len(words)) == words
        circuit.right.write(words[::-1])
        assert await circuit.left.read(len(words)) == words[::-1]


async def kill(scene: Scene, pid: int, role: str) -> None:
    """SIGKILL, and wait until the successor serves; where clients sit is looked up anew afterwards."""
    os.kill(pid, signal.SIGKILL)
    await scene.logged("process ended", f"pid={pid}", "how=SIGKILL")

    async def replaced() -> bool:
        rows = [each for each in scene.relay.status()["workers"] if each["role"] == role]
        return all(each["state"] == "ready" and each["pid"] != pid for each in rows)

    await until(replaced, "a successor")
    del scene.relay.worker_pids  # type: ignore[attr-defined]  # the scene's memory of who holds whom


async def refused(attempt: Coroutine[Any, Any, object]) -> int:
    """The status that an attempt is refused with."""
    with pytest.raises(HopRefusedError) as caught:
        await attempt
    return caught.value.status


async def in_another_worker(scene: Scene, pid: int) -> Client:
    """A client that does not sit in the process `pid`."""
    for _ in range(TRIES):
        client = await scene.dial()
        if scene.worker_of(client) != pid:
            return client
        await client.abort()
        scene.forget(client)
    raise AssertionError(f"{TRIES} connections in a row landed in the same worker")


async def circuit_beside(scene: Scene, hit: Client) -> Circuit:
    """A circuit none of whose peers sits with `hit`."""
    away = scene.worker_of(hit)
    target, source = await in_another_worker(scene, away), await in_another_worker(scene, away)
    await target.reserve()
    return await joined(source, target)


def test_a_killed_worker_takes_only_its_own_and_its_slots_are_free_at_once() -> None:
    async def act(scene: Scene) -> None:
        hit = await scene.reserved()
        bystanders = await circuit_beside(scene, hit)
        newcomer = await in_another_worker(scene, scene.worker_of(hit))
        assert await refused(newcomer.reserve()) == Status.RESERVATION_REFUSED
        await kill(scene, scene.worker_of(hit), "listener")
        await gone(hit)
        await newcomer.reserve()
        await echoed(bystanders)
        assert await refused((await scene.dial()).reserve()) == Status.RESERVATION_REFUSED
        await scene.settled(reservations=2, circuits=1)

    play("limits.max_reservations=2", act=act)


@pytest.mark.parametrize("hit", ["source", "target"])
def test_a_circuit_between_two_workers_ends_with_either_and_its_slot_is_free(hit: str) -> None:
    async def act(scene: Scene) -> None:
        circuit = await scene.circuit()
        await echoed(circuit, 3)
        dying, left = (circuit.source, circuit.right) if hit == "source" else (circuit.target, circuit.left)
        survivor = circuit.target if hit == "source" else circuit.source
        await kill(scene, scene.worker_of(dying), "listener")
        await gone(dying)
        with pytest.raises(StreamResetError):
            await left.read(1)
        assert (await survivor.identify()).publicKey, "the survivor's connection is untouched"
        await scene.settled(circuits=0)
        target = survivor if hit == "target" else await scene.dial()
        await target.reserve()
        caller = await scene.dial_beside(target)
        await echoed(await joined(caller, target), 3)

    play("limits.max_circuits=1", "limits.max_circuits_per_peer=1", act=act)


def test_circuits_go_on_without_the_registry_and_its_successor_knows_what_was_granted() -> None:
    async def act(scene: Scene) -> None:
        circuit = await scene.circuit()
        other = await scene.reserved()
        registry = scene.relay.worker("registry")["pid"]
        await kill(scene, registry, "registry")
        await echoed(circuit)
        await scene.registered(reservations=2, circuits=1)
        stranger = await scene.dial()
        assert await refused(stranger.reserve()) == Status.RESERVATION_REFUSED, "the table is as full as before"
        await other.reserve()
        assert await refused(stranger.connect(other.peer_id)) == Status.RESOURCE_LIMIT_EXCEEDED
        circuit.left.abort()
        await circuit.right.reset()
        await scene.registered(circuits=0)
        await echoed(await joined(stranger, other), 3)

    play("limits.max_reservations=2", "limits.max_circuits=1", "limits.max_circuits_per_peer=1", act=act)


def test_requests_wait_for_a_registry_that_does_not_answer_and_are_then_refused() -> None:
    async def act(scene: Scene) -> None:
        circuit = await scene.circuit()
        asking = await scene.dial()
        registry = scene.relay.worker("registry")["pid"]
        os.kill(registry, signal.SIGSTOP)
        try:
            assert await refused(asking.reserve()) == Status.RESERVATION_REFUSED
            assert await refused(asking.connect(circuit.target.peer_id)) == Status.CONNECTION_FAILED
            await echoed(circuit, 3)
        finally:
            os.kill(registry, signal.SIGCONT)
        await asking.reserve()
        await scene.registered(reservations=2, circuits=1)
        assert await scene.counted("frost_relay_refusals_total", reason="registry_unavailable") == 2

    play(act=act)
