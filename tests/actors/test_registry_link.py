"""A worker's link: who is asked, what is joined, and registries that die."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from actors.limits import Reason
from actors.registry import Registry
from actors.registry_protocol import (
    Ask,
    CircuitGranted,
    Connected,
    Declare,
    Disconnected,
    Evict,
    Granted,
    Held,
    HeldCircuit,
    Hello,
    Inventory,
    OpenCircuit,
    Refused,
    Reserve,
    Superseded,
    Tally,
)
from config.settings import Limits
from tests.actors.registry_ends import LinkedWorker, ScriptedRegistry, run, serve, until

UNAVAILABLE = Reason.REGISTRY_UNAVAILABLE


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "registry.sock"


def test_a_reservation_and_a_circuit_are_granted_across_workers(path: Path) -> None:
    async def main() -> None:
        server = await serve(path)
        left, right = await LinkedWorker(path, "left").join(), await LinkedWorker(path, "right").join()
        assert isinstance(await right.reserve(1), Granted)
        circuit = await left.connect(2, 1)
        assert isinstance(circuit, CircuitGranted)
        assert (circuit.worker, circuit.connection) == ("right", 1)
        right.link.release(b"peer 1", 1)
        assert isinstance(await right.reserve(2), Granted)  # what was said before has been heard
        assert await left.connect(2, 1) == Refused(2, Reason.NO_RESERVATION)
        await left.link.stop()
        await right.link.stop()
        await server.stop()

    run(main())


def test_what_one_turn_of_the_loop_says_leaves_in_one_write(path: Path) -> None:
    async def main() -> None:
        registry = await ScriptedRegistry.at(path)
        worker = await LinkedWorker(path).join()
        await until(lambda: registry.heard)
        for number in range(50):
            worker.link.connected(number, "ip")
            worker.link.reserve(b"peer", number, "ip", worker.answers.append)
            worker.link.disconnected(number)
        await until(lambda: len(registry.heard) == 151)
        assert [len(read) for read in registry.reads] == [1, 150]
        assert registry.reads[1][:3] == [Connected(0, "ip"), Reserve(1, b"peer", 0, "ip"), Disconnected(0)]
        await worker.link.stop()
        await registry.end()

    run(main())


def test_a_connection_is_told_with_what_is_said_next(path: Path) -> None:
    async def main() -> None:
        registry = await ScriptedRegistry.at(path)
        worker = await LinkedWorker(path).join()
        await until(lambda: registry.heard)
        worker.link.connected(1, "ip")
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        worker.link.reserve(b"peer", 1, "ip", worker.answers.append)
        await until(lambda: len(registry.heard) == 3)
        assert registry.reads[1] == [Connected(1, "ip"), Reserve(1, b"peer", 1, "ip")]
        await worker.link.stop()
        await registry.end()

    run(main())


def test_connections_are_told_soon_when_nothing_else_is_said(path: Path) -> None:
    async def main() -> None:
        registry = await ScriptedRegistry.at(path)
        worker = await LinkedWorker(path).join()
        await until(lambda: registry.heard)
        for number in range(200):
            worker.link.connected(number, "ip")
            await asyncio.sleep(0)
        await until(lambda: len(registry.heard) == 201)
        assert registry.heard[1:] == [Connected(number, "ip") for number in range(200)]
        await worker.link.stop()
        await registry.end()

    run(main())


def test_answers_reach_those_who_asked_whatever_their_order(path: Path) -> None:
    async def main() -> None:
        registry = await ScriptedRegistry.at(path)
        worker = await LinkedWorker(path).join()
        got: dict[str, object] = {}
        worker.link.reserve(b"a", 1, "ip", lambda answer: got.update(a=answer))
        worker.link.open_circuit(b"b", b"a", "ip", lambda answer: got.update(b=answer))
        await until(lambda: len(registry.heard) == 3)
        registry.say(CircuitGranted(2, 9, "w", 1), Granted(1, 5.0, replaced=False), Granted(1, 6.0, replaced=False))
        await until(lambda: len(got) == 2)
        assert got == {"a": Granted(1, 5.0, replaced=False), "b": CircuitGranted(2, 9, "w", 1)}
        await worker.link.stop()
        await registry.end()

    run(main())


def test_the_worker_says_how_much_it_holds_and_what_behind_all_that_it_said_before(path: Path) -> None:
    async def main() -> None:
        registry = await ScriptedRegistry.at(path)
        worker = await LinkedWorker(path).join()
        await until(lambda: registry.heard)
        circuit = HeldCircuit(9, b"a", b"b", "ip")
        worker.holds = ([], [circuit], [(number, "ip") for number in range(1, 5001)])
        worker.link.connected(5000, "ip")  # waits for company
        registry.say(Ask(whole=False))
        await until(lambda: len(registry.heard) == 3)
        assert registry.heard[1:] == [Connected(5000, "ip"), Tally((0, 0), (1, 9), (5000, 12_502_500))]
        registry.say(Ask(whole=True))
        await until(lambda: len(registry.heard) == 5)
        first, last = registry.heard[3:]
        assert isinstance(first, Inventory)
        assert isinstance(last, Inventory)
        assert (first.circuits, first.more, len(first.connections)) == ([circuit], True, 4096)
        assert (last.circuits, last.more, len(last.connections)) == ([], False, 904)
        await worker.link.stop()
        await registry.end()

    run(main())


def test_notices_reach_the_worker(path: Path) -> None:
    async def main() -> None:
        server = await serve(path, Registry(Limits(max_connections_per_ip=1)))
        worker, other = await LinkedWorker(path).join(), await LinkedWorker(path, "other").join()
        worker.link.connected(1, "192.0.2.1")
        worker.link.connected(2, "192.0.2.1")
        await until(lambda: worker.evicted)
        assert worker.evicted == [Evict(2, Reason.CONNECTIONS_PER_IP)]
        await worker.reserve(1)
        await other.reserve(1)
        await until(lambda: worker.superseded)
        assert worker.superseded == [Superseded(b"peer 1", 1)]
        assert other.superseded == []
        await worker.link.stop()
        await other.link.stop()
        await server.stop()

    run(main())


def test_a_fault_in_one_callback_leaves_the_other_answers_alone(path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    async def main() -> None:
        server = await serve(path)
        worker = await LinkedWorker(path).join()

        def fail(_: object) -> None:
            raise ZeroDivisionError

        worker.link.reserve(b"a", 1, "ip", fail)
        assert isinstance(await worker.reserve(2), Granted)
        assert worker.link.is_connected
        await worker.link.stop()
        await server.stop()

    run(main())
    assert "fault after an answer of the registry" in capfd.readouterr().err


# --- registries that die ---


def test_a_worker_that_is_there_first_waits_for_the_registry(path: Path) -> None:
    async def main() -> None:
        worker = LinkedWorker(path)
        worker.link.start()
        worker.link.reserve(b"peer", 1, "ip", worker.answers.append)
        await asyncio.sleep(0.1)
        assert worker.answers == []
        server = await serve(path)
        await until(lambda: worker.answers)
        assert isinstance(worker.answers[0], Granted)
        await worker.link.stop()
        await server.stop()

    run(main())


def test_a_new_registry_is_told_what_is_held_before_it_is_asked(path: Path) -> None:
    async def main() -> None:
        first = await ScriptedRegistry.at(path)
        worker = await LinkedWorker(path).join()
        worker.link.reserve(b"a", 1, "ip", worker.answers.append)
        worker.link.close_circuit(5)
        await until(lambda: len(first.heard) == 3)
        worker.holds = [Held(b"b", 2, "ip", 99.0)], [HeldCircuit(7, b"b", b"a", "ip")], [(2, "ip")]
        await first.end()
        await until(lambda: not worker.link.is_connected)
        worker.link.open_circuit(b"b", b"c", "ip", worker.answers.append)
        worker.link.close_circuit(6)  # nobody hears it, and nobody needs to: it is not declared
        second = await ScriptedRegistry.at(path)
        await until(lambda: second.heard)
        assert second.heard == [
            Hello("w", 1, *worker.holds),
            Reserve(1, b"a", 1, "ip"),
            OpenCircuit(2, b"b", b"c", "ip"),
        ]
        assert worker.answers == []
        await worker.link.stop()
        await second.end()

    run(main())


def test_a_registry_that_died_is_replaced_under_requests(path: Path) -> None:
    async def main() -> None:
        limits = Limits(max_reservations=2, reservation_rate_per_ip=None)
        registries = [Registry(limits), Registry(limits)]
        server = await serve(path, registries[0])
        left, right = await LinkedWorker(path, "left").join(), await LinkedWorker(path, "right").join()
        for worker, number in ((left, 1), (right, 2)):
            granted = await worker.reserve(number)
            assert isinstance(granted, Granted)
            worker.holds[0].append(Held(b"peer %d" % number, number, "192.0.2.1", granted.expires_s))
        await server.stop()
        left.link.reserve(b"peer 3", 3, "192.0.2.1", left.answers.append)
        left.link.reserve(b"peer 1", 1, "192.0.2.1", left.answers.append)
        left.link.open_circuit(b"peer 1", b"peer 2", "192.0.2.1", left.answers.append)
        server = await serve(path, registries[1], expected=["left", "right"])
        await until(lambda: len(left.answers) == 4)
        _, third, renewed, circuit = left.answers
        assert isinstance(third, Refused)
        assert third.reason is Reason.RESERVATIONS_FULL
        assert isinstance(renewed, Granted)
        assert renewed.replaced
        assert isinstance(circuit, CircuitGranted)
        assert (circuit.worker, circuit.connection) == ("right", 2)
        await left.link.stop()
        await right.link.stop()
        await server.stop()

    run(main())


def test_a_long_declaration_comes_in_parts_and_in_full(path: Path) -> None:
    async def main() -> None:
        worker = LinkedWorker(path)
        worker.holds = (
            [Held(b"peer %d" % number, number, "ip", 1e9) for number in range(10_000)],
            [HeldCircuit(number, b"a", b"b", "ip") for number in range(5_000)],
            [(number, "ip") for number in range(9_000)],
        )
        scripted = await ScriptedRegistry.at(path)
        await worker.join()
        parts: list[Hello | Declare] = []
        await until(
            lambda: sum(len(m.reservations) for m in scripted.heard if isinstance(m, Hello | Declare)) == 10_000
        )
        parts = [message for message in scripted.heard if isinstance(message, Hello | Declare)]
        assert [type(part) for part in parts] == [Hello, Declare, Declare]
        assert [part.more for part in parts] == [True, True, False]
        assert [held for part in parts for held in part.reservations] == worker.holds[0]
        assert [circuit for part in parts for circuit in part.circuits] == worker.holds[1]
        assert [connection for part in parts for connection in part.connections] == worker.holds[2]
        await scripted.end()
        registry = Registry(Limits())
        server = await serve(path, registry)
        await until(lambda: registry.reservation_count == 10_000)
        assert (registry.circuit_count, registry.connection_count) == (5_000, 9_000)
        await worker.link.stop()
        await server.stop()

    run(main())


def test_the_end_of_the_link_refuses_what_is_pending_and_frees_what_is_held(path: Path) -> None:
    async def main() -> None:
        registry = Registry(Limits())
        server = await serve(path, registry)
        worker = await LinkedWorker(path).join()
        await worker.reserve(1)
        worker.link.reserve(b"a", 2, "ip", worker.answers.append)
        await worker.link.stop()
        assert worker.answers[1:] == [Refused(2, UNAVAILABLE)]
        await until(lambda: registry.reservation_count == 0)
        worker.link.reserve(b"a", 2, "ip", worker.answers.append)
        await until(lambda: len(worker.answers) == 3)
        assert worker.answers[2] == Refused(3, UNAVAILABLE)
        await server.stop()

    run(main())


def test_a_registry_that_talks_nonsense_is_left_and_another_looked_for(
    path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    async def main() -> None:
        registry = await ScriptedRegistry.at(path)
        worker = await LinkedWorker(path).join()
        registry.transport.write(b"\xff\xff\xff\xff")
        await until(lambda: registry.connections == 2)
        await until(lambda: worker.link.is_connected)
        await worker.link.stop()
        await registry.end()

    run(main())
    assert "registry link broken" in capfd.readouterr().err
