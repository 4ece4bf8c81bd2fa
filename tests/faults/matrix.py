"""The kill matrix: each kind of process, each kind of fault, idle and under load, and what became of it.

`play` does one cell on a relay of its own and returns what was seen; it raises AssertionError for what must not be. The
table of all cells is docs/faults.md (`make faults`).
"""

from __future__ import annotations

import asyncio
import os
import resource
import signal
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

import psutil
import uvloop

from actors.process import EXIT_FAULT
from tests.faults.crowd import Crowd
from tests.faults.launcher import LEAK, RAISE, SAID
from tests.scenarios.scene import until
from tests.support.client import Client
from tests.support.leftovers import GONE_WITHIN_S, assert_gone, descriptors, shared_memory, tree
from tests.support.relay import RelayProcess

PROCESSES: Final = ("main", "system", "supervisor", "registry", "ws", "tcp", "admin", "canary")
VITAL: Final = ("main", "system", "supervisor")
FAULTS: Final = ("SIGKILL", "SIGSEGV", "SIGSTOP", "exception", "out of memory")
LOADS: Final = ("idle", "busy")
ROOM_BYTES: Final = 8 << 20
"""What a process may still grow by when it is to meet the end of memory."""
LISTENERS: Final = (
    'listeners=[{address="/ip4/127.0.0.1/tcp/0/ws", workers=2}, {address="/ip4/127.0.0.1/tcp/0", workers=1}]'
)
SETTINGS: Final = (
    LISTENERS, "limits.circuit_bytes=0", "limits.circuit_duration_s=0", "limits.max_circuits=1000",
    "limits.max_connections_per_ip=1000", "supervision.audit_interval_s=0.5",
)  # fmt: skip
LINKS: Final = 4
"""Sockets between a worker and the two others: one each way, from the first circuit on."""
NEVER_AGAIN_S: Final = 86_400
HELD: Final = ("connections", "reservations", "circuits")


@dataclass(frozen=True)
class Cell:
    """One case."""

    process: str
    fault: str
    load: str

    def __str__(self) -> str:
        return f"{self.process}-{self.fault}-{self.load}".replace(" ", "-")


@dataclass(frozen=True)
class Scale:
    """How much of everything."""

    peers: int = 200
    circuits: int = 40
    stop_s: float = 30.0
    hang_timeout_s: float = 10.0


@dataclass
class Seen:
    """What a cell has shown."""

    outcome: str = ""
    after_s: float | None = None
    """From the fault to a successor that serves, or to the end of the last process."""
    hit_peers: int = 0
    hit_circuits: int = 0
    circuits: int = 0
    """That were not hit."""
    compared_bytes: int = 0
    left: dict[str, dict[str, int]] = field(default_factory=dict)
    """Descriptors that were open at the last look and should not have been."""


def play(cell: Cell, scale: Scale) -> Seen:
    """One cell, from the start of a relay to its end with nothing left."""
    canary = (f"canary.interval_s={NEVER_AGAIN_S}",) if cell.process == "canary" else ()
    limits = (f"supervision.hang_timeout_s={scale.hang_timeout_s}",)
    relay = RelayProcess(*SETTINGS, *limits, *canary, listeners=(), command=("-m", "tests.faults.launcher", "run"))
    with relay:
        shared = shared_memory(tree(relay.pid))
        seen = uvloop.run(_Play(cell, scale, relay).run())
        if relay.process.poll() is None:
            pids = tree(relay.pid)
            shared |= shared_memory(pids)
            assert relay.stop() == 0
            assert_gone(pids)
        if relay.process.returncode >= 0:  # what a killed main leaves is removed by the next start
            assert not [*relay.directory.glob("frost-relay-*")], "the runtime directory is left"
            assert not relay.control_socket.exists(), "the control socket is left"
    assert not [path for path in shared if path.exists()], "shared memory is left"
    return seen


class _Play:
    """A cell under way."""

    def __init__(self, cell: Cell, scale: Scale, relay: RelayProcess) -> None:
        self._cell = cell
        self._scale = scale
        self._relay = relay
        self._seen = Seen()
        busy = cell.load == "busy"
        self._crowd = Crowd(relay, scale.peers if busy else 0, scale.circuits if busy else 0)

    async def run(self) -> Seen:
        relay, seen = self._relay, self._seen
        if self._cell.process == "canary":  # its first check comes at its start, and is a peer
            await self._status(lambda now: now["canary"] is not None and now["canary"]["runs"] > 0, 60)
        before = await self._holding(0, 0)
        open_before = {each["name"]: (each["pid"], descriptors(each["pid"])) for each in before["workers"]}
        await self._crowd.enter()
        slot = next(each for each in before["workers"] if each["name"].partition("-")[0] == self._cell.process)
        hit = self._crowd.sitting_in(slot["pid"]) if self._ends_the_process() else set()
        seen.hit_peers = len(hit)
        seen.hit_circuits = sum(pair.ends_in(hit) for pair in self._crowd.pairs)
        seen.circuits = len(self._crowd.pairs) - seen.hit_circuits
        await self._crowd.moved(2, set())
        began_s = time.monotonic()
        self._strike(slot["pid"])
        if self._cell.process in VITAL and self._ends_the_process():
            await self._end_of_the_relay([each["pid"] for each in before["workers"]], began_s)
            await self._crowd.leave()
            return seen
        await self._outcome(slot, began_s)
        await self._afterwards(hit)
        await self._crowd.leave()
        await self._holding(0, 0)
        await self._no_descriptor_more(open_before)
        assert relay.process.poll() is None
        return seen

    def _ends_the_process(self) -> bool:
        """Whether the fault is one that ends this process."""
        if self._cell.fault == "SIGSTOP":  # main has nobody above it, and system nothing to do
            return self._cell.process not in {"main", "system"}
        return self._cell.fault != "exception" or self._cell.process in VITAL

    def _strike(self, pid: int) -> None:
        match self._cell.fault:
            case "exception":
                os.kill(pid, RAISE)
            case "out of memory":
                room = psutil.Process(pid).memory_info().vms + ROOM_BYTES
                resource.prlimit(pid, resource.RLIMIT_AS, (room, room))
                os.kill(pid, LEAK)
            case name:
                os.kill(pid, signal.Signals[name])

    async def _outcome(self, slot: dict[str, Any], began_s: float) -> None:
        """What became of the process."""
        seen, fault = self._seen, self._cell.fault
        name, pid = slot["name"], slot["pid"]
        if not self._ends_the_process():
            if fault == "SIGSTOP":
                await asyncio.sleep(self._scale.stop_s)
                os.kill(pid, signal.SIGCONT)
                seen.outcome = "goes on when it is woken"
            else:
                await self._log(SAID)
                await self._counted()
                seen.outcome = "logged, counted, goes on"
            now = await self._status(lambda now: _row(now, name)["state"] == "ready", 30)
            assert {each["name"]: each["pid"] for each in now["workers"]}[name] == pid
            assert _row(now, name)["restarts"] == 0
            return

        def serves(now: dict[str, Any]) -> bool:
            return _row(now, name)["pid"] not in {0, pid} and _row(now, name)["state"] == "ready"

        now = await self._status(serves, 60)
        seen.after_s = time.monotonic() - began_s
        how = _row(now, name)["last_end"]["how"]
        assert how == {"SIGSTOP": "SIGKILL", "out of memory": f"exit code {EXIT_FAULT}"}.get(fault, fault)
        seen.outcome = f"replaced ({how})"
        assert sum(each["restarts"] for each in now["workers"]) == 1, "only this one was replaced"

    async def _end_of_the_relay(self, pids: list[int], began_s: float) -> None:
        """A process is gone that the relay cannot live without: so is all of it, soon."""
        limit_s = GONE_WITHIN_S + (3 * self._scale.hang_timeout_s if self._cell.fault == "SIGSTOP" else 0)
        code = await asyncio.to_thread(self._relay.process.wait, limit_s)
        await asyncio.to_thread(assert_gone, pids)
        self._seen.after_s = time.monotonic() - began_s
        self._seen.outcome = f"the relay ends ({signal.Signals(-code).name if code < 0 else f'exit code {code}'})"
        self._seen.hit_peers, self._seen.hit_circuits = len(self._crowd.clients), len(self._crowd.pairs)
        self._seen.circuits = 0
        assert code == 1 or (self._cell.process == "main" and code < 0), code
        told = {"exception": SAID, "out of memory": "MemoryError"}.get(self._cell.fault, "")
        await self._log(told)

    async def _afterwards(self, hit: set[Client]) -> None:
        """Nobody else has lost anything, and registry and workers agree."""
        crowd = self._crowd
        await crowd.moved(5, hit)
        self._seen.compared_bytes = await crowd.finish(hit)
        lost = {client for client in crowd.lost if client not in hit}
        assert not lost, f"{len(lost)} others have lost their connections"
        assert hit <= crowd.lost, "who sat in the process is told by the end of his connection"
        await self._holding(len(crowd.clients) - len(hit), self._seen.circuits)

    async def _holding(self, peers: int, circuits: int) -> dict[str, Any]:
        """Wait until workers and registry hold just that, and an audit from then on has found no difference."""
        counts = {"connections": peers, "reservations": peers, "circuits": circuits}
        begin_s = time.monotonic()

        def clean(now: dict[str, Any]) -> bool:
            registry, audit = _row(now, "registry"), now["audit"]
            agreed = all(now[name] == registry[name] == counts[name] for name in HELD)
            fresh = audit["age_s"] is not None and audit["age_s"] < time.monotonic() - begin_s
            return agreed and fresh and not audit["differences"]

        now = await self._status(clean, 30)
        assert now["audit"]["mended"] == 0
        return now

    async def _status(self, wanted: Callable[[dict[str, Any]], bool], limit_s: float) -> dict[str, Any]:
        return await asyncio.to_thread(self._relay.wait_status, wanted, limit_s)

    async def _log(self, text: str) -> None:
        async def said() -> bool:
            return text in self._relay.stderr

        await until(said, text)

    async def _counted(self) -> None:
        async def counted() -> bool:
            _, text = await asyncio.to_thread(self._relay.get, "/metrics")
            return "frost_relay_faults_total 1.0" in text

        await until(counted, "the fault in the metrics")

    async def _no_descriptor_more(self, before: dict[str, tuple[int, Counter[str]]]) -> None:
        """Who was there before the fault has no descriptor more than then, but links to the other workers."""

        async def none_left() -> bool:
            more = {}
            for each in (await self._status(lambda _: True, 10))["workers"]:
                pid, had = before[each["name"]]
                links = Counter(socket=LINKS if each["role"] == "listener" else 0)
                if each["pid"] == pid:
                    more[each["name"]] = descriptors(pid) - had - links
            self._seen.left = {name: dict(kinds) for name, kinds in more.items() if kinds}
            return not self._seen.left

        await until(none_left, "descriptors are given back")


def _row(status: dict[str, Any], name: str) -> dict[str, Any]:
    row: dict[str, Any] = next(each for each in status["workers"] if each["name"] == name)
    return row
