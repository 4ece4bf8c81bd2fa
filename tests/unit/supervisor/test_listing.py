"""Requests that cannot be used, and how rows are shown."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from actors.messages import Slot
from actors.query_protocol import CircuitRow, PeerRow
from supervisor.admin.http import Answer, Request
from supervisor.admin.listing import MOST_ROWS, Listing
from supervisor.admin.workers import Cursor, Page, Part
from transports.identity import HostKey, peer_id_text

PEER = HostKey.from_seed(b"a" * 32).peer_id
OTHER = HostKey.from_seed(b"b" * 32).peer_id
SLOT = Slot(4, "ws-1/0", "listener")


class Workers:
    """Answers with rows of the test's; keeps what it was asked."""

    def __init__(self, *rows: Any) -> None:
        self.rows = rows
        self.part: Part | None = None
        self.next: Cursor | None = None
        self.ended: list[bytes] = []

    async def peers(self, part: Part, peer: bytes, unreserved: bool, show: Any) -> Page:
        self.part = part
        return Page([row for row in (show(SLOT, each) for each in self.rows) if row], self.next, ["tcp-2/0"])

    async def circuits(self, part: Part, show: Any) -> Page:
        return await self.peers(part, b"", False, show)

    async def end_peer(self, peer: bytes) -> tuple[int, list[str]]:
        self.ended.append(peer)
        return 2, []


def ask(workers: Workers, name: str, query: dict[str, str] | None = None, body: bytes = b"") -> Answer:
    listing = Listing(workers, clock=lambda: 1000.0, time_of_day=lambda: 1_000_000_000.0)  # type: ignore[arg-type]
    answer: Answer = asyncio.run(getattr(listing, name)(Request(f"/{name}", query or {}, body)))
    return answer


def peer_row(ip: str = "192.0.2.7", transport: str = "ws", until_s: float = 1060.0) -> PeerRow:
    return PeerRow(PEER, ip, 99, transport, "agent", 940.0, until_s, 1)


def test_a_peer_is_shown_with_moments_of_the_day() -> None:
    answer = json.loads(ask(Workers(peer_row(), peer_row("2001:db8::1", until_s=0.0)), "peers").body)
    assert answer["peers"][0] == {
        "peer": peer_id_text(PEER), "address": "192.0.2.7:99", "transport": "ws", "worker": "ws-1/0", "agent": "agent",
        "since": "2001-09-09T01:45:40Z", "until": "2001-09-09T01:47:40Z", "circuits": 1,
    }  # fmt: skip
    assert (answer["peers"][1]["address"], answer["peers"][1]["until"]) == ("[2001:db8::1]:99", None)
    assert (answer["next"], answer["missing"]) == (None, ["tcp-2/0"])


@pytest.mark.parametrize(
    ("query", "shown"),
    [({"ip": "192.0.2.0/24"}, 1), ({"ip": "192.0.2.7"}, 1), ({"ip": "192.0.2.8"}, 0), ({"ip": "::/0"}, 0),
     ({"transport": "ws"}, 1), ({"transport": "tcp"}, 0)],
)  # fmt: skip
def test_rows_that_do_not_match_are_left_out(query: dict[str, str], shown: int) -> None:
    assert len(json.loads(ask(Workers(peer_row()), "peers", query).body)["peers"]) == shown


def test_a_circuit_is_found_by_either_end() -> None:
    row = CircuitRow(PEER, OTHER, "tcp-2/0", 940.0, True, 5, 6)
    for asked, shown in ((PEER, 1), (OTHER, 1), (HostKey.from_seed(b"c" * 32).peer_id, 0)):
        answer = json.loads(ask(Workers(row), "circuits", {"peer": peer_id_text(asked)}).body)
        assert len(answer["circuits"]) == shown
    assert json.loads(ask(Workers(row), "circuits").body)["circuits"] == [{
        "source": peer_id_text(PEER), "target": peer_id_text(OTHER), "state": "open", "since": "2001-09-09T01:45:40Z",
        "to_target_bytes": 5, "to_source_bytes": 6, "source_worker": "ws-1/0", "target_worker": "tcp-2/0",
    }]  # fmt: skip


def test_the_next_of_an_answer_is_the_after_of_the_following_request() -> None:
    workers = Workers()
    workers.next = Cursor(4, 77)
    following = json.loads(ask(workers, "peers").body)["next"]
    ask(workers, "peers", {"after": following, "limit": "5", "worker": "ws-1/0"})
    assert workers.part == Part(5, Cursor(4, 77), "ws-1/0")


@pytest.mark.parametrize(
    ("query", "said"),
    [({"peer": "nobody"}, 'peer = "nobody": expected a peer ID'), ({"ip": "1.2.3"}, 'ip = "1.2.3": expected an IP'),
     ({"limit": "0"}, "expected a whole number from 1 to"), ({"limit": str(MOST_ROWS + 1)}, "expected a whole number"),
     ({"limit": "x"}, "expected a whole number"), ({"after": "x"}, "expected the next of an earlier answer")],
)  # fmt: skip
def test_a_parameter_that_cannot_be_used_is_400_and_one_line(query: dict[str, str], said: str) -> None:
    answer = ask(Workers(), "peers", query)
    assert answer.status == 400
    assert said in answer.body.decode()
    assert answer.body.count(b"\n") == 1


def test_a_kick_names_its_peer_in_the_body() -> None:
    workers = Workers()
    answer = ask(workers, "kick", body=json.dumps({"peer": peer_id_text(PEER)}).encode())
    assert json.loads(answer.body) == {"peer": peer_id_text(PEER), "connections": 2, "missing": []}
    assert workers.ended == [PEER]


@pytest.mark.parametrize(
    "body", [b"", b"{}", b"[]", b"no json", b'{"peer": 5}', b'{"peer": "x"}', b'{"peer": null}', b"\xff"]
)
def test_a_kick_of_nobody_is_400_and_ends_nobody(body: bytes) -> None:
    workers = Workers()
    assert ask(workers, "kick", body=body).status == 400
    assert workers.ended == []
