"""The one error of the configuration: which key, what it holds, what would be right.

Never spreads over more than one line, and never shows a private key that was pasted where a path belongs.
"""

import datetime
import json
from collections.abc import Mapping
from enum import Enum
from typing import Final

_SHOWN_CHARACTERS: Final = 120


class _Missing(Enum):
    """The type of `MISSING`; an enumeration, so that it stays one object through pickle."""

    MISSING = "missing"


MISSING: Final = _Missing.MISSING
"""The value of a key that has to be there and is not."""


class ConfigError(Exception):
    """A setting that cannot be used. `str()` is one line: `limits.max_circuits = "many": expected a whole number …`.

    `key` is written as an operator would: `limits.max_circuits`, `listeners[0].address`, `--config`. `value` is what
    was given, or `MISSING`. `expected` completes the sentence "expected …".
    """

    def __init__(self, key: str, value: object, expected: str) -> None:
        super().__init__(key, value, expected)
        self.key = key
        self.value = value
        self.expected = expected

    def __str__(self) -> str:
        said = "is missing" if self.value is MISSING else f"= {_shown(self.value)}"
        return _one_line(f"{self.key} {said}: expected {self.expected}")


def _shown(value: object) -> str:
    text = _toml(value)
    if "PRIVATE KEY" in text:
        return "(not shown)"
    return text if len(text) <= _SHOWN_CHARACTERS else text[: _SHOWN_CHARACTERS - 1] + "…"


def _toml(value: object) -> str:
    """The value as it would stand in the configuration file."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key} = {_toml(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_toml, value)) + "]"
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    return str(value)


def _one_line(text: str) -> str:
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
