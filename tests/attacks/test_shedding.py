"""A relay that is short of something takes nobody new for a while, and nobody who is there notices."""

from __future__ import annotations

import asyncio
import signal
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest

from actors.limits import Reason
from config.checks import LEAST_MEMORY_MB
from tests.attacks.bystanders import Bystanders
from tests.attacks.siege import UPGRADE, Siege, read_to_end
from tests.scenarios.relays import GENEROUS
from tests.scenarios.scene import Circuit, Place, Scene, counter, joined, still_served, until
from tests.support.client import Client
from tests.support.relay import RelayProcess
from transports.yamux_frames import INITIAL_WINDOW_BYTES

pytestmark = pytest.mark.fault

WAITING = 50
STUCK = 480
"""Circuits whose target does not read: each holds a window, some 80 MiB together."""
ROOM_MB = 50


class Bounded:
    """A relay whose configuration file the test writes, and those who are on it all the time."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.relay: RelayProcess
        self.bystanders: Bystanders

    async def bound(self, megabytes: int) -> None:
        """Another limits.max_memory_mb."""
        self.file.write_text(f"[limits]\nmax_memory_mb = {megabytes}\n")
        assert (await asyncio.to_thread(self.relay.reload))["ok"]

    async def short(self, wanted: bool) -> None:
        """Wait until memory is short, or is not any more."""

        async def seen() -> bool:
            return bool((await asyncio.to_thread(self.relay.status))["memory_short"]) is wanted

        await until(seen, f"memory_short {wanted}")


@pytest.fixture
def bounded(tmp_path: Path) -> Iterator[Bounded]:
    made = Bounded(tmp_path / "relay.toml")
    made.file.write_text("")
    with (
        RelayProcess(*GENEROUS, env={"FROST_RELAY_CONFIG": str(made.file)}) as made.relay,
        Bystanders(made.relay) as made.bystanders,
    ):
        yield made
        made.bystanders.assert_undisturbed()
        assert counter(made.relay, "frost_relay_faults_total") == 0, made.relay.stderr


def visitors(relay: RelayProcess) -> Siege:
    """Of the WebSocket port."""
    return Siege(relay, None, "ws")  # type: ignore[arg-type]  # it only looks and knocks


async def stuck(scene: Scene) -> list[Circuit]:
    """Circuits that hold all that a circuit may hold."""
    targets = [await scene.reserved() for _ in range(8)]
    sources = [await scene.dial() for _ in range(16)]  # all of them before memory is short
    circuits: list[Circuit] = []
    for number in range(STUCK):
        target = targets[number % len(targets)]
        circuit = await joined(sources[number % len(sources)], target)
        circuit.right.credit = False
        circuit.left.write(bytes(2 * INITIAL_WINDOW_BYTES))
        circuits.append(circuit)
    return circuits


async def test_memory_that_runs_short_keeps_newcomers_out_and_nobody_else(bounded: Bounded) -> None:
    relay = bounded.relay
    scene = Scene(relay, Place("ws", together=False), ssl.create_default_context())
    old = await scene.reserved()
    taken = await asyncio.to_thread(relay.status)
    limit_mb = max(LEAST_MEMORY_MB, (taken["memory_bytes"] >> 20) + ROOM_MB)
    await bounded.bound(limit_mb)
    assert (await asyncio.to_thread(relay.status))["memory_limit_bytes"] == limit_mb << 20

    await stuck(scene)
    await bounded.short(True)
    async with scene.counting("frost_relay_refusals_total", reason=Reason.MEMORY_SHORT.value):
        with pytest.raises((OSError, AssertionError)):
            await Client.dial(relay.address("tcp"))
    async with scene.counting("frost_relay_refusals_total", reason=Reason.MEMORY_SHORT.value):
        assert await visitors(relay).say(UPGRADE) == b""
    line = await scene.logged("refused", f"reason={Reason.MEMORY_SHORT.value}")
    assert "address=127.0.0.1:" in line
    line = await scene.logged("memory", "short,", f"value={limit_mb}")
    assert "limit=limits.max_memory_mb" in line
    assert await asyncio.to_thread(relay.get, "/readyz") == (503, "memory short\n")
    await still_served(old)
    await old.reserve()

    await scene.leave()
    await bounded.short(False)
    await still_served(await scene.dial())
    assert (await asyncio.to_thread(relay.get, "/readyz"))[0] == 200
    await scene.leave()


async def test_another_bound_holds_at_once(bounded: Bounded) -> None:
    relay = bounded.relay
    scene = Scene(relay, Place("ws", together=False), ssl.create_default_context())
    await stuck(scene)
    await bounded.bound(LEAST_MEMORY_MB)  # less than all that takes
    await bounded.short(True)
    await bounded.bound(0)
    await bounded.short(False)
    await still_served(await scene.dial())
    await scene.leave()


async def test_who_watches_memory_may_die_and_it_stays_short(bounded: Bounded) -> None:
    relay = bounded.relay
    scene = Scene(relay, Place("ws", together=False), ssl.create_default_context())
    await stuck(scene)
    await bounded.bound(LEAST_MEMORY_MB)
    await bounded.short(True)
    name = relay.workers("admin")[0]["name"]
    await asyncio.to_thread(relay.kill, name)
    assert await visitors(relay).say(UPGRADE) == b""
    await asyncio.to_thread(relay.wait_status, lambda now: now["workers"] and now["memory_short"])
    await scene.leave()


async def test_who_waits_for_a_worker_that_hung_is_served_and_nobody_is_lost(bounded: Bounded) -> None:
    relay = bounded.relay
    scene = Scene(relay, Place("ws", together=False), ssl.create_default_context())
    old = await scene.reserved()
    pauses = await scene.counted("frost_relay_accept_pauses_total")
    (worker,) = [each["name"] for each in relay.workers("listener") if each["name"].startswith("ws")]
    await asyncio.to_thread(relay.kill, worker, signal.SIGSTOP)
    waiting = []
    for _ in range(WAITING):
        reader, writer = await asyncio.open_connection("127.0.0.1", visitors(relay).port)
        writer.write(UPGRADE.replace(b"GET / ", b"GET /nothing ").replace(b"Upgrade: websocket\r\n", b""))
        waiting.append((reader, writer))
    await asyncio.sleep(1.0)  # how long it hangs: more than the lag that is noticed, less than one that kills
    await asyncio.to_thread(relay.kill, worker, signal.SIGCONT)
    for reader, writer in waiting:
        assert (await read_to_end(reader)).startswith(b"HTTP/1.1 ")
        writer.close()
    await still_served(old)
    assert await scene.counted("frost_relay_accept_pauses_total") > pauses
    await scene.logged("loop", "lags,", "reason=loop_lag")

    def open_again(now: dict[str, object]) -> bool:
        return not any(each["sheds"] for each in now["workers"])  # type: ignore[attr-defined]

    await asyncio.to_thread(relay.wait_status, open_again)
    await scene.leave()
