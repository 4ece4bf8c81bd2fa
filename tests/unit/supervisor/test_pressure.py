from __future__ import annotations

import os

from actors.board import Board, BoardRow
from supervisor.admin.memory import read_memory_bytes, read_resident_bytes
from supervisor.admin.pressure import AGAIN, Pressure

LIMIT_BYTES = 1000


class _Watched:
    """A board of three processes, and what the kernel says of them."""

    def __init__(self) -> None:
        board = Board.create(4)
        self.rows: list[BoardRow] = [board.row(index) for index in range(4)]
        for pid, row in enumerate(self.rows[:3], 101):
            row.pid = pid
        self.own = self.rows[2]
        self.share = self.resident = 0
        self.walks = 0
        self.pressure = Pressure(self.rows, self.own, self._walk, lambda _: self.resident)

    def _walk(self, pid: int) -> int:
        assert pid in {101, 102, 103}
        self.walks += 1
        return self.share

    def look(self, share: int, resident: int | None = None) -> bool:
        """With so many bytes each."""
        self.share, self.resident = share, share if resident is None else resident
        self.pressure.look(LIMIT_BYTES)
        return bool(self.own.sheds)


def test_memory_is_short_above_the_limit_and_until_a_twentieth_of_it_is_free() -> None:
    watched = _Watched()
    assert not watched.look(LIMIT_BYTES // 3)
    assert watched.look(LIMIT_BYTES // 3 + 1)
    assert watched.look(int(LIMIT_BYTES * AGAIN) // 3 + 1)
    assert not watched.look(int(LIMIT_BYTES * AGAIN) // 3)
    assert not watched.look(LIMIT_BYTES // 3)


def test_pages_are_walked_through_only_when_it_could_matter() -> None:
    watched = _Watched()
    watched.look(100, resident=LIMIT_BYTES // 3)
    assert watched.walks == 0
    assert not watched.look(100, resident=LIMIT_BYTES)
    assert watched.walks == 3


def test_another_limit_holds_at_the_next_look() -> None:
    watched = _Watched()
    assert not watched.look(300)
    watched.pressure.look(899)
    assert watched.own.sheds
    watched.pressure.look(LIMIT_BYTES)
    assert not watched.own.sheds


def test_what_is_resident_is_never_less_than_the_share() -> None:
    pid = os.getpid()
    assert read_resident_bytes(pid) >= read_memory_bytes(pid) > 0
    assert read_resident_bytes(0) == 0
