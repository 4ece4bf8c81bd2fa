"""Who may connect: addresses and the proxies that tell them, web origins, how many; and what the web port says."""

from __future__ import annotations

import asyncio
import http.client
import re
import socket
import ssl
from collections.abc import Iterator
from contextlib import AsyncExitStack, suppress

import pytest
from picows import WSError

from tests.scenarios.relays import Certificate, Relays
from tests.scenarios.scene import TRIES, Place, Scene, gone, port_of, still_served
from tests.support.client import Client
from tests.support.relay import RelayProcess
from transports.address import multiaddr_bytes

MAX_CONNECTIONS, MAX_PER_IP, MAX_PENDING = 6, 3, 4
ORIGIN = "https://wallet.example"
DENIED_SUBNET = "203.0.113.0/24"
DENIED_LOOPBACK = "127.0.0.66"
WEB = ["ws", "wss"]


@pytest.fixture(scope="module")
def relay(relays: Relays) -> Iterator[RelayProcess]:
    with relays.started(
        f"limits.max_connections={MAX_CONNECTIONS}",
        f"limits.max_connections_per_ip={MAX_PER_IP}",
        f"limits.max_pending_handshakes={MAX_PENDING}",
        "limits.handshake_timeout_s=4",
        f'access.allow_origins=["{ORIGIN}"]',
        f'access.deny_subnets=["{DENIED_SUBNET}", "{DENIED_LOOPBACK}/32"]',
    ) as relay:
        yield relay


@pytest.fixture(scope="module")
def suspicious_relay(relays: Relays) -> Iterator[RelayProcess]:
    """Trusts no proxy."""
    with relays.started("access.trusted_proxies=[]", f'access.deny_subnets=["{DENIED_SUBNET}"]') as relay:
        yield relay


@pytest.fixture(params=WEB)
def web(request: pytest.FixtureRequest, relay: RelayProcess, certificate: Certificate) -> Scene:
    return Scene(relay, Place(request.param, together=False), certificate.trust)


@pytest.fixture(params=WEB)
def suspicious(request: pytest.FixtureRequest, suspicious_relay: RelayProcess, certificate: Certificate) -> Scene:
    return Scene(suspicious_relay, Place(request.param, together=False), certificate.trust)


def _tail(scene: Scene) -> str:
    return "/tls/ws" if scene.place.transport == "wss" else "/ws"


# Addresses


@pytest.mark.parametrize(
    ("told", "ip", "port"),
    [
        ("198.51.100.7", "/ip4/198.51.100.7", 0),
        ("198.51.100.7:4711", "/ip4/198.51.100.7", 4711),
        ("[2001:db8::5]:443", "/ip6/2001:db8::5", 443),
        ("8.8.8.8, 198.51.100.9", "/ip4/198.51.100.9", 0),
        ("203.0.113.1, 198.51.100.9, 127.0.0.1", "/ip4/198.51.100.9", 0),
    ],
    ids=["ip", "with-port", "ip6", "forged-before", "trusted-behind"],
)
async def test_a_trusted_proxy_is_believed_about_its_client(web: Scene, told: str, ip: str, port: int) -> None:
    client = await web.dial(behind=told)
    assert (await client.identify()).observedAddr == multiaddr_bytes(f"{ip}/tcp/{port}{_tail(web)}")


async def test_nonsense_of_a_trusted_proxy_leaves_the_proxys_own_address(web: Scene) -> None:
    client = await web.dial(behind="unknown, <script>")
    observed = multiaddr_bytes(f"/ip4/127.0.0.1/tcp/{port_of(client)}{_tail(web)}")
    assert (await client.identify()).observedAddr == observed


async def test_anybody_else_is_not_believed(suspicious: Scene) -> None:
    client = await suspicious.dial(behind="203.0.113.9")  # which would be denied
    observed = multiaddr_bytes(f"/ip4/127.0.0.1/tcp/{port_of(client)}{_tail(suspicious)}")
    assert (await client.identify()).observedAddr == observed


async def test_a_denied_subnet_is_refused_at_the_upgrade(web: Scene) -> None:
    async with web.counting("frost_relay_refusals_total", reason="subnet_denied"):
        with pytest.raises(WSError):
            await web.dial(behind="203.0.113.9")
    await web.logged("refused", "reason=subnet_denied", "address=203.0.113.9:0")


async def test_a_denied_subnet_is_refused_over_tcp_too(web: Scene) -> None:
    port = int(web.relay.address("tcp").split("/")[4])
    async with web.counting("frost_relay_refusals_total", reason="subnet_denied"):
        assert await asyncio.to_thread(_read_from, port, DENIED_LOOPBACK) == b""
    await web.logged("refused", "reason=subnet_denied")


def _read_from(port: int, source: str) -> bytes:
    with _connected_from(port, source) as connection:
        try:
            return connection.recv(100)
        except ConnectionResetError:
            return b""


# How many


async def test_connections_of_one_address_are_limited_and_others_come_in(web: Scene) -> None:
    inside = [await web.dial(behind="198.51.100.1") for _ in range(MAX_PER_IP)]
    await web.registered(connections=MAX_PER_IP)
    async with web.counting("frost_relay_refusals_total", reason="connections_per_ip"):
        await _refused(web, "198.51.100.1")
    limit = ("limit=limits.max_connections_per_ip", f"value={MAX_PER_IP}")
    await web.logged("refused", "reason=connections_per_ip", "address=198.51.100.1:0", *limit)
    await still_served(await web.dial(behind="198.51.100.2"))
    for client in inside:
        await still_served(client)
    await inside[0].abort()
    await web.registered(connections=MAX_PER_IP)
    await still_served(await web.dial(behind="198.51.100.1"))


async def test_an_ipv6_subnet_is_one_address(web: Scene) -> None:
    for number in range(MAX_PER_IP):
        await web.dial(behind=f"2001:db8:0:1::{number}")
    await web.registered(connections=MAX_PER_IP)
    async with web.counting("frost_relay_refusals_total", reason="connections_per_ip"):
        await _refused(web, "2001:db8:0:1:ffff::")
    await still_served(await web.dial(behind="2001:db8:0:2::"))


async def test_connections_in_total_are_limited(web: Scene) -> None:
    inside = [await web.dial(behind=f"198.51.100.{number}") for number in range(MAX_CONNECTIONS)]
    await web.registered(connections=MAX_CONNECTIONS)
    async with web.counting("frost_relay_refusals_total", reason="connections_full"):
        await _refused(web, "198.51.100.200")
    await web.logged("refused", "reason=connections_full", "address=198.51.100.200:0")
    for client in inside:
        await still_served(client)
    await inside[0].abort()
    await web.registered(connections=MAX_CONNECTIONS - 1)
    await still_served(await web.dial(behind="198.51.100.201"))


async def test_when_too_many_shake_hands_the_oldest_go_and_newcomers_get_in(solo: Scene) -> None:
    port = int(solo.address.split("/")[4])
    async with AsyncExitStack() as opened:
        for number in range(MAX_PENDING):
            opened.enter_context(_connected_from(port, f"127.0.0.{10 + number}"))
        await solo.settled(connections=MAX_PENDING)
        before = await solo.counted("frost_relay_refusals_total", reason="pending_handshakes_full")
        for _ in range(TRIES):  # a worker gives up its own only, and the kernel chooses the worker
            newcomer = await solo.dial()
            await still_served(newcomer)
            await newcomer.abort()
            if await solo.counted("frost_relay_refusals_total", reason="pending_handshakes_full") > before:
                break
        else:
            raise AssertionError("nobody was ended")
        line = await solo.logged("refused", "reason=pending_handshakes_full")
        assert re.search(r"address=127\.0\.0\.1\d:", line)


async def test_behind_a_header_of_its_own_nobody_is_believed(suspicious: Scene) -> None:
    async with suspicious.counting("frost_relay_forwarded_ignored_total", reason="untrusted"):
        await suspicious.dial(behind="203.0.113.9")


async def test_nonsense_of_a_trusted_proxy_is_counted(web: Scene) -> None:
    async with web.counting("frost_relay_forwarded_ignored_total", reason="unusable"):
        await web.dial(behind="unknown")


def _connected_from(port: int, source: str) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=10, source_address=(source, 0))


async def _refused(scene: Scene, behind: str) -> None:
    """The registry decides while the handshake runs, so that the peer may get some way before it is closed."""
    try:
        client = await scene.dial(behind=behind)
    except (WSError, OSError, AssertionError):  # closed before the relay had said who it is
        return
    await gone(client)


# Origins


async def _dial_from(scene: Scene, origin: str) -> None:
    tls = scene._tls if scene.place.transport == "wss" else None
    client = await Client.dial(scene.address, tls=tls, headers={"Origin": origin})
    await still_served(client)
    await client.close()


@pytest.mark.parametrize("origin", [ORIGIN, ORIGIN.upper()])
async def test_an_allowed_page_comes_in(web: Scene, origin: str) -> None:
    await _dial_from(web, origin)


async def test_no_page_at_all_comes_in(web: Scene) -> None:
    await still_served(await web.dial())


@pytest.mark.parametrize("origin", ["https://evil.example", "http://wallet.example", "null", f"{ORIGIN}.evil.example"])
async def test_any_other_page_is_refused(web: Scene, origin: str) -> None:
    async with web.counting("frost_relay_refusals_total", reason="origin_denied"):
        with pytest.raises(WSError):
            await _dial_from(web, origin)
    await web.logged("refused", "reason=origin_denied")


# The web port


def _get(scene: Scene, path: str, method: str = "GET", **headers: str) -> tuple[int, bytes]:
    port = int(scene.address.split("/")[4])
    connection: http.client.HTTPConnection
    if scene.place.transport == "wss":
        context: ssl.SSLContext = scene._tls
        connection = http.client.HTTPSConnection("127.0.0.1", port, timeout=10, context=context)
    else:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request(method, path, headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


async def test_a_person_gets_a_page(web: Scene) -> None:
    status, body = await asyncio.to_thread(_get, web, "/")
    assert status == 200
    assert b"libp2p" in body
    await web.settled(connections=0)


@pytest.mark.parametrize("path", ["/index.html", "/.env", "/" + "a" * 2000, "//", "/x?/"])
async def test_there_is_nothing_elsewhere(web: Scene, path: str) -> None:
    status, _ = await asyncio.to_thread(_get, web, path)
    assert status == 404
    await web.settled(connections=0)


@pytest.mark.parametrize(
    "headers",
    [
        {"Upgrade": "h2c", "Connection": "Upgrade"},
        {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "8"},
        {"Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ=="},
    ],
    ids=["something-else", "old-version", "dropped-by-a-proxy"],
)
async def test_only_websocket_13_can_be_upgraded_to(web: Scene, headers: dict[str, str]) -> None:
    async with web.counting("frost_relay_peer_errors_total", reason="http_request"):
        status, body = await asyncio.to_thread(_get, web, "/", "GET", **headers)
        assert status == 426
        assert b"WebSocket, version 13" in body
    await web.settled(connections=0)


async def test_head_is_answered_like_get_without_the_page(web: Scene) -> None:
    assert await asyncio.to_thread(_get, web, "/", "HEAD") == (200, b"")
    assert await asyncio.to_thread(_get, web, "/x", "HEAD") == (404, b"")
    await web.settled(connections=0)


@pytest.mark.parametrize("method", ["POST", "DELETE", "OPTIONS"])
async def test_other_methods_are_refused(web: Scene, method: str) -> None:
    assert (await asyncio.to_thread(_get, web, "/", method))[0] == 405
    await web.settled(connections=0)


async def test_a_head_of_8_kib_is_answered_and_one_byte_more_is_431(web: Scene) -> None:
    port = web.address.split("/")[4]
    rest = f"GET / HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nAccept-Encoding: identity\r\nX-Padding: \r\n\r\n"
    room = 8192 - len(rest)
    assert (await asyncio.to_thread(_get, web, "/", **{"X-Padding": "x" * room}))[0] == 200
    async with web.counting("frost_relay_peer_errors_total", reason="http_head_too_long"):
        assert (await asyncio.to_thread(_get, web, "/", **{"X-Padding": "x" * (room + 1)}))[0] == 431
    await web.settled(connections=0)


@pytest.mark.parametrize(
    "garbage",
    [b"\x16\x03\x01\x02\x00\x01\x00", b"\x13/multistream/1.0.0\n\r\n\r\n", b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 3000],
    ids=["tls", "multistream", "endless-headers"],
)
def test_what_is_no_request_is_ended(relay: RelayProcess, garbage: bytes) -> None:
    port = int(relay.address("ws").split("/")[4])
    with socket.create_connection(("127.0.0.1", port), timeout=15) as connection:
        connection.sendall(garbage)
        with suppress(ConnectionResetError):
            while connection.recv(4096):
                pass
    relay.wait_status(lambda now: now["connections"] == 0)


@pytest.mark.parametrize("said", [b"GET / HTTP/1.1\r\nHost: relay\r\n\r\n", b"\x16\x03\x01"], ids=["no-tls", "half"])
async def test_a_tls_handshake_that_fails_is_counted_and_logged(
    relay: RelayProcess, certificate: Certificate, said: bytes
) -> None:
    scene = Scene(relay, Place("wss", together=False), certificate.trust)
    async with (
        scene.counting("frost_relay_peer_errors_total", reason="tls"),
        scene.counting("frost_relay_handshakes_total", outcome="tls"),
    ):
        reader, writer = await asyncio.open_connection("127.0.0.1", int(scene.address.split("/")[4]))
        port = writer.get_extra_info("sockname")[1]
        writer.write(said)
        writer.write_eof()
        await reader.read()
        writer.close()
    await scene.logged("peer", "erred", "reason=tls", f"address=127.0.0.1:{port}")
    await scene.settled(connections=0)


async def test_a_host_that_nobody_announced_is_said_once_with_what_to_announce(
    relay: RelayProcess, certificate: Certificate
) -> None:
    web = Scene(relay, Place("ws", together=False), certificate.trust)
    for number in range(3):
        await web.dial(behind=f"198.51.100.{number}", name="unannounced.example")
    await web.logged("host=unannounced.example", f"announce=/dns4/unannounced.example/tcp/{_port(web)}/ws")
    assert web.relay.stderr.count("host=unannounced.example") == 1
    announce = f"/dns4/unannounced.example/tcp/{_port(web)}/ws"
    assert web.relay.status()["unannounced"] == [{"host": "unannounced.example", "announce": announce}]
    await web.close()


def _port(scene: Scene) -> str:
    return scene.address.split("/")[4]
