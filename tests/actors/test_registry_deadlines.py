"""A worker's link when answers are late or do not come: everybody is told no in time, and nothing granted is lost."""

from __future__ import annotations

from pathlib import Path

import pytest

from actors.limits import Reason
from actors.registry_protocol import (
    CircuitGranted,
    CloseCircuit,
    Granted,
    Refused,
    Release,
    Reserve,
)
from tests.actors.registry_ends import LinkedWorker, ScriptedRegistry, run, until

UNAVAILABLE = Reason.REGISTRY_UNAVAILABLE


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "registry.sock"


def test_without_an_answer_in_time_the_answer_is_no(path: Path) -> None:
    async def main() -> None:
        registry = await ScriptedRegistry.at(path)
        worker = await LinkedWorker(path, answer_s=0.05).join()
        worker.link.reserve(b"a", 1, "ip", worker.answers.append)
        worker.link.open_circuit(b"a", b"b", "ip", worker.answers.append)
        assert worker.answers == []
        await until(lambda: len(worker.answers) == 2)
        assert worker.answers == [Refused(1, UNAVAILABLE), Refused(2, UNAVAILABLE)]
        worker.link.reserve(b"a", 1, "ip", worker.answers.append)
        await until(lambda: len(worker.answers) == 3)
        await worker.link.stop()
        await registry.end()

    run(main())


def test_without_a_registry_the_answer_is_no(path: Path) -> None:
    async def main() -> None:
        worker = LinkedWorker(path, answer_s=0.05)
        worker.link.start()
        assert await worker.reserve(1) == Refused(1, UNAVAILABLE)
        await worker.link.stop()

    run(main())


def test_each_request_has_a_deadline_of_its_own(path: Path) -> None:
    async def main() -> None:
        registry = await ScriptedRegistry.at(path)
        worker = await LinkedWorker(path).join()
        worker.link.reserve(b"a", 1, "ip", worker.answers.append)
        worker.let_pass(30)
        worker.link.reserve(b"b", 2, "ip", worker.answers.append)
        worker.let_pass(15)
        assert worker.answers == []
        worker.let_pass(15)
        assert worker.answers == [Refused(1, UNAVAILABLE)]
        worker.let_pass(30)
        assert worker.answers == [Refused(1, UNAVAILABLE), Refused(2, UNAVAILABLE)]
        await worker.link.stop()
        await registry.end()

    run(main())


def test_what_is_granted_too_late_is_given_back(path: Path) -> None:
    async def main() -> None:
        registry = await ScriptedRegistry.at(path)
        worker = await LinkedWorker(path).join()
        worker.link.reserve(b"a", 1, "ip", worker.answers.append)
        worker.link.open_circuit(b"a", b"b", "ip", worker.answers.append)
        worker.link.reserve(b"c", 3, "ip", worker.answers.append)
        worker.let_pass(60)
        assert len(worker.answers) == 3
        await until(lambda: len(registry.heard) == 4)
        registry.say(Granted(1, 9.0, replaced=False), CircuitGranted(2, 77, "w", 5), Refused(3, UNAVAILABLE))
        await until(lambda: len(registry.heard) == 6)
        assert registry.heard[4:] == [Release(b"a", 1), CloseCircuit(77)]
        assert len(worker.answers) == 3
        await worker.link.stop()
        await registry.end()

    run(main())


def test_a_renewal_granted_too_late_does_not_end_the_reservation(path: Path) -> None:
    async def main() -> None:
        registry = await ScriptedRegistry.at(path)
        worker = await LinkedWorker(path).join()
        worker.link.reserve(b"a", 1, "ip", worker.answers.append)
        worker.let_pass(60)
        worker.link.reserve(b"b", 2, "ip", worker.answers.append)
        await until(lambda: len(registry.heard) == 3)
        registry.say(Granted(1, 9.0, replaced=True), Granted(2, 9.0, replaced=False))
        await until(lambda: len(worker.answers) == 2)
        worker.link.close_circuit(1)
        await until(lambda: len(registry.heard) == 4)
        assert registry.heard[3] == CloseCircuit(1)
        await worker.link.stop()
        await registry.end()

    run(main())


@pytest.mark.parametrize("second_in_time", [True, False])
def test_a_late_grant_is_not_taken_from_a_later_request_of_the_same_connection(
    path: Path, second_in_time: bool
) -> None:
    async def main() -> None:
        registry = await ScriptedRegistry.at(path)
        worker = await LinkedWorker(path).join()
        worker.link.reserve(b"a", 1, "ip", worker.answers.append)
        worker.let_pass(60)
        worker.link.reserve(b"a", 1, "ip", worker.answers.append)
        if not second_in_time:
            worker.let_pass(60)
        worker.link.reserve(b"b", 2, "ip", worker.answers.append)
        registry.say(Granted(1, 9.0, replaced=False), Granted(2, 9.0, replaced=True), Granted(3, 9.0, replaced=False))
        await until(lambda: isinstance(worker.answers[-1], Granted) and worker.answers[-1].request == 3)
        worker.link.close_circuit(1)
        await until(lambda: registry.heard[-1] == CloseCircuit(1))
        given_back = [message for message in registry.heard if isinstance(message, Release)]
        assert given_back == ([] if second_in_time else [Release(b"a", 1)])
        assert not worker.link._last_reserve
        assert not worker.link._unclaimed
        await worker.link.stop()
        await registry.end()

    run(main())


def test_as_many_requests_may_wait_as_the_cap_and_the_next_is_refused_at_once(path: Path) -> None:
    async def main() -> None:
        registry = await ScriptedRegistry.at(path)
        worker = await LinkedWorker(path, max_pending=3).join()
        for number in range(4):
            worker.link.reserve(b"a", number, "ip", worker.answers.append)
        assert worker.answers == []  # never from within the call
        await until(lambda: worker.answers)
        assert worker.answers == [Refused(4, UNAVAILABLE)]
        worker.let_pass(60)
        assert len(worker.answers) == 4
        worker.link.reserve(b"a", 9, "ip", worker.answers.append)  # three answers are still owed
        await until(lambda: len(worker.answers) == 5)
        assert worker.answers[4] == Refused(5, UNAVAILABLE)
        registry.say(Granted(1, 9.0, replaced=False))
        await until(lambda: registry.heard[-1] == Release(b"a", 0))
        worker.link.reserve(b"a", 9, "ip", worker.answers.append)
        await until(lambda: registry.heard[-1] == Reserve(6, b"a", 9, "ip"))
        await worker.link.stop()
        await registry.end()

    run(main())


def test_a_registry_that_died_owes_no_answers(path: Path) -> None:
    async def main() -> None:
        first = await ScriptedRegistry.at(path)
        worker = await LinkedWorker(path, max_pending=1).join()
        worker.link.reserve(b"a", 1, "ip", worker.answers.append)
        worker.let_pass(60)
        await first.end()
        await until(lambda: not worker.link.is_connected)
        second = await ScriptedRegistry.at(path)
        worker.link.reserve(b"b", 2, "ip", worker.answers.append)
        await until(lambda: Reserve(2, b"b", 2, "ip") in second.heard)
        assert not any(isinstance(message, Reserve) and message.request == 1 for message in second.heard)
        await worker.link.stop()
        await second.end()

    run(main())
