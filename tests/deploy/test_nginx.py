"""config/deploy/nginx.conf with a real nginx in front of a real relay."""

from __future__ import annotations

import asyncio
import re
import socket
import ssl
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from actors.peer import KEEPALIVE_S
from actors.proto.circuit_pb2 import Status
from tests.scenarios.scene import counter, port_of
from tests.support.certificate import loopback_certificate
from tests.support.client import Client, HopRefusedError
from tests.support.nginx import nginx_site
from tests.support.relay import ROOT, RelayProcess
from transports.address import observed_address
from transports.proxy import client_address

SITE = (ROOT / "config" / "deploy" / "nginx.conf").read_text("utf-8")
WAIT_S = 10.0
ALICE, BOB = "127.0.0.2", "127.0.0.3"
"""Clients' addresses: nginx itself is 127.0.0.1 to the relay, and the only one that is trusted."""


class Door:
    """nginx in front of the relay, and a client's trust in its certificate."""

    def __init__(self, port: int, certificate: Path) -> None:
        self.port = port
        self.trust = ssl.create_default_context(cafile=str(certificate))

    async def dial(self, peer_id: str, source: str = ALICE, headers: dict[str, str] | None = None) -> Client:
        """One peer that comes from `source`."""
        address = f"/ip4/127.0.0.1/tcp/{self.port}/tls/ws/p2p/{peer_id}"
        return await Client.dial(address, tls=self.trust, headers=headers, local=(source, 0))


@contextmanager
def door(folder: Path, upstream: int) -> Iterator[Door]:
    certificate, key = loopback_certificate(folder)
    with nginx_site(folder, upstream, certificate, key) as port:
        yield Door(port, certificate)


@pytest.fixture(scope="module")
def relay() -> Iterator[RelayProcess]:
    listeners = ("/ip4/127.0.0.1/tcp/0/ws",)
    with RelayProcess("limits.max_reservations_per_ip=1", "log.level=debug", listeners=listeners) as relay:
        yield relay


@pytest.fixture(scope="module")
def nginx(relay: RelayProcess, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    with door(tmp_path_factory.mktemp("nginx"), int(relay.address("ws").split("/")[4])) as nginx:
        yield nginx


def logged(relay: RelayProcess, pattern: str) -> str:
    """The first line of the relay's log that matches."""
    end = time.monotonic() + WAIT_S
    while time.monotonic() < end:
        if found := re.search(f"^.*{pattern}.*$", relay.stderr, re.MULTILINE):
            return found[0]
        time.sleep(0.02)
    raise AssertionError(f"no {pattern} in\n{relay.stderr}")


def test_two_peers_meet_and_the_relay_knows_where_they_really_are(nginx: Door, relay: RelayProcess) -> None:
    async def scenario() -> None:
        target, source = await nginx.dial(relay.peer_id, ALICE), await nginx.dial(relay.peer_id, BOB)
        await target.reserve()
        port = port_of(target)
        logged(relay, rf"reservation granted .*address={re.escape(ALICE)}:{port}\b")
        assert (await target.identify()).observedAddr == observed_address(ALICE, port, websocket=True, tls=False)
        left = await source.connect(target.peer_id)
        _, right = await target.called()
        left.write(b"offer")
        assert await right.read(5) == b"offer"
        for each in (target, source):
            await each.abort()

    asyncio.run(scenario())
    relay.wait_status(lambda now: now["reservations"] == 0)


def test_limits_of_an_address_are_those_of_the_client_and_not_of_nginx(nginx: Door, relay: RelayProcess) -> None:
    async def scenario() -> None:
        first, second = await nginx.dial(relay.peer_id, ALICE), await nginx.dial(relay.peer_id, ALICE)
        third = await nginx.dial(relay.peer_id, BOB)
        await first.reserve()
        with pytest.raises(HopRefusedError) as refused:
            await second.reserve()
        assert refused.value.status == Status.RESERVATION_REFUSED
        await third.reserve()
        for each in (first, second, third):
            await each.abort()

    asyncio.run(scenario())
    relay.wait_status(lambda now: now["reservations"] == 0)


@pytest.mark.parametrize("through_nginx", [True, False], ids=["through nginx", "past it"])
def test_what_a_client_says_about_its_address_is_not_believed(
    nginx: Door, relay: RelayProcess, through_nginx: bool
) -> None:
    liar = {"X-Forwarded-For": "198.51.100.7:7"}
    counted = counter(relay, "frost_relay_forwarded_ignored_total", reason="untrusted")

    async def scenario() -> None:
        if through_nginx:
            client = await nginx.dial(relay.peer_id, ALICE, liar)
        else:
            client = await Client.dial(relay.address("ws"), headers=liar, local=(ALICE, 0))
        await client.reserve()
        logged(relay, rf"reservation granted .*address={re.escape(ALICE)}:{port_of(client)}\b")
        await client.abort()

    asyncio.run(scenario())
    relay.wait_status(lambda now: now["reservations"] == 0)
    # nginx writes what it sees in the place of what it is told, so there is nothing to ignore
    counted += 0 if through_nginx else 1
    assert counter(relay, "frost_relay_forwarded_ignored_total", reason="untrusted") == counted


def test_nobody_but_the_relay_decides_that_a_connection_is_dead() -> None:
    timeouts = dict(re.findall(r"proxy_(read|send)_timeout (\d+)s;", SITE))
    assert all(float(timeouts[name]) >= 3 * KEEPALIVE_S for name in ("read", "send"))


def test_a_person_with_a_browser_sees_the_relays_page(nginx: Door) -> None:
    with urllib.request.urlopen(f"https://127.0.0.1:{nginx.port}/", context=nginx.trust, timeout=WAIT_S) as answer:
        assert answer.status == 200
        assert b"libp2p circuit relay" in answer.read()


def test_an_ipv6_client_is_written_as_the_relay_reads_it(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as upstream, door(tmp_path, upstream.getsockname()[1]) as nginx:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        plain = socket.create_connection(("::1", nginx.port))
        with context.wrap_socket(plain) as client:
            port = client.getsockname()[1]
            client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: 1.2.3.4\r\n\r\n")
            upstream.settimeout(WAIT_S)
            with upstream.accept()[0] as connection:
                request = connection.recv(65536).decode()
    (line,) = re.findall(r"^X-Forwarded-For: (.*)\r$", request, re.MULTILINE)
    assert line == f"[::1]:{port}"
    assert client_address({"x-forwarded-for": line}, "127.0.0.1", 1, lambda ip: ip == "127.0.0.1") == ("::1", port)
