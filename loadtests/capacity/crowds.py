"""All crowds together: as many processes as the peers need, told at the same time.

A process may hold some 20,000 descriptors here, and one process for all would be slower than the relay.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from types import TracebackType
from typing import Any, Final, Self

from loadtests.capacity.results import PEERS_A_CROWD
from tests.support.builds import ROOT

_ANSWER_BYTES: Final = 16 * 1024 * 1024


class CrowdError(Exception):
    """A crowd has ended, or did not do all that it was told."""


class Crowds:
    """The peers of a run; a context manager that ends them. `cores` are where they run."""

    def __init__(self, address: str, peers: int, cores: set[int]) -> None:
        self._address = address
        self._number = -(-peers // PEERS_A_CROWD)
        self._cores = cores
        self._processes: list[asyncio.subprocess.Process] = []
        self._here = [0] * self._number

    async def __aenter__(self) -> Self:
        for number in range(self._number):
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "loadtests.capacity.crowd",
                self._address,
                str(number),
                cwd=ROOT,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                limit=_ANSWER_BYTES,
            )
            self._processes.append(process)
            os.sched_setaffinity(process.pid, self._cores)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in self._processes:
            if process.returncode is None:
                process.kill()
            await process.wait()

    @property
    def here(self) -> int:
        """How many peers there are."""
        return sum(self._here)

    async def grow_to(self, peers: int) -> None:
        """Enter until there are so many."""
        missing = [share - here for share, here in zip(shares(peers, self._number), self._here, strict=True)]
        answers = await self._tell([{"do": "enter", "count": count} for count in missing])
        self._here = [here + each["entered"] for here, each in zip(self._here, answers, strict=True)]

    async def shrink_to(self, peers: int) -> None:
        """Leave until there are so many."""
        surplus = [here - share for share, here in zip(shares(peers, self._number), self._here, strict=True)]
        answers = await self._tell([{"do": "leave", "count": count} for count in surplus])
        self._here = [here - each["left"] for here, each in zip(self._here, answers, strict=True)]

    async def renew(self, peers: int, within_s: float) -> list[dict[str, Any]]:
        """So many renew within the time."""
        asked = [{"do": "renew", "count": share, "within_s": within_s} for share in shares(peers, self._number)]
        return await self._tell(asked)

    async def come_back(self) -> list[dict[str, Any]]:
        """The relay was restarted: all come back."""
        answers = await self._tell([{"do": "come_back"}] * self._number)
        self._here = [each["back"] for each in answers]
        return answers

    async def _tell(self, lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return await asyncio.gather(*map(_told, self._processes, lines))


async def _told(process: asyncio.subprocess.Process, line: dict[str, Any]) -> dict[str, Any]:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(json.dumps(line).encode() + b"\n")
    await process.stdin.drain()
    answer = await process.stdout.readline()
    if not answer:
        raise CrowdError(f"a crowd ended when it was told to {line['do']}")
    told: dict[str, Any] = json.loads(answer)
    return told


def shares(total: int, parts: int) -> list[int]:
    """As even as whole numbers can be, and together the total."""
    return [total // parts + (index < total % parts) for index in range(parts)]
