"""Histograms in the board: which bucket a value falls into, and that none touches another."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from actors import histograms
from actors.board import Board


@pytest.fixture
def board() -> Iterator[Board]:
    made = Board.create(2)
    yield made
    os.close(made.fd)


def test_a_value_counts_where_it_is_at_most_the_bound(board: Board) -> None:
    row, histogram = board.row(0), histograms.HANDSHAKE
    for value in (0.0, 0.001, 0.0011, 30.0, 30.1):
        histogram.observe(row, value)
    counts = histogram.counts(row)
    assert len(counts) == len(histogram.bounds) + 1
    assert (counts[0], counts[1], counts[-2], counts[-1], sum(counts)) == (2, 1, 1, 1, 5)
    assert histogram.sum(row) == pytest.approx(60.1021)


def test_histograms_and_rows_do_not_touch_each_other(board: Board) -> None:
    row = board.row(1)
    row.log_lines_dropped, row.loop_lag_s = 7, 0.5
    for number, histogram in enumerate(histograms.ALL, start=1):
        for _ in range(number):
            histogram.observe(row, 1e12)
            histogram.observe(row, 0.0)
    for number, histogram in enumerate(histograms.ALL, start=1):
        assert histogram.counts(row) == [number, *[0] * (len(histogram.bounds) - 1), number]
        assert histogram.counts(board.row(0)) == [0] * (len(histogram.bounds) + 1)
    assert (row.log_lines_dropped, row.loop_lag_s, row.connections) == (7, 0.5, 0)


def test_a_row_that_is_vacated_keeps_its_histograms(board: Board) -> None:
    row = board.row(0)
    histograms.RESERVE.observe(row, 0.5)
    row.vacate()
    assert sum(histograms.RESERVE.counts(row)) == 1


def test_bounds_rise_and_there_are_as_many_as_a_row_has_room_for() -> None:
    for histogram in histograms.ALL:
        assert list(histogram.bounds) == sorted(set(histogram.bounds))
    with pytest.raises(ValueError, match="3 bounds"):
        histograms.Histogram(0, "short", "", (1.0, 2.0, 3.0))
