"""Figures and tables as people read them in a terminal. Plain text: no colours, no escape sequences.

What a peer has said about itself may be shown only through `printable`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from datetime import UTC, datetime
from typing import Final

_UNITS: Final = (("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1))
MOMENT: Final = "%Y-%m-%dT%H:%M:%SZ"


def duration(seconds: float) -> str:
    """Two units are enough: `3d 4h`, `5m 2s`, `7s`."""
    rest = max(0, int(seconds))
    parts: list[str] = []
    for unit, length in _UNITS:
        count, rest = divmod(rest, length)
        if count or parts:
            parts.append(f"{count}{unit}")
    return " ".join(part for part in parts[:2] if part[0] != "0") or "0s"


def since(moment: str, now: datetime) -> str:
    """How long ago a moment as the relay writes it (2026-11-23T02:51:43Z) was."""
    return duration((now - datetime.strptime(moment, MOMENT).replace(tzinfo=UTC)).total_seconds())


def until(moment: str | None, now: datetime) -> str:
    """How long it is until then; `-` for never."""
    if moment is None:
        return "-"
    return duration((datetime.strptime(moment, MOMENT).replace(tzinfo=UTC) - now).total_seconds())


def size(count_bytes: int) -> str:
    """`12 MiB`, `1.5 KiB`, `512 B`."""
    if count_bytes < 1024:
        return f"{count_bytes} B"
    figure = float(count_bytes)
    for unit in ("KiB", "MiB", "GiB"):
        figure /= 1024
        if figure < 1024 or unit == "GiB":
            break
    return f"{figure:.1f} {unit}" if figure < 10 else f"{figure:.0f} {unit}"


def printable(text: str) -> str:
    """A text of somebody else's without what could move the cursor."""
    return "".join(each if each.isprintable() else "?" for each in text)


def table(head: Sequence[str], rows: Iterable[Sequence[object]], right: Collection[str] = ()) -> list[str]:
    """Lines of columns, each as wide as it needs. `right` names the columns that stand at the right of their place."""
    cells = [tuple(head), *(tuple(map(str, row)) for row in rows)]
    widths = [max(len(line[column]) for line in cells) for column in range(len(head))]
    at_right = {column for column, name in enumerate(head) if name in right}
    return [
        "  ".join(
            text.rjust(width) if column in at_right else text.ljust(width)
            for column, (text, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in cells
    ]
