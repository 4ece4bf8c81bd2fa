"""Says in an operator's words what msgspec found wrong.

msgspec decodes and checks; its errors carry the place. What is right there is told from the type at that place, so each
kind of setting has one wording and a new key needs none.
"""

import difflib
import re
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any, Final

import msgspec
from msgspec import inspect

from config import rates
from config.errors import MISSING, ConfigError
from config.settings import Settings

# "Expected `int`, got `str` - at `$.listeners[0].workers`"; the place is left out for the outermost table.
_PLACE: Final = re.compile(r" - at `\$([^`]*)`\Z")
_STEP: Final = re.compile(r"\.(\w+)|\[([0-9]+)\]")
_UNKNOWN: Final = re.compile(r"Object contains unknown field `(.*)`\Z", re.DOTALL)
_ALIKE: Final = 0.7
_ABSENT: Final = re.compile(r"Object missing required field `(.*)`\Z")


def explain(error: msgspec.ValidationError, raw: Mapping[str, Any]) -> ConfigError:
    """The `ConfigError` for what `msgspec.convert(raw, Settings)` raised."""
    text = str(error)
    place = _PLACE.search(text)
    path = _steps(place[1]) if place else []
    what = text[: place.start()] if place else text
    if unknown := _UNKNOWN.match(what):
        return _unknown_key(path, unknown[1], raw)
    if absent := _ABSENT.match(what):
        return ConfigError(dotted([*path, absent[1]]), MISSING, _expected(_type_at([*path, absent[1]])))
    return ConfigError(dotted(path), _value_at(raw, path), _expected(_type_at(path)))


def expected_at(path: list[str | int]) -> str:
    """What the value at a place may be, as it completes the sentence "expected …"."""
    return _expected(_type_at(path))


def dotted(path: list[str | int]) -> str:
    """A place as users write it: `listeners[0].address`."""
    text = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path)
    return text.removeprefix(".")


def _steps(place: str) -> list[str | int]:
    return [int(index) if index else name for name, index in _STEP.findall(place)]


def _value_at(raw: Any, path: list[str | int]) -> Any:
    for step in path:
        raw = raw[step]
    return raw


def _unknown_key(path: list[str | int], name: str, raw: Mapping[str, Any]) -> ConfigError:
    key = dotted([*path, name])
    table = f"a key of [{dotted(path)}]" if path else "a table of the configuration"
    near = _nearest(path, name)
    hint = f"; did you mean {near}?" if near else f": {', '.join(_fields(_type_at(path)))}"
    return ConfigError(key, _value_at(raw, path)[name], table + hint)


def _nearest(path: list[str | int], name: str) -> str | None:
    """The known key that looks like `name`: in the table where it stands, else in any other."""
    if near := difflib.get_close_matches(name, _fields(_type_at(path)), n=1, cutoff=_ALIKE):
        return dotted([*path, near[0]])
    elsewhere = {str(known[-1]): known for known in _known_keys(_settings_type(), [])}
    near = difflib.get_close_matches(name, elsewhere, n=1, cutoff=_ALIKE)
    return dotted(elsewhere[near[0]]) if near else None


def _known_keys(kind: inspect.Type, path: list[str | int]) -> Iterator[list[str | int]]:
    """The places of all keys; in a list, those of its first item."""
    if isinstance(kind, inspect.VarTupleType):
        yield from _known_keys(kind.item_type, [*path, 0])
    for name, field in _fields(kind).items():
        yield [*path, name]
        yield from _known_keys(field, [*path, name])


@cache
def _settings_type() -> inspect.Type:
    return inspect.type_info(Settings)


def _fields(kind: inspect.Type) -> dict[str, inspect.Type]:
    return {field.name: field.type for field in kind.fields} if isinstance(kind, inspect.StructType) else {}


def _type_at(path: list[str | int]) -> inspect.Type:
    kind = _settings_type()
    for step in path:
        kind = kind.item_type if isinstance(kind, inspect.VarTupleType) else _fields(kind)[str(step)]
    return kind


def _expected(kind: inspect.Type) -> str:
    match kind:
        case inspect.Metadata(extra_json_schema={"description": str(description)}):
            return description
        case inspect.IntType(ge=least, le=most):
            return f"a whole number from {least} to {most}"
        case inspect.FloatType(ge=least, le=most):
            return f"a number from {least:g} to {most:g}"
        case inspect.LiteralType(values=values):
            return "one of " + ", ".join(f'"{value}"' for value in values)
        case inspect.BoolType():
            return "true or false"
        case inspect.UnionType():
            return rates.EXPECTED
        case inspect.VarTupleType(item_type=inspect.StructType(), min_length=least):
            return f"{'at least one table' if least else 'tables'}, each with {', '.join(_fields(kind.item_type))}"
        case inspect.VarTupleType():
            return 'a list of texts that are not empty, such as ["…"], or [] for none'
        case _:
            return f"a table of {', '.join(_fields(kind))}"
