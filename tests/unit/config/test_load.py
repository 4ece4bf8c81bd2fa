"""Where settings come from, and which source wins."""

from pathlib import Path

import pytest

from config.errors import ConfigError
from config.load import load
from config.rates import Rate
from config.settings import Settings

ABSENT = "/nonexistent/relay.toml"


def loaded(*overrides: str, file: str | None = None, **environ: str) -> Settings:
    return load(file, overrides, environ, default_file=ABSENT)


def refusal(*overrides: str, file: str | None = None, **environ: str) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        loaded(*overrides, file=file, **environ)
    assert "\n" not in str(caught.value)
    return caught.value


@pytest.fixture
def toml(tmp_path: Path) -> Path:
    return tmp_path / "relay.toml"


def test_with_nothing_set_everything_has_its_default() -> None:
    assert loaded() == Settings()


def test_set_wins_over_the_environment_and_the_environment_over_the_file(toml: Path) -> None:
    toml.write_text("[limits]\nmax_circuits = 21\nmax_connections = 31\nmax_reservations = 41\n")
    limits = loaded(
        "limits.max_circuits=23",
        file=str(toml),
        FROST_RELAY__LIMITS__MAX_CIRCUITS="22",
        FROST_RELAY__LIMITS__MAX_CONNECTIONS="332",
    ).limits
    assert (limits.max_circuits, limits.max_connections, limits.max_reservations) == (23, 332, 41)


def test_the_last_of_two_overrides_wins() -> None:
    assert loaded("limits.max_circuits=5", "limits.max_circuits=6").limits.max_circuits == 6


def test_the_variable_names_the_file_unless_the_flag_does(toml: Path, tmp_path: Path) -> None:
    toml.write_text("log.level = 'error'")
    other = tmp_path / "other.toml"
    other.write_text("log.level = 'debug'")
    assert loaded(FROST_RELAY_CONFIG=str(toml)).log.level == "error"
    assert loaded(file=str(other), FROST_RELAY_CONFIG=str(toml)).log.level == "debug"
    assert load(None, (), {}, default_file=str(toml)).log.level == "error"


def test_a_file_may_start_with_a_byte_order_mark_and_end_its_lines_like_windows(toml: Path) -> None:
    toml.write_bytes(b"\xef\xbb\xbf[log]\r\nlevel = 'debug'\r\n")
    assert loaded(file=str(toml)).log.level == "debug"


def test_a_file_that_cannot_be_read_is_named_with_what_named_it(tmp_path: Path) -> None:
    assert str(refusal(file=ABSENT)) == (
        f'--config = "{ABSENT}": expected a file that can be read (No such file or directory)'
    )
    assert str(refusal(file=str(tmp_path))).endswith("(Is a directory)")
    assert refusal(FROST_RELAY_CONFIG=ABSENT).key == "FROST_RELAY_CONFIG"


def test_a_file_that_is_not_utf_8_is_refused(toml: Path) -> None:
    toml.write_bytes(b"[log]\nlevel = '\xff'\n")
    assert refusal(file=str(toml)).expected == "a TOML file in UTF-8"


@pytest.mark.parametrize(
    ("text", "line", "shown"),
    [
        ("[limits]\nmax_circuits = 5\nmax_reservations 3\n[log]\n", 3, "max_reservations 3"),
        ("[limits\n", 1, "[limits"),
        ("[log]\nlevel = 'info'\nlevel = 'debug'\n", 3, "level = 'debug'"),
        ("[log]\nlevel = [", 2, "level = ["),
        ("[log]\nlevel = [\n\n", 2, "level = ["),
        ("[log]\n[log]\n", 2, "[log]"),
    ],
)
def test_a_file_that_is_not_toml_is_refused_with_the_line(toml: Path, text: str, line: int, shown: str) -> None:
    toml.write_text(text)
    error = refusal(file=str(toml))
    assert (error.key, error.value) == (f"{toml} line {line}", shown)
    assert error.expected.startswith("TOML (")
    assert "line" not in error.expected


@pytest.mark.parametrize(
    "override",
    ["log.level=debug", 'log.level="debug"', "log.level='debug'", "log.level= 'debug'", " log.level ='debug'"],
)
def test_a_text_needs_no_quotes(override: str) -> None:
    assert loaded(override).log.level == "debug"


@pytest.mark.parametrize("value", ["127.0.0.1:0", "[::1]:9095", "localhost:1", ""])
def test_a_text_that_is_no_toml_stands_for_itself(value: str) -> None:
    assert loaded(f"admin.listen={value}").admin.listen == value


def test_a_value_may_hold_an_equals_sign() -> None:
    assert loaded("identity.key_file=/a=b").identity.key_file == "/a=b"


def test_a_value_cannot_bring_further_keys_with_it() -> None:
    error = refusal("limits.max_circuits=1\n[log]\nlevel='debug'")
    assert error.key == "limits.max_circuits"


def test_rates_can_be_overridden() -> None:
    limits = loaded("limits.circuit_rate_per_ip=5/10s", FROST_RELAY__LIMITS__RESERVATION_RATE_PER_IP="off").limits
    assert (limits.circuit_rate_per_ip, limits.reservation_rate_per_ip) == (Rate(5, 10.0), None)


def test_a_list_is_a_toml_list() -> None:
    assert loaded('access.deny_peers=["a", "b"]').access.deny_peers == ("a", "b")
    assert loaded(FROST_RELAY__ACCESS__DENY_PEERS='["a"]').access.deny_peers == ("a",)
    assert loaded("access.trusted_proxies=[]").access.trusted_proxies == ()
    assert refusal("access.deny_peers=a").key == "access.deny_peers"


def test_all_listeners_can_be_set_at_once() -> None:
    listeners = loaded('listeners=[{address="/ip4/127.0.0.1/tcp/0/ws", workers=2}]').listeners
    assert [(listener.address, listener.workers) for listener in listeners] == [("/ip4/127.0.0.1/tcp/0/ws", 2)]


@pytest.mark.parametrize("key", ["listeners.0.workers", "listeners[0].workers"])
def test_one_key_of_a_default_listener_can_be_set(key: str) -> None:
    listeners = loaded(f"{key}=3").listeners
    assert [listener.workers for listener in listeners] == [3, 1]
    assert [listener.address for listener in listeners] == [listener.address for listener in Settings().listeners]


def test_one_key_of_a_listener_of_the_file_can_be_set(toml: Path) -> None:
    toml.write_text('[[listeners]]\naddress = "/ip4/127.0.0.1/tcp/1"\n')
    assert loaded(file=str(toml), FROST_RELAY__LISTENERS__0__WORKERS="2").listeners[0].workers == 2


def test_a_listener_can_be_added_behind_the_last() -> None:
    listeners = loaded(
        FROST_RELAY__LISTENERS__2__ADDRESS="/ip4/127.0.0.1/tcp/1", FROST_RELAY__LISTENERS__2__WORKERS="4"
    ).listeners
    assert [listener.workers for listener in listeners] == [0, 1, 4]


def test_the_whole_list_in_the_environment_comes_before_its_parts() -> None:
    listeners = loaded(
        FROST_RELAY__LISTENERS__0__WORKERS="4", FROST_RELAY__LISTENERS='[{address="/ip4/127.0.0.1/tcp/1"}]'
    ).listeners
    assert [(listener.address, listener.workers) for listener in listeners] == [("/ip4/127.0.0.1/tcp/1", 4)]


def test_one_item_of_a_list_of_texts_can_be_set() -> None:
    assert loaded("access.trusted_proxies.1=10.0.0.0/8").access.trusted_proxies == ("127.0.0.1/32", "10.0.0.0/8")
    assert loaded("announce.addresses.0=/dns4/a").announce.addresses == ("/dns4/a",)


def test_overrides_leave_the_defaults_of_the_next_load_alone() -> None:
    loaded("access.trusted_proxies.0=x", "listeners.0.workers=9")
    assert loaded() == Settings()


@pytest.mark.parametrize(
    ("override", "key"),
    [
        ("listeners.3.workers=1", "listeners[3].workers"),
        ("listeners.first.workers=1", "listeners.first.workers"),
        ("listeners[-1].workers=1", "listeners[-1]"),
        ("listeners.0.address.x=1", "listeners[0].address.x"),
        ("limits.0=1", "limits[0]"),
        ("limits..max_circuits=1", "limits..max_circuits"),
        (".limits=1", ".limits"),
        ("limits.=1", "limits."),
        ("0.limits=1", "0.limits"),
        ("=1", "--set"),
        ("limits.max_circuits", "--set"),
        ("", "--set"),
        ("limit.max_circuits=1", "limit"),
        ("limits.max_circuit=1", "limits.max_circuit"),
        ("limits.max_circuits.x=1", "limits.max_circuits"),
    ],
)
def test_an_override_of_what_does_not_exist_is_refused(override: str, key: str) -> None:
    assert refusal(override).key == key


def test_an_unknown_variable_is_refused() -> None:
    assert refusal(FROST_RELAY__LIMITS__MAX_CIRCUIT="1").expected.endswith("did you mean limits.max_circuits?")
    assert refusal(FROST_RELAY__COLOUR="1").key == "colour"
    assert refusal(FROST_RELAY__="1").key == "FROST_RELAY__"


def test_other_variables_are_left_alone() -> None:
    assert loaded(PATH="/bin", FROST_RELAY_SERVICE_HOST="10.0.0.1", XFROST_RELAY__A="1") == Settings()
