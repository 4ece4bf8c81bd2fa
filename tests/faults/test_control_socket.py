"""The control socket of real relays: found while one lives, never two on one, replaced after a kill."""

from __future__ import annotations

import os
import signal
import socket
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from supervisor.cli.base import FailedError
from supervisor.cli.control import Relay, find_relay
from tests.support.relay import RelayProcess

pytestmark = pytest.mark.fault


@pytest.fixture
def quiet() -> Iterator[RelayProcess]:
    """A relay without HTTP over TCP."""
    with RelayProcess('admin.listen=""') as relay:
        yield relay


def test_a_relay_without_http_can_be_asked_through_its_control_socket(quiet: RelayProcess) -> None:
    assert stat.S_IMODE(quiet.control_socket.stat().st_mode) == 0o600
    status = find_relay(("/no/such/socket", str(quiet.control_socket))).get("/status.json")
    assert status["peer_id"] == quiet.peer_id
    assert quiet.stop() == 0
    assert not quiet.control_socket.exists()
    with pytest.raises(FailedError, match="no relay runs"):
        find_relay((str(quiet.control_socket),))


def test_the_successor_of_a_killed_admin_process_serves_the_same_socket(quiet: RelayProcess) -> None:
    relay = Relay(str(quiet.control_socket))
    before = {each["name"]: each["pid"] for each in relay.get("/status.json")["workers"]}
    os.kill(before["admin"], signal.SIGKILL)
    with suppress(psutil.NoSuchProcess):
        psutil.Process(before["admin"]).wait(10)
    after = {each["name"]: each["pid"] for each in relay.get("/status.json")["workers"]}
    assert after["admin"] != before["admin"]
    assert after["registry"] == before["registry"]


def test_a_second_relay_does_not_take_the_socket_of_a_living_one(quiet: RelayProcess) -> None:
    second = RelayProcess('admin.listen=""', f'admin.control_socket="{quiet.control_socket}"')
    with pytest.raises(RuntimeError, match="the relay ended with 2"), second:
        pass
    assert f"pid {quiet.pid} has this one" in second.stderr
    assert Relay(str(quiet.control_socket)).get("/status.json")["peer_id"] == quiet.peer_id


def test_the_socket_of_a_killed_relay_is_replaced(tmp_path: Path) -> None:
    place = f'admin.control_socket="{tmp_path}/control.sock"'
    with RelayProcess(place) as first:
        first.process.send_signal(signal.SIGKILL)
        first.process.wait()
    assert (tmp_path / "control.sock").exists()
    await_end(tmp_path / "control.sock")
    with RelayProcess(place) as second:
        assert Relay(f"{tmp_path}/control.sock").get("/status.json")["peer_id"] == second.peer_id


def await_end(path: Path) -> None:
    """Wait until the last process of a killed relay is gone: each holds the listening socket."""
    while True:
        with socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(10)
            try:
                probe.connect(str(path))
            except ConnectionRefusedError:
                return
            with suppress(ConnectionError):
                probe.recv(1)


def test_without_a_token_nothing_is_changed_over_tcp() -> None:
    with RelayProcess() as relay:
        assert relay.get("/status.json")[0] == 200
        assert relay.get("/status.json", method="POST")[0] == 403


def test_with_a_token_it_is_needed_over_tcp_and_not_through_the_socket(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("0123456789abcdef")
    token.chmod(0o600)
    with RelayProcess(f'admin.token_file="{token}"') as relay:
        assert relay.get("/healthz")[0] == 200
        assert relay.get("/status.json")[0] == 401
        assert relay.get("/status.json", {"Authorization": "Bearer 0123456789abcdef"})[0] == 200
        assert Relay(str(relay.control_socket)).get("/status.json")["peer_id"] == relay.peer_id
        assert "0123456789abcdef" not in relay.stderr
