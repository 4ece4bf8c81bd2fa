"""The notation of rates."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.rates import MAX_COUNT, MAX_PERIOD_S, Rate, parse_rate


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        ("30/1h", Rate(30, 3600.0)),
        ("5/10s", Rate(5, 10.0)),
        ("1/1s", Rate(1, 1.0)),
        ("60/90m", Rate(60, 5400.0)),
        ("1000000/31d", Rate(MAX_COUNT, float(MAX_PERIOD_S))),
        ("off", None),
    ],
)
def test_a_rate_is_read(text: str, rate: Rate | None) -> None:
    assert parse_rate(text) == rate


@pytest.mark.parametrize(
    "text",
    [
        *[
            "",
            "30",
            "30/",
            "/1h",
            "30/h",
            "30/1",
            "30/1w",
            "0/1h",
            "30/0h",
            "-1/1h",
            "1.5/1h",
            "30/1.5h",
            "30/1h ",
            " 30/1h",
        ],
        *["30 / 1h", "30/1H", "OFF", "none", "1000001/1h", "1/32d", "1/2678401s", "٣/1h", "30/1h\n", "03/1h"],
    ],
)
def test_anything_else_is_refused_with_what_would_be_right(text: str) -> None:
    with pytest.raises(ValueError, match='such as "30/1h"'):
        parse_rate(text)


@given(st.integers(1, MAX_COUNT), st.integers(1, MAX_PERIOD_S))
def test_what_a_rate_prints_reads_as_the_same_rate(count: int, period_s: int) -> None:
    rate = Rate(count, float(period_s))
    assert parse_rate(str(rate)) == rate


def test_a_rate_prints_in_the_largest_unit_that_fits() -> None:
    assert [str(Rate(1, s)) for s in (10.0, 60.0, 90.0, 3600.0, 7200.0, 86400.0)] == (
        ["1/10s", "1/1m", "1/90s", "1/1h", "1/2h", "1/1d"]
    )
