"""What a token file must be; who is let in is tested with the requests themselves, in test_admin_http.py."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from config.errors import ConfigError
from supervisor.admin.gate import read_token


def write(path: Path, content: bytes, mode: int = 0o600) -> str:
    path.write_bytes(content)
    path.chmod(mode)
    return str(path)


def test_no_file_is_no_token() -> None:
    assert read_token("") == ""


@pytest.mark.parametrize("content", [b"a" * 16, b"a" * 1024, b"  abcdefghijklmnop\n", b"!~0123456789abcd\r\n"])
def test_a_token_is_what_stands_in_the_file(tmp_path: Path, content: bytes) -> None:
    assert read_token(write(tmp_path / "token", content)) == content.decode().strip()


@pytest.mark.parametrize(
    "content", [b"", b"\n", b"a" * 15, b"a" * 1025, b"two tokens of some length", "ä".encode() * 16, b"a" * 16 + b"\0"]
)
def test_what_is_no_token_is_refused_and_not_shown(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(ConfigError) as caught:
        read_token(write(tmp_path / "token", content))
    assert str(caught.value).startswith(f'admin.token_file = "{tmp_path}/token": expected one token of 16 to 1024')


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o777])
def test_a_token_that_others_can_read_is_refused(tmp_path: Path, mode: int) -> None:
    with pytest.raises(ConfigError, match=f"mode 0600 and not {mode:04o}"):
        read_token(write(tmp_path / "token", b"a" * 16, mode))
    assert read_token(write(tmp_path / "token", b"a" * 16, 0o400)) == "a" * 16


def test_a_token_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="expected a file that exists"):
        read_token(str(tmp_path / "absent"))
    with pytest.raises(ConfigError, match="expected a regular file"):
        read_token(str(tmp_path))
    os.mkfifo(tmp_path / "fifo", 0o600)
    with pytest.raises(ConfigError, match="expected a regular file"):
        read_token(str(tmp_path / "fifo"))
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with pytest.raises(ConfigError, match="expected a file that can be read"):
        read_token(str(tmp_path / "loop"))
