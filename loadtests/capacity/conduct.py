"""A run: the relay on one core, crowds on the others, and what is read while they grow, idle, renew and come back.

Nothing is judged here. CPU and memory are those of the relay's whole tree, read from outside.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

from loadtests import measures
from loadtests.capacity.crowds import Crowds
from loadtests.capacity.results import RENEW_WITHIN_S, Growth, Renewals, Result, Return, Sizes
from loadtests.doors import Door
from loadtests.meter import Meter
from loadtests.returning import ReturningRelay
from tests.support.ports import free_port

SETTLE_S: Final = 0.5
"""What was asked for last has been done, and identify as well; the keep-alive of this time is taken off again."""
SESSIONS: Final = 200
PEERS_A_SESSION: Final = 10
WARM_UP_SESSIONS: Final = 12
# The handshakes of a storm take the clients' time here, and are not to be ended for that.
PATIENT: Final = ("limits.max_pending_handshakes=100000", "limits.handshake_timeout_s=120")
_NETSTAT: Final = Path("/proc/net/netstat")


class Conductor:
    """One run of so many peers. `say` gets a line for each part that is done."""

    def __init__(self, sizes: Sizes, idle_s: float, home: Path, say: Callable[[str], None]) -> None:
        self._sizes = sizes
        self._idle_s = idle_s
        self._home = home
        self._say = say
        self._port = free_port()
        self._relay_core, self._client_cores = cores()

    async def run(self) -> Result:
        """All parts, one after the other."""
        with ExitStack() as first:
            relay = self._start(first)
            async with Crowds(relay.address("/ws/"), self._sizes.peers, self._client_cores) as crowds:
                await measures.sessions(relay.door(), relay.meter, WARM_UP_SESSIONS)
                empty_bytes = relay.meter.memory_bytes()
                growth, idle_share, session_s = await self._grow(relay, crowds)
                renewals = await self._renew(relay.meter, crowds)
                await crowds.shrink_to(self._sizes.storm)
                with ExitStack() as second:
                    returned = await self._restart(first, second, crowds)
        return Result(self._sizes, empty_bytes, tuple(growth), idle_share, self._idle_s, session_s, renewals, returned)

    def _start(self, stack: ExitStack) -> ReturningRelay:
        with on_cores(self._relay_core):
            relay = stack.enter_context(ReturningRelay(self._home, self._port, self._sizes.workers, PATIENT))
        self._say(f"the relay serves on {relay.addresses[0]}, workers: {self._sizes.workers}")
        return relay

    async def _grow(self, relay: ReturningRelay, crowds: Crowds) -> tuple[list[Growth], float, float]:
        growth, idle_share, session_s = [], 0.0, 0.0
        meter = relay.meter
        for peers in self._sizes.steps():
            before, begin, cpu_s = crowds.here, time.monotonic(), meter.cpu_s()
            await crowds.grow_to(peers)
            await asyncio.sleep(SETTLE_S)
            cpu_s, wall_s = meter.cpu_s() - cpu_s, time.monotonic() - begin
            growth.append(Growth(before, peers, cpu_s, wall_s, meter.memory_bytes()))
            self._say(f"{peers} peers after {wall_s:.0f} s more, {growth[-1].memory_bytes / 1e6:.0f} MB")
            if peers == self._sizes.idle:
                idle_share = await self._idle(meter)
                session_s = await self._sessions(relay.door(), meter, idle_share)
        return growth, idle_share, session_s

    async def _idle(self, meter: Meter) -> float:
        begin, cpu_s = time.monotonic(), meter.cpu_s()
        await asyncio.sleep(self._idle_s)
        share = (meter.cpu_s() - cpu_s) / (time.monotonic() - begin)
        self._say(f"idle for {self._idle_s:.0f} s: {share:.2%} of a core")
        return share

    async def _sessions(self, door: Door, meter: Meter, idle_share: float) -> float:
        """CPU of one session, without the keep-alive of those who are there."""
        count = min(SESSIONS, self._sizes.peers // PEERS_A_SESSION)
        begin, cpu_s = time.monotonic(), meter.cpu_s()
        await measures.in_turn(count, lambda: measures.session(door))
        await asyncio.sleep(SETTLE_S)
        cpu_s = meter.cpu_s() - cpu_s - idle_share * (time.monotonic() - begin)
        self._say(f"a session takes {cpu_s / count * 1e3:.2f} ms")
        return cpu_s / count

    async def _renew(self, meter: Meter, crowds: Crowds) -> Renewals:
        before_bytes, cpu_s = meter.memory_bytes(), meter.cpu_s()
        answers = await crowds.renew(self._sizes.storm, RENEW_WITHIN_S)
        await asyncio.sleep(SETTLE_S)
        waits_s = sorted(wait for each in answers for wait in each["waited_s"])
        found = Renewals(
            peers=self._sizes.storm,
            answered_s=max(each["answered_s"] for each in answers),
            waits_s=(statistics.median(waits_s), waits_s[len(waits_s) * 99 // 100], waits_s[-1]),
            refused=sum(each["refused"] for each in answers),
            cpu_s=meter.cpu_s() - cpu_s,
            memory_before_bytes=before_bytes,
            memory_after_bytes=meter.memory_bytes(),
        )
        self._say(f"{found.peers} renewed, the last after {found.answered_s:.1f} s")
        return found

    async def _restart(self, first: ExitStack, second: ExitStack, crowds: Crowds) -> Return:
        """Stop the relay and start it again; `first` and `second` are the blocks that the two belong to."""
        overflows = listen_overflows()
        await asyncio.to_thread(first.close)
        meter = self._start(second).meter
        cpu_s = meter.cpu_s()
        answers = await crowds.come_back()
        cpu_s = meter.cpu_s() - cpu_s
        await asyncio.sleep(SETTLE_S)
        found = Return(
            peers=self._sizes.storm,
            back=crowds.here,
            back_s=max(each["back_s"] for each in answers),
            tries=sum(each["tries"] for each in answers),
            cpu_s=cpu_s,
            listen_overflows=listen_overflows() - overflows,
            memory_bytes=meter.memory_bytes(),
        )
        self._say(f"{found.back} are back after {found.back_s:.1f} s, for {found.cpu_s:.1f} s of CPU")
        return found


def cores() -> tuple[set[int], set[int]]:
    """The relay's core, and the clients': the others, or the same where there is only one."""
    first, *others = sorted(os.sched_getaffinity(0))
    return {first}, set(others) or {first}


@contextmanager
def on_cores(wanted: set[int]) -> Iterator[None]:
    """Whatever is started in the block stays on these."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, wanted)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def listen_overflows() -> int:
    """How often a connection was dropped because a listening socket had no room, since the machine is up."""
    names, values = (line.split() for line in _NETSTAT.read_text().splitlines() if line.startswith("TcpExt:"))
    return int(dict(zip(names, values, strict=True))["ListenOverflows"])
