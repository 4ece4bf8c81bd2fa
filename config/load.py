"""Reads the settings: a file, over it the environment, over it `--set`; what nobody sets has its default.

The one place where they are read. Raises `ConfigError` for whatever is wrong with them and starts nothing.
"""

import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import msgspec

from config import paths
from config.checks import check
from config.errors import ConfigError
from config.explain import dotted, explain
from config.origins import Origins
from config.rates import EXPECTED, Rate, parse_rate
from config.settings import Limits, Settings

PREFIX: Final = "FROST_RELAY__"

_RATE_KEYS: Final = tuple(field.name for field in msgspec.structs.fields(Limits) if field.type == Rate | None)
_LINE: Final = re.compile(r" \(at (?:line (\d+), column \d+|end of document)\)\Z")
_KEY_STEP: Final = re.compile(r"\.|\[([0-9]+)\]")


def load(
    file: str | None,
    overrides: Sequence[str],
    environ: Mapping[str, str],
    *,
    default_file: str = paths.DEFAULT_CONFIG_FILE,
) -> Settings:
    """The settings from `file` (or the file that is used when None), `environ` and the texts of `--set`, in this order.

    Raises `ConfigError` for a file that cannot be read or is not TOML, an unknown key, a wrong type, a value out of
    range and a contradiction.
    """
    return load_with_origins(file, overrides, environ, default_file=default_file)[0]


def load_with_origins(
    file: str | None,
    overrides: Sequence[str],
    environ: Mapping[str, str],
    *,
    default_file: str = paths.DEFAULT_CONFIG_FILE,
) -> tuple[Settings, Origins]:
    """As `load`, with what set each value."""
    given: dict[str, Any] = {}
    origins = Origins()
    if named := paths.config_file(file, environ, default_file):
        text = _read(*named)
        given = _parse(named[0], text)
        origins.note_file(given, named[0], text)
    for name, key, text in _from_environment(environ):
        origins.note(_put(given, key, text), name)
    for override in overrides:
        key, equals, text = override.partition("=")
        if not equals or not key.strip():
            raise ConfigError("--set", override, "KEY=VALUE such as limits.max_reservations=10")
        origins.note(_put(given, key.strip(), text), "--set")
    return decode(given), origins


def decode(given: Mapping[str, Any]) -> Settings:
    """The settings that the tables of a configuration file stand for, checked; raises `ConfigError`."""
    try:
        settings = msgspec.convert(_with_rates(given), Settings)
    except msgspec.ValidationError as error:
        raise explain(error, given) from None
    check(settings, given)
    return settings


def to_tables(settings: Settings) -> dict[str, Any]:
    """The settings as plain tables in the notation of the file: what `decode` turns into these settings again."""
    tables: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(settings))
    for key in _RATE_KEYS:
        rate: Rate | None = getattr(settings.limits, key)
        tables["limits"][key] = "off" if rate is None else str(rate)
    return tables


def _with_rates(given: Mapping[str, Any]) -> dict[str, Any]:
    """`given` with its rates read: msgspec knows what a rate holds, not how it is written."""
    limits = given.get("limits")
    if not isinstance(limits, dict):
        return dict(given)
    limits = dict(limits)
    for key in _RATE_KEYS:
        if key in limits:
            limits[key] = _read_rate(f"limits.{key}", limits[key])
    return {**given, "limits": limits}


def _read_rate(key: str, value: object) -> dict[str, float] | None:
    if not isinstance(value, str):
        raise ConfigError(key, value, EXPECTED)
    try:
        rate = parse_rate(value)
    except ValueError as error:
        raise ConfigError(key, value, str(error)) from None
    return None if rate is None else {"count": rate.count, "period_s": rate.period_s}


def _read(file: str, named_by: str) -> str:
    try:
        with open(file, encoding="utf-8-sig") as stream:
            return stream.read()
    except OSError as error:
        raise ConfigError(named_by, file, f"a file that can be read ({error.strerror})") from None
    except UnicodeDecodeError:
        raise ConfigError(named_by, file, "a TOML file in UTF-8") from None


def _parse(file: str, text: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise _not_toml(file, text, str(error)) from None


def _not_toml(file: str, text: str, why: str) -> ConfigError:
    lines = text.split("\n")
    place = _LINE.search(why)
    number = int(place[1]) if place and place[1] else len(text.rstrip().split("\n"))
    reason = why[: place.start()] if place else why
    return ConfigError(f"{file} line {number}", lines[number - 1].strip(), f"TOML ({reason})")


def _from_environment(environ: Mapping[str, str]) -> Iterator[tuple[str, str, str]]:
    """FROST_RELAY__LIMITS__MAX_CIRCUITS=5 as its name, limits.max_circuits and "5"; a whole table before its parts."""
    for name in sorted(environ):
        if name == PREFIX:
            raise ConfigError(name, environ[name], "a variable such as FROST_RELAY__LIMITS__MAX_RESERVATIONS")
        if name.startswith(PREFIX):
            yield name, name.removeprefix(PREFIX).lower().replace("__", "."), environ[name]


def _put(tables: dict[str, Any], key: str, text: str) -> tuple[str | int, ...]:
    """Set `listeners.0.workers` or `listeners[0].workers` to what `text` stands for; returns the place."""
    value = _value(text)
    path = _path(key)
    if isinstance(path[0], int) or "" in path:
        raise ConfigError(key, value, "a key such as limits.max_reservations or listeners[0].workers")
    place: Any = tables
    defaults: Any = to_tables(Settings())
    for depth, step in enumerate(path):
        is_last = depth == len(path) - 1
        defaults = defaults.get(step) if isinstance(defaults, dict) else None
        if isinstance(place, dict) and isinstance(step, str):
            # Changing one item of a list that nobody set changes the default list; a table has its defaults anyway.
            absent = defaults if isinstance(defaults, list) else {}
            place[step] = value if is_last else place.get(step, absent)
        elif isinstance(place, list) and isinstance(step, int) and step <= len(place):
            place[step : step + 1] = [value if is_last else place[step] if step < len(place) else {}]
        else:
            raise ConfigError(dotted(path), value, f"a key that exists; {dotted(path[:depth])} has no part {step}")
        place = place[step]
    return tuple(path)


def _path(key: str) -> list[str | int]:
    steps = _KEY_STEP.sub(lambda part: f".{part[1]}" if part[1] else ".", key).split(".")
    return [int(step) if step.isdecimal() and step.isascii() else step for step in steps]


def _value(text: str) -> Any:
    """The TOML value that `text` is; a text that is none (`debug`, `30/1h`, `[::1]:9095`) stands for itself."""
    try:
        parsed = tomllib.loads(f"value = {text}")
    except tomllib.TOMLDecodeError:
        return text
    return parsed["value"] if parsed.keys() == {"value"} else text
