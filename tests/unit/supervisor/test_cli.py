from __future__ import annotations

import base64
import json
import os
import socket
import tomllib
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from config.load import decode, to_tables
from config.settings import Settings
from supervisor import cli
from transports.identity import HostKey, peer_id_text
from transports.key_file import load_or_create_host_key


@pytest.fixture
def home(tmp_path: Path) -> dict[str, str]:
    """An environment in which nothing of this machine's own relay is found."""
    return {"RUNTIME_DIRECTORY": str(tmp_path), "STATE_DIRECTORY": str(tmp_path / "state"), "FROST_RELAY_CONFIG": ""}


def call(home: dict[str, str], *arguments: str) -> Result:
    return CliRunner().invoke(cli.main, arguments, env=home)


BAD = [
    ("limits.max_circuits=many", 'limits.max_circuits = "many"'),
    ("limits.nonsense=1", "limits.nonsense"),
    ('listeners=[{address="/ip4/127.0.0.1/udp/1", workers=1}]', "listeners[0].address"),
    ('listeners=[{address="/ip4/192.0.2.1/tcp/0", workers=1}]', "listeners[0].address"),
    (
        'listeners=[{address="/ip4/127.0.0.1/tcp/0/tls/ws", cert_file="/no/cert", key_file="/no/key"}]',
        "listeners[0].cert_file",
    ),
    ('access.deny_subnets=["10.0.0.0/8", "nowhere"]', "access.deny_subnets[1]"),
    ('announce.addresses=["/ip4/0.0.0.0/tcp/1"]', "announce.addresses[0]"),
    ('admin.listen="no-such-host.invalid:1"', "admin.listen"),
    ("log.level=loud", "log.level"),
]


@pytest.mark.parametrize(("setting", "named"), BAD, ids=[each[0][:30] for each in BAD])
def test_a_wrong_setting_is_one_line_and_exit_code_2_and_nothing_is_left(
    home: dict[str, str], tmp_path: Path, setting: str, named: str
) -> None:
    safe = (
        () if setting.startswith("listeners") else ("--set", 'listeners=[{address="/ip4/127.0.0.1/tcp/0", workers=1}]')
    )
    result = call(home, "run", *safe, "--set", setting)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr.count("\n") == 1
    assert named in result.stderr
    assert "expected" in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_taken_port_is_one_line_and_exit_code_2_and_no_key_is_made(home: dict[str, str], tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        result = call(home, "run", "--set", f'listeners=[{{address="/ip4/127.0.0.1/tcp/{port}", workers=2}}]')
    assert result.exit_code == 2
    assert f"listeners[0].address" in result.stderr  # noqa: F541
    assert f"port {port} is taken" in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_id_creates_the_key_once_and_prints_its_peer_id(home: dict[str, str], tmp_path: Path) -> None:
    first, second = call(home, "id"), call(home, "id")
    assert first.exit_code == 0
    assert first.stdout == second.stdout
    (key,) = (tmp_path / "state").iterdir()
    assert key.stat().st_mode & 0o777 == 0o600
    assert first.stdout.strip() == peer_id_text(load_or_create_host_key(str(key)).peer_id)


@pytest.mark.parametrize("form", ["protobuf", "base64"])
def test_a_key_of_another_implementation_is_taken_over_and_given_out_again(
    home: dict[str, str], tmp_path: Path, form: str
) -> None:
    host = HostKey.generate()
    text = base64.b64encode(host.private_protobuf())
    (tmp_path / "old").write_bytes(host.private_protobuf() if form == "protobuf" else text + b"\n")
    result = call(home, "id", "--import", str(tmp_path / "old"))
    assert (result.exit_code, result.stdout.strip()) == (0, peer_id_text(host.peer_id))
    assert call(home, "id").stdout == result.stdout
    assert call(home, "id", "--export").stdout.strip().encode() == text
    assert call(home, "id", "--import", str(tmp_path / "old")).exit_code == 0, "the same key again changes nothing"


def test_a_key_is_never_replaced_by_an_import(home: dict[str, str], tmp_path: Path) -> None:
    first = call(home, "id").stdout
    (tmp_path / "other").write_bytes(HostKey.generate().private_protobuf())
    result = call(home, "id", "--import", str(tmp_path / "other"))
    assert result.exit_code == 2
    assert "identity.key_file" in result.stderr
    assert call(home, "id").stdout == first


@pytest.mark.parametrize("content", [b"", b"not a key", b"AAAA", os.urandom(5000)])
def test_what_is_no_key_is_not_imported(home: dict[str, str], tmp_path: Path, content: bytes) -> None:
    (tmp_path / "bad").write_bytes(content)
    result = call(home, "id", "--import", str(tmp_path / "bad"))
    assert result.exit_code == 2
    assert result.stderr.startswith("frost-relay: --import = ")
    assert result.stderr.count("\n") == 1
    assert os.listdir(tmp_path) == ["bad"]


def test_a_key_that_others_can_read_is_refused(home: dict[str, str], tmp_path: Path) -> None:
    call(home, "id")
    (key,) = (tmp_path / "state").iterdir()
    key.chmod(0o644)
    result = call(home, "id")
    assert result.exit_code == 2
    assert "identity.key_file" in result.stderr


def test_what_config_show_prints_is_a_configuration_with_the_same_meaning(home: dict[str, str]) -> None:
    result = call(
        home, "config", "show", "--set", "limits.max_reservations=10", "--set", "limits.circuit_rate_per_ip=off"
    )
    tables = to_tables(Settings())
    tables["limits"] |= {"max_reservations": 10, "circuit_rate_per_ip": "off"}
    assert decode(tomllib.loads(result.stdout)) == decode(tables)


def test_config_show_says_what_set_each_value(home: dict[str, str], tmp_path: Path) -> None:
    file = tmp_path / "relay.toml"
    file.write_text('[limits]\nmax_reservations = 10\n[log]\nlevel = "debug"\n')
    arguments = ("config", "show", "--config", str(file), "--set", "log.level=info")
    home["FROST_RELAY__LIMITS__MAX_CIRCUITS"] = "5"
    shown = dict(line.split("  # ") for line in call(home, *arguments).stdout.splitlines() if "#" in line)
    assert {key.split(" = ")[0]: by for key, by in shown.items()}.items() >= {
        ("max_reservations", f"{file}:2"),
        ("max_circuits", "FROST_RELAY__LIMITS__MAX_CIRCUITS"),
        ("level", "--set"),
        ("format", "default"),
    }
    document = json.loads(call(home, *arguments, "--json").stdout)
    assert document["limits"]["max_reservations"] == {"value": 10, "from": f"{file}:2"}
    assert document["listeners"][0]["workers"] == {"value": 0, "from": "default"}


def test_config_check_says_yes_or_names_the_key_and_touches_nothing(home: dict[str, str], tmp_path: Path) -> None:
    file = tmp_path / "relay.toml"
    file.write_text("[limits]\nmax_reservations = 10\n")
    assert call(home, "config", "check", str(file)).exit_code == 0
    file.write_text('[access]\ndeny_peers = ["nobody"]\n')
    result = call(home, "config", "check", str(file))
    assert result.exit_code == 2
    assert "access.deny_peers[0]" in result.stderr
    assert os.listdir(tmp_path) == ["relay.toml"]


def test_a_file_that_is_not_there_is_exit_code_2(home: dict[str, str]) -> None:
    result = call(home, "run", "--config", "/no/such/file.toml")
    assert result.exit_code == 2
    assert result.stderr.count("\n") == 1
    assert "/no/such/file.toml" in result.stderr


@pytest.mark.parametrize("command", [cli.main, cli.server])
def test_version_is_printed(command: object) -> None:
    result = CliRunner().invoke(command, ["--version"])  # type: ignore[arg-type]
    assert result.exit_code == 0
    assert result.stdout.split()[1][0].isdigit()


def test_help_has_examples_and_exit_codes() -> None:
    run = CliRunner().invoke(cli.main, ["run", "--help"]).stdout
    alone = CliRunner().invoke(cli.server, ["--help"]).stdout
    for text in (run, alone):
        assert "Examples:" in text
        assert "Exit codes:" in text
        assert '[{address="/ip4/127.0.0.1/tcp/0/ws", workers=2}]' in text
    assert "frost-relay run --config" in run
    assert "frost-relay-server --config" in alone


def test_an_unknown_option_is_a_usage_error() -> None:
    assert CliRunner().invoke(cli.server, ["--nonsense"]).exit_code == 2


def commands_of(group: click.Group, *before: str) -> Iterator[list[str]]:
    for name, command in group.commands.items():
        yield [*before, name]
        if isinstance(command, click.Group):
            yield from commands_of(command, *before, name)


@pytest.mark.parametrize("command", list(commands_of(cli.main)), ids=" ".join)
def test_every_example_of_the_help_has_a_line_of_its_own(home: dict[str, str], command: list[str]) -> None:
    lines = call(home, *command, "--help").stdout.splitlines()
    assert not any("\b" in line for line in lines)
    assert all(line.count(" frost-relay ") <= 1 for line in lines)
