from __future__ import annotations

from pathlib import Path

import pytest

from config.errors import ConfigError
from transports.private_file import read_private_file


def test_no_more_is_read_than_was_asked_for(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"0123456789")
    (tmp_path / "secret").chmod(0o600)
    assert read_private_file(str(tmp_path / "secret"), "a.key", 4) == b"0123"
    assert read_private_file(str(tmp_path / "secret"), "a.key", 40) == b"0123456789"


def test_a_file_that_is_not_there_is_the_callers_to_judge(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_private_file(str(tmp_path / "absent"), "a.key", 1)


def test_whatever_is_wrong_names_the_setting(tmp_path: Path) -> None:
    (tmp_path / "open").write_bytes(b"x")
    (tmp_path / "open").chmod(0o644)
    for path, why in ((tmp_path / "open", "mode 0600 and not 0644"), (tmp_path, "a regular file"), ("a\0b", "a path")):
        with pytest.raises(ConfigError, match=why) as caught:
            read_private_file(str(path), "a.key", 1)
        assert (caught.value.key, caught.value.value) == ("a.key", str(path))
