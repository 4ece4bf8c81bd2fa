"""How commands find a relay, and what they say when there is none."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from config import paths
from supervisor.cli import main

COMMANDS = (("status",), ("peers",), ("circuits",), ("kick", "12D3KooWHqDqb8Bh9CzFFBMVdbDYH6pZxcyX2nAVqT2ycpxyRLdC"))


@pytest.fixture(autouse=True)
def system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where a service of this machine would have its socket."""
    monkeypatch.setattr(paths, "SYSTEM_RUNTIME_DIRECTORY", str(tmp_path / "system"))
    return tmp_path / "system"


@pytest.fixture
def home(tmp_path: Path) -> dict[str, str]:
    return {"RUNTIME_DIRECTORY": str(tmp_path / "own"), "FROST_RELAY_CONFIG": ""}


def call(home: dict[str, str], *arguments: str) -> Result:
    return CliRunner().invoke(main, arguments, env=home)


@contextmanager
def answering(path: Path, answer: bytes) -> Iterator[None]:
    """Something that takes one connection after the other, the first only to see whether it is there."""
    path.parent.mkdir(exist_ok=True)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen()

        def serve() -> None:
            listening.accept()[0].close()
            with listening.accept()[0] as connection:
                connection.recv(65536)
                connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        yield
        thread.join()


@pytest.mark.parametrize("command", COMMANDS)
def test_no_relay_is_one_line_that_says_where_was_looked(
    home: dict[str, str], tmp_path: Path, command: tuple[str]
) -> None:
    result = call(home, *command)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.count("\n") == 1
    assert result.stderr.startswith("frost-relay: no relay runs: looked at ")
    assert f"{tmp_path}/own/control.sock (No such file or directory)" in result.stderr
    assert f"{tmp_path}/system/control.sock" in result.stderr


def test_a_dead_relay_is_no_relay(home: dict[str, str], tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(tmp_path / "dead.sock"))
    result = call(home, "status", "--socket", str(tmp_path / "dead.sock"))
    assert result.exit_code == 1
    assert "dead.sock (Connection refused)" in result.stderr


def test_the_settings_say_where_the_relay_is(home: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "relay.toml").write_text(f'[admin]\ncontrol_socket = "{tmp_path}/named.sock"\n')
    result = call(home, "status", "--config", f"{tmp_path}/relay.toml")
    assert result.stderr.startswith(f"frost-relay: no relay runs: looked at {tmp_path}/named.sock (No such")


def test_settings_that_cannot_be_used_do_not_keep_a_command_from_the_relay(
    home: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "relay.toml").write_text("[limits]\nmax_circuits = 0\n")
    body = b'{"peers": [], "next": null, "missing": ["ws-1/0"]}'
    with answering(tmp_path / "own" / "control.sock", b"HTTP/1.0 200 OK\r\n\r\n" + body):
        result = call(home, "peers", "--config", f"{tmp_path}/relay.toml", "--json")
    assert result.exit_code == 0
    assert "limits.max_circuits = 0: expected a whole number from 1 to 1000000 (looking in" in result.stderr
    assert "did not answer, so what they hold is missing: ws-1/0" in result.stderr


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (b"", "went away"),
        (b"garbage\r\n\r\n", "went away"),
        (b"HTTP/1.1 500 X\r\nContent-Length: 5\r\n\r\nwhy?\n", "why?"),
        (b"HTTP/1.1 503 X\r\nContent-Length: 0\r\n\r\n", "the relay said 503"),
    ],
)
def test_an_answer_that_is_none_is_one_line(home: dict[str, str], tmp_path: Path, answer: bytes, said: str) -> None:
    with answering(tmp_path / "own" / "control.sock", answer):
        result = call(home, "status")
    assert result.exit_code == 1
    assert said in result.stderr
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ("peers", "--peer", "nobody"),
        ("peers", "--ip", "1.2.3"),
        ("peers", "--limit", "0"),
        ("peers", "--transport", "udp"),
        ("circuits", "--peer", "nobody"),
        ("kick", "nobody"),
        ("kick",),
        ("status", "--watch", "0"),
    ],
)
def test_an_argument_that_cannot_be_used_is_exit_code_2(home: dict[str, str], arguments: tuple[str, ...]) -> None:
    assert call(home, *arguments).exit_code == 2


@pytest.mark.parametrize("command", [command[0] for command in COMMANDS])
def test_help_has_examples_and_exit_codes(command: str) -> None:
    text = CliRunner().invoke(main, [command, "--help"]).stdout
    assert "Example" in text
    assert "Exit codes:" in text


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_gets_what_it_needs_to_complete(shell: str) -> None:
    result = CliRunner().invoke(main, ["completion", shell], prog_name="frost-relay")
    assert result.exit_code == 0
    assert "_FROST_RELAY_COMPLETE" in result.stdout
