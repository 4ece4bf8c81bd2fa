"""What js-libp2p does in a browser, and what the relay does about it: one test for each thing that either relies on.

Where js-libp2p does something odd, the test says what it really does: a new version that differs is to be noticed here.
What two pages that meet do, and that a page is back after its worker died, stands in test_browsers.py.
"""

import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser

from tests.support.browser import RACE_TRIES, JsPeer, js_peer
from tests.support.certificate import loopback_certificate
from tests.support.pages import (
    WAIT_S,
    calls_through,
    circuit_to,
    counted,
    fixed,
    kill_worker,
    listener_address,
    search,
    start_wallet,
    wait_until,
)
from tests.support.peers import Link, PeerCallError, link_of
from tests.support.placement import wait_until_empty
from tests.support.ports import free_port
from tests.support.relay import ROOT, RelayProcess

pytestmark = [pytest.mark.browser, pytest.mark.interop]

OpenPage = Callable[[], JsPeer]

# js-libp2p renews 5 minutes ahead of the end, but never within 30 s: this reservation is renewed after 30 s.
SHORT_TTL_S = 38
RENEWAL_LIMIT_S = 60
CALLERS = 6  # one more than js-libp2p takes in one second
SIGNALLING_BYTES = 16 * 1024
SAME_CALLS = 12  # one in twelve loses the race of @libp2p/webrtc
QUIET_S = 3.0  # longer than anyone's first pause before a second try


@dataclass(frozen=True)
class Renewing:
    """Two pages whose reservations are short, and when the later one was granted at the latest."""

    relay: RelayProcess
    pages: tuple[JsPeer, JsPeer]
    since_s: float


@pytest.fixture(scope="module")
def renewing(browser: Browser, page_url: str) -> Iterator[Renewing]:
    with (
        RelayProcess(f"limits.reservation_ttl_s={SHORT_TTL_S}") as relay,
        js_peer(browser, page_url) as searching,
        js_peer(browser, page_url) as bound,
    ):
        search(searching, relay, relay.address("ws"))
        bound.start(fixed(relay.address("ws")))
        relay.wait_status(lambda now: now["reservations"] == 2)
        yield Renewing(relay, (searching, bound), time.monotonic())


@pytest.fixture(autouse=True)
def _time_passes(renewing: Renewing) -> None:
    """The pages that are to renew start before the first test, so that the others run while they wait."""


def test_a_wallet_reserves_calls_leaves_and_comes_back(open_page: OpenPage) -> None:
    with RelayProcess() as relay:
        address = relay.address("ws")
        called, caller = open_page(), open_page()
        (reachable,) = [one for one in start_wallet(called, relay) if one.startswith(f"{address}/p2p-circuit/webrtc/")]
        start_wallet(caller, relay)
        direct = caller.dial(reachable)
        caller.open_echo(direct)
        assert not direct.limited
        caller.call("endSignalling", connection=direct.id)
        relay.wait_status(lambda now: now["circuits"] == 0 and now["reservations"] == 2)
        assert caller.say("beside the relay") == "beside the relay"
        assert caller.links().count(direct) == 1

        for page in (caller, called):
            page.call("leaveRelay")
        wait_until_empty(relay)
        assert caller.say("without the relay") == "without the relay"
        assert counted(relay, "frost_relay_relayed_bytes_total") < SIGNALLING_BYTES * (1 + caller.races_lost)

        called.dial(address)
        relay.wait_status(lambda now: now["reservations"] == 1)
        assert called.call("reachableAt")


def test_a_searching_page_that_only_hangs_up_is_back_at_once(open_page: OpenPage) -> None:
    with RelayProcess() as relay:
        page = open_page()
        before = search(page, relay, relay.address("ws"))
        page.hang_up(relay.peer_id)
        granted = 'frost_relay_reservations_granted_total{kind="new"}'
        wait_until(lambda: counted(relay, granted) == 2)
        (after,) = page.links()
        assert after.id != before.id


def test_a_wallet_is_back_when_the_relay_has_been_away(open_page: OpenPage, tmp_path: Path) -> None:
    port = free_port()
    listeners = [f"/ip4/127.0.0.1/tcp/{port}/ws"]
    key_file = f'identity.key_file="{tmp_path}/relay.key"'
    called, caller = open_page(), open_page()
    with RelayProcess(key_file, listeners=listeners) as relay:
        start_wallet(called, relay)
    with socket.create_server(("127.0.0.1", port)) as nobody:
        nobody.settimeout(WAIT_S)
        nobody.accept()[0].close()  # the relay is away and the page has noticed
    with RelayProcess(key_file, listeners=listeners) as relay:
        relay.wait_status(lambda now: now["reservations"] == 1)
        caller.start()
        assert calls_through(caller, circuit_to(relay.address("ws"), called))


def test_a_refused_page_asks_again_over_a_new_connection_only(open_page: OpenPage) -> None:
    with RelayProcess("limits.max_reservations=1") as relay:
        address = relay.address("ws")
        first, bound, waiting = open_page(), open_page(), open_page()
        first.start(fixed(address))
        with pytest.raises(PeerCallError, match="reservation failed with status RESERVATION_REFUSED"):
            bound.start(fixed(address))
        waiting.call("startWallet", relay=address)
        refusals = 'frost_relay_refusals_total{reason="reservations_full"}'
        wait_until(lambda: counted(relay, refusals) == 2)

        first.hang_up(relay.peer_id)
        relay.wait_status(lambda now: now["reservations"] == 0)
        assert waiting.ping_ms(address) >= 0
        assert counted(relay, refusals) == 2
        waiting.hang_up(relay.peer_id)
        relay.wait_status(lambda now: now["reservations"] == 1)
        assert waiting.call("reachableAt")


def test_a_fixed_page_never_reserves_again_and_a_searching_one_is_back_as_the_same_peer(open_page: OpenPage) -> None:
    with RelayProcess() as relay:
        address = relay.address("ws")
        bound, searching, caller = open_page(), open_page(), open_page()
        bound.start(fixed(address))
        search(searching, relay, address)
        relay.wait_status(lambda now: now["reservations"] == 2)
        kill_worker(relay)
        relay.wait_status(lambda now: now["reservations"] == 1)

        # Not even when it is connected again, and has heard from identify that this is a relay.
        bound.dial(address)
        assert bound.ping_ms(address) >= 0
        caller.start()
        assert calls_through(caller, circuit_to(address, searching))
        with pytest.raises(PeerCallError, match="failed to connect via relay with status NO_RESERVATION"):
            caller.dial(circuit_to(address, bound))
        assert relay.status()["reservations"] == 1


def test_a_page_comes_back_to_the_address_that_the_relay_announces(open_page: OpenPage) -> None:
    port = free_port()
    announced = f"/dns4/localhost/tcp/{port}/ws"
    listeners = [f"/ip4/127.0.0.1/tcp/{port}/ws"]
    with RelayProcess(f'announce.addresses=["{announced}"]', listeners=listeners) as relay:
        page = open_page()
        assert search(page, relay, listener_address(relay)).address == listener_address(relay)
        kill_worker(relay)
        relay.wait_status(lambda now: now["reservations"] == 1)
        assert [link.address for link in page.links()] == [f"{announced}/p2p/{relay.peer_id}"]


def test_a_wrong_announcement_leads_a_page_away_and_it_tries_once_only(open_page: OpenPage) -> None:
    with socket.create_server(("127.0.0.1", 0)) as elsewhere:
        elsewhere.settimeout(WAIT_S)
        wrong = f"/ip4/127.0.0.1/tcp/{elsewhere.getsockname()[1]}/ws"
        with RelayProcess(f'announce.addresses=["{wrong}"]', listeners=["/ip4/127.0.0.1/tcp/0/ws"]) as relay:
            page = open_page()
            search(page, relay, listener_address(relay))
            kill_worker(relay)
            elsewhere.accept()[0].close()
            elsewhere.settimeout(QUIET_S)
            with pytest.raises(TimeoutError):
                elsewhere.accept()
            wait_until_empty(relay)
            # Its application has to dial; then it reserves again.
            page.dial(listener_address(relay))
            relay.wait_status(lambda now: now["reservations"] == 1)


def test_a_page_takes_the_addresses_that_a_reload_announces(open_page: OpenPage, tmp_path: Path) -> None:
    # wallet.js has js-libp2p's service identifyPush; pages without it hear of them when they connect again.
    file = tmp_path / "relay.toml"
    file.write_text("")
    with RelayProcess(env={"FROST_RELAY_CONFIG": str(file)}) as relay:
        page = open_page()
        page.start(fixed(relay.address("ws")))
        relay.wait_status(lambda now: now["reservations"] == 1)
        file.write_text('[announce]\naddresses = ["/dns4/relay.example/tcp/443/tls/ws"]\n')
        assert relay.reload()["ok"]
        wait_until(lambda: page.identified(relay.peer_id)["addresses"] == ["/dns4/relay.example/tcp/443/tls/ws"])
        assert page.identified(relay.peer_id)["signed"]


def test_a_drain_lets_a_call_end_in_its_own_time_and_tells_the_pages_last(open_page: OpenPage) -> None:
    with RelayProcess("supervision.drain_timeout_s=600") as relay:
        address = relay.address("ws")
        called, caller = open_page(), open_page()
        called.start(fixed(address))
        caller.start()
        caller.open_echo(caller.dial(circuit_to(address, called)))
        relay.process.send_signal(signal.SIGTERM)
        wait_until(lambda: relay.get("/readyz") == (503, "draining\n"))
        assert caller.say("while the relay drains") == "while the relay drains"
        assert relay.peer_id in {link.peer for link in called.links()}
        caller.hang_up(called.peer_id)
        wait_until(lambda: not called.links() and not caller.links())
        assert relay.process.wait(WAIT_S) == 0


def test_a_searching_page_is_back_at_once_when_its_worker_is_recycled(open_page: OpenPage) -> None:
    with RelayProcess() as relay:
        address = relay.address("ws")
        page, caller = open_page(), open_page()
        search(page, relay, address)
        (name,) = [row["name"] for row in relay.workers("listener") if row["listener"].endswith("/ws")]
        drained = [sys.executable, "-m", "supervisor.cli", "drain", "--worker", name]
        subprocess.run([*drained, "--socket", str(relay.control_socket)], cwd=ROOT, check=True, timeout=60)
        granted = 'frost_relay_reservations_granted_total{kind="new"}'
        wait_until(lambda: counted(relay, granted) == 2)
        caller.start()
        assert calls_through(caller, circuit_to(address, page))


def test_an_aborted_connection_is_closed_by_the_relay_and_its_reservation_is_free(open_page: OpenPage) -> None:
    with RelayProcess() as relay:
        page = open_page()
        page.start(fixed(relay.address("ws")))
        relay.wait_status(lambda now: now["reservations"] == now["connections"] == 1)
        (link,) = page.links()
        # The page has said GoAway and keeps the WebSocket, which only the relay closes.
        assert page.call("abort", connection=link.id) == 1
        wait_until_empty(relay)


def test_of_two_connections_of_a_page_calls_take_the_one_that_reserved_last(open_page: OpenPage) -> None:
    with RelayProcess(listeners=["/ip4/127.0.0.1/tcp/0/ws"] * 2) as relay:
        older, newer = relay.addresses
        called, caller = open_page(), open_page()
        called.start(fixed(older))
        second = link_of(called.call("dialAnother", address=newer))
        caller.start()

        def called_over() -> str:
            caller.dial(circuit_to(older, called))
            (relayed,) = [link.address for link in called.links() if link.peer == caller.peer_id]
            caller.hang_up(called.peer_id)
            relay.wait_status(lambda now: now["circuits"] == 0)
            return relayed.partition("/p2p-circuit")[0]

        assert called_over() == older
        called.call("reserveOver", connection=second.id)
        assert called_over() == newer
        assert relay.status()["reservations"] == 1


@pytest.mark.parametrize(
    ("settings", "refused"),
    [
        pytest.param({}, True, id="js-libp2p's own threshold"),
        pytest.param(None, False, id="the wallet's threshold"),
    ],
)
def test_six_callers_at_once(open_page: OpenPage, settings: dict[str, Any] | None, refused: bool) -> None:
    with RelayProcess(f"limits.max_circuits_per_peer={CALLERS}") as relay:
        address = relay.address("ws")
        called, crowd = open_page(), open_page()
        called.peer_id = called.call("start", listen=[fixed(address)], connectionManager=settings)["peer"]
        failures = crowd.call("dialAtOnce", relay=address, address=circuit_to(address, called), count=CALLERS)
        assert len(failures) == CALLERS
        assert bool(list(filter(None, failures))) == refused, failures
        # The relay refused nobody: each caller had its circuit, and the called page ended it.
        assert counted(relay, "frost_relay_circuits_opened_total") == CALLERS
        assert counted(relay, "frost_relay_refusals_total") == 0


@pytest.mark.parametrize("allowed", [True, False], ids=["allowed", "not-allowed"])
def test_a_limited_connection_carries_what_both_sides_allow_on_it(open_page: OpenPage, allowed: bool) -> None:
    with RelayProcess() as relay:
        address = relay.address("ws")
        called, caller = open_page(), open_page()
        started = called.call("start", listen=[fixed(address)], runOnLimitedConnection=allowed)
        called.peer_id = started["peer"]
        caller.start()
        link = caller.dial(circuit_to(address, called))
        assert link.limited
        with pytest.raises(PeerCallError, match="LimitedConnectionError"):
            caller.call("openEcho", connection=link.id, runOnLimitedConnection=False)
        caller.open_echo(link)
        if allowed:
            assert caller.say("over the relay") == "over the relay"
        else:
            with pytest.raises(PeerCallError, match="stream"):
                caller.say("over the relay")


def test_100_kilobytes_both_ways_over_a_circuit_with_raised_limits(open_page: OpenPage) -> None:
    with RelayProcess("limits.circuit_bytes=1048576") as relay:
        address = relay.address("ws")
        called, caller = open_page(), open_page()
        called.start(fixed(address))
        caller.start()
        caller.open_echo(caller.dial(circuit_to(address, called)))
        text = "0123456789" * 10_240
        for _ in range(2):  # together more than the default limit
            assert caller.say(text) == text


def test_a_page_reserves_and_is_called_over_secure_websocket(browser: Browser, page_url: str, tmp_path: Path) -> None:
    certificate, key = loopback_certificate(tmp_path)
    listener = f'{{address="/ip4/127.0.0.1/tcp/0/tls/ws", workers=1, cert_file="{certificate}", key_file="{key}"}}'
    with (
        RelayProcess(f"listeners=[{listener}]") as relay,
        js_peer(browser, page_url, any_certificate=True) as called,
        js_peer(browser, page_url, any_certificate=True) as caller,
    ):
        address = relay.address("wss")
        search(called, relay, address)
        caller.start()
        assert calls_through(caller, circuit_to(address, called))


def dial_twice(caller: JsPeer, called: JsPeer, address: str) -> list[Link]:
    """The same dial twice at once, and again, with nothing left of the one before, after the known race."""
    for _ in range(RACE_TRIES):
        dialled = caller.call("dialTwice", address=address)
        if not dialled["race"]:
            return [link_of(one) for one in dialled["both"]]
        caller.races_lost += 1
        caller.hang_up(called.peer_id)
    raise AssertionError(f"{RACE_TRIES} times lost the init channel race of @libp2p/webrtc")


def test_two_identical_dials_are_one_direct_connection_every_time(open_page: OpenPage) -> None:
    with RelayProcess() as relay:
        called, caller = open_page(), open_page()
        listening = called.start(fixed(relay.address("ws")), "/webrtc")
        (reachable,) = [one for one in listening if f"{fixed(relay.address('ws'))}/webrtc/" in one]
        caller.start()
        for _ in range(SAME_CALLS):
            first, second = dial_twice(caller, called, reachable)
            assert first == second
            assert not first.limited
            caller.hang_up(called.peer_id)
            relay.wait_status(lambda now: now["circuits"] == 0)
        circuits = counted(relay, "frost_relay_circuits_opened_total")
        assert SAME_CALLS <= circuits <= SAME_CALLS + caller.races_lost
        assert counted(relay, "frost_relay_relayed_bytes_total") < SIGNALLING_BYTES * (SAME_CALLS + caller.races_lost)


def test_a_page_renews_ahead_of_the_end_of_its_reservation(renewing: Renewing, open_page: OpenPage) -> None:
    relay = renewing.relay
    wait_until(lambda: counted(relay, 'frost_relay_reservations_granted_total{kind="renewed"}') >= 2, RENEWAL_LIMIT_S)
    assert counted(relay, 'frost_relay_reservations_granted_total{kind="new"}') == 2
    # Beyond the end of what was granted first, both can still be called.
    time.sleep(max(0.0, renewing.since_s + SHORT_TTL_S - time.monotonic()))
    caller = open_page()
    caller.start()
    for page in renewing.pages:
        assert calls_through(caller, circuit_to(relay.address("ws"), page))
