"""When memory is given back."""

from __future__ import annotations

import pytest

from actors.ebb import FEW, Ebb


@pytest.fixture
def given_back() -> list[int]:
    return []


@pytest.fixture
def ebb(given_back: list[int]) -> Ebb:
    def trim(pad_bytes: int) -> int:
        given_back.append(pad_bytes)
        return 1

    return Ebb(trim)


def test_it_is_given_back_once_when_half_have_left_and_no_more_are_leaving(ebb: Ebb, given_back: list[int]) -> None:
    for connections in (0, 600, 1000, 700, 400, 100):
        ebb.look(connections)
    assert given_back == []
    for _ in range(3):
        ebb.look(100)
    assert given_back == [0]


def test_less_than_half_or_few_are_not_worth_it(ebb: Ebb, given_back: list[int]) -> None:
    for connections in (1000, 501, 501):
        ebb.look(connections)
    assert given_back == []
    for connections in (500, 500, 500 + FEW - 1, 500, 500):
        ebb.look(connections)
    assert given_back == [0], "half have left once; the few who came after them and left do not count"


def test_a_crowd_that_comes_back_counts_anew(ebb: Ebb, given_back: list[int]) -> None:
    for connections in (1000, 0, 0, 1000, 0, 0):
        ebb.look(connections)
    assert given_back == [0, 0]


def test_the_c_library_of_this_machine_is_asked() -> None:
    ebb = Ebb()
    for connections in (FEW, 0, 0):
        ebb.look(connections)


def test_while_memory_is_short_few_are_worth_it_too(ebb: Ebb, given_back: list[int]) -> None:
    for connections in (20, 1, 1):
        ebb.look(connections, short=True)
    assert given_back == [0]
