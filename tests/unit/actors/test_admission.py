"""The door of a worker: who is ended when too many shake hands, who may come in, and who must go after a reload."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from actors import log
from actors.admission import LEFT_AT_ONCE, Admission
from actors.board import Board
from actors.descriptors import room
from actors.limits import Reason
from actors.messages import Boot, Slot
from actors.rate_table import RateTable
from actors.tokens import Token
from config.rates import Rate
from config.settings import Access, Limits, Listener, Settings

SECRET = "one-that-anna-knows"
ANNA = (Token(name="anna", secret=SECRET),)
SLOTS = (Slot(0, "ws-1/0", "listener", listener_index=0), Slot(1, "ws-1/1", "listener", listener_index=0))


class Wire:
    """What the door sees of a wire, with its peer."""

    def __init__(self, number: int, *, key: bytes = b"") -> None:
        self.closing = False
        self.ended: list[str] = []
        self.owner: Any = SimpleNamespace(id=number, wire=self, ip="", port=0, counted_as="", token="", key=key)

    def abort(self, error: Any) -> None:
        self.closing = True
        self.ended.append(error.reason)


class Door:
    """Two workers' doors that share a board and the rates."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        self.board, self.rates = Board.create(2), RateTable.create()
        self.settings = Settings(**{"limits": Limits(max_pending_handshakes=3), **settings})
        self.boots = [
            Boot(slot, self.settings, str(folder), self.board.fd, self.rates.fd, b"s" * 32, (), SLOTS) for slot in SLOTS
        ]
        rows = [self.board.row(0), self.board.row(1)]
        self.doors = [Admission(boot, self.board, rows) for boot in self.boots]

    def close(self) -> None:
        os.close(self.board.fd)
        os.close(self.rates.fd)


@pytest.fixture
def door(tmp_path: Path) -> Iterator[Door]:
    made = Door(tmp_path)
    yield made
    made.close()


def admit(
    admission: Admission, wire: Wire, ip: str = "192.0.2.1", secret: str = "", now_s: float = 0.0
) -> Reason | None:
    return admission.admit(wire, ip, 1, secret, now_s)  # type: ignore[arg-type]


def wait_for(admission: Admission, *wires: Wire) -> None:
    for wire in wires:
        admission.wait_for(wire)  # type: ignore[arg-type]


def test_the_oldest_of_too_many_gives_its_place_to_the_newcomer(door: Door) -> None:
    one, wires = door.doors[0], [Wire(number) for number in range(5)]
    wait_for(one, *wires)
    assert [wire.ended for wire in wires] == [["pending_handshakes_full"]] * 2 + [[]] * 3
    assert door.board.row(0).pending_handshakes == 3


def test_memory_is_short_when_whoever_watches_it_says_so(door: Door) -> None:
    watcher = Board.create(1).row(0)
    one = Admission(door.boots[0], door.board, [door.board.row(0)], [watcher])
    assert one.shortage() is None
    watcher.sheds = 1
    assert one.shortage() is Reason.MEMORY_SHORT


def test_as_many_come_in_as_there_are_descriptors_for(door: Door) -> None:
    one, row = door.doors[0], door.board.row(0)
    row.connections = room(len(SLOTS))
    assert one.shortage() is None
    row.connections += 1
    assert one.shortage() is Reason.DESCRIPTORS_SHORT


def test_who_has_shaken_hands_or_left_is_none_of_them(door: Door) -> None:
    one, wires = door.doors[0], [Wire(number) for number in range(5)]
    wait_for(one, *wires[:3])
    one.upgraded(wires[0].owner)
    one.left_early(wires[1].owner, unsaid=False)
    wait_for(one, *wires[3:])
    assert not any(wire.ended for wire in wires)
    assert door.board.row(0).pending_handshakes == 3


def test_all_workers_count_together_and_each_gives_up_its_own(door: Door) -> None:
    one, other = door.doors
    wires = [Wire(number) for number in range(3)]
    wait_for(one, *wires)
    first, second = Wire(10), Wire(11)
    wait_for(other, first)  # it has none to give up, so it takes one more
    assert not first.ended
    wait_for(other, second)
    assert first.ended
    assert not any(wire.ended for wire in wires)


def test_one_that_was_refused_at_accept_takes_nobodys_place(door: Door) -> None:
    wires = [Wire(number) for number in range(3)]
    wait_for(door.doors[0], *wires)
    refused = Wire(9)
    refused.closing = True
    wait_for(door.doors[0], refused)
    assert not any(wire.ended for wire in wires)


def test_an_address_is_counted_once_for_each_connection_wherever_it_comes_in(tmp_path: Path) -> None:
    door = Door(tmp_path, limits=Limits(connection_rate_per_ip=Rate(2, 60.0)))
    one, other = door.doors
    wire = Wire(1)
    assert one.locate(wire, "2001:db8::1", 1, 0.0) is None  # type: ignore[arg-type]
    assert admit(one, wire, "2001:db8::1") is None
    assert wire.owner.counted_as == "2001:db8::/64"
    assert admit(other, Wire(2), "2001:db8::2") is None
    assert admit(other, Wire(3), "2001:db8::3") is Reason.CONNECTION_RATE_PER_IP
    assert admit(other, Wire(4), "2001:db8:0:1::3") is None
    door.close()


def test_a_token_is_asked_for_after_the_address_and_taken_by_its_secret(tmp_path: Path) -> None:
    door = Door(tmp_path, access=Access(deny_subnets=("203.0.113.0/24",)))
    admission = door.doors[0]
    admission.live_by(replace(door.boots[0], tokens=ANNA))
    assert admit(admission, Wire(1), "203.0.113.1", SECRET) is Reason.SUBNET_DENIED
    assert admit(admission, Wire(2)) is Reason.TOKEN_MISSING
    assert admit(admission, Wire(3), secret="another-secret-16") is Reason.TOKEN_UNKNOWN
    wire = Wire(4)
    assert admit(admission, wire, secret=SECRET) is None
    assert wire.owner.token == "anna"
    door.close()


def test_after_a_reload_those_go_who_would_not_come_in_any_more(door: Door) -> None:
    admission, boot = door.doors[0], door.boots[0]
    open_to_all, with_token = Wire(1, key=b"peer 1"), Wire(2, key=b"peer 2")
    assert admit(admission, open_to_all) is None
    admission.live_by(replace(boot, tokens=ANNA))
    assert admit(admission, with_token, "192.0.2.2", SECRET) is None
    assert admission.expelled(open_to_all.owner) is Reason.TOKEN_MISSING
    assert admission.expelled(with_token.owner) is None
    admission.live_by(replace(boot, tokens=()))
    assert admission.expelled(with_token.owner) is Reason.TOKEN_REVOKED
    admission.live_by(replace(boot, settings=Settings(access=Access(deny_subnets=("192.0.2.2/32",)))))
    assert admission.expelled(open_to_all.owner) is None
    assert admission.expelled(with_token.owner) is Reason.SUBNET_DENIED


def test_a_listener_that_requires_no_token_asks_for_none(tmp_path: Path) -> None:
    listener = Listener(address="/ip4/127.0.0.1/tcp/1", require_token=False)
    door = Door(tmp_path, listeners=(listener,))
    door.doors[0].live_by(replace(door.boots[0], tokens=ANNA))
    assert admit(door.doors[0], Wire(1)) is None
    door.close()


def test_whoever_came_by_a_token_goes_when_it_ends(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    now_s = 1_900_000_000.0
    monkeypatch.setattr(time, "time", lambda: now_s)
    tokens = tuple(
        Token(name=f"after-{after_s}", secret=f"until-{after_s}-seconds-from-now", expires=at(now_s + after_s))
        for after_s in (10, 20)
    )
    admission = door.doors[0]
    admission.live_by(replace(door.boots[0], tokens=(*tokens, *ANNA)))
    soon, later, anna, shaking = Wire(1, key=b"1"), Wire(2, key=b"2"), Wire(3, key=b"3"), Wire(4)
    came = {soon: tokens[0].secret, later: tokens[1].secret, anna: SECRET, shaking: tokens[0].secret}
    assert [admit(admission, wire, secret=secret) for wire, secret in came.items()] == [None] * 4

    def gone() -> list[Reason | None]:
        return [admission.expelled(wire.owner) for wire in came]

    now_s += 9.9
    assert not admission.a_token_has_ended()
    now_s += 0.1
    assert admission.a_token_has_ended()
    assert not admission.a_token_has_ended()
    assert gone() == [Reason.TOKEN_EXPIRED, None, None, Reason.TOKEN_EXPIRED]
    now_s -= 5  # the clock is set back, and somebody comes by a token that has ended once
    assert admit(admission, Wire(5), secret=tokens[0].secret) is None
    now_s += 5
    assert admission.a_token_has_ended()
    assert gone()[1:3] == [None, None]
    now_s += 10
    assert admission.a_token_has_ended()
    assert gone() == [Reason.TOKEN_EXPIRED, Reason.TOKEN_EXPIRED, None, Reason.TOKEN_EXPIRED]
    now_s += 1e9
    assert not admission.a_token_has_ended()


def at(unix_s: float) -> datetime:
    return datetime.fromtimestamp(unix_s, UTC)


def test_many_that_leave_at_once_are_said_and_a_few_are_not(
    door: Door, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(log.OUTPUT, "threshold", log.INFO)
    one = door.doors[0]
    for count in (LEFT_AT_ONCE - 1, LEFT_AT_ONCE):
        for number in range(count):
            one.left_early(Wire(number).owner, unsaid=True)
        one.left_early(Wire(0).owner, unsaid=False)
        one.report()
    (line,) = capfd.readouterr().err.splitlines()
    assert line.endswith(f"left in the handshake reason=closed count={LEFT_AT_ONCE}")
