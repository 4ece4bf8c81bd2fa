"""The registry's socket: who may speak, what is joined, who is gone, and what a restart waits for."""

from __future__ import annotations

import asyncio
import stat
import time
from contextlib import suppress
from pathlib import Path

import pytest

from actors import registry_server
from actors.limits import Reason
from actors.registry import Registry
from actors.registry_protocol import (
    Ask,
    CircuitGranted,
    Connected,
    Declare,
    Evict,
    Granted,
    Held,
    Hello,
    OpenCircuit,
    Refused,
    Reserve,
    encode_frames,
)
from actors.registry_server import RegistryServer
from config.rates import Rate
from config.settings import Limits
from tests.actors.registry_ends import LinkedWorker, RawWorker, run, serve, until

HELLO = Hello("w", 1, [], [], [])


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "registry.sock"


def reserves(count: int) -> list[Reserve]:
    return [Reserve(number, b"peer %d" % number, number, "ip") for number in range(count)]


def test_the_answers_to_one_read_leave_in_one_write(path: Path) -> None:
    async def main() -> None:
        server = await serve(path)
        worker = RawWorker(path)
        await worker.say(encode_frames([HELLO, *reserves(100)]))
        answers = await worker.read()
        assert answers is not None
        assert [type(answer) for answer in answers] == [Granted] * 100
        worker.socket.close()
        await server.stop()

    run(main())


@pytest.mark.parametrize(
    "said",
    [
        encode_frames(reserves(1)),
        encode_frames([HELLO, HELLO]),
        encode_frames([Hello("", 1, [], [], [])]),
        encode_frames([Evict(1, Reason.CONNECTIONS_FULL)]),
        b"\xff\xff\xff\xff",
        b"\x00\x00\x00\x01\xc1",
    ],
    ids=["no Hello", "two Hellos", "no name", "other direction", "too long", "no message"],
)
def test_a_worker_that_breaks_the_protocol_is_cut_off_and_nobody_else(
    path: Path, said: bytes, capfd: pytest.CaptureFixture[str]
) -> None:
    async def main() -> None:
        server = await serve(path)
        good, bad = await LinkedWorker(path, "good").join(), RawWorker(path)
        await bad.say(said)
        assert await bad.read() is None
        assert isinstance(await good.reserve(1), Granted)
        await good.link.stop()
        await server.stop()

    run(main())
    assert "registry link broken" in capfd.readouterr().err


def test_a_process_of_another_user_is_cut_off(
    path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    async def main() -> None:
        monkeypatch.setattr(registry_server, "same_user", lambda _: False)
        registry = Registry(Limits())
        server = await serve(path, registry)
        stranger = RawWorker(path)
        await stranger.say(encode_frames([HELLO, *reserves(1)]))
        assert await stranger.read() is None
        assert registry.reservation_count == 0
        await server.stop()

    run(main())
    assert "another user" in capfd.readouterr().err


def test_the_socket_is_ours_alone_and_takes_the_place_of_one_left_behind(path: Path) -> None:
    async def main() -> None:
        first = await serve(path)
        await first.stop()
        second = await serve(path)
        worker = await LinkedWorker(path).join()
        assert isinstance(await worker.reserve(1), Granted)
        await worker.link.stop()
        await second.stop()

    run(main())
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_dead_workers_slots_are_free_at_once(path: Path) -> None:
    async def main() -> None:
        registry = Registry(Limits(max_reservations=1))
        server = await serve(path, registry)
        dying, alive = RawWorker(path), await LinkedWorker(path, "alive").join()
        await dying.say(encode_frames([HELLO, *reserves(1), Connected(1, "ip")]))
        await dying.read()
        assert isinstance(await alive.reserve(7), Refused)
        dying.socket.close()
        await until(lambda: registry.connection_count == 0)
        assert isinstance(await alive.reserve(7), Granted)
        await alive.link.stop()
        await server.stop()

    run(main())


def test_a_newer_link_of_the_same_name_replaces_the_older(path: Path) -> None:
    async def main() -> None:
        registry = Registry(Limits())
        server = await serve(path, registry)
        older, newer = RawWorker(path), RawWorker(path)
        await older.say(encode_frames([HELLO, *reserves(3)]))
        await older.read()
        assert registry.reservation_count == 3
        await newer.say(encode_frames([HELLO, *reserves(1)]))
        await newer.read()
        assert await older.read() is None
        assert registry.reservation_count == 1  # the end of the older link took nothing of the newer's
        newer.socket.close()
        await until(lambda: registry.reservation_count == 0)
        await server.stop()

    run(main())


def test_a_new_registry_answers_nobody_before_all_have_declared(path: Path) -> None:
    async def main() -> None:
        server = await serve(path, expected=["w", "late"], gather_s=60)
        early, late = RawWorker(path), RawWorker(path)
        await early.say(encode_frames([HELLO, OpenCircuit(1, b"caller", b"peer", "ip"), *reserves(1)]))
        reading = asyncio.ensure_future(early.read())
        await late.say(encode_frames([Hello("late", 2, [Held(b"other", 1, "ip", 1e9)], [], [], more=True)]))
        await asyncio.sleep(0.1)
        assert not reading.done()
        await late.say(encode_frames([Declare([Held(b"peer", 2, "ip", 1e9)], [], [])]))
        answers = await reading
        assert answers is not None
        assert [type(answer) for answer in answers] == [CircuitGranted, Granted]
        early.socket.close()
        late.socket.close()
        await server.stop()

    run(main())


def test_a_new_registry_does_not_wait_for_ever(path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    async def main() -> None:
        server = await serve(path, expected=["w", "missing"], gather_s=0.05)
        worker = RawWorker(path)
        await worker.say(encode_frames([HELLO, *reserves(1)]))
        assert await worker.read() is not None
        worker.socket.close()
        await server.stop()

    run(main())
    assert "missing" in capfd.readouterr().err


def test_what_a_worker_asked_before_it_died_is_not_granted_after_the_wait(path: Path) -> None:
    async def main() -> None:
        registry = Registry(Limits())
        server = await serve(path, registry, expected=["w", "other"], gather_s=60)
        dying, other = RawWorker(path), RawWorker(path)
        await dying.say(encode_frames([HELLO, *reserves(3)]))
        await until(lambda: server._waiting)
        dying.socket.close()
        await until(lambda: not server._link_of)
        successor = RawWorker(path)
        await successor.say(encode_frames([HELLO, *reserves(1)]))
        await until(lambda: server._link_of)
        await other.say(encode_frames([Hello("other", 2, [], [], [])]))
        answers = await successor.read()
        assert answers is not None
        assert [type(answer) for answer in answers] == [Granted]
        assert registry.reservation_count == 1
        other.socket.close()
        successor.socket.close()
        await server.stop()

    run(main())


def test_a_worker_that_never_reads_is_cut_off(
    path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    async def main() -> None:
        monkeypatch.setattr(registry_server, "_MAX_UNREAD_BYTES", 10_000)
        registry = Registry(Limits(max_reservations=1, reservation_rate_per_peer=Rate(1, 1.0)))
        server = await serve(path, registry)
        deaf = RawWorker(path)
        questions = encode_frames(reserves(1000))
        await deaf.say(encode_frames([HELLO]))
        with suppress(BrokenPipeError, ConnectionResetError):
            while True:
                await deaf.say(questions)
        await until(lambda: registry.reservation_count == 0)
        await server.stop()

    run(main())
    assert "does not read" in capfd.readouterr().err


def test_expired_reservations_are_cleared_away_without_being_asked_for(path: Path) -> None:
    async def main() -> None:
        registry = Registry(Limits(reservation_ttl_s=1, reservation_rate_per_ip=None))
        counts: list[int] = []
        server = await serve(path, registry, on_change=lambda: counts.append(registry.reservation_count))
        worker = RawWorker(path)
        await worker.say(encode_frames([HELLO, *reserves(600)]))
        await until(lambda: registry.reservation_count == 600)
        await until(lambda: registry.reservation_count == 0)
        assert counts[-1] == 0
        assert 600 - 256 in counts  # a bounded number in one pass
        worker.socket.close()
        await server.stop()

    run(main())


class Ahead:
    """A clock that runs so many seconds ahead for each time that it is asked."""

    def __init__(self, step_s: float) -> None:
        self._now_s, self._step_s = time.monotonic(), step_s

    def __call__(self) -> float:
        self._now_s += self._step_s
        return self._now_s


def test_what_differs_from_a_worker_is_found_mended_and_told(path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    async def main() -> None:
        registry = Registry(Limits())
        server = RegistryServer(registry, str(path), Ahead(1.0), audit_interval_s=0.01)
        await server.start()
        worker, other = await LinkedWorker(path, "left").join(), await LinkedWorker(path, "right").join()
        worker.holds = ([], [], [(1, "ip")])
        worker.link.connected(1, "ip")
        assert isinstance(await worker.reserve(1), Granted)  # the worker says later that it holds none
        await until(lambda: server.auditor.mended)
        await until(lambda: not server.auditor.differences)
        assert (registry.reservation_count, registry.connection_count) == (0, 1)
        await worker.link.stop()
        await other.link.stop()
        await server.stop()

    run(main())
    log = capfd.readouterr().err
    assert "audit has mended the registry worker=left freed_reservations=1" in log
    assert "worker=right freed" not in log


def test_nobody_is_audited_while_others_are_awaited(path: Path) -> None:
    async def main() -> None:
        server = await serve(path, expected=("w", "late"), gather_s=60.0, audit_interval_s=0.005)
        worker = RawWorker(path)
        await worker.say(encode_frames([HELLO]))
        with suppress(TimeoutError):
            async with asyncio.timeout(0.1):
                raise AssertionError(await worker.read())
        late = await LinkedWorker(path, "late").join()
        assert await worker.read() == [Ask(whole=False)]
        await late.link.stop()
        worker.socket.close()
        await server.stop()

    run(main())
