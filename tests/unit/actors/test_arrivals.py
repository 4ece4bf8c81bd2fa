"""Hosts that peers come by and no announced address has."""

from __future__ import annotations

from pathlib import Path

import pytest

from actors.arrivals import MAX_HOSTS, Arrivals, Unannounced, announced_hosts, kept, unannounced
from transports.http_request import SNI

KNOWN = announced_hosts(
    ["/dns4/Relay.Example.org/tcp/443/tls/ws", "/ip4/203.0.113.7/tcp/9091/ws", "/ip6/2001:db8::7/tcp/9090"]
)


def test_the_hosts_of_addresses_are_names_and_numbers_and_what_tls_is_told() -> None:
    assert {"relay.example.org", "203.0.113.7", "2001:db8::7"} == KNOWN
    assert announced_hosts(["/ip4/192.0.2.1/tcp/443/tls/sni/a.example/ws"]) == {"192.0.2.1", "a.example"}
    assert announced_hosts([]) == frozenset()


@pytest.mark.parametrize(
    "host",
    [
        "relay.example.org",
        "RELAY.example.org:443",
        "203.0.113.7:9091",
        "[2001:db8::7]:80",
        "localhost:9091",
        "127.0.0.1:9091",
        "[::1]:9091",
        "",
        "two words",
        "a/b",
        "host:port",
        "x" * 254,
        "[::1",
        "evil\x1b[31m.example",
    ],
)
def test_what_is_announced_loopback_or_no_host_is_no_news(host: str) -> None:
    assert unannounced({"host": host}, False, KNOWN) is None


@pytest.mark.parametrize(
    ("headers", "secure", "address"),
    [
        ({"host": "other.example"}, False, "/dns4/other.example/tcp/80/ws"),
        ({"host": "Other.Example:9091"}, False, "/dns4/other.example/tcp/9091/ws"),
        ({"host": "other.example"}, True, "/dns4/other.example/tcp/443/tls/ws"),
        ({"host": "other.example", "x-forwarded-proto": "https"}, False, "/dns4/other.example/tcp/443/tls/ws"),
        ({"host": "other.example", "origin": "https://wallet.example"}, False, "/dns4/other.example/tcp/443/tls/ws"),
        ({"host": "other.example", "origin": "http://wallet.example"}, False, "/dns4/other.example/tcp/80/ws"),
        ({"host": "198.51.100.1:9091"}, False, "/ip4/198.51.100.1/tcp/9091/ws"),
        ({"host": "[2001:db8::1]:9091"}, False, "/ip6/2001:db8::1/tcp/9091/ws"),
    ],
)
def test_anything_else_comes_with_the_address_to_announce(headers: dict[str, str], secure: bool, address: str) -> None:
    found = unannounced(headers, secure, KNOWN)
    assert found is not None
    assert found.address == address


@pytest.mark.parametrize("host", ["", "a/b"])
def test_the_name_that_tls_was_told_stands_in_for_a_host_that_says_nothing(host: str) -> None:
    found = unannounced({"host": host, SNI: "Other.example"}, True, KNOWN)
    assert found == Unannounced("other.example", "/dns4/other.example/tcp/443/tls/ws")
    assert unannounced({"host": host, SNI: "relay.example.org"}, True, KNOWN) is None


def test_the_name_that_tls_was_told_adds_nothing_to_a_host() -> None:
    assert unannounced({"host": "relay.example.org", SNI: "inside.example"}, True, KNOWN) is None


class Log:
    def __init__(self) -> None:
        self.said: list[str] = []

    def __call__(self, found: Unannounced) -> None:
        self.said.append(found.host)


def news(host: str) -> Unannounced:
    return Unannounced(host, f"/dns4/{host}/tcp/80/ws")


def test_a_host_is_said_once_whichever_worker_saw_it(tmp_path: Path) -> None:
    log = Log()
    workers = [Arrivals(str(tmp_path), log) for _ in range(2)]
    for number, worker in enumerate(workers * 2):
        worker.came(number, news("a.example"))
        worker.upgraded(number)
    workers[1].came(9, news("b.example"))
    workers[1].upgraded(9)
    assert log.said == ["a.example", "b.example"]
    assert kept(str(tmp_path)) == [news("a.example"), news("b.example")]


def test_only_libp2p_peers_are_believed(tmp_path: Path) -> None:
    log = Log()
    worker = Arrivals(str(tmp_path), log)
    worker.came(1, news("scanner.example"))
    worker.lost(1)
    worker.upgraded(1)
    worker.upgraded(2)
    worker.came(3, None)
    worker.upgraded(3)
    assert log.said == []
    assert kept(str(tmp_path)) == []


def test_no_more_than_a_bounded_number_is_remembered(tmp_path: Path) -> None:
    log = Log()
    for _ in range(2):
        worker = Arrivals(str(tmp_path), log)
        for number in range(MAX_HOSTS + 5):
            worker.came(number, news(f"host-{number}.example"))
            worker.upgraded(number)
    assert len(log.said) == len(kept(str(tmp_path))) == MAX_HOSTS


def test_waiting_connections_are_bounded_too(tmp_path: Path) -> None:
    worker = Arrivals(str(tmp_path), Log())
    for number in range(1000):
        worker.came(number, news("a.example"))
    assert len(worker._waiting) == 256


def test_a_host_that_cannot_be_written_down_is_said_all_the_same(tmp_path: Path) -> None:
    (tmp_path / "runtime").write_text("no directory")
    said: list[Unannounced] = []
    arrivals = Arrivals(str(tmp_path / "runtime"), said.append)
    found = Unannounced("elsewhere.test", "/dns4/elsewhere.test/tcp/80/ws")
    for connection in (1, 2):
        arrivals.came(connection, found)
        arrivals.upgraded(connection)
    assert said == [found]
