"""Every file that the settings name, in every way that it can be no good: one line that names both, and no start."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.support.builds import ROOT
from tests.support.toolchain import missing, required_program

pytestmark = pytest.mark.fault

TCP = 'listeners=[{address="/ip4/127.0.0.1/tcp/0", workers=1}]'
WSS = 'listeners=[{{address="/ip4/127.0.0.1/tcp/0/tls/ws", workers=1, cert_file="{0}", key_file="{0}"}}]'
SETTINGS = {
    "identity.key_file": 'identity.key_file="{}"',
    "access.tokens_file": 'access.tokens_file="{}"',
    "admin.token_file": 'admin.token_file="{}"',
    "canary.ca_file": 'canary.ca_file="{}"',
    "listeners[0].cert_file": WSS,
}
"""What each key is set with."""
READ, WHOLE, OWN = "a file that can be read (Permission denied)", "a regular file", "a file for its owner only"
FOREIGN = {
    "canary.ca_file": "a PEM file with certificates ([Errno 13] Permission denied)",
    "listeners[0].cert_file": "a readable file with a certificate chain in PEM form (Permission denied)",
}
NONSENSE = {
    "identity.key_file": "an Ed25519 private key in libp2p's protobuf form",
    "access.tokens_file": "a TOML file",
    "admin.token_file": "one token of 16 to 1024 letters and digits in it",
    "canary.ca_file": "a PEM file with certificates",
    "listeners[0].cert_file": "a PEM certificate chain",
}


def without_rights() -> list[str]:
    """A command that takes root's right to open everything from another one."""
    if os.geteuid() != 0:
        missing("root, for files that are somebody else's")
    return [required_program("setpriv"), "--bounding-set=-all", "--inh-caps=-all", "--"]


def start(tmp_path: Path, *settings: str, prefix: Sequence[str] = ()) -> str:
    """The one line of a relay that does not start."""
    line = [*prefix, sys.executable, "-m", "supervisor.cli", "run"]
    for text in ('admin.listen=""', f"admin.control_socket={tmp_path}/control.sock", TCP, *settings):
        line += ["--set", text]
    env = {**os.environ, "XDG_RUNTIME_DIR": str(tmp_path), "XDG_STATE_HOME": str(tmp_path)}
    for name in ("RUNTIME_DIRECTORY", "STATE_DIRECTORY"):
        env.pop(name, None)
    done = subprocess.run(line, capture_output=True, text=True, cwd=ROOT, env=env, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (2, ""), done
    assert done.stderr.count("\n") == 1, done.stderr
    return done.stderr


@pytest.mark.parametrize("key", SETTINGS)
def test_a_file_that_is_somebody_else_s(tmp_path: Path, key: str) -> None:
    prefix, file = without_rights(), tmp_path / "file"
    file.touch(0o600)
    os.chown(file, 1, 1)
    told = start(tmp_path, SETTINGS[key].format(file), prefix=prefix)
    assert told == f'frost-relay: {key} = "{file}": expected {FOREIGN.get(key, READ)}\n'


@pytest.mark.parametrize("key", SETTINGS)
def test_a_directory_in_the_place_of_a_file(tmp_path: Path, key: str) -> None:
    told = start(tmp_path, SETTINGS[key].format(tmp_path))
    assert told.startswith(f'frost-relay: {key} = "{tmp_path}": expected ')
    assert WHOLE in told or "Is a directory" in told


@pytest.mark.parametrize("key", [key for key in SETTINGS if key != "identity.key_file"])
def test_a_file_that_is_not_there(tmp_path: Path, key: str) -> None:
    told = start(tmp_path, SETTINGS[key].format(tmp_path / "gone"))
    assert told.startswith(f'frost-relay: {key} = "{tmp_path}/gone": expected ')
    assert "exists" in told or "No such file" in told


@pytest.mark.parametrize("key", SETTINGS)
def test_a_file_with_nonsense_in_it(tmp_path: Path, key: str) -> None:
    file = tmp_path / "file"
    file.touch(0o600)
    file.write_bytes(b"\xff\x00 gibberish \n" * 20)
    told = start(tmp_path, SETTINGS[key].format(file))
    assert told.startswith(f'frost-relay: {key} = "{file}": expected {NONSENSE[key]}')
    assert "gibberish" not in told


@pytest.mark.parametrize("key", ["identity.key_file", "access.tokens_file", "admin.token_file"])
def test_a_secret_that_others_can_read(tmp_path: Path, key: str) -> None:
    file = tmp_path / "file"
    file.touch()
    file.chmod(0o644)
    told = start(tmp_path, SETTINGS[key].format(file))
    assert told == f'frost-relay: {key} = "{file}": expected {OWN}, mode 0600 and not 0644\n'


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ("identity.key_file", "a file that can be read (Permission denied)"),
        ("admin.control_socket", "a place where a socket can be made (Permission denied)"),
    ],
)
def test_a_directory_that_may_not_be_entered(tmp_path: Path, key: str, expected: str) -> None:
    prefix, closed = without_rights(), tmp_path / "closed"
    closed.mkdir(0o700)
    os.chown(closed, 1, 1)
    told = start(tmp_path, f'{key}="{closed}/file"', prefix=prefix)
    assert told == f'frost-relay: {key} = "{closed}/file": expected {expected}\n'


def test_a_port_that_another_program_has_is_told_with_its_name(tmp_path: Path) -> None:
    hold = (
        "import socket; s = socket.create_server(('127.0.0.1', 0)); print(s.getsockname()[1], flush=True); s.accept()"
    )
    with subprocess.Popen([sys.executable, "-c", hold], stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        port = int(other.stdout.readline())
        taken = f"an address that no other program uses (port {port} is taken by pid {other.pid} python"
        for key, text in (
            ("listeners[0].address", f'listeners=[{{address="/ip4/127.0.0.1/tcp/{port}", workers=1}}]'),
            ("admin.listen", f'admin.listen="127.0.0.1:{port}"'),
        ):
            told = start(tmp_path, text)
            assert told.startswith(f"frost-relay: {key} = ")
            assert taken in told
        other.kill()
    assert not list(tmp_path.glob("frost-relay-*"))
