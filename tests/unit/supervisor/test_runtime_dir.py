from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from config.errors import ConfigError
from supervisor.runtime_dir import PREFIX, parent, runtime_directory


def test_it_is_private_new_and_gone_afterwards(tmp_path: Path) -> None:
    environ = {"XDG_RUNTIME_DIR": str(tmp_path)}
    with runtime_directory(environ) as first, runtime_directory(environ) as second:
        assert first != second
        assert Path(first).parent == tmp_path
        assert os.stat(first).st_mode & 0o777 == 0o700
    assert list(tmp_path.iterdir()) == []


def test_it_is_removed_when_the_block_fails(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), runtime_directory({"XDG_RUNTIME_DIR": str(tmp_path)}):
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


def test_the_service_managers_place_comes_before_the_users(tmp_path: Path) -> None:
    (tmp_path / "service").mkdir()
    (tmp_path / "user").mkdir()
    environ = {"RUNTIME_DIRECTORY": f"{tmp_path}/service:{tmp_path}/other", "XDG_RUNTIME_DIR": f"{tmp_path}/user"}
    assert parent(environ) == f"{tmp_path}/service"
    assert parent({"XDG_RUNTIME_DIR": f"{tmp_path}/user"}) == f"{tmp_path}/user"
    assert parent({"XDG_RUNTIME_DIR": f"{tmp_path}/nothing"}) == parent({})


def test_a_path_that_is_too_long_for_a_socket_is_refused_and_nothing_left(tmp_path: Path) -> None:
    long = tmp_path / ("d" * 60) / ("e" * 60)
    long.mkdir(parents=True)
    with pytest.raises(ConfigError, match="shorter path"), runtime_directory({"XDG_RUNTIME_DIR": str(long)}):
        pass
    assert list(long.iterdir()) == []


def test_what_a_killed_relay_left_is_removed_and_what_a_living_one_uses_is_not(tmp_path: Path) -> None:
    program = (
        "import os, sys; from supervisor.runtime_dir import runtime_directory\n"
        "with runtime_directory({'XDG_RUNTIME_DIR': sys.argv[1]}) as d:\n"
        "    print(d, flush=True); sys.stdin.read()\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)],
        cwd=Path(__file__).parents[3], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    theirs = process.stdout.readline().decode().strip()
    environ = {"XDG_RUNTIME_DIR": str(tmp_path)}
    with runtime_directory(environ):
        assert os.path.isdir(theirs)
    process.kill()
    process.communicate()
    assert os.path.isdir(theirs)
    with runtime_directory(environ):
        assert not os.path.exists(theirs)


def test_a_directory_of_somebody_else_is_left_alone(tmp_path: Path) -> None:
    stranger = tmp_path / f"{PREFIX}test-keep"
    stranger.mkdir()
    (stranger / "file").touch()
    with runtime_directory({"XDG_RUNTIME_DIR": str(tmp_path)}):
        pass
    assert (stranger / "file").exists()
