"""Several workers asked as one: real Unix sockets, workers of our own making."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from actors.messages import Slot
from actors.query_protocol import (
    PAGE_ROWS,
    Answer,
    Ended,
    EndPeer,
    ListPeers,
    PeerRow,
    PeersPage,
    Question,
    question_decoder,
    socket_path,
)
from actors.registry_protocol import encode_frames
from supervisor.admin import workers
from supervisor.admin.workers import BEGINNING, Cursor, Page, Part, Workers

SLOTS = (
    Slot(3, "registry", "registry"),
    Slot(4, "ws-1/0", "listener"),
    Slot(5, "ws-1/1", "listener"),
    Slot(6, "tcp-2/0", "listener"),
    Slot(7, "admin", "admin"),
)
Say = Callable[[Question], Answer | None]


def holding(count: int) -> Say:
    """A worker with this many peers, numbered from 1."""

    def say(question: Question) -> Answer:
        assert isinstance(question, ListPeers)
        last = min(count, question.after + min(question.at_most, PAGE_ROWS))
        rows = [PeerRow(b"k", "192.0.2.1", each, "ws", "", 0.0, 1.0, 0) for each in range(question.after + 1, last + 1)]
        return PeersPage(rows, last if last < count else 0)

    return say


def silent(_question: Question) -> None:
    return None


class Connection(asyncio.Protocol):
    def __init__(self, say: Say) -> None:
        self.say = say
        self.decoder = question_decoder()

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        for question in self.decoder.feed(data):
            said = self.say(question)
            if said is not None:
                self.transport.write(encode_frames((said,)))


def play(tmp_path: Path, say: dict[int, Say], ask: Callable[[Workers], Coroutine[Any, Any, Any]]) -> Any:
    """Ask the workers that there are; a slot that is not in `say` has no process."""

    async def run() -> Any:
        loop = asyncio.get_running_loop()
        servers = [
            await loop.create_unix_server(lambda each=each: Connection(each), socket_path(str(tmp_path), index))  # type: ignore[misc]
            for index, each in say.items()
        ]
        try:
            return await ask(Workers(SLOTS, str(tmp_path)))
        finally:
            for server in servers:
                server.close()

    return asyncio.run(run())


def show(slot: Slot, row: PeerRow) -> dict[str, Any] | None:
    return {"worker": slot.name, "number": row.port}


def listing(limit: int, start: Cursor = BEGINNING, worker: str = "") -> Callable[[Workers], Coroutine[Any, Any, Page]]:
    return lambda asked: asked.peers(Part(limit, start, worker), b"", False, show)


def test_the_pages_of_all_workers_together_hold_each_row_once(tmp_path: Path) -> None:
    say = {4: holding(700), 5: holding(0), 6: holding(3)}
    found, start, pages = [], BEGINNING, 0
    while True:
        page = play(tmp_path, say, listing(300, start))
        found += page.rows
        pages += 1
        if page.next is None:
            break
        start = Cursor.parse(str(page.next))
        for index in say:
            Path(socket_path(str(tmp_path), index)).unlink(missing_ok=True)
    expected = [("ws-1/0", each) for each in range(1, 701)] + [("tcp-2/0", each) for each in range(1, 4)]
    assert [(row["worker"], row["number"]) for row in found] == expected
    assert pages == 3


def test_one_worker_alone_can_be_asked(tmp_path: Path) -> None:
    page = play(tmp_path, {4: holding(2), 5: holding(2), 6: holding(2)}, listing(10, worker="ws-1/1"))
    assert {row["worker"] for row in page.rows} == {"ws-1/1"}


def test_a_worker_that_is_not_there_is_named_and_the_others_are_shown(tmp_path: Path) -> None:
    page = play(tmp_path, {4: holding(1), 6: holding(1)}, listing(10))
    assert [row["worker"] for row in page.rows] == ["ws-1/0", "tcp-2/0"]
    assert (page.missing, page.next) == (["ws-1/1"], None)


def test_a_worker_that_hangs_is_given_up_and_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "ANSWER_S", 0.05)
    page = play(tmp_path, {4: silent, 5: holding(1), 6: holding(1)}, listing(10))
    assert page.missing == ["ws-1/0"]
    assert len(page.rows) == 2


def test_an_answer_to_another_question_is_none(tmp_path: Path) -> None:
    page = play(tmp_path, {4: lambda _: Ended(1), 5: holding(1), 6: holding(0)}, listing(10))
    assert page.missing == ["ws-1/0"]


def test_a_page_that_takes_long_is_given_out_with_the_place_where_it_goes_on(tmp_path: Path) -> None:
    times = iter([0.0, 0.0, 9.0])

    async def ask(_: Workers) -> Page:
        slow = Workers(SLOTS, str(tmp_path), clock=lambda: next(times))
        return await slow.peers(Part(5000), b"", False, show)

    page = play(tmp_path, {4: holding(5000), 5: holding(1), 6: holding(1)}, ask)
    assert (len(page.rows), page.next) == (PAGE_ROWS, Cursor(4, PAGE_ROWS))


def test_all_workers_are_asked_to_end_a_peer(tmp_path: Path) -> None:
    asked: list[Question] = []

    def end(count: int) -> Say:
        def say(question: Question) -> Answer:
            asked.append(question)
            return Ended(count)

        return say

    ended = play(tmp_path, {4: end(2), 5: end(0)}, lambda each: each.end_peer(b"peer"))
    assert ended == (2, ["tcp-2/0"])
    assert asked == [EndPeer(b"peer")] * 2


@pytest.mark.parametrize("text", ["", "1", "1:", ":1", "a:b", "-1:0", "0:-1", f"0:{1 << 63}", "1:2:3"])
def test_what_no_page_has_given_out_is_no_cursor(text: str) -> None:
    with pytest.raises(ValueError, match=r"^.*$"):
        Cursor.parse(text)
