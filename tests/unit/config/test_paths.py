"""Where files live when nobody says so."""

import stat
from pathlib import Path

from config.paths import config_file, default_key_file


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
