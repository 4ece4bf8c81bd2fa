"""Every key, wrong in every way: one line that names the key, the value and what would be right."""

from collections.abc import Iterator
from datetime import date
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.errors import ConfigError
from config.load import decode, to_tables
from config.settings import Settings

LISTENER = {"address": "/ip4/127.0.0.1/tcp/9091/ws"}
HUGE = 10**30
MILLION = "a whole number from 1 to 1000000"
SECONDS = "a number from 0.1 to 86400"
RATE = 'a rate such as "30/1h"'
TEXTS = "a list of texts"
PATH = "the path of a file"

# Values that are wrong for every key of a kind, beside those that are out of its range.
NOT_AN_INT: list[Any] = [
    "many",
    "5",
    True,
    1.5,
    1.0,
    float("nan"),
    [],
    [1],
    {},
    {"a": 1},
    date(2024, 1, 1),
    HUGE,
    -HUGE,
    "",
]
NOT_A_FLOAT: list[Any] = ["many", "5", False, float("nan"), float("inf"), -float("inf"), [], {}, date(2024, 1, 1), HUGE]
NOT_A_TEXT: list[Any] = [5, 1.5, True, [], ["a"], {}, {"a": "b"}, date(2024, 1, 1), "a\nb", "a\x00", "\x7f"]
NOT_A_BOOL: list[Any] = [5, 0, 1, 1.5, "true", "", [], {}, date(2024, 1, 1)]
NOT_A_RATE: list[Any] = [5, 0, True, 1.5, [], ["30/1h"], {"count": 1, "period_s": 1.0}, "", "30", "30/h", "no", "0/1h"]
NOT_A_LIST: list[Any] = [5, True, "text", {}, {"a": "b"}, date(2024, 1, 1)]
NOT_A_TABLE: list[Any] = [5, 1.5, True, "text", [], ["a"], date(2024, 1, 1)]

COUNTS = ("max_circuits", "max_connections")
PARTS = ("max_reservations", "max_connections_per_ip", "max_pending_handshakes")  # at most the default max_connections
RATES = (
    "reservation_rate_per_peer",
    "reservation_rate_per_ip",
    "circuit_rate_per_peer",
    "circuit_rate_per_ip",
    "connection_rate_per_ip",
)
LISTS = ("allow_peers", "deny_peers", "allow_subnets", "deny_subnets", "allow_origins", "trusted_proxies")

# key: (what the line says is expected, the wrong values, values at the ends of the range that are right)
WRONG: dict[str, tuple[str, list[Any], list[Any]]] = {
    "identity.key_file": (PATH, [*NOT_A_TEXT, "x" * 4097], ["", "/a", "relative/ü"]),
    "listeners[0].address": ("a multiaddr such as", [*NOT_A_TEXT, "", "x" * 1025], ["/ip4/1.2.3.4/tcp/1"]),
    "listeners[0].workers": ("a whole number from 0 to 1024", [*NOT_AN_INT, -1, 1025], [0, 1024]),
    "listeners[0].cert_file": (PATH, NOT_A_TEXT, [""]),
    "listeners[0].key_file": (PATH, NOT_A_TEXT, [""]),
    "listeners[0].require_token": ("true or false", NOT_A_BOOL, [False, True]),
    "access.tokens_file": (PATH, NOT_A_TEXT, ["", "/a"]),
    "listeners[0].proxy_protocol": ("true or false", NOT_A_BOOL, [False, True]),
    "announce.addresses": (TEXTS, NOT_A_LIST, [[], ["/dns4/a/tcp/443/tls/ws"]]),
    **{f"limits.{key}": (MILLION, [*NOT_AN_INT, 0, -1, 1_000_001], [1_000_000]) for key in COUNTS},
    **{f"limits.{key}": (MILLION, [*NOT_AN_INT, 0, -1, 1_000_001], [1, 20_000]) for key in PARTS},
    "limits.max_circuits_per_peer": (MILLION, [*NOT_AN_INT, 0, -1, 1_000_001], [1, 16]),
    "limits.max_reservations_per_ip": ("a whole number from 0 to 1000000", [*NOT_AN_INT, -1, 1_000_001], [0, 1024]),
    "limits.reservation_ttl_s": ("a whole number from 1 to 31536000", [*NOT_AN_INT, 0, 31_536_001], [1, 31_536_000]),
    "limits.circuit_duration_s": ("a whole number from 0 to 31536000", [*NOT_AN_INT, -1, 31_536_001], [0, 31_536_000]),
    "limits.circuit_bytes": (
        "a whole number from 0 to 1125899906842624",
        [*NOT_AN_INT, -1, (1 << 50) + 1],
        [0, 1 << 50],
    ),
    "limits.circuit_idle_timeout_s": (SECONDS, [*NOT_A_FLOAT, 0, 0.09, 86_400.5], [0.1, 86_400]),
    **{f"limits.{key}": (RATE, NOT_A_RATE, ["off", "1/1s", "1000000/31d"]) for key in RATES},
    "limits.ipv6_prefix": ("a whole number from 32 to 128", [*NOT_AN_INT, 31, 129], [32, 128]),
    "limits.handshake_timeout_s": (SECONDS, [*NOT_A_FLOAT, 0, 0.09, 86_400.5], [0.1, 5, 86_400]),
    "limits.max_memory_mb": ("a whole number from 0 to 1000000", [*NOT_AN_INT, -1, 1_000_001], [0, 128, 1_000_000]),
    "limits.max_streams_per_connection": ("a whole number from 1 to 10000", [*NOT_AN_INT, 0, 10_001], [1, 10_000]),
    **{f"access.{key}": (TEXTS, NOT_A_LIST, [[], ["a", "b"]]) for key in LISTS},
    "admin.listen": ("HOST:PORT", [5, True, [], {}, "x", "127.0.0.1", ":1", "1:x", "::1:1", "a:123456", "a b:1"], [""]),
    "admin.token_file": (PATH, [*NOT_A_TEXT, "x" * 4097], ["", "/a", "relative"]),
    "admin.control_socket": (PATH, [*NOT_A_TEXT, "x" * 4097], ["", "/a"]),
    "canary.interval_s": ("a number from 0 to 86400", [*NOT_A_FLOAT, -1, 86_401], [0, 60, 86_400]),
    "canary.address": ("an address of the relay", [*NOT_A_TEXT, "x" * 2049], ["", "wss://relay.example.org"]),
    "canary.ca_file": (PATH, [*NOT_A_TEXT, "x" * 4097], ["", "/a", "relative/ü"]),
    "log.level": ('one of "debug"', [5, True, [], {}, "", "loud", "INFO"], ["debug", "info", "warning", "error"]),
    "log.format": ('one of "json", "text"', [5, True, [], {}, "", "xml"], ["text", "json"]),
    "log.privacy": ('one of "off", "strict"', [5, True, [], {}, "", "on"], ["off", "strict"]),
    "supervision.hang_timeout_s": ("a number from 2 to 3600", [*NOT_A_FLOAT, 1.9, 3601], [2, 3600]),
    "supervision.backoff_max_s": ("a number from 0.1 to 3600", [*NOT_A_FLOAT, 0, 3601], [0.1, 3600]),
    "supervision.audit_interval_s": ("a number from 0.5 to 3600", [*NOT_A_FLOAT, 0.4, 3601], [0.5, 3600]),
    "supervision.drain_timeout_s": ("a number from 0 to 86400", [*NOT_A_FLOAT, -1, 86_401], [0, 86_400]),
    "supervision.stop_timeout_s": ("a number from 0.1 to 60", [*NOT_A_FLOAT, 0, 60.5], [0.1, 60]),
}
TABLES = ("identity", "announce", "limits", "access", "admin", "canary", "log", "supervision")


def tables_with(key: str, value: Any) -> dict[str, Any]:
    table, name = key.split(".")
    if table == "listeners[0]":
        return {"listeners": [{**LISTENER, name: value}]}
    return {table: {name: value}}


def refusal(tables: dict[str, Any]) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        decode(tables)
    assert "\n" not in str(caught.value)
    return caught.value


def every_key() -> Iterator[str]:
    for table, keys in to_tables(Settings()).items():
        for key in keys[0] if table == "listeners" else keys:
            yield f"listeners[0].{key}" if table == "listeners" else f"{table}.{key}"


def test_the_table_of_wrong_values_covers_every_key() -> None:
    assert set(WRONG) == set(every_key())


@pytest.mark.parametrize(("key", "value"), [(key, value) for key, (_, wrong, _) in WRONG.items() for value in wrong])
def test_a_wrong_value_is_refused_with_its_key_and_what_would_be_right(key: str, value: Any) -> None:
    error = refusal(tables_with(key, value))
    assert (error.key, error.value) == (key, value) or value != value  # noqa: PLR0124  (nan)
    assert str(error).startswith(f"{key} = ")
    assert f": expected {WRONG[key][0]}" in str(error)


@pytest.mark.parametrize(("key", "value"), [(key, value) for key, (_, _, right) in WRONG.items() for value in right])
def test_a_value_at_the_end_of_its_range_is_taken(key: str, value: Any) -> None:
    settings = decode(tables_with(key, value))
    table, name = key.replace("listeners[0]", "listeners").split(".")
    taken = to_tables(settings)[table]
    assert (taken[0] if table == "listeners" else taken)[name] == value


@pytest.mark.parametrize("key", ["announce.addresses", *(f"access.{key}" for key in LISTS)])
@pytest.mark.parametrize("item", [5, True, "", "a\nb", [], {}, "x" * 1025])
def test_a_wrong_item_of_a_list_is_named_by_its_place(key: str, item: Any) -> None:
    error = refusal(tables_with(key, ["fine", item]))
    assert (error.key, error.value) == (f"{key}[1]", item)
    assert error.expected == "a text that is not empty"


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("value", NOT_A_TABLE)
def test_a_table_that_is_none_is_refused(table: str, value: Any) -> None:
    error = refusal({table: value})
    assert (error.key, error.value) == (table, value)
    assert error.expected.startswith("a table of ")


@pytest.mark.parametrize("value", [5, "text", {}, {"address": "x"}, [], [5], ["text"], [[]]])
def test_listeners_that_are_no_list_of_tables_are_refused(value: Any) -> None:
    error = refusal({"listeners": value})
    assert error.key == ("listeners[0]" if value and isinstance(value, list) else "listeners")
    assert "address, workers, cert_file, key_file" in error.expected


def test_a_listener_without_an_address_is_named_by_its_place() -> None:
    error = refusal({"listeners": [LISTENER, {"workers": 1}]})
    assert str(error).startswith('listeners[1].address is missing: expected a multiaddr such as "/ip4/')


@pytest.mark.parametrize("key", sorted(WRONG))
def test_a_misspelt_key_is_refused_with_the_key_it_looks_like(key: str) -> None:
    table, name = key.split(".")
    error = refusal(tables_with(f"{table}.{name}x", 5))
    assert (error.key, error.value) == (f"{key}x", 5)
    assert error.expected == f"a key of [{table}]; did you mean {key}?"


@pytest.mark.parametrize("table", [*TABLES, "listeners"])
def test_a_misspelt_table_is_refused_with_the_table_it_looks_like(table: str) -> None:
    error = refusal({f"{table}x": {}})
    assert (error.key, error.expected) == (f"{table}x", f"a table of the configuration; did you mean {table}?")


def test_a_key_in_the_wrong_table_is_refused_with_where_it_belongs() -> None:
    assert refusal({"max_circuits": 5}).expected.endswith("did you mean limits.max_circuits?")
    assert refusal({"limits": {"trusted_proxies": []}}).expected.endswith("did you mean access.trusted_proxies?")
    assert refusal({"limits": {"workers": 1}}).expected.endswith("did you mean listeners[0].workers?")


def test_a_key_that_looks_like_nothing_gets_the_list_of_keys() -> None:
    assert refusal({"log": {"zzzz": 1}}).expected == "a key of [log]: level, format, privacy"
    assert refusal({"zzzz": 1}).expected.startswith("a table of the configuration: identity, listeners, ")


def outcome(tables: dict[str, Any]) -> ConfigError | None:
    try:
        decode(tables)
    except ConfigError as error:
        return error
    return None


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


@given(st.dictionaries(st.text() | st.sampled_from([*TABLES, "listeners"]), JSON, max_size=3))
def test_whatever_the_tables_hold_the_answer_is_settings_or_one_line(tables: dict[str, Any]) -> None:
    assert str(outcome(tables)).isprintable()


@given(st.sampled_from(sorted(WRONG)), JSON)
def test_whatever_a_key_holds_the_answer_is_settings_or_one_line(key: str, value: Any) -> None:
    error = outcome(tables_with(key, value))
    assert str(error).isprintable()
    assert error is None or error.key.startswith(key.split(".", maxsplit=1)[0])
