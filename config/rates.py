"""Rates as operators write them: "30/1h" is thirty at once and thirty an hour after that, "off" is no rate at all.

Only the notation. What a rate does to a peer is decided in `actors/limits.py`.
"""

import re
from dataclasses import dataclass
from typing import Final

EXPECTED: Final = 'a rate such as "30/1h" or "5/10s" (count, "/", period in s, m, h or d up to 31d), or "off"'

MAX_COUNT: Final = 1_000_000
MAX_PERIOD_S: Final = 31 * 86400

_UNITS_S: Final = {"d": 86400, "h": 3600, "m": 60, "s": 1}
_RATE: Final = re.compile(r"([1-9][0-9]{0,6})/([1-9][0-9]{0,6})([smhd])")


@dataclass(frozen=True, slots=True)
class Rate:
    """A bucket of `count` tokens that fills in `period_s` seconds: so many at once, and in each period after."""

    count: int
    period_s: float

    def __str__(self) -> str:
        """The notation that `parse_rate` reads, in the largest unit that fits."""
        whole = int(self.period_s)
        unit = next(unit for unit, seconds in _UNITS_S.items() if whole % seconds == 0)
        return f"{self.count}/{whole // _UNITS_S[unit]}{unit}"


def parse_rate(text: str) -> Rate | None:
    """Read a rate; None for "off". Raises ValueError, whose text is what would have been right."""
    if text == "off":
        return None
    match = _RATE.fullmatch(text)
    if match is None:
        raise ValueError(EXPECTED)
    count, period_s = int(match[1]), int(match[2]) * _UNITS_S[match[3]]
    if count > MAX_COUNT or period_s > MAX_PERIOD_S:
        raise ValueError(EXPECTED)
    return Rate(count, float(period_s))
