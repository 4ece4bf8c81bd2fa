"""The tables themselves: their defaults, and the annotated copy of them that operators start from."""

import pickle
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from config.load import decode, to_tables
from config.rates import Rate
from config.settings import Admin, Settings

DEFAULT_TOML = Path(__file__).parents[3] / "config" / "default.toml"


def keys(tables: Any, at: str = "") -> Iterator[str]:
    if isinstance(tables, dict):
        for key, value in tables.items():
            yield from keys(value, f"{at}.{key}" if at else key)
    elif isinstance(tables, list) and tables and isinstance(tables[0], dict):
        yield from keys(tables[0], f"{at}[]")
    else:
        yield at


def test_the_annotated_default_configuration_is_the_default() -> None:
    assert decode(tomllib.loads(DEFAULT_TOML.read_text("utf-8"))) == Settings()


def test_the_annotated_default_configuration_shows_every_key() -> None:
    shown = set(keys(tomllib.loads(DEFAULT_TOML.read_text("utf-8"))))
    assert set(keys(to_tables(Settings()))) - shown == {"listeners[].cert_file", "listeners[].key_file"}
    assert "# cert_file = " in DEFAULT_TOML.read_text("utf-8")


def test_the_commented_lines_of_the_annotated_configuration_can_be_used_too() -> None:
    lines = DEFAULT_TOML.read_text("utf-8").splitlines()
    start = lines.index("# [[listeners]]")
    wss = tomllib.loads("\n".join(line.removeprefix("# ") for line in lines[start : start + 4]))
    assert decode(wss).listeners[0].address == "/ip4/0.0.0.0/tcp/443/tls/ws"


def test_the_defaults_are_those_of_the_protocol_and_of_the_design() -> None:
    limits = Settings().limits
    assert (limits.max_reservations, limits.max_circuits, limits.max_circuits_per_peer) == (1024, 16, 4)
    assert (limits.reservation_ttl_s, limits.circuit_duration_s, limits.circuit_bytes) == (3600, 120, 1 << 17)
    assert (limits.reservation_rate_per_peer, limits.circuit_rate_per_ip) == (Rate(30, 3600.0), Rate(60, 3600.0))
    assert [listener.workers for listener in Settings().listeners] == [0, 1]


def test_settings_are_the_same_after_the_way_to_another_process() -> None:
    settings = decode({"limits": {"circuit_rate_per_ip": "off", "circuit_rate_per_peer": "7/3s"}})
    assert pickle.loads(pickle.dumps(settings)) == settings


def test_settings_written_as_tables_read_as_the_same_settings() -> None:
    settings = decode({"limits": {"circuit_rate_per_ip": "off"}, "access": {"deny_peers": ["x"]}})
    tables = to_tables(settings)
    assert tables["limits"]["circuit_rate_per_ip"] == "off"
    assert tables["limits"]["reservation_rate_per_peer"] == "30/1h"
    assert decode(tables) == settings


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        Settings().limits.max_circuits = 5  # type: ignore[misc]


@pytest.mark.parametrize(
    ("listen", "address"),
    [
        ("127.0.0.1:9095", ("127.0.0.1", 9095)),
        ("[::1]:0", ("::1", 0)),
        ("localhost:80", ("localhost", 80)),
        ("", None),
    ],
)
def test_the_admin_address_is_host_and_port(listen: str, address: tuple[str, int] | None) -> None:
    assert Admin(listen=listen).address == address


def test_every_number_has_a_range() -> None:
    def numbers(kind: Any) -> Iterator[Any]:
        if isinstance(kind, msgspec.inspect.IntType | msgspec.inspect.FloatType):
            yield kind
        for field in getattr(kind, "fields", ()):
            if field.name not in {"period_s", "count"}:  # of a rate, which has its own notation
                yield from numbers(field.type)
        if isinstance(kind, msgspec.inspect.VarTupleType):
            yield from numbers(kind.item_type)

    found = list(numbers(msgspec.inspect.type_info(Settings)))
    assert len(found) > 15  # the walk finds them
    assert all(kind.ge is not None and kind.le is not None for kind in found)
