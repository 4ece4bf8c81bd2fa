"""What a worker answers an operator, page by page, without a socket but where the socket is what is tested."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from actors.limits import Reason
from actors.query_protocol import (
    END,
    PAGE_ROWS,
    CircuitsPage,
    Ended,
    EndPeer,
    ListCircuits,
    ListPeers,
    PeersPage,
    answer_decoder,
    question_decoder,
)
from actors.query_server import EXAMINED, OwnedCircuit, QueryServer, answer
from actors.registry_protocol import MAX_FRAME_BYTES, HeldCircuit, encode_frames


@dataclass
class Circuits:
    granted: dict[int, OwnedCircuit]
    running: dict[int, Any]


class Host:
    """A worker's tables."""

    def __init__(self) -> None:
        self.peers: dict[int, Any] = {}
        self.circuits = Circuits({}, {})
        self.ended: list[tuple[int, Reason]] = []

    def add(self, number: int, key: bytes, until_s: float = 99.0, closing: bool = False) -> None:
        self.peers[number] = SimpleNamespace(
            id=number, key=key, ip="192.0.2.1", port=number, transport="ws", agent="a", since_s=1.0,
            reserved_until_s=until_s, connection=SimpleNamespace(session=None), wire=SimpleNamespace(closing=closing),
        )  # fmt: skip

    def end_peer(self, peer: Any, reason: Reason) -> None:
        self.ended.append((peer.id, reason))


def peers(host: Host, **asked: Any) -> PeersPage:
    page = answer(host, ListPeers(**asked))
    assert isinstance(page, PeersPage)
    return page


def pages(host: Host, **asked: Any) -> Iterator[PeersPage]:
    after = 0
    while True:
        page = peers(host, after=after, **asked)
        yield page
        after = page.next
        if after == END:
            return


def test_an_empty_worker_has_one_empty_page() -> None:
    assert peers(Host()) == PeersPage([], END)
    assert answer(Host(), ListCircuits()) == CircuitsPage([], END)


@pytest.mark.parametrize("count", [1, PAGE_ROWS - 1, PAGE_ROWS, PAGE_ROWS + 1, 3 * PAGE_ROWS])
def test_the_pages_together_hold_each_peer_once(count: int) -> None:
    host = Host()
    for number in range(1, count + 1):
        host.add(number * 7, b"%d" % number)
    found = list(pages(host))
    assert [row.port for page in found for row in page.rows] == list(host.peers)
    assert max(len(page.rows) for page in found) <= PAGE_ROWS
    assert len(found) == -(-count // PAGE_ROWS)


def test_a_page_is_no_longer_than_it_was_asked_to_be() -> None:
    host = Host()
    for number in range(1, 6):
        host.add(number, b"%d" % number)
    assert [len(page.rows) for page in pages(host, at_most=2)] == [2, 2, 1]
    assert [len(page.rows) for page in pages(host, at_most=10**6)] == [5]


def test_a_peer_that_leaves_between_two_pages_is_not_missed_for_another() -> None:
    host = Host()
    for number in range(1, 6):
        host.add(number, b"%d" % number)
    first = peers(host, at_most=2)
    del host.peers[2]
    del host.peers[3]
    assert [row.port for row in peers(host, after=first.next, at_most=9).rows] == [4, 5]


def test_only_reserved_peers_are_listed_unless_all_are_asked_for() -> None:
    host = Host()
    host.add(1, b"reserved")
    host.add(2, b"connected", until_s=0.0)
    host.add(3, b"", until_s=0.0)  # shaking hands: nobody yet
    assert [row.peer for row in peers(host).rows] == [b"reserved"]
    assert [row.peer for row in peers(host, unreserved=True).rows] == [b"reserved", b"connected"]


def test_a_rare_peer_is_found_without_looking_at_everybody_at_once() -> None:
    host = Host()
    for number in range(1, 2 * EXAMINED + 2):
        host.add(number, b"other")
    host.add(2 * EXAMINED + 2, b"wanted")
    found = list(pages(host, peer=b"wanted"))
    assert [len(page.rows) for page in found] == [0, 0, 1]


def test_circuits_are_listed_by_number_whether_open_or_being_called() -> None:
    host = Host()
    for number in (9, 2, 5):
        host.circuits.granted[number] = OwnedCircuit(HeldCircuit(number, b"s%d" % number, b"t", "ip"), "ws-1/1", 3.0)
    host.circuits.running[5] = SimpleNamespace(left=SimpleNamespace(bytes=70), right=SimpleNamespace(bytes=3))
    first = answer(host, ListCircuits(0, 2))
    assert isinstance(first, CircuitsPage)
    assert [(row.source, row.is_open, row.to_target_bytes, row.to_source_bytes) for row in first.rows] == [
        (b"s2", False, 0, 0),
        (b"s5", True, 70, 3),
    ]
    rest = answer(host, ListCircuits(first.next, 2))
    assert isinstance(rest, CircuitsPage)
    assert ([row.source for row in rest.rows], rest.next) == ([b"s9"], END)


def test_all_connections_of_a_peer_are_ended_and_those_that_end_already_are_not_counted() -> None:
    host = Host()
    host.add(1, b"a")
    host.add(2, b"b")
    host.add(3, b"a", until_s=0.0)
    host.add(4, b"a", closing=True)
    assert answer(host, EndPeer(b"a")) == Ended(2)
    assert host.ended == [(1, Reason.KICKED), (3, Reason.KICKED)]
    assert answer(host, EndPeer(b"c")) == Ended(0)


def test_a_whole_page_fits_a_frame_whatever_peers_say() -> None:
    host = Host()
    for number in range(1, PAGE_ROWS + 1):
        host.add(number, b"k" * 42)
        host.peers[number].agent = "\U0001f600" * 128
        host.peers[number].ip = "f" * 45
    assert len(encode_frames((peers(host),))) < MAX_FRAME_BYTES


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "query.sock")


def test_questions_on_one_connection_are_answered_in_order(path: str) -> None:
    async def run() -> list[object]:
        host = Host()
        host.add(1, b"a")
        server = QueryServer(host, asyncio.get_running_loop())
        await server.serve(path)
        reader, writer = await asyncio.open_unix_connection(path)
        writer.write(encode_frames((ListPeers(), EndPeer(b"a"))))
        decoder, answers = answer_decoder(), list[object]()
        while len(answers) < 2:
            answers += decoder.feed(await reader.read(65536))
        server.close()
        assert await reader.read() == b""
        writer.close()
        return answers

    first, second = asyncio.run(run())
    assert isinstance(first, PeersPage)
    assert second == Ended(1)


def test_what_is_no_question_ends_the_connection(path: str, capsys: pytest.CaptureFixture[str]) -> None:
    async def run() -> bytes:
        server = QueryServer(Host(), asyncio.get_running_loop())
        await server.serve(path)
        reader, writer = await asyncio.open_unix_connection(path)
        writer.write(b"\x00\x00\x00\x01\xc1")
        try:
            return await reader.read()
        except ConnectionError:
            return b""
        finally:
            writer.close()
            server.close()

    assert asyncio.run(run()) == b""
    assert "question not understood" in capsys.readouterr().err


def test_questions_survive_the_wire() -> None:
    asked = [ListPeers(3, 4, b"p", True), ListCircuits(5, 6), EndPeer(b"q")]
    assert question_decoder().feed(bytes(encode_frames(asked))) == asked
