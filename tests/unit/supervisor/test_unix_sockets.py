from __future__ import annotations

import os
import socket
import struct
from pathlib import Path

import pytest

from supervisor import unix_sockets
from supervisor.unix_sockets import LoopbackAddress, UnixSocket


@pytest.fixture(autouse=True)
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(UnixSocket, "directory", str(tmp_path))
    return tmp_path


def listening(port: int = 0) -> UnixSocket:
    made = UnixSocket(socket.AF_INET, socket.SOCK_STREAM, 0)
    made.bind(("127.0.0.1", port))
    made.listen(5)
    return made


def test_a_free_port_carries_our_process_id_and_no_two_are_alike(directory: Path) -> None:
    first, second = listening(), listening()
    assert first.getsockname() != second.getsockname()
    assert {path.name for path in directory.iterdir()} == {f"{os.getpid()}001", f"{os.getpid()}002"}
    first.close()
    second.close()
    assert list(directory.iterdir()) == []


def test_bytes_go_from_connect_to_accept() -> None:
    server, client = listening(), UnixSocket()
    client.connect(server.getsockname())
    connection, address = server.accept()
    client.sendall(b"hello")
    assert connection.recv(10) == b"hello"
    assert address == ("", 0)
    for each in (server, client, connection):
        each.close()


def test_a_connection_of_another_user_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    server, client = listening(), UnixSocket()
    client.connect(server.getsockname())
    client.settimeout(5)
    stranger = struct.pack("3i", 1, os.getuid() + 1, 1)
    monkeypatch.setattr(UnixSocket, "getsockopt", lambda *_: stranger)
    with pytest.raises(PermissionError):
        server.accept()
    assert client.recv(1) == b""
    server.close()
    client.close()


def test_a_socket_that_nobody_closes_leaves_no_file(directory: Path) -> None:
    made = listening()
    assert list(directory.iterdir())
    del made
    assert list(directory.iterdir()) == []


def test_a_forked_child_does_not_remove_its_parents_file(directory: Path) -> None:
    made = listening()
    child = os.fork()
    if not child:
        made.close()
        os._exit(0)
    os.waitpid(child, 0)
    assert list(directory.iterdir())
    made.close()


def test_a_killed_process_leaves_files_that_can_be_removed(directory: Path) -> None:
    for name in ("4242001", "4242002", "42421001", "424200", "registry.sock", "1"):
        (directory / name).touch()
    unix_sockets.remove_leftovers(4242)
    assert {path.name for path in directory.iterdir()} == {"42421001", "424200", "registry.sock", "1"}


def test_a_full_backlog_is_waited_for_and_then_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unix_sockets, "_CONNECT_LIMIT", struct.pack("ll", 0, 50_000))
    server = UnixSocket()
    server.bind(("", 0))
    server.listen(0)
    waiting, late = UnixSocket(), UnixSocket()
    waiting.connect(server.getsockname())
    late.setblocking(False)
    with pytest.raises(TimeoutError):
        late.connect(server.getsockname())
    assert not late.getblocking()
    for each in (server, waiting, late):
        each.close()


def test_an_actors_address_is_loopback_whatever_was_asked() -> None:
    address = LoopbackAddress("203.0.113.5", "17", external=("8.8.8.8", 1))
    assert address.connectArgs == (("127.0.0.1", 17),)
    assert address.bindArgs == (("127.0.0.1", 17),)
