"""A machine whose name server is gone: nobody needs it to meet, and the canary says what is missing."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from tests.support.meeting import meet
from tests.support.relay import RelayProcess
from tests.support.toolchain import missing, required_program

pytestmark = pytest.mark.fault

NAMED = "/dns4/relay.frost.test/tcp/443/tls/ws"
_HIDE = 'mount --bind "$0" /etc/resolv.conf && exec "$@"'


def without_name_server(tmp_path: Path) -> tuple[str, ...]:
    """A command that runs another one where names are asked of a port on which nobody listens."""
    unshare = required_program("unshare")
    if os.geteuid() != 0:
        missing("root, for a mount namespace")
    if not Path("/etc/resolv.conf").exists():
        missing("/etc/resolv.conf, to put another in its place")
    file = tmp_path / "resolv.conf"
    file.write_text("nameserver 127.0.0.1\noptions timeout:1 attempts:1\n")
    return (unshare, "--mount", "sh", "-c", _HIDE, str(file))


def test_peers_meet_without_a_name_server_and_the_canary_says_that_it_is_gone(tmp_path: Path) -> None:
    settings = (f'announce.addresses=["{NAMED}"]', "canary.interval_s=1", "supervision.hang_timeout_s=2")
    prefix = without_name_server(tmp_path)
    with RelayProcess(*settings, listeners=("/ip4/127.0.0.1/tcp/0/ws",), prefix=prefix) as relay:
        assert relay.addresses == [f"{NAMED}/p2p/{relay.peer_id}"]
        port = relay.workers("listener")[0]["name"].split("-")[1].split("/")[0]
        address = f"/ip4/127.0.0.1/tcp/{port}/ws/p2p/{relay.peer_id}"
        asyncio.run(meet(address))
        found = relay.wait_status(lambda now: now["canary"] and now["canary"]["failures"] >= 2, 60)["canary"]
        assert found["failed_step"] == "resolve"
        assert "canary fails step=resolve" in relay.stderr
        assert relay.reload()["ok"]
        asyncio.run(meet(address))
        assert {each["restarts"] for each in relay.status()["workers"]} == {0}
