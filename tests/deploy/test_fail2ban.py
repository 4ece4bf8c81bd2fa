"""config/deploy/fail2ban with Debian's fail2ban, on lines that a real relay has written."""

from __future__ import annotations

import asyncio
import re
import shutil
import subprocess
from collections import Counter
from pathlib import Path

import pytest

from actors.limits import Reason
from supervisor.logs import json_line, text_line
from tests.support.client import Client, HopRefusedError
from tests.support.relay import ROOT, RelayProcess
from tests.support.toolchain import required_program
from transports import identity, multistream, noise, varint, websocket, wire, yamux
from transports.errors import PeerError
from transports.identity import HostKey

MODULES = (identity, multistream, noise, varint, websocket, wire, yamux)
"""Where the peers' errors are."""

FOLDER = ROOT / "config" / "deploy" / "fail2ban"
FILTER = FOLDER / "filter.d" / "frost-relay.conf"
HASTY, RUDE, MUTE, HONEST = "127.0.0.2", "127.0.0.3", "127.0.0.4", "127.0.0.5"
JOURNAL = "relay.example frost-relay[4711]: "


def banned(lines: list[str], folder: Path) -> Counter[str]:
    """How often the filter finds each address in these lines."""
    log = folder / "lines.log"
    log.write_text("\n".join(lines) + "\n")
    command = [required_program("fail2ban-regex"), "--out", "ip", str(log), str(FILTER)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stderr == "", done.stderr
    return Counter(done.stdout.split())


async def trouble(relay: RelayProcess) -> None:
    """Peers that reserve too often, one that speaks no libp2p, one that says nothing, and one without fault."""
    hasty = [await Client.dial(relay.address("tcp"), local=(HASTY, 0)) for _ in range(4)]
    await hasty[0].reserve()
    for each in hasty[1:]:
        with pytest.raises(HopRefusedError):
            await each.reserve()
    honest = await Client.dial(relay.address("ws"), local=(HONEST, 0))
    await honest.reserve()
    with pytest.raises(HopRefusedError):
        await honest.connect(HostKey.generate().peer_id)  # a target that has left
    port = int(relay.address("tcp").split("/")[4])
    for source, said in ((RUDE, b"GET / HTTP/1.1\r\n\r\n"), (RUDE, b"\xff" * 64), (MUTE, b"")):
        reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=(source, 0))
        writer.write(said)
        await reader.read()  # until the relay has closed it
        writer.close()
    for each in (*hasty, honest):
        await each.abort()


@pytest.mark.parametrize("form", ["text", "json"])
def test_who_deserves_it_is_found_in_the_relays_own_lines_and_nobody_else(tmp_path: Path, form: str) -> None:
    settings = (
        'admin.listen=""',
        'limits.reservation_rate_per_ip="1/1h"',
        "limits.handshake_timeout_s=0.5",
        f"log.format={form}",
    )
    with RelayProcess(*settings) as relay:
        asyncio.run(trouble(relay))
        assert relay.stop() == 0  # all that happened is in the log now
    lines = relay.stderr.splitlines()
    assert banned(lines, tmp_path) == {HASTY: 3, RUDE: 2, MUTE: 1}
    assert banned([JOURNAL + line for line in lines], tmp_path) == {HASTY: 3, RUDE: 2, MUTE: 1}


@pytest.mark.parametrize("line", [text_line, json_line])
@pytest.mark.parametrize("address", ["203.0.113.9:1", "[2001:db8::9]:1"])
def test_an_address_of_either_family_is_found(tmp_path: Path, line: type, address: str) -> None:
    fields = {"reason": "noise", "error": 'a "quoted\\" text', "peer": "?", "address": address}
    wanted = address.rpartition(":")[0].strip("[]")
    assert banned([line("info", "worker", "peer erred", fields)], tmp_path) == {wanted: 1}


@pytest.mark.parametrize("line", [text_line, json_line])
@pytest.mark.parametrize(
    "said",
    [
        "x peer=a address=198.51.100.1:1",
        'x" peer=a address=198.51.100.1:1',
        "2026-11-23T03:26:00.780Z info  peer: refused asked=a reason=malformed_message peer=a address=198.51.100.1:1",
        '","peer":"a","address":"198.51.100.1:1"',
    ],
)
def test_nobody_can_have_somebody_else_banned(tmp_path: Path, line: type, said: str) -> None:
    fields = {"reason": "noise", "error": said, "peer": "?", "address": "203.0.113.9:1"}
    assert banned([line("info", "worker", "peer erred", fields)], tmp_path) == {"203.0.113.9": 1}


def test_the_reasons_in_the_filter_exist() -> None:
    text = FILTER.read_text("utf-8")
    refusals, errors = (
        set(re.findall(rf"^{name} = (.*)$", text, re.MULTILINE)[0].split("|")) for name in ("refusals", "errors")
    )
    assert refusals <= {reason.value for reason in Reason}
    assert errors <= {kind.reason for kind in _all_errors(PeerError)}


def _all_errors(kind: type[PeerError]) -> list[type[PeerError]]:
    return [kind, *(each for sub in kind.__subclasses__() for each in _all_errors(sub))]


def test_fail2ban_takes_the_jail(tmp_path: Path) -> None:
    client = required_program("fail2ban-client")
    shutil.copytree("/etc/fail2ban", tmp_path / "fail2ban")
    shutil.copytree(FOLDER, tmp_path / "fail2ban", dirs_exist_ok=True)
    command = [client, "-c", str(tmp_path / "fail2ban"), "--dp"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "'frost-relay'" in done.stdout
    assert "_SYSTEMD_UNIT=frost-relay.service" in done.stdout
