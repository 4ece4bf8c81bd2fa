from __future__ import annotations

import fcntl
import os
import socket
import stat
from pathlib import Path

import pytest

from config.errors import ConfigError
from supervisor.control_socket import ControlSocket, check_path


def test_it_is_for_its_owner_only_and_goes_with_its_relay(tmp_path: Path) -> None:
    path = tmp_path / "made" / "control.sock"
    control = ControlSocket(str(path))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
    control.close()
    assert list(path.parent.iterdir()) == []


def test_what_a_dead_relay_left_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    ControlSocket(str(path)).close()
    assert not path.exists()


def test_the_socket_of_a_living_relay_is_not_taken_and_the_relay_is_named(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    living = ControlSocket(str(path))
    with pytest.raises(ConfigError) as caught:
        ControlSocket(str(path))
    expected = f"a path that no running relay has (pid {os.getpid()} has this one)"
    assert (caught.value.key, caught.value.value, caught.value.expected) == (
        "admin.control_socket",
        str(path),
        expected,
    )
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
    living.close()


def test_a_file_that_is_not_ours_any_more_stays(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    first = ControlSocket(str(path))
    path.unlink()
    second = ControlSocket(str(path))
    first.close()
    assert path.exists()
    second.close()
    assert not path.exists()


def test_a_file_that_is_no_socket_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    path.write_text("precious")
    with pytest.raises(ConfigError, match="a path where nothing is"):
        ControlSocket(str(path))
    assert path.read_text() == "precious"


def test_a_path_that_is_too_long_for_a_socket_is_said_before(tmp_path: Path) -> None:
    check_path("/" + "x" * 106)
    with pytest.raises(ConfigError, match="a shorter path"):
        check_path("/" + "x" * 107)


def test_a_place_that_cannot_be_used_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=r"a place where a socket can be made \(Not a directory\)"):
        ControlSocket(str(tmp_path / "file" / "deeper" / "control.sock"))


def test_two_relays_do_not_look_for_a_dead_one_at_the_same_time(tmp_path: Path) -> None:
    directory = os.open(tmp_path, os.O_RDONLY)
    fcntl.flock(directory, fcntl.LOCK_EX)
    with pytest.raises(ConfigError, match="a place where a socket can be made"):
        ControlSocket(str(tmp_path / "control.sock"))
    os.close(directory)
    ControlSocket(str(tmp_path / "control.sock")).close()
