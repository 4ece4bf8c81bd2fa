"""Reloads of real process trees: what changes, what is refused, and what a death in the middle of one does."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from picows import WSError

from actors import ping
from actors.limits import Reason, Status
from tests.faults.test_kills import gone
from tests.scenarios.scene import counter
from tests.support.certificate import loopback_certificate
from tests.support.client import Client, HopRefusedError
from tests.support.relay import ROOT, RelayProcess
from tests.support.toolchain import missing, required_program
from transports.identity import HostKey, peer_id_text

pytestmark = pytest.mark.fault

PEERS = 200


class Configured:
    """A relay with a configuration file that the test writes anew."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "relay.toml"
        self.relay: RelayProcess

    def write(self, text: str) -> None:
        self.file.write_text(text)

    def reload(self, text: str) -> dict[str, Any]:
        """What came of a reload with this text in the file."""
        self.write(text)
        return self.relay.reload()


@pytest.fixture
def configured(tmp_path: Path) -> Iterator[Configured]:
    made = Configured(tmp_path)
    made.write("")
    with RelayProcess(env={"FROST_RELAY_CONFIG": str(made.file)}, workers=2) as made.relay:
        yield made


def numbers(relay: RelayProcess) -> set[int]:
    """Which settings the processes below the supervisor live by."""
    return {each["reload"] for each in relay.status()["workers"] if each["role"] in {"registry", "listener", "admin"}}


def test_a_reload_reaches_every_process_and_is_shown(configured: Configured) -> None:
    before = configured.relay.pids()
    outcome = configured.reload("[limits]\nmax_circuits = 7\n[log]\nformat = 'json'\n")
    assert (outcome["ok"], outcome["number"], outcome["needs_restart"], outcome["late"]) == (True, 1, [], [])
    assert numbers(configured.relay) == {1}
    assert configured.relay.status()["limits"]["max_circuits"] == 7
    assert configured.relay.pids() == before
    assert '"event":"reloaded","number":1' in configured.relay.stderr


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("[limits]\nmax_circuits = 0\n", "limits.max_circuits = 0: expected a whole number from 1 to"),
        ("[limits\n", "line 1"),
        ('[access]\ndeny_peers = ["nobody"]\n', "access.deny_peers[0]"),
        ('[announce]\naddresses = ["/ip4/0.0.0.0/tcp/1"]\n', "announce.addresses[0]"),
    ],
)
def test_a_bad_file_is_refused_with_its_line_and_changes_nothing(configured: Configured, text: str, named: str) -> None:
    outcome = configured.reload(text)
    assert not outcome["ok"]
    assert named in outcome["error"]
    assert "\n" not in outcome["error"]
    (line,) = [line for line in configured.relay.stderr.splitlines() if "reload refused" in line]
    assert line.split()[1] == "error"
    assert numbers(configured.relay) == {0}
    assert configured.reload("")["ok"]


def test_only_what_the_command_line_leaves_open_changes(configured: Configured) -> None:
    outcome = configured.reload('[admin]\nlisten = "127.0.0.1:1"\n[limits]\nmax_reservations = 3\n')
    assert (outcome["ok"], outcome["needs_restart"]) == (True, [])
    assert configured.relay.status()["limits"]["max_reservations"] == 3


@pytest.mark.parametrize("role", ["registry", "listener", "admin"])
def test_a_process_that_dies_during_a_reload_comes_back_with_the_new_settings(
    configured: Configured, role: str
) -> None:
    relay = configured.relay
    name = relay.workers(role)[0]["name"]
    frozen = relay.kill(name, signal.SIGSTOP)  # it cannot take the settings over before it dies
    configured.write("[limits]\nmax_circuits = 9\n")
    relay.process.send_signal(signal.SIGHUP)
    os.kill(frozen, signal.SIGKILL)
    status = relay.wait_status(lambda now: bool(now["reload"]["outcomes"]))
    assert status["reload"]["outcomes"][0]["late"] == []
    relay.wait_status(lambda _: numbers(relay) == {1})  # the successor says so once it has begun
    assert relay.worker(name)["restarts"] == 1
    assert relay.status()["limits"]["max_circuits"] == 9


def test_a_frozen_process_does_not_hold_a_reload_up_and_takes_it_over_when_it_lives_again(
    configured: Configured,
) -> None:
    relay = configured.relay
    name = relay.workers("listener")[0]["name"]
    frozen = relay.kill(name, signal.SIGSTOP)
    outcome = configured.reload("[limits]\nmax_circuits = 9\n")
    assert (outcome["ok"], outcome["late"]) == (True, [name])
    os.kill(frozen, signal.SIGCONT)
    relay.wait_status(lambda _: numbers(relay) == {1})
    assert relay.worker(name)["restarts"] == 0


def test_reloads_at_once_come_one_after_the_other_and_the_last_wins(configured: Configured) -> None:
    relay = configured.relay
    for circuits in range(20, 30):
        configured.write(f"[limits]\nmax_circuits = {circuits}\n")
        relay.process.send_signal(signal.SIGHUP)
    relay.wait_status(lambda now: now["limits"]["max_circuits"] == 29)
    status = relay.wait_status(lambda now: now["reload"]["outcomes"][-1]["number"] == now["reload"]["begun"])
    outcomes = [each["number"] for each in status["reload"]["outcomes"]]
    assert outcomes == sorted(outcomes)
    assert numbers(relay) == {status["reload"]["begun"]}


def test_the_end_may_come_during_a_reload(configured: Configured) -> None:
    configured.relay.kill(configured.relay.workers("listener")[0]["name"], signal.SIGSTOP)
    configured.relay.process.send_signal(signal.SIGHUP)
    assert configured.relay.stop(signal.SIGTERM) == 0


def test_a_supervisor_that_dies_during_a_reload_takes_the_tree_along(configured: Configured) -> None:
    relay = configured.relay
    pids = list(relay.pids().values())
    relay.kill("supervisor", signal.SIGSTOP)
    relay.process.send_signal(signal.SIGHUP)
    relay.kill("supervisor")
    assert relay.process.wait(10) == 1
    assert not gone(pids)


def test_a_reload_of_limits_access_and_certificate_under_200_peers_drops_nobody_who_is_allowed(tmp_path: Path) -> None:
    old, new = (loopback_certificate(make_folder(tmp_path / name)) for name in ("old", "new"))

    def text(files: tuple[Path, Path], rest: str = "") -> str:
        tls = f'cert_file = "{files[0]}"\nkey_file = "{files[1]}"\n'
        addresses = ("/ip4/127.0.0.1/tcp/0/ws", "/ip4/127.0.0.1/tcp/0", "/ip4/127.0.0.1/tcp/0/tls/ws")
        tables = [f'[[listeners]]\naddress = "{each}"\nworkers = 2\n' for each in addresses]
        return "".join(tables) + tls + rest

    hosts = [HostKey.generate() for _ in range(PEERS)]
    denied = {hosts[3].peer_id, hosts[77].peer_id}
    configured = Configured(tmp_path)
    configured.write(text(old))
    trusts_old, trusts_new = (ssl.create_default_context(cafile=str(files[0])) for files in (old, new))

    async def play(relay: RelayProcess) -> None:
        where = [(address, trusts_old if "/tls/" in address else None) for address in relay.addresses]
        clients = [await Client.dial(where[n % 3][0], host, tls=where[n % 3][1]) for n, host in enumerate(hosts)]
        await asyncio.gather(*(client.reserve() for client in clients))
        listed = ", ".join(f'"{peer_id_text(peer)}"' for peer in denied)
        rest = f"[limits]\nmax_reservations = 50\n[access]\ndeny_peers = [{listed}]\n"
        outcome = await asyncio.to_thread(configured.reload, text(new, rest))
        assert (outcome["ok"], outcome["needs_restart"], outcome["late"]) == (True, [], []), outcome
        for client in clients:
            if client.peer_id in denied:
                await asyncio.wait_for(client.closed.wait(), 10)
        await asyncio.to_thread(relay.wait_status, lambda now: now["connections"] == PEERS - len(denied))
        stay = [client for client in clients if client.peer_id not in denied]
        await asyncio.gather(*(client.reserve() for client in stay))  # a renewal is granted above the limit
        assert not any(client.closed.is_set() for client in stay)
        fresh = await Client.dial(relay.address("wss"), tls=trusts_new)
        with pytest.raises(HopRefusedError) as refused:
            await fresh.reserve()
        assert refused.value.status == Status.RESERVATION_REFUSED
        await asyncio.gather(*(client.abort() for client in (*stay, fresh)))

    with RelayProcess(env={"FROST_RELAY_CONFIG": str(configured.file)}, listeners=()) as relay:
        configured.relay = relay
        asyncio.run(play(relay))
        assert counter(relay, "frost_relay_refusals_total", reason=Reason.PEER_DENIED) == len(denied)
        assert counter(relay, "frost_relay_faults_total") == 0
        assert relay.stderr.count("reason=peer_denied") == len(denied)
        assert {each["restarts"] for each in relay.status()["workers"]} == {0}


def make_folder(path: Path) -> Path:
    path.mkdir()
    return path


def test_who_comes_from_a_subnet_that_is_denied_now_is_dropped_and_who_comes_later_refused(
    configured: Configured,
) -> None:
    relay = configured.relay

    async def play() -> None:
        behind, beside = ({"X-Forwarded-For": ip} for ip in ("203.0.113.9", "198.51.100.9"))
        denied = await Client.dial(relay.address("ws"), headers=behind)
        allowed = await Client.dial(relay.address("ws"), headers=beside)
        outcome = await asyncio.to_thread(configured.reload, '[access]\ndeny_subnets = ["203.0.113.0/24"]\n')
        assert outcome["ok"], outcome
        await asyncio.wait_for(denied.closed.wait(), 10)
        with pytest.raises(WSError, match="403"):
            await Client.dial(relay.address("ws"), headers=behind)
        assert (await allowed.identify()).publicKey
        await allowed.abort()

    asyncio.run(play())
    assert counter(relay, "frost_relay_refusals_total", reason=Reason.SUBNET_DENIED) == 2


def test_streams_beyond_a_lower_limit_are_refused_on_connections_that_are_there(configured: Configured) -> None:
    relay = configured.relay

    async def play() -> None:
        client = await Client.dial(relay.address("tcp"))
        open_still = [client.open(ping.PROTOCOL) for _ in range(3)]
        assert (await client.identify()).publicKey
        await asyncio.to_thread(configured.reload, "[limits]\nmax_streams_per_connection = 2\n")
        await client.open(ping.PROTOCOL).reset()
        for stream in open_still:
            stream.write(b"p" * 32)
            assert await stream.read(32) == b"p" * 32
        await client.abort()

    asyncio.run(play())


# --- the machine's own addresses ---


@pytest.fixture
def namespace() -> Iterator[str]:
    """A network namespace with one address, 192.0.2.1."""
    ip = required_program("ip")
    if os.geteuid() != 0:
        missing("root, for network namespaces")
    name = f"frost-relay-{os.getpid()}"
    subprocess.run([ip, "netns", "add", name], check=True)
    try:
        for line in ("link set lo up", "addr add 192.0.2.1/32 dev lo"):
            subprocess.run([ip, "-n", name, *line.split()], check=True)
        yield name
    finally:
        subprocess.run([ip, "netns", "del", name], check=True)


def test_an_address_that_the_machine_gets_is_announced_within_half_a_minute(namespace: str) -> None:
    def through_the_control_socket(_where: tuple[str, int]) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(str(relay.control_socket))
        return connection

    relay = RelayProcess(
        listeners=("/ip4/0.0.0.0/tcp/0",),
        prefix=("ip", "netns", "exec", namespace),
        connect=through_the_control_socket,
    )
    with relay:
        assert [each.split("/")[2] for each in relay.status()["addresses"]] == ["192.0.2.1"]
        subprocess.run(["ip", "-n", namespace, "addr", "add", "192.0.2.77/32", "dev", "lo"], check=True)
        status = relay.wait_status(lambda now: len(now["addresses"]) == 2, timeout_s=60)
        assert {each.split("/")[2] for each in status["addresses"]} == {"192.0.2.1", "192.0.2.77"}
        relay.wait_status(lambda _: numbers(relay) == {1})
        assert status["reload"]["outcomes"] == []
        assert relay.reload()["number"] == 2


# --- frost-relay reload ---


def command(relay: RelayProcess, *arguments: str) -> subprocess.CompletedProcess[str]:
    """What a user sees who types `frost-relay …` on the relay's machine."""
    line = [sys.executable, "-m", "supervisor.cli", *arguments, "--socket", str(relay.control_socket)]
    return subprocess.run(line, capture_output=True, text=True, cwd=ROOT, timeout=60, check=False)


def test_the_command_waits_until_the_settings_hold(configured: Configured) -> None:
    configured.write("[limits]\nmax_circuits = 7\n")
    done = command(configured.relay, "reload")
    assert (done.returncode, done.stdout, done.stderr) == (0, "the new settings hold\n", "")
    assert numbers(configured.relay) == {1}


def test_the_command_says_what_is_wrong_and_ends_with_2(configured: Configured) -> None:
    configured.write("[limits]\nmax_circuits = 0\n")
    done = command(configured.relay, "reload")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == ("frost-relay: limits.max_circuits = 0: expected a whole number from 1 to 1000000\n")


def test_commands_at_once_each_hear_of_a_reload_that_began_after_they_asked(configured: Configured) -> None:
    configured.write("[limits]\nmax_circuits = 7\n")
    with ThreadPoolExecutor(4) as pool:
        done = list(pool.map(lambda _: command(configured.relay, "reload").returncode, range(4)))
    assert done == [0] * 4


def test_the_command_without_a_relay_ends_with_1(tmp_path: Path) -> None:
    line = [sys.executable, "-m", "supervisor.cli", "reload", "--socket", str(tmp_path / "none")]
    done = subprocess.run(line, capture_output=True, text=True, cwd=ROOT, timeout=60, check=False)
    assert done.returncode == 1
    assert "no relay runs" in done.stderr
