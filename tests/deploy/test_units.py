"""The units in config/deploy, judged by systemd's own tools and run by a real systemd."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from contextlib import suppress
from pathlib import Path

import pytest

from tests.support.client import Client, HopRefusedError
from tests.support.meeting import meet
from tests.support.ports import free_port
from tests.support.real_systemd import COMMAND, ENVIRONMENT, RealSystemd
from tests.support.relay import ROOT
from tests.support.toolchain import required_program
from transports.identity import HostKey, peer_id_text

DEPLOY = ROOT / "config" / "deploy"
SERVICE = DEPLOY / "frost-relay.service"
SOCKET = DEPLOY / "frost-relay.socket"
CANARY_LIMIT_S = 60
MAX_EXPOSURE = 1.6
"""Of 10, as `systemd-analyze security` counts: what is left is the network, our sockets and one capability."""


def test_the_service_is_hardened() -> None:
    analyze = required_program("systemd-analyze")
    done = subprocess.run(
        [analyze, "security", "--offline=true", "--no-pager", str(SERVICE)], capture_output=True, text=True, check=False
    )
    level = re.search(r"Overall exposure level for frost-relay\.service: ([0-9.]+) ", done.stdout)
    assert level, done.stdout + done.stderr
    assert float(level[1]) <= MAX_EXPOSURE, done.stdout


def test_the_units_are_understood_without_a_warning(tmp_path: Path) -> None:
    analyze = required_program("systemd-analyze")
    program = tmp_path / "frost-relay"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    service = tmp_path / SERVICE.name
    service.write_text(SERVICE.read_text().replace("/opt/frost-relay/bin/frost-relay", str(program)))
    other = tmp_path / SOCKET.name
    other.write_text(SOCKET.read_text())
    done = subprocess.run(
        [analyze, "verify", "--man=no", str(service), str(other)], capture_output=True, text=True, check=False
    )
    assert [line for line in done.stderr.splitlines() if "frost-relay" in line] == []
    assert done.returncode == 0, done.stderr


VARIABLES = "".join(f"Environment={name}={value}\n" for name, value in ENVIRONMENT.items())
DROP_IN = f"""
[Unit]
DefaultDependencies=no
[Service]
ExecStart=
ExecStart={COMMAND} run
ExecReload=
ExecReload={COMMAND} reload
{VARIABLES}
StandardOutput=append:/run/relay.out
StandardError=append:/run/relay.err
"""
UNIT = "frost-relay.service"


def privileged_port(first: int) -> int:
    """A port below 1024 that nobody has, from `first` upwards."""
    for port in range(first, 1024):
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise AssertionError("no port is free")


def config(*listeners: str) -> str:
    """A configuration without admin interface."""
    tables = [f'[[listeners]]\naddress = "{each}"\nworkers = 2\n' for each in listeners]
    return "".join(['[admin]\nlisten = ""\n', *tables])


def units(drop_in: str = "") -> dict[str, str]:
    return {UNIT: SERVICE.read_text(), f"{UNIT}.d/test.conf": DROP_IN + drop_in}


def start(systemd: RealSystemd, *names: str) -> None:
    said = systemd.control("start", *(names or (UNIT,)))
    assert said == "", said + systemd.read("/run/relay.err")


def test_the_relay_serves_in_its_sandbox_also_below_1024_and_has_one_capability(tmp_path: Path) -> None:
    high, low = f"/ip4/127.0.0.1/tcp/{free_port()}/ws", f"/ip4/127.0.0.1/tcp/{privileged_port(601)}"
    with RealSystemd(tmp_path, units(), {"relay.toml": config(high, low)}) as systemd:
        start(systemd)
        for address in (high, low):
            asyncio.run(meet(address))
        assert systemd.show(UNIT, "StatusText").endswith(" connections, 4 of 4 workers")
        for process in systemd.processes(UNIT):
            status = Path(f"/proc/{process}/status").read_text()
            assert "CapEff:\t0000000000000400\n" in status  # CAP_NET_BIND_SERVICE
            assert "NoNewPrivs:\t1\n" in status
            assert "Seccomp:\t2\n" in status
            assert not re.search(r"^Uid:.*\b0\b", status, re.MULTILINE)
        key = systemd.path("/var/lib/private/frost-relay/identity.key")
        assert key.stat().st_mode & 0o777 == 0o600
        assert systemd.control("stop", UNIT) == ""
        assert (systemd.show(UNIT, "ActiveState"), systemd.show(UNIT, "Result")) == ("inactive", "success")
        assert systemd.read("/run/relay.err").rstrip().endswith("main: stopped")
        assert list(systemd.path("/run").glob("frost-relay*")) == []


def test_the_identity_survives_a_restart_although_the_user_is_made_anew(tmp_path: Path) -> None:
    address = f"/ip4/127.0.0.1/tcp/{free_port()}"
    with RealSystemd(tmp_path, units(), {"relay.toml": config(address)}) as systemd:
        start(systemd)
        assert systemd.control("restart", UNIT) == ""
        first, second = systemd.read("/run/relay.out").split()
        assert first == second


def test_a_key_that_root_took_over_before_the_first_start_is_the_services_own_then(tmp_path: Path) -> None:
    host = HostKey.generate()
    address = f"/ip4/127.0.0.1/tcp/{free_port()}"
    with RealSystemd(tmp_path, units(), {"relay.toml": config(address)}) as systemd:
        (systemd.path("/run") / "old-relay.key").write_bytes(host.private_protobuf())
        variables = [f"{name}={value}" for name, value in ENVIRONMENT.items()]
        said = systemd.run("env", "-C", "/", *variables, *COMMAND.split(), "id", "--import", "/run/old-relay.key")
        assert said == peer_id_text(host.peer_id)
        start(systemd)
        assert systemd.read("/run/relay.out").strip() == f"{address}/p2p/{said}"
        key = systemd.path("/var/lib/private/frost-relay/identity.key").stat()
        assert (key.st_mode & 0o777, key.st_uid != 0) == (0o600, True)
        assert systemd.run("env", "-C", "/", *variables, *COMMAND.split(), "id") == said  # root may still ask


def test_a_secret_of_root_is_handed_over_as_the_document_says(tmp_path: Path) -> None:
    document = (ROOT / "docs" / "install.md").read_text()
    credential = re.findall(r"`(LoadCredential=\S+)`", document)[0]
    token_file = re.findall(r"`(token_file = \S+)`", document)[0]
    listener = f'[[listeners]]\naddress = "/ip4/127.0.0.1/tcp/{free_port()}"\n'
    etc = {
        "relay.toml": f'[admin]\nlisten = "127.0.0.1:0"\n{token_file}\n{listener}',
        "admin-token": "0123456789abcdef",
    }
    with RealSystemd(tmp_path, units(f"{credential}\n"), etc) as systemd:
        systemd.run("chmod", "600", "/etc/frost-relay/admin-token")
        start(systemd)
        (url,) = re.findall(r"admin ready url=(\S+)", systemd.read("/run/relay.err"))
        asked = urllib.request.Request(f"{url}/metrics")
        with pytest.raises(urllib.error.HTTPError, match="401"):
            urllib.request.urlopen(asked, timeout=10)
        asked.add_header("Authorization", "Bearer 0123456789abcdef")
        with urllib.request.urlopen(asked, timeout=10) as answer:
            assert answer.status == 200


def test_a_reload_changes_the_limits_and_ends_nobody_and_fails_when_a_setting_is_wrong(
    tmp_path: Path,
) -> None:
    address = f"/ip4/127.0.0.1/tcp/{free_port()}"

    async def scenario(systemd: RealSystemd) -> None:
        first, second = await Client.dial(address), await Client.dial(address)
        await first.reserve()
        file = systemd.path("/etc/frost-relay/relay.toml")
        file.write_text(file.read_text() + "[limits]\nmax_reservations = 1\n")
        assert await asyncio.to_thread(systemd.control, "reload", UNIT) == ""
        with pytest.raises(HopRefusedError):
            await second.reserve()
        await first.reserve()
        file.write_text(file.read_text() + "max_circuits = 0\n")
        assert "failed" in await asyncio.to_thread(systemd.control, "reload", UNIT)
        assert "limits.max_circuits = 0: expected" in systemd.read("/run/relay.err")
        await first.reserve()
        for each in (first, second):
            await each.abort()

    with RealSystemd(tmp_path, units(), {"relay.toml": config(address)}) as systemd:
        start(systemd)
        main = systemd.main_process(UNIT)
        asyncio.run(scenario(systemd))
        assert systemd.show(UNIT, "SubState") == "running"
        assert systemd.main_process(UNIT) == main


def test_a_relay_that_gives_no_sign_of_life_is_started_again(tmp_path: Path) -> None:
    address = f"/ip4/127.0.0.1/tcp/{free_port()}"
    with RealSystemd(tmp_path, units("WatchdogSec=2\n"), {"relay.toml": config(address)}) as systemd:
        start(systemd)
        main = systemd.main_process(UNIT)
        os.kill(main, signal.SIGSTOP)
        systemd.wait(
            lambda: systemd.show(UNIT, "NRestarts") != "0" and systemd.show(UNIT, "ActiveState") == "active",
            "the relay was started again",
        )
        assert systemd.main_process(UNIT) != main
        asyncio.run(meet(address))


def test_a_wrong_setting_is_not_tried_again_and_again(tmp_path: Path) -> None:
    with RealSystemd(tmp_path, units(), {"relay.toml": "[limits]\nmax_circuits = 0\n"}) as systemd:
        assert "failed" in systemd.control("start", UNIT)
        assert (systemd.show(UNIT, "ActiveState"), systemd.show(UNIT, "NRestarts")) == ("failed", "0")
        assert systemd.show(UNIT, "ExecMainStatus") == "2"
        assert systemd.read("/run/relay.err").startswith("frost-relay: limits.max_circuits = 0: expected")


def test_a_socket_of_systemd_takes_no_capability_and_keeps_the_port_while_the_relay_is_away(tmp_path: Path) -> None:
    port = privileged_port(602)
    address = f"/ip4/127.0.0.1/tcp/{port}/ws"
    bare = "CapabilityBoundingSet=\nAmbientCapabilities=\n"
    listening = SOCKET.read_text().replace("ListenStream=[::]:443\n", "").replace("0.0.0.0:443", f"127.0.0.1:{port}")
    with RealSystemd(
        tmp_path,
        {**units(bare), SOCKET.name: listening.replace("[Unit]", "[Unit]\nDefaultDependencies=no")},
        {"relay.toml": config(address)},
    ) as systemd:
        start(systemd, SOCKET.name, UNIT)
        asyncio.run(meet(address))
        status = Path(f"/proc/{systemd.main_process(UNIT)}/status").read_text()
        assert "CapEff:\t0000000000000000\n" in status
        assert "stop" not in systemd.control("stop", UNIT).lower().split()
        asyncio.run(meet(address))  # the connection waits in systemd's socket, and starts the relay
        # A listener that is up serves at once; READY is for all of them.
        systemd.wait(lambda: systemd.show(UNIT, "ActiveState") == "active", "the relay is active again")


def test_the_canary_runs_in_the_sandbox(tmp_path: Path) -> None:
    """It starts programs, and imports much that the relay does not."""
    listener = f'[[listeners]]\naddress = "/ip4/127.0.0.1/tcp/{free_port()}/ws"\n'
    settings = f'[admin]\nlisten = "127.0.0.1:0"\n[canary]\ninterval_s = 60\n{listener}'
    with RealSystemd(tmp_path, units(), {"relay.toml": settings}) as systemd:
        start(systemd)
        (url,) = re.findall(r"admin ready url=(\S+)", systemd.read("/run/relay.err"))
        end = time.monotonic() + CANARY_LIMIT_S
        found = None
        while not found or not found["runs"]:
            assert time.monotonic() < end, systemd.read("/run/relay.err")
            time.sleep(0.2)
            with urllib.request.urlopen(f"{url}/status.json", timeout=10) as answer:
                found = json.load(answer)["canary"]
        assert found["ok"], found
