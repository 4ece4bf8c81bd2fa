"""Who is blamed for a death, who is denied for it, and for how long."""

from __future__ import annotations

import os
import signal

import pytest

from actors import blame
from actors.blame import CRASHES, DENIED_S, MAX_DENIED, MAX_SUSPECTS, WITHIN_S, Blame, Suspects
from actors.board import Board
from actors.process import EXIT_FAULT
from transports.identity import HostKey, peer_id_text
from transports.wire import LABEL_BYTES, NOBODY

PEER = HostKey.from_seed(b"p" * 32).peer_id
NOW_S = 1000.0


@pytest.fixture
def board() -> Board:
    return Board.create(3)


def test_the_board_is_the_same_seen_from_another_process(board: Board) -> None:
    board.row(2).pid = 17
    board.blame.deny(blame.of_peer(PEER), 2, NOW_S)
    other = Board.attach(os.dup(board.fd))
    assert other.rows == 3
    assert other.row(2).pid == 17
    assert other.blame.denies(blame.of_peer(PEER), NOW_S)


def test_a_note_is_taken_once_and_only_that_of_its_row(board: Board) -> None:
    board.memory[board.blame.place(1)] = blame.of_peer(PEER)
    assert board.blame.take(0) == NOBODY
    assert board.blame.take(1) == blame.of_peer(PEER)
    assert board.blame.take(1) == NOBODY
    board.memory[board.blame.place(1)] = blame.of_peer(PEER)
    board.memory[board.blame.place(1).start] = 0  # as a wire ends it
    assert board.blame.take(1) == NOBODY
    assert board.row(2).pid == board.row(0).pid == 0


@pytest.mark.parametrize(
    ("label", "named"),
    [
        (blame.of_peer(PEER), {"peer": peer_id_text(PEER)}),
        (blame.of_address("192.0.2.1"), {"address": "192.0.2.1"}),
        (blame.of_address("2001:db8:1:2::/64"), {"address": "2001:db8:1:2::/64"}),
    ],
    ids=["peer", "IPv4", "IPv6"],
)
def test_a_label_has_a_fixed_length_and_says_who_it_is(label: bytes, named: dict[str, str]) -> None:
    assert len(label) == LABEL_BYTES
    assert blame.who(label) == named


@pytest.mark.parametrize(
    ("code", "hung", "crash"),
    [
        (-signal.SIGSEGV, False, True), (-signal.SIGBUS, False, True), (-signal.SIGABRT, False, True),
        (EXIT_FAULT, False, True), (-signal.SIGKILL, True, True),
        (-signal.SIGKILL, False, False), (-signal.SIGTERM, False, False), (0, False, False),
    ],
)  # fmt: skip
def test_only_a_death_that_bytes_can_bring_is_blamed_on_them(code: int, hung: bool, crash: bool) -> None:
    assert blame.is_crash(code, hung=hung) is crash


def test_two_crashes_within_the_time_are_counted_together() -> None:
    suspects = Suspects()
    assert suspects.crashed(b"a", NOW_S) == 1
    assert suspects.crashed(b"b", NOW_S) == 1
    assert suspects.crashed(b"a", NOW_S + WITHIN_S - 1) == CRASHES
    assert suspects.crashed(b"b", NOW_S + WITHIN_S) == 1, "the first is forgotten"


def test_suspects_are_bounded_and_the_one_who_crashed_longest_ago_is_forgotten() -> None:
    suspects = Suspects()
    for number in range(MAX_SUSPECTS + 1):
        suspects.crashed(b"%d" % number, NOW_S)
    assert suspects.crashed(b"0", NOW_S) == 1
    assert suspects.crashed(b"%d" % MAX_SUSPECTS, NOW_S) == CRASHES


def test_who_is_denied_is_free_again_after_the_time(board: Board) -> None:
    label = blame.of_peer(PEER)
    assert not board.blame.denies(label, NOW_S)
    board.blame.deny(label, 2, NOW_S)
    assert board.blame.denies(label, NOW_S + DENIED_S - 1)
    assert not board.blame.denies(label, NOW_S + DENIED_S)
    assert not board.blame.denies(blame.of_address("192.0.2.1"), NOW_S)


def test_the_table_of_who_is_denied_is_bounded(board: Board) -> None:
    table: Blame = board.blame
    labels = [blame.of_address(f"192.0.2.{number}") for number in range(MAX_DENIED + 1)]
    for number, label in enumerate(labels):
        table.deny(label, 2, NOW_S + number)
    table.deny(labels[5], 3, NOW_S + MAX_DENIED)
    now_s = NOW_S + MAX_DENIED
    assert not table.denies(labels[0], now_s), "it would have been free first"
    assert all(table.denies(label, now_s) for label in labels[1:])
    assert len(table.denied(now_s)) == MAX_DENIED
    assert table.changes == MAX_DENIED + 2
    assert board.row(2).pid == 0, "no row is written to"
