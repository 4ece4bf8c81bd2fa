"""Each failure that `frost-relay check` can name, made with real parts: the right step, its cause, what to do."""

from __future__ import annotations

import datetime
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.check.looking import Looked, run_check
from tests.support.authority import DAY, Authority
from tests.support.nginx import nginx
from tests.support.ports import free_port
from tests.support.relay import RelayProcess

OTHER_PEER = "12D3KooWHqDqb8Bh9CzFFBMVdbDYH6pZxcyX2nAVqT2ycpxyRLdC"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def relay(authority: Authority) -> Iterator[RelayProcess]:
    cert_file, key_file = authority.issue("127.0.0.1")
    listeners = (
        '{address="/ip4/127.0.0.1/tcp/0/ws", workers=1}, {address="/ip4/127.0.0.1/tcp/0", workers=1}, '
        f'{{address="/ip4/127.0.0.1/tcp/0/tls/ws", workers=1, cert_file="{cert_file}", key_file="{key_file}"}}'
    )
    with RelayProcess(f"listeners=[{listeners}]") as relay:
        yield relay


def port_of(relay: RelayProcess, transport: str) -> str:
    return relay.address(transport).split("/")[4]


@contextmanager
def server(answer: Callable[[socket.socket], None]) -> Iterator[int]:
    """Accepts connections on loopback and does with each what the test wants; gives its port."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        open_ones: list[socket.socket] = []

        def serve() -> None:
            while True:
                try:
                    accepted, _ = listening.accept()
                except OSError:
                    return
                open_ones.append(accepted)
                try:
                    answer(accepted)
                except OSError:
                    accepted.close()

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield listening.getsockname()[1]
        finally:
            listening.shutdown(socket.SHUT_RDWR)
            thread.join()
            for each in open_ones:
                each.close()


# --- nothing there ---


def test_a_name_that_does_not_exist() -> None:
    step, cause, remedy = Looked("wss://relay.invalid").failure()
    assert step == "resolve"
    assert "the name is not known" in cause
    assert "dig" in remedy


def test_a_port_that_is_closed() -> None:
    step, cause, remedy = Looked(f"/ip4/127.0.0.1/tcp/{free_port()}/ws").failure()
    assert (step, cause) == ("connect", "nothing listens there: the port is closed")
    assert "start the relay" in remedy


@pytest.mark.parametrize(("way", "step"), [("", "secure"), ("/ws", "websocket"), ("/tls/ws", "tls")])
def test_a_black_hole_that_accepts_and_never_answers(way: str, step: str) -> None:
    with server(lambda accepted: None) as port:
        failed, cause, remedy = Looked(f"/ip4/127.0.0.1/tcp/{port}{way}", "--timeout", "1").failure()
    assert failed == step
    assert cause == "it is connected and gets no answer (1 s)"
    assert "ss -ltnp" in remedy


# --- spoken to in the wrong way ---


@pytest.mark.parametrize(
    ("transport", "way", "step", "remedy"),
    [
        ("wss", "/ws", "websocket", "use …/tls/ws"),
        ("wss", "", "secure", "use …/tls/ws"),
        ("ws", "/tls/ws", "tls", "use …/ws"),
        ("ws", "", "secure", "use …/ws"),
        ("tcp", "/ws", "websocket", "leave out /ws"),
        ("tcp", "/tls/ws", "tls", "leave out /ws"),
    ],
)
def test_a_port_asked_in_the_wrong_way_says_which_is_right(
    relay: RelayProcess, transport: str, way: str, step: str, remedy: str
) -> None:
    address = f"/ip4/127.0.0.1/tcp/{port_of(relay, transport)}{way}"
    failed, cause, found = Looked(address, "--timeout", "3").failure()
    assert failed == step
    assert cause.startswith("this port speaks")
    assert remedy in found


# --- certificates ---


@contextmanager
def tls_server(files: tuple[Path, Path]) -> Iterator[int]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*files)
    with server(lambda accepted: context.wrap_socket(accepted, server_side=True).close()) as port:
        yield port


CERTIFICATES = [
    (("127.0.0.1",), -30 * DAY, -2 * DAY, "has expired (for 127.0.0.1, until", "renew"),
    (("127.0.0.1",), 2 * DAY, 30 * DAY, "not valid yet (for 127.0.0.1, until", "clock"),
    (
        ("relay.example.org",),
        -DAY,
        30 * DAY,
        "for another name than 127.0.0.1 (for relay.example.org, until",
        "certbot",
    ),
]


@pytest.mark.parametrize(("names", "since", "until", "cause", "remedy"), CERTIFICATES, ids=["old", "early", "other"])
def test_a_certificate_that_does_not_hold(
    authority: Authority,
    names: tuple[str, ...],
    since: datetime.timedelta,
    until: datetime.timedelta,
    cause: str,
    remedy: str,
) -> None:
    with tls_server(authority.issue(*names, since=since, until=until)) as port:
        step, found, to_do = Looked(f"wss://127.0.0.1:{port}", "--ca", str(authority.ca_file)).failure()
    assert step == "tls"
    assert cause in found
    assert remedy in to_do


def test_a_certificate_that_nobody_here_trusts(relay: RelayProcess) -> None:
    step, cause, remedy = Looked(relay.address("wss")).failure()
    assert step == "tls"
    assert "signed by nobody this machine trusts (for 127.0.0.1" in cause
    assert "fullchain.pem" in remedy
    assert "--ca" in remedy


def test_a_certificate_that_ends_soon_is_a_note(authority: Authority) -> None:
    cert_file, key_file = authority.issue("127.0.0.1", until=5 * DAY)
    listener = f'{{address="/ip4/127.0.0.1/tcp/0/tls/ws", workers=1, cert_file="{cert_file}", key_file="{key_file}"}}'
    with RelayProcess(f"listeners=[{listener}]") as relay:
        looked = Looked(relay.address("wss"), "--ca", str(authority.ca_file))
    looked.well()
    assert looked.outcomes["tls"] == "note"
    assert "4 days left" in looked.steps["tls"]["detail"]


# --- a proxy in between ---

PROXY = "location / {{ proxy_pass http://127.0.0.1:{port}; proxy_http_version 1.1; {headers} }}"
UPGRADE = 'proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection "upgrade";'


def test_nginx_with_upgrade_headers_is_well_and_tells_the_clock(relay: RelayProcess, tmp_path: Path) -> None:
    with nginx(tmp_path, PROXY.format(port=port_of(relay, "ws"), headers=UPGRADE)) as port:
        looked = Looked(f"ws://127.0.0.1:{port}")
    looked.well()
    assert looked.steps["websocket"]["detail"].startswith("through nginx")
    assert f'announce.addresses = ["/ip4/127.0.0.1/tcp/{port}/ws"]' in looked.steps["announced"]["remedy"]


def test_nginx_without_upgrade_headers(relay: RelayProcess, tmp_path: Path) -> None:
    with nginx(tmp_path, PROXY.format(port=port_of(relay, "ws"), headers="")) as port:
        step, cause, remedy = Looked(f"ws://127.0.0.1:{port}").failure()
    assert step == "websocket"
    assert "instead of 101" in cause
    assert "upgrade headers" in cause
    assert "proxy_set_header Upgrade $http_upgrade" in remedy


def test_nginx_that_does_not_reach_the_relay(tmp_path: Path) -> None:
    with nginx(tmp_path, PROXY.format(port=free_port(), headers=UPGRADE)) as port:
        step, cause, remedy = Looked(f"ws://127.0.0.1:{port}").failure()
    assert step == "websocket"
    assert "HTTP 502 from nginx" in cause
    assert "proxy_pass" in remedy


def test_a_page_where_the_relay_should_be(tmp_path: Path) -> None:
    with nginx(tmp_path, "location / { return 200 hello; }") as port:
        step, cause, _ = Looked(f"ws://127.0.0.1:{port}").failure()
    assert step == "websocket"
    assert "HTTP 200" in cause


def test_nginx_that_wants_tls_and_is_asked_without(tmp_path: Path, authority: Authority) -> None:
    cert_file, key_file = authority.issue("127.0.0.1")
    block = f"ssl_certificate {cert_file}; ssl_certificate_key {key_file}; location / {{ return 200 hello; }}"
    with nginx(tmp_path, block, ssl=True) as port:
        step, cause, remedy = Looked(f"ws://127.0.0.1:{port}").failure()
    assert step == "websocket"
    assert cause == "this port speaks TLS"
    assert "wss://" in remedy


def test_a_proxy_that_cuts_idle_connections(relay: RelayProcess, tmp_path: Path) -> None:
    cuts = f"{UPGRADE} proxy_read_timeout 1s; proxy_send_timeout 1s;"
    with nginx(tmp_path, PROXY.format(port=port_of(relay, "ws"), headers=cuts)) as port:
        step, cause, remedy = Looked(f"ws://127.0.0.1:{port}", "--idle", "20").failure()
    assert step == "idle"
    assert "by a proxy that cuts idle connections" in cause
    assert "proxy_read_timeout" in remedy


# --- the relay ---


def test_another_peer_than_the_address_names(relay: RelayProcess) -> None:
    address = relay.address("tcp").replace(relay.peer_id, OTHER_PEER)
    step, cause, remedy = Looked(address).failure()
    assert step == "secure"
    assert cause == f"the server is {relay.peer_id}, and the address names {OTHER_PEER}"
    assert "--import" in remedy


def test_a_relay_that_is_full() -> None:
    with RelayProcess("limits.reservation_rate_per_ip=1/1h", listeners=["/ip4/127.0.0.1/tcp/0"]) as relay:
        Looked(relay.address("tcp")).well()
        step, cause, remedy = Looked(relay.address("tcp")).failure()
    assert step == "reserve"
    assert "RESERVATION_REFUSED" in cause
    assert "limits.max_reservations" in remedy


def test_a_relay_that_allows_no_circuit() -> None:
    with RelayProcess("limits.circuit_rate_per_ip=1/1h", listeners=["/ip4/127.0.0.1/tcp/0"]) as relay:
        Looked(relay.address("tcp")).well()
        step, cause, remedy = Looked(relay.address("tcp")).failure()
    assert step == "circuit"
    assert "RESOURCE_LIMIT_EXCEEDED" in cause
    assert "limits.max_circuits" in remedy


def test_a_relay_that_does_not_allow_this_peer() -> None:
    allow = f'access.allow_peers=["{OTHER_PEER}"]'
    with RelayProcess(allow, listeners=["/ip4/127.0.0.1/tcp/0"]) as relay:
        step, cause, remedy = Looked(relay.address("tcp")).failure()
    assert step == "reserve"
    assert "PERMISSION_DENIED" in cause
    assert "[access]" in remedy


def test_announced_addresses_that_lead_nowhere() -> None:
    nowhere = f"/ip4/127.0.0.1/tcp/{free_port()}/ws"
    with RelayProcess(f'announce.addresses=["{nowhere}"]', listeners=["/ip4/127.0.0.1/tcp/0/ws"]) as relay:
        line = relay.wait_status(lambda status: True)["workers"]
        port = next(each["listener"] for each in line if each["role"] == "listener").split("/")[4]
        step, cause, remedy = Looked(f"/ip4/127.0.0.1/tcp/{port}/ws").failure()
    assert step == "announced"
    assert nowhere in cause
    assert f'announce.addresses = ["/ip4/127.0.0.1/tcp/{port}/ws"]' in remedy


# --- clocks ---

HAND_TURNED = "import time\n_real = time.time\ntime.time = lambda: _real() + ({off_s})"


def test_a_clock_that_is_ahead_of_the_relay_s(relay: RelayProcess) -> None:
    step, cause, remedy = Looked(relay.address("tcp"), setup=HAND_TURNED.format(off_s=7200)).failure()
    assert step == "expiry"
    assert "one of the two clocks is wrong" in cause
    assert "set-ntp" in remedy


def test_a_clock_that_is_behind_is_told_by_the_long_time_that_is_left(relay: RelayProcess) -> None:
    looked = Looked(relay.address("tcp"), setup=HAND_TURNED.format(off_s=-7200))
    looked.well()
    assert looked.outcomes["expiry"] == "note"
    assert "is a clock wrong" in looked.steps["expiry"]["remedy"]


def test_a_proxy_that_tells_its_time_shows_by_how_much_a_clock_is_off(relay: RelayProcess, tmp_path: Path) -> None:
    with nginx(tmp_path, PROXY.format(port=port_of(relay, "ws"), headers=UPGRADE)) as port:
        looked = Looked(f"ws://127.0.0.1:{port}", setup=HAND_TURNED.format(off_s=1800))
    looked.well()
    assert looked.outcomes["expiry"] == "note"
    assert "s behind this one's" in looked.steps["expiry"]["detail"]


def test_a_failure_is_one_line_with_what_to_do_below_for_people() -> None:
    ended = run_check(f"/ip4/127.0.0.1/tcp/{free_port()}")
    assert ended.returncode == 1
    failed, remedy, last = ended.stdout.splitlines()[-3:]
    assert failed.startswith("✗ connect")
    assert remedy.startswith("  → start the relay")
    assert last.endswith(": connect failed")
