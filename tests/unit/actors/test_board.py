from __future__ import annotations

import os

import pytest

from actors import histograms
from actors.board import Board, BoardRow, State


def test_what_one_process_writes_another_reads() -> None:
    board = Board.create(3)
    child = os.fork()
    if not child:
        row = Board.attach(board.fd).row(1)
        row.pid, row.beat, row.state, row.connections = os.getpid(), 12.5, State.READY, 7
        os._exit(0)
    os.waitpid(child, 0)
    row = board.row(1)
    assert (row.pid, row.beat, row.state, row.connections) == (child, 12.5, State.READY, 7)


def test_rows_do_not_touch_each_other() -> None:
    board = Board.create(3)
    for index in range(3):
        row = board.row(index)
        row.beat = row.since = float(index + 1)
        row.pid = row.restarts = row.connections = row.reservations = row.circuits = index + 1
        row.pending_handshakes = row.log_lines_dropped = index + 1
        row.state = State(index + 1)
    for index in range(3):
        row = board.row(index)
        assert {row.beat, row.since} == {index + 1.0}
        assert {row.pid, row.restarts, row.connections, row.reservations, row.circuits} == {index + 1}
        assert {row.pending_handshakes, row.log_lines_dropped, row.code} == {index + 1}


def test_no_two_fields_of_a_row_share_a_place() -> None:
    row = Board.create(1).row(0)
    fields = [
        name for name, value in vars(BoardRow).items() if hasattr(value, "__set__") and name not in BoardRow.__slots__
    ]
    fields.remove("state")  # is code
    for number, name in enumerate(fields, 1):
        setattr(row, name, number)
    assert {name: getattr(row, name) for name in fields} == {name: number for number, name in enumerate(fields, 1)}
    assert not any(histogram.counts(row) != [0] * len(histogram.counts(row)) for histogram in histograms.ALL)


def test_a_vacated_row_holds_nothing_but_its_history() -> None:
    row = Board.create(1).row(0)
    row.pid, row.restarts, row.connections, row.reservations, row.circuits, row.pending_handshakes = 1, 2, 3, 4, 5, 6
    row.vacate()
    assert (row.pid, row.restarts) == (0, 2)
    assert (row.connections, row.reservations, row.circuits, row.pending_handshakes) == (0, 0, 0, 0)


@pytest.mark.parametrize("index", [-1, 2])
def test_there_is_no_row_beyond_the_board(index: int) -> None:
    with pytest.raises(IndexError):
        Board.create(2).row(index)
