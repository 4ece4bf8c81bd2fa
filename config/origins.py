"""What set each value: the file with its line, a variable, --set, or nobody. For `frost-relay config show`.

Keeps places, never values, and reads no file: what it is told of has been read by load.py.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

DEFAULT: Final = "default"

Path = tuple[str | int, ...]
"""A place in the tables: ("listeners", 0, "address")."""

_HEAD: Final = re.compile(r"\s*(\[\[?)\s*([\w.-]+)\s*\]\]?\s*(?:#.*)?\Z")
_KEY: Final = re.compile(r"\s*([\w.-]+)\s*=")


class Origins:
    """Who set what. The last to set a value, or a table that holds it, is the one."""

    def __init__(self) -> None:
        self._set_by: dict[Path, str] = {}

    def of(self, path: Path) -> str:
        """What set the value at `path`; DEFAULT when nothing did."""
        for depth in range(len(path), 0, -1):
            if path[:depth] in self._set_by:
                return self._set_by[path[:depth]]
        return DEFAULT

    def note(self, path: Path, by: str) -> None:
        """`by` has set the value at `path`, and with it all that was in it."""
        self._set_by = {other: was for other, was in self._set_by.items() if other[: len(path)] != path}
        self._set_by[path] = by

    def note_file(self, tables: Mapping[str, Any], name: str, text: str) -> None:
        """The file `name` has set what is in `tables`; `text` is its content, in which the lines are found."""
        lines = _lines(text)
        for path in _values(tables, ()):
            line = next((lines[path[:depth]] for depth in range(len(path), 0, -1) if path[:depth] in lines), 0)
            self._set_by[path] = f"{name}:{line}" if line else name


def _values(value: Any, path: Path) -> Iterator[Path]:
    """The places of all values; a list of anything but tables is one value."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from _values(item, (*path, key))
    elif isinstance(value, list) and value and all(isinstance(item, Mapping) for item in value):
        for index, item in enumerate(value):
            yield from _values(item, (*path, index))
    else:
        yield path


def _lines(text: str) -> dict[Path, int]:
    """On which line each key begins.

    A place that seems to be there twice (a text over several lines that looks like TOML) is left out: no line is better
    than a wrong one.
    """
    found: dict[Path, int] = {}
    twice: set[Path] = set()
    table: Path = ()
    rows: dict[str, int] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if head := _HEAD.match(line):
            table = tuple(head[2].split("."))
            if head[1] == "[[":
                rows[head[2]] = rows.get(head[2], -1) + 1
                table = (*table, rows[head[2]])
        elif key := _KEY.match(line):
            path = (*table, *key[1].split("."))
            twice |= {path} & found.keys()
            found[path] = number
    return {path: number for path, number in found.items() if path not in twice}
