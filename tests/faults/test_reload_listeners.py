"""Listeners and the admin's socket, changed while the relay runs: who serves then, who is drained, what is closed."""

from __future__ import annotations

import asyncio
import http.client
import os
import random
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
from picows import WSError

from actors.proto.identify_pb2 import Identify
from tests.faults.test_drain import echoes, is_refused
from tests.faults.test_reload import Configured, command
from tests.scenarios.scene import counter, joined, until
from tests.support.client import Client
from tests.support.ports import free_port
from tests.support.relay import RelayProcess
from tests.support.sockets import listening
from transports.address import multiaddr_bytes

pytestmark = pytest.mark.fault

WS = "/ip4/127.0.0.1/tcp/0/ws workers = 1"


def text(*listeners: str, rest: str = "") -> str:
    """A configuration with these listeners: an address, and behind it what else its table says."""
    tables = []
    for listener in listeners:
        address, _, more = listener.partition(" ")
        tables.append(f'[[listeners]]\naddress = "{address}"\n' + "".join(f"{each}\n" for each in more.split(",")))
    return "\n".join(tables) + rest


@pytest.fixture
def configured(tmp_path: Path) -> Iterator[Configured]:
    """One WebSocket worker on a free port."""
    made = Configured(tmp_path)
    made.write(text("/ip4/127.0.0.1/tcp/0/ws workers = 1"))
    with RelayProcess(env={"FROST_RELAY_CONFIG": str(made.file)}, listeners=()) as made.relay:
        yield made


def listeners(relay: RelayProcess) -> set[str]:
    return {each["name"] for each in relay.workers("listener")}


def settle(relay: RelayProcess, names: int) -> list[dict[str, Any]]:
    """Wait until there are so many workers, all of which serve."""

    def settled(now: dict[str, Any]) -> bool:
        rows = [each for each in now["workers"] if each["role"] == "listener"]
        return len(rows) == names and all(each["state"] == "ready" for each in rows)

    return [each for each in relay.wait_status(settled)["workers"] if each["role"] == "listener"]


def holders(relay: RelayProcess, port: int) -> list[str]:
    """Processes of the relay that have a socket of this port open."""
    main = psutil.Process(relay.pid)
    tree = [main, *main.children(recursive=True)]
    found = ((each, each.net_connections("tcp")) for each in tree)
    return [each.name() for each, sockets in found if any(c.laddr.port == port and not c.raddr for c in sockets)]


def test_a_listener_that_is_added_serves_and_is_announced_to_those_who_are_there(configured: Configured) -> None:
    relay, port = configured.relay, free_port()
    added = f"/ip4/127.0.0.1/tcp/{port}"

    async def play() -> None:
        there = await Client.dial(relay.address("ws"))
        await there.reserve()
        outcome = await asyncio.to_thread(configured.reload, text(WS, f"{added} workers = 2"))
        assert (outcome["ok"], outcome["needs_restart"], outcome["late"]) == (True, [], []), outcome
        told: Identify = await there.identify()
        assert multiaddr_bytes(added) in set(told.listenAddrs)
        through = await Client.dial(f"{added}/p2p/{relay.peer_id}")
        await through.reserve()
        circuit = await there.connect(through.peer_id)
        assert circuit is not None
        assert not there.closed.is_set()
        await asyncio.gather(there.abort(), through.abort())

    asyncio.run(play())
    rows = settle(relay, 3)
    assert f"tcp-{port}/0" in listeners(relay)
    assert {each["restarts"] for each in rows} == {0}
    assert counter(relay, "frost_relay_faults_total") == 0
    name = f"tcp-{port}/1"
    relay.kill(name)  # its successor takes the same socket, which came to the supervisor later
    relay.wait_status(lambda _: relay.worker(name)["restarts"] == 1 and relay.worker(name)["state"] == "ready")


def test_a_listener_that_is_taken_away_accepts_nobody_drains_its_peers_and_gives_back_its_port(
    configured: Configured,
) -> None:
    relay, port = configured.relay, free_port()
    extra = f"/ip4/127.0.0.1/tcp/{port} workers = 2"
    assert configured.reload(text(WS, extra))["ok"]
    settle(relay, 3)
    address = f"/ip4/127.0.0.1/tcp/{port}/p2p/{relay.peer_id}"

    async def play() -> None:
        stays = await Client.dial(relay.address("ws"))
        target = await Client.dial(address)
        await target.reserve()
        circuit = await joined(stays, target)
        assert (await asyncio.to_thread(configured.reload, text(WS)))["ok"]
        await until(lambda: is_refused(port), "no connections")
        assert await echoes(circuit)
        # Who waits for its last call is shown, is no fault of the relay's, and can be looked up.
        leaving = await asyncio.to_thread(relay.worker, f"tcp-{port}/0")
        assert leaving["state"] in {"draining", "stopped", "stopping"}
        assert await asyncio.to_thread(relay.get, "/readyz") == (200, "ready\n")
        pushed: Identify = (await told(target)).pop()
        assert multiaddr_bytes(f"/ip4/127.0.0.1/tcp/{port}") not in set(pushed.listenAddrs)
        circuit.left.close()
        circuit.right.close()
        await asyncio.wait_for(target.closed.wait(), 20)
        assert target.go_away == 0
        assert not stays.closed.is_set()
        await stays.reserve()
        await stays.abort()

    asyncio.run(play())
    settle(relay, 1)
    assert holders(relay, port) == []
    with socket.socket() as another:
        another.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # past those in TIME_WAIT, and no further
        another.bind(("127.0.0.1", port))
    assert configured.reload(text(WS, extra))["ok"]  # rows and names are free again
    assert {f"tcp-{port}/0", f"tcp-{port}/1"} <= {each["name"] for each in settle(relay, 3)}
    assert "handler failed" not in relay.stderr
    assert counter(relay, "frost_relay_faults_total") == 0


async def told(client: Client) -> list[Identify]:
    """What the relay has pushed to it, once it has."""

    async def pushed() -> bool:
        return bool(client.pushed)

    await until(pushed, "an identify push")
    return client.pushed


def test_a_port_that_another_program_has_is_named_with_it_and_nothing_changes(configured: Configured) -> None:
    relay = configured.relay
    with listening() as taken:
        port = taken.getsockname()[1]
        wanted = text(WS, f"/ip4/127.0.0.1/tcp/{port}", rest="[limits]\nmax_circuits = 7\n")
        outcome = configured.reload(wanted)
    assert not outcome["ok"]
    assert outcome["error"].startswith(
        f'listeners[1].address = "/ip4/127.0.0.1/tcp/{port}": expected an address that no'
    )
    assert f"port {port} is taken by pid" in outcome["error"]
    status = relay.status()
    assert status["limits"]["max_circuits"] == 16
    assert len(relay.workers("listener")) == 1
    assert {each["reload"] for each in status["workers"] if each["role"] == "listener"} == {0}
    assert configured.reload(wanted)["ok"]


def test_more_and_fewer_workers_and_another_protocol_on_the_same_port(configured: Configured) -> None:
    relay, port = configured.relay, free_port()
    assert configured.reload(text(WS, f"/ip4/127.0.0.1/tcp/{port}/ws workers = 1"))["ok"]
    settle(relay, 2)
    assert configured.reload(text(WS, f"/ip4/127.0.0.1/tcp/{port}/ws workers = 3"))["ok"]
    assert {f"ws-{port}/{number}" for number in range(3)} <= {each["name"] for each in settle(relay, 4)}
    assert configured.reload(text(WS, f"/ip4/127.0.0.1/tcp/{port}/ws workers = 1"))["ok"]
    assert f"ws-{port}/0" in {each["name"] for each in settle(relay, 2)}
    assert configured.reload(text(WS, f"/ip4/127.0.0.1/tcp/{port} workers = 1"))["ok"]
    assert f"tcp-{port}/0" in {each["name"] for each in settle(relay, 2)}

    async def play() -> None:
        client = await Client.dial(f"/ip4/127.0.0.1/tcp/{port}/p2p/{relay.peer_id}")
        await client.reserve()
        await client.abort()

    asyncio.run(play())
    assert {each["restarts"] for each in relay.status()["workers"]} == {0}


def test_who_is_connected_stays_while_its_listener_asks_newcomers_for_something_else(
    configured: Configured, tmp_path: Path
) -> None:
    relay = configured.relay
    tokens = tmp_path / "tokens.toml"
    tokens.touch(0o600)
    tokens.write_text('[[tokens]]\nname = "anna"\nsecret = "anna-knows-this-secret"\n')
    private = f'[access]\ntokens_file = "{tokens}"\n'
    assert configured.reload(text(f"{WS},require_token = false", rest=private))["ok"]

    async def play() -> None:
        there = await Client.dial(relay.address("ws"))
        await there.reserve()
        with_header = text(f"{WS},require_token = false,proxy_protocol = true", rest=private)
        assert (await asyncio.to_thread(configured.reload, with_header))["ok"]
        line = b"PROXY TCP4 203.0.113.7 192.0.2.1 4711 443\r\n"
        sock = await dialled(int(relay.address("ws").split("/")[4]), line)
        behind = await Client.dial(relay.address("ws"), sock=sock)
        assert (await behind.identify()).observedAddr == multiaddr_bytes("/ip4/203.0.113.7/tcp/4711/ws")
        await there.reserve()
        assert (await asyncio.to_thread(configured.reload, text(f"{WS},require_token = true", rest=private)))["ok"]
        with pytest.raises(WSError, match="401"):
            await Client.dial(relay.address("ws"))
        for each in (there, behind):  # they have no token, and need one now
            await asyncio.wait_for(each.closed.wait(), 10)

    asyncio.run(play())


async def dialled(port: int, first: bytes) -> socket.socket:
    """A connection on which `first` has been said."""
    sock = socket.socket()
    sock.setblocking(False)
    loop = asyncio.get_running_loop()
    await loop.sock_connect(sock, ("127.0.0.1", port))
    await loop.sock_sendall(sock, first)
    return sock


def test_more_processes_than_there_is_room_for_are_refused_with_how_many_there_may_be(configured: Configured) -> None:
    outcome = configured.reload(text(WS, "/ip4/127.0.0.1/tcp/0 workers = 1000"))
    assert not outcome["ok"]
    assert outcome["error"].startswith('listeners = "1000 more processes": expected at most 256 more until')
    assert len(configured.relay.workers("listener")) == 1


def test_listeners_come_and_go_and_die_meanwhile_and_who_is_elsewhere_notices_nothing(configured: Configured) -> None:
    relay, chance = configured.relay, random.Random(1)
    ports = [free_port() for _ in range(3)]
    own = relay.workers("listener")[0]["name"]

    def some() -> list[str]:
        kinds = [(port, chance.choice(["", "/ws"]), chance.randint(1, 3)) for port in ports if chance.random() < 0.6]
        return [f"/ip4/127.0.0.1/tcp/{port}{kind} workers = {workers}" for port, kind, workers in kinds]

    def kill_one() -> None:
        others = [each for each in relay.workers("listener") if each["pid"] and each["name"] != own]
        if others and chance.random() < 0.4:
            with suppress(ProcessLookupError):  # it was leaving
                os.kill(chance.choice(others)["pid"], signal.SIGKILL)

    async def play() -> None:
        there = [await Client.dial(relay.address("ws")) for _ in range(20)]
        for _ in range(12):
            outcome = await asyncio.to_thread(configured.reload, text(WS, *some()))
            assert outcome["ok"], outcome
            await asyncio.to_thread(kill_one)
        assert (await asyncio.to_thread(configured.reload, text(WS)))["ok"]
        await asyncio.to_thread(settle, relay, 1)
        assert [holders(relay, port) for port in ports] == [[], [], []]
        for client in there:
            await client.reserve()
            await client.abort()

    asyncio.run(play())
    assert {each["restarts"] for each in relay.status()["workers"]} == {0}
    assert "handler failed" not in relay.stderr
    assert counter(relay, "frost_relay_faults_total") == 0


# --- the admin's socket ---


@pytest.fixture
def administered(tmp_path: Path) -> Iterator[Configured]:
    """A relay whose [admin] is the file's."""
    made = Configured(tmp_path)
    port = free_port()
    made.write(admin(tmp_path, port))
    arguments = [sys.executable, "-m", "supervisor.cli", "run", "--config", str(made.file)]
    made.relay = RelayProcess()
    made.relay.control_socket = tmp_path / "control.sock"
    process = subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline()
        yield made
    finally:
        process.terminate()
        process.communicate(timeout=20)


def admin(folder: Path, port: int, rest: str = "") -> str:
    table = f'[identity]\nkey_file = "{folder}/key"\n[admin]\ncontrol_socket = "{folder}/control.sock"\n'
    return table + f'listen = "127.0.0.1:{port}"\n{rest}\n' + text(WS)


def asked(port: int, token: str = "") -> int:
    """What the admin interface on this port answers to somebody who knows the token."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", "/status.json", headers={"Authorization": f"Bearer {token}"} if token else {})
        return connection.getresponse().status
    finally:
        connection.close()


def test_the_admin_moves_to_another_port_and_wants_a_token_that_may_change(
    administered: Configured, tmp_path: Path
) -> None:
    relay, port, token_file = administered.relay, free_port(), tmp_path / "token"
    token_file.touch(0o600)
    token_file.write_text("0123456789abcdef")
    administered.write(admin(tmp_path, port, f'token_file = "{token_file}"'))
    done = command(relay, "reload")
    assert (done.returncode, done.stdout, done.stderr) == (0, "the new settings hold\n", "")
    assert [asked(port), asked(port, "0123456789abcdef")] == [401, 200]
    token_file.write_text("another-of-those-tokens")
    assert command(relay, "reload").returncode == 0
    assert [asked(port, "0123456789abcdef"), asked(port, "another-of-those-tokens")] == [401, 200]
    administered.write(admin(tmp_path, 0).replace("127.0.0.1:0", ""))
    assert command(relay, "reload").returncode == 0
    with pytest.raises(ConnectionRefusedError):
        asked(port)
