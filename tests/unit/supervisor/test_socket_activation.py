from __future__ import annotations

import fcntl
import json
import os
import socket
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from config.errors import ConfigError
from config.settings import Identity, Listener, Settings
from supervisor import plan, socket_activation
from supervisor.socket_activation import PassedSockets, passed_sockets
from transports.address import parse_listen

ROOT = Path(__file__).parents[3]


def bound(family: socket.AddressFamily = socket.AF_INET, host: str = "127.0.0.1") -> socket.socket:
    return socket.create_server((host, 0), family=family, reuse_port=True)


def address_of(listening: socket.socket, tail: str = "/ws") -> str:
    host, port = listening.getsockname()[:2]
    return f"/{'ip6' if ':' in host else 'ip4'}/{host}/tcp/{port}{tail}"


def test_a_listener_takes_the_socket_that_is_bound_to_its_address_and_leaves_the_others() -> None:
    four, six, other = bound(), bound(socket.AF_INET6, "::1"), bound()
    passed = PassedSockets([("a", four), ("b", six), ("c", other)])
    assert passed.take(parse_listen(address_of(six), "key")) == [six]
    assert passed.take(parse_listen(address_of(four, "/tls/ws"), "key")) == [four]
    assert passed.take(parse_listen(address_of(four), "key")) == []
    assert not four.getblocking()
    assert not four.get_inheritable()
    with pytest.raises(ConfigError) as raised:
        passed.check_all_taken()
    port = other.getsockname()[1]
    assert str(raised.value) == (
        'LISTEN_FDS = "c": expected a listening TCP socket bound to the address of one of the [[listeners]], '
        f"and that is bound to 127.0.0.1:{port}"
    )
    passed.close()
    passed.check_all_taken()
    assert other.fileno() == -1
    four.close()
    six.close()


def test_what_does_not_listen_for_tcp_is_taken_by_nobody(tmp_path: Path) -> None:
    with closing(socket.socket()) as silent, closing(socket.socket(type=socket.SOCK_DGRAM)) as datagrams:
        silent.bind(("127.0.0.1", 0))
        datagrams.bind(silent.getsockname())
        address = parse_listen(address_of(silent), "key")
        for each in (silent, datagrams):
            assert PassedSockets([("", each)]).take(address) == []
    with closing(socket.socket(socket.AF_UNIX)) as unix:
        unix.bind(f"{tmp_path}/socket")
        with pytest.raises(ConfigError, match=r"descriptor \d+.*of family AF_UNIX"):
            PassedSockets([("", unix)]).check_all_taken()


@pytest.mark.parametrize("environ", [{}, {"LISTEN_FDS": "", "LISTEN_PID": "1"}, {"LISTEN_FDS": "1", "LISTEN_PID": "1"}])
def test_what_is_meant_for_another_process_is_left_alone(environ: dict[str, str]) -> None:
    passed_sockets(environ).check_all_taken()


@pytest.mark.parametrize("text", ["many", "-1", "1.0", "²", "1025"])
def test_a_number_of_sockets_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="LISTEN_FDS"):
        passed_sockets({"LISTEN_FDS": text, "LISTEN_PID": str(os.getpid())})


PROGRAM = """
import json, os, sys
from config.errors import ConfigError
from config.load import decode
from supervisor import plan
os.environ["LISTEN_PID"] = str(os.getpid())
try:
    made = plan.prepare(decode(json.loads(sys.argv[1])), os.environ)
    print(json.dumps([[slot.name.partition("/")[2], slot.socket_fd] for slot in made.slots if slot.role == "listener"]))
except ConfigError as error:
    print(json.dumps(str(error)))
"""


def planned(tmp_path: Path, passed: list[socket.socket], *listeners: tuple[str, int], names: str = "") -> object:
    """What a process plans that was started with these descriptors from 3 upwards, as systemd starts it."""
    settings = {
        "identity": {"key_file": f"{tmp_path}/key"},
        "admin": {"listen": "", "control_socket": f"{tmp_path}/control.sock"},
        "listeners": [{"address": address, "workers": workers} for address, workers in listeners],
    }
    high = [fcntl.fcntl(each.fileno(), fcntl.F_DUPFD, 200) for each in passed]  # beyond those that the moves write to
    moves = "".join(f" {3 + index}<&{fd}" for index, fd in enumerate(high))
    closes = "".join(f" {fd}<&-" for fd in high)
    command = f'exec "$@"{moves}{closes}'
    done = subprocess.run(
        ["bash", "-c", command, "bash", sys.executable, "-c", PROGRAM, json.dumps(settings)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "LISTEN_FDS": str(len(passed)), "LISTEN_FDNAMES": names},
        pass_fds=high,
        capture_output=True,
        text=True,
        check=False,
    )
    for fd in high:
        os.close(fd)
    assert done.returncode == 0, done.stderr
    result: object = json.loads(done.stdout)
    return result


def test_workers_share_the_sockets_that_were_passed_evenly(tmp_path: Path) -> None:
    with closing(bound()) as first:
        second = socket.socket()
        second.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        second.bind(first.getsockname())
        second.listen()
        address = address_of(first)
        assert planned(tmp_path, [first], (address, 3)) == [["0", 3], ["1", 3], ["2", 3]]
        assert planned(tmp_path, [first, second], (address, 3)) == [["0", 3], ["1", 4], ["2", 3]]
        assert planned(tmp_path, [first, second], (address, 1)) == (
            "listeners[0].workers = 1: expected at least 2: that many sockets were passed for it"
        )
        second.close()


def test_a_socket_that_no_listener_has_is_named_and_nothing_is_created(tmp_path: Path) -> None:
    with closing(bound()) as passed:
        refusal = planned(tmp_path, [passed], ("/ip4/127.0.0.1/tcp/0", 1), names="frost-relay.socket")
    assert isinstance(refusal, str)
    assert refusal.startswith('LISTEN_FDS = "frost-relay.socket": expected a listening TCP socket')
    assert list(tmp_path.iterdir()) == []


def test_a_descriptor_that_is_no_socket_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with (tmp_path / "file").open("w") as file:
        monkeypatch.setattr(socket_activation, "FIRST_FD", file.fileno())
        settings = Settings(
            identity=Identity(key_file=f"{tmp_path}/key"), listeners=(Listener(address="/ip4/127.0.0.1/tcp/0"),)
        )
        with pytest.raises(ConfigError, match=rf'LISTEN_FDS = "descriptor {file.fileno()}": expected a socket'):
            plan.prepare(settings, {"LISTEN_FDS": "1", "LISTEN_PID": str(os.getpid())})
