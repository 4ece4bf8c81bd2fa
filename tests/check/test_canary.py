"""The canary in a real relay: it finds what is wrong, says it once, and is in nobody's way."""

from __future__ import annotations

import select
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from tests.support.ports import free_port
from tests.support.relay import RelayProcess

WAIT_S = 60
LISTENERS = ("/ip4/127.0.0.1/tcp/0/ws",)


@contextmanager
def way_to(relay: RelayProcess, port: int) -> Iterator[None]:
    """Connections to this port of loopback reach the relay's WebSocket listener."""
    target = ("127.0.0.1", int(relay.address("ws").split("/")[4]))

    def carry(accepted: socket.socket) -> None:
        with accepted, socket.create_connection(target) as onward:
            other = {accepted: onward, onward: accepted}
            while True:
                for readable in select.select(list(other), [], [])[0]:
                    try:
                        data = readable.recv(65536)
                        other[readable].sendall(data)
                    except OSError:
                        return
                    if not data:
                        return

    def serve() -> None:
        while True:
            try:
                accepted, _ = listening.accept()
            except OSError:
                return
            threading.Thread(target=carry, args=(accepted,)).start()

    with socket.create_server(("127.0.0.1", port)) as listening:
        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield
        finally:
            listening.shutdown(socket.SHUT_RDWR)
            thread.join()


def metric(relay: RelayProcess, line: str) -> bool:
    return line in relay.get("/metrics")[1].splitlines()


def test_there_is_none_unless_it_is_asked_for() -> None:
    with RelayProcess(listeners=LISTENERS) as relay:
        assert relay.workers("canary") == []
        assert relay.status()["canary"] is None
        assert "canary" not in relay.get("/metrics")[1]


def test_it_looks_at_the_relay_and_leaves_nothing_behind() -> None:
    with RelayProcess("canary.interval_s=1", listeners=LISTENERS) as relay:
        status = relay.wait_status(lambda status: status["canary"] and status["canary"]["runs"] >= 2, WAIT_S)
        canary = status["canary"]
        assert canary["address"] == relay.address("ws")
        assert canary["ok"], canary
        assert canary["failures"] == 0
        assert canary["steps"]["circuit"] > 0
        assert metric(relay, "frost_relay_canary_up 1.0")
        assert metric(relay, 'frost_relay_refusals_total{reason="no_reservation"} 0.0')
        relay.wait_status(lambda status: status["connections"] == status["reservations"] == 0, WAIT_S)
        assert "canary fails" not in relay.stderr


def test_it_says_when_the_way_to_the_relay_is_closed_and_when_it_is_open_again() -> None:
    port = free_port()
    named = f'canary.address="/ip4/127.0.0.1/tcp/{port}/ws"'
    with RelayProcess("canary.interval_s=1", named, listeners=LISTENERS) as relay:
        failing = relay.wait_status(lambda status: status["canary"] and status["canary"]["failures"] >= 2, WAIT_S)
        assert failing["canary"]["failed_step"] == "connect"
        assert failing["canary"]["cause"] == "nothing listens there: the port is closed"
        assert failing["canary"]["last_success_unix_s"] is None
        assert metric(relay, "frost_relay_canary_up 0.0")
        assert relay.get("/readyz")[0] == 200  # the relay serves, whatever the canary finds
        assert relay.stderr.count("canary fails step=connect") == 1
        with way_to(relay, port):
            well = relay.wait_status(lambda status: status["canary"]["ok"], WAIT_S)
            assert well["canary"]["failing_since_unix_s"] is None
            assert relay.stderr.count("canary is well again") == 1


def test_another_address_is_looked_at_after_a_reload(tmp_path: Path) -> None:
    file, closed = tmp_path / "relay.toml", f"/ip4/127.0.0.1/tcp/{free_port()}/ws"
    file.write_text(f'[canary]\ninterval_s = 1\naddress = "{closed}"\n')
    with RelayProcess(env={"FROST_RELAY_CONFIG": str(file)}, listeners=LISTENERS) as relay:
        failing = relay.wait_status(lambda status: status["canary"] and status["canary"]["failures"] >= 1, WAIT_S)
        assert failing["canary"]["address"] == closed
        pid = relay.worker("canary")["pid"]
        file.write_text("[canary]\ninterval_s = 1\n")
        assert relay.reload()["needs_restart"] == []
        well = relay.wait_status(lambda status: status["canary"]["ok"], WAIT_S)
        assert well["canary"]["address"] == relay.address("ws")
        assert well["canary"]["failures"] >= 1  # it counts on
        assert relay.worker("canary")["pid"] == pid


@pytest.mark.fault
def test_a_canary_that_is_killed_takes_its_check_along_and_its_successor_goes_on_counting() -> None:
    with socket.create_server(("127.0.0.1", 0)) as black_hole:
        named = f'canary.address="/ip4/127.0.0.1/tcp/{black_hole.getsockname()[1]}/ws"'
        with RelayProcess("canary.interval_s=1", named, listeners=LISTENERS) as relay:
            relay.wait_status(lambda status: status["canary"] and status["canary"]["runs"] >= 1, WAIT_S)
            canary = psutil.Process(relay.worker("canary")["pid"])
            checks = canary.children()
            while not checks:  # between two runs
                checks = canary.children()
            relay.kill("canary")
            gone, alive = psutil.wait_procs([canary, *checks], WAIT_S)
            assert not alive
            assert len(gone) == 2
            again = relay.wait_status(lambda status: status["canary"]["runs"] >= 2, WAIT_S)
            assert again["canary"]["failures"] == again["canary"]["runs"]
            assert {each["name"]: each["restarts"] for each in again["workers"] if each["restarts"]} == {"canary": 1}


@pytest.mark.fault
def test_a_canary_that_hangs_is_replaced_and_the_relay_is_ready_meanwhile() -> None:
    with RelayProcess("canary.interval_s=1", "supervision.hang_timeout_s=2", listeners=LISTENERS) as relay:
        relay.wait_status(lambda status: status["canary"] and status["canary"]["runs"] >= 1, WAIT_S)
        relay.kill("canary", signal.SIGSTOP)
        assert relay.get("/readyz")[0] == 200
        relay.wait_status(lambda status: bool(relay.worker("canary")["restarts"]), WAIT_S)
        assert "killing process name=canary" in relay.stderr


@pytest.mark.fault
def test_no_check_outlives_the_relay() -> None:
    with socket.create_server(("127.0.0.1", 0)) as black_hole:
        named = f'canary.address="/ip4/127.0.0.1/tcp/{black_hole.getsockname()[1]}/ws"'
        with RelayProcess("canary.interval_s=1", named, listeners=LISTENERS) as relay:
            canary = psutil.Process(relay.worker("canary")["pid"])
            checks = canary.children()
            while not checks:
                checks = canary.children()
            assert relay.stop() == 0
            assert psutil.wait_procs(checks, WAIT_S)[1] == []
