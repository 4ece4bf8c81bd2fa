"""The admin's end of an operator's questions: asks each worker for its part, and puts the parts together.

The registry is not asked: what it knows the workers know too, and granting goes on undisturbed. A worker that does not
answer in time is named as missing; the others are shown all the same. It must never hold more than one page.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple, TypeVar

from actors import log
from actors import query_protocol as query
from actors.messages import Slot
from actors.registry_protocol import RegistryLinkError, encode_frames

ANSWER_S: Final = 2.0
"""How long a worker may take for one answer."""
PAGE_S: Final = 4.0
"""After which a page is given out as it is; what comes behind it is the next page."""
_READ_BYTES: Final = 256 * 1024
_MOST: Final = 1 << 63  # what msgpack can carry

_logger = log.get_logger("admin")
A = TypeVar("A", query.PeersPage, query.CircuitsPage, query.Ended)
L = TypeVar("L", query.PeersPage, query.CircuitsPage)


class Cursor(NamedTuple):
    """Where a page begins: behind this number in the worker of this slot. As text `5:1234`, for the next question."""

    slot_index: int = 0
    after: int = 0

    def __str__(self) -> str:
        return f"{self.slot_index}:{self.after}"

    @classmethod
    def parse(cls, text: str) -> Cursor:
        """ValueError for what no page can have given out."""
        slot_index, _, after = text.partition(":")
        cursor = cls(int(slot_index), int(after))
        if not (0 <= cursor.slot_index < _MOST and 0 <= cursor.after < _MOST):
            raise ValueError(text)
        return cursor


BEGINNING: Final = Cursor()


@dataclass(slots=True)
class Page:
    """Rows as they are shown, what to ask behind (None: that was all), and who did not answer."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    next: Cursor | None = None
    missing: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Part:
    """Which part of a list is wanted: so many rows from `start` on, of one worker or of all."""

    limit: int
    start: Cursor = BEGINNING
    worker: str = ""


class Workers:
    """All listener processes, as somebody who asks sees them."""

    def __init__(self, slots: Iterable[Slot], runtime_dir: str, clock: Callable[[], float] = time.monotonic) -> None:
        self.know(slots)
        self._runtime_dir = runtime_dir
        self._clock = clock

    def know(self, slots: Iterable[Slot]) -> None:
        """These are there now."""
        self._slots: Sequence[Slot] = [slot for slot in slots if slot.role == "listener"]

    async def peers(
        self, part: Part, peer: bytes, unreserved: bool, show: Callable[[Slot, query.PeerRow], dict[str, Any] | None]
    ) -> Page:
        """Connections, of `peer` alone unless it is empty. `show` makes a row of one, or None for none."""
        return await self._list(
            part, query.PeersPage, lambda after, most: query.ListPeers(after, most, peer, unreserved), show
        )

    async def circuits(self, part: Part, show: Callable[[Slot, query.CircuitRow], dict[str, Any] | None]) -> Page:
        """Circuits, each from the worker of its source. `show` as above."""
        return await self._list(part, query.CircuitsPage, query.ListCircuits, show)

    async def end_peer(self, peer: bytes) -> tuple[int, list[str]]:
        """End all connections of a peer: how many, and which workers did not answer."""
        answers = await asyncio.gather(*(self._ask(slot, query.EndPeer(peer), query.Ended) for slot in self._slots))
        missing = [slot.name for slot, answer in zip(self._slots, answers, strict=True) if answer is None]
        return sum(answer.connections for answer in answers if answer is not None), missing

    async def _list(
        self,
        part: Part,
        kind: type[L],
        question: Callable[[int, int], query.Question],
        show: Callable[[Slot, Any], dict[str, Any] | None],
    ) -> Page:
        """Worker by worker, page by page, until there are enough rows or it has taken long enough."""
        page, until_s = Page(), self._clock() + PAGE_S
        for slot in self._slots:
            if slot.index < part.start.slot_index or (part.worker and slot.name != part.worker):
                continue
            after: int | None = part.start.after if slot.index == part.start.slot_index else 0
            while after is not None:
                if len(page.rows) >= part.limit or self._clock() >= until_s:
                    page.next = Cursor(slot.index, after)
                    return page
                answer = await self._ask(slot, question(after, part.limit - len(page.rows)), kind)
                if answer is None:
                    page.missing.append(slot.name)
                    break
                page.rows += [row for row in (show(slot, each) for each in answer.rows) if row is not None]
                after = answer.next or None
        return page

    async def _ask(self, slot: Slot, question: query.Question, kind: type[A]) -> A | None:
        """The answer of one worker; None when it gave none in time, or one to another question."""
        try:
            async with asyncio.timeout(ANSWER_S):
                answer = await _exchange(query.socket_path(self._runtime_dir, slot.index), question)
        except (OSError, RegistryLinkError) as error:  # a TimeoutError is an OSError
            _logger.info("worker does not answer", worker=slot.name, error=repr(error))
            return None
        return answer if isinstance(answer, kind) else None


async def _exchange(path: str, question: query.Question) -> query.Answer:
    """One question, one answer, on a connection of their own."""
    decoder = query.answer_decoder()
    reader, writer = await asyncio.open_unix_connection(path)
    try:
        writer.write(encode_frames((question,)))
        while data := await reader.read(_READ_BYTES):
            for answer in decoder.feed(data):
                return answer
        raise ConnectionResetError("closed without an answer")
    finally:
        writer.close()
