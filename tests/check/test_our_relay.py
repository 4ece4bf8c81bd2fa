"""`frost-relay check` against real relays of ours, on every transport."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from supervisor.check.report import STEPS
from tests.check.looking import Looked, run_check
from tests.support.authority import Authority
from tests.support.relay import ROOT, RelayProcess

LOW = ["resolve", "connect"]
HIGH = ["secure", "multiplex", "identify", "announced", "reserve", "voucher", "expiry"]
CIRCUIT = ["second host", "circuit", "echo", "release"]


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def relay(authority: Authority) -> Iterator[RelayProcess]:
    cert_file, key_file = authority.issue("127.0.0.1", "localhost")
    listeners = (
        '{address="/ip4/127.0.0.1/tcp/0/ws", workers=2}, {address="/ip4/127.0.0.1/tcp/0", workers=1}, '
        f'{{address="/ip4/127.0.0.1/tcp/0/tls/ws", workers=1, cert_file="{cert_file}", key_file="{key_file}"}}'
    )
    with RelayProcess(f"listeners=[{listeners}]") as relay:
        yield relay
        assert "Traceback" not in relay.stderr, relay.stderr


@pytest.mark.parametrize(("transport", "between"), [("tcp", []), ("ws", ["websocket"]), ("wss", ["tls", "websocket"])])
def test_every_step_is_well_on_every_transport(
    relay: RelayProcess, authority: Authority, transport: str, between: list[str]
) -> None:
    looked = Looked(relay.address(transport), "--ca", str(authority.ca_file))
    looked.well()
    assert list(looked.steps) == LOW + between + HIGH + CIRCUIT
    assert set(looked.outcomes.values()) == {"ok"}, looked.document
    assert looked.document["peer"] == relay.peer_id
    assert looked.document["agent"].startswith("frost-relay/")
    relay.wait_status(lambda status: status["connections"] == status["reservations"] == status["circuits"] == 0)


def test_the_address_needs_no_peer_id(relay: RelayProcess) -> None:
    address, _, peer = relay.address("ws").rpartition("/p2p/")
    looked = Looked(address)
    looked.well()
    assert looked.document["peer"] == peer


def test_the_address_of_a_page_will_do(relay: RelayProcess, authority: Authority) -> None:
    port = relay.address("wss").split("/")[4]
    looked = Looked(f"wss://127.0.0.1:{port}", "--ca", str(authority.ca_file))
    looked.well()
    assert looked.outcomes["announced"] == "ok"


def test_people_read_one_line_a_step_and_no_colour_in_a_pipe(relay: RelayProcess) -> None:
    ended = run_check(relay.address("tcp"))
    assert ended.returncode == 0
    assert ended.stderr == ""
    assert "\x1b" not in ended.stdout
    lines = ended.stdout.splitlines()
    assert [each[2:14].strip() for each in lines[:-1]] == LOW + HIGH + CIRCUIT
    assert all(each.startswith("✓ ") for each in lines[:-1])
    assert lines[-1].endswith(": all well")


def test_silence_is_a_step_of_its_own_when_it_is_asked_for(relay: RelayProcess) -> None:
    looked = Looked(relay.address("ws"), "--idle", "0.5")
    looked.well()
    assert looked.outcomes["idle"] == "ok"
    assert set(looked.steps) == set(STEPS) - {"tls"}


def test_a_certificate_is_believed_unchecked_when_that_is_asked_for(relay: RelayProcess) -> None:
    looked = Looked(relay.address("wss"), "--insecure")
    looked.well()
    assert "not checked" in looked.steps["tls"]["detail"]


def test_an_address_that_is_not_announced_works_and_is_told_with_the_line_for_the_configuration() -> None:
    with RelayProcess(listeners=["/ip4/127.0.0.1/tcp/0"]) as relay:
        port = relay.address("tcp").split("/")[4]
        looked = Looked(f"/dns4/localhost/tcp/{port}")
    looked.well()
    assert looked.outcomes["announced"] == "note"
    assert f'announce.addresses = ["/dns4/localhost/tcp/{port}"]' in looked.steps["announced"]["remedy"]


def test_the_ends_of_a_call_may_sit_in_two_workers_and_the_slot_is_free_after() -> None:
    with RelayProcess("limits.max_reservations=1", "limits.max_circuits=1", workers=2) as relay:
        for _ in range(3):
            Looked(relay.address("ws")).well()


WRONG = [
    (["nowhere:1"], "ADDRESS"),
    (["/ip4/127.0.0.1/udp/1"], "ADDRESS"),
    (["/ip4/127.0.0.1/tcp/1", "--ca", "/no/such/file"], "--ca"),
    (["/ip4/127.0.0.1/tcp/1", "--timeout", "0"], "--timeout"),
    (["/ip4/127.0.0.1/tcp/1", "--idle", "many"], "--idle"),
    ([], "ADDRESS"),
]


@pytest.mark.parametrize(("arguments", "named"), WRONG, ids=[" ".join(each[0]) or "nothing" for each in WRONG])
def test_wrong_usage_is_exit_code_2_and_names_what_is_wrong(arguments: list[str], named: str) -> None:
    ended = run_check(*arguments)
    assert ended.returncode == 2
    assert ended.stdout == ""
    assert named in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_file_that_is_no_certificate_is_wrong_usage(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("not a certificate")
    ended = run_check("/ip4/127.0.0.1/tcp/1", "--ca", str(tmp_path / "ca.pem"))
    assert ended.returncode == 2
    assert ended.stderr.startswith("frost-relay: --ca = ")


def test_no_process_of_the_relay_imports_what_a_check_needs() -> None:
    """75 MB; and a dead worker must be back in milliseconds."""
    code = (
        "import importlib, sys\n"
        "from supervisor import cli, main\n"
        "for name in (*main.ACTORS.values(), 'supervisor.tree.SupervisorActor'):\n"
        "    importlib.import_module(name.rpartition('.')[0])\n"
        "print({'libp2p', 'trio', 'wsproto'} & set(sys.modules))"
    )
    said = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert said.stdout.strip() == "set()"
