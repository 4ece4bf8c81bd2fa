"""Where files live when nobody says so."""

import stat
from pathlib import Path

from config.paths import config_file, control_socket_places, default_control_socket, default_key_file


def test_the_config_flag_wins_over_the_variable_and_the_default(tmp_path: Path) -> None:
    default = tmp_path / "relay.toml"
    default.touch()
    environ = {"FROST_RELAY_CONFIG": "/b"}
    assert config_file("/a", environ, str(default)) == ("/a", "--config")
    assert config_file(None, environ, str(default)) == ("/b", "FROST_RELAY_CONFIG")
    assert config_file(None, {}, str(default)) == (str(default), str(default))


def test_without_any_file_there_is_none(tmp_path: Path) -> None:
    assert config_file(None, {}, str(tmp_path / "absent")) is None
    assert config_file(None, {"FROST_RELAY_CONFIG": ""}, str(tmp_path / "absent")) is None


def test_systemd_decides_where_the_key_lives() -> None:
    environ = {"STATE_DIRECTORY": "/var/lib/a:/var/lib/b", "HOME": "/home/x"}
    assert default_key_file(environ, is_root=True) == "/var/lib/a/identity.key"


def test_root_keeps_the_key_in_a_private_system_directory(tmp_path: Path) -> None:
    system = tmp_path / "state"
    assert default_key_file({}, is_root=True, system=str(system)) == f"{system}/identity.key"
    assert stat.S_IMODE(system.stat().st_mode) == 0o700
    assert default_key_file({}, is_root=True, system=str(system)) == f"{system}/identity.key"


def test_root_falls_back_to_its_home_when_the_system_directory_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    chosen = default_key_file({"HOME": "/h"}, is_root=True, system=str(tmp_path / "file" / "state"))
    assert chosen == "/h/.local/state/frost-relay/identity.key"


def test_a_user_keeps_the_key_in_the_user_state_directory(tmp_path: Path) -> None:
    def chosen(**environ: str) -> str:
        return default_key_file(environ, is_root=False, system=str(tmp_path / "never"))

    assert chosen(HOME="/home/x") == "/home/x/.local/state/frost-relay/identity.key"
    assert chosen(HOME="/home/x", XDG_STATE_HOME="/s") == "/s/frost-relay/identity.key"
    assert chosen(HOME="/home/x", XDG_STATE_HOME="relative") == "/home/x/.local/state/frost-relay/identity.key"
    assert chosen().endswith("/.local/state/frost-relay/identity.key")
    assert not (tmp_path / "never").exists()


def test_systemd_decides_where_the_control_socket_is() -> None:
    environ = {"RUNTIME_DIRECTORY": "/run/a:/run/b", "XDG_RUNTIME_DIR": "/run/user/0"}
    assert default_control_socket(environ, is_root=True) == "/run/a/control.sock"
    assert default_control_socket(environ, is_root=False) == "/run/a/control.sock"


def test_root_has_the_control_socket_where_the_service_has_it() -> None:
    assert default_control_socket({"XDG_RUNTIME_DIR": "/run/user/0"}, is_root=True) == "/run/frost-relay/control.sock"


def test_a_user_has_the_control_socket_in_a_directory_of_his_own() -> None:
    def chosen(**environ: str) -> str:
        return default_control_socket(environ, is_root=False)

    assert chosen(HOME="/h", XDG_RUNTIME_DIR="/run/user/7") == "/run/user/7/frost-relay/control.sock"
    assert chosen(HOME="/h", XDG_RUNTIME_DIR="relative") == "/h/.local/state/frost-relay/control.sock"
    assert chosen(HOME="/h", XDG_STATE_HOME="/s") == "/s/frost-relay/control.sock"


def test_a_command_looks_at_the_callers_place_and_then_at_the_services() -> None:
    service = "/run/frost-relay/control.sock"
    assert control_socket_places({"XDG_RUNTIME_DIR": "/run/user/7"}, is_root=False) == (
        "/run/user/7/frost-relay/control.sock",
        service,
    )
    assert control_socket_places({}, is_root=True) == (service,)
