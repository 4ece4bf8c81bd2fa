from __future__ import annotations

from datetime import UTC, datetime

import pytest

from supervisor.cli.words import duration, printable, since, size, table, until


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-5, "0s"), (0, "0s"), (59.9, "59s"), (60, "1m"), (3_601, "1h"), (3_660, "1h 1m"), (86_400, "1d"),
     (90_061, "1d 1h"), (400 * 86_400, "400d")],
)  # fmt: skip
def test_a_duration_has_two_units_at_most(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (131_072, "128 KiB"),
        (5 << 20, "5.0 MiB"),
        (3 << 40, "3072 GiB"),
    ],
)
def test_a_size_is_short(count: int, text: str) -> None:
    assert size(count) == text


def test_moments_are_told_from_now() -> None:
    now = datetime(2026, 11, 25, 12, 0, 0, tzinfo=UTC)
    assert since("2026-11-25T11:58:00Z", now) == "2m"
    assert until("2026-11-25T13:00:00Z", now) == "1h"
    assert until(None, now) == "-"


def test_what_a_peer_says_cannot_move_the_cursor() -> None:
    assert printable("js-libp2p/3 \x1b[2J\nü") == "js-libp2p/3 ?[2J?ü"


def test_columns_are_as_wide_as_they_need() -> None:
    assert table(("NAME", "N"), [("a", 5), ("longer", 12)], right=("N",)) == ["NAME     N", "a        5", "longer  12"]
