from __future__ import annotations

import pytest

from config.errors import ConfigError
from supervisor.check.address import Address, parse

PEER = "12D3KooWHqDqb8Bh9CzFFBMVdbDYH6pZxcyX2nAVqT2ycpxyRLdC"

GOOD = [
    ("/ip4/203.0.113.7/tcp/9090", Address("ip4", "203.0.113.7", 9090)),
    ("/ip6/2001:db8::1/tcp/9091/ws", Address("ip6", "2001:db8::1", 9091, websocket=True)),
    (f"/ip4/203.0.113.7/tcp/9091/ws/p2p/{PEER}", Address("ip4", "203.0.113.7", 9091, websocket=True, peer=PEER)),
    (
        "/dns4/relay.example.org/tcp/443/tls/ws",
        Address("dns4", "relay.example.org", 443, websocket=True, tls=True),
    ),
    ("/dns4/relay.example.org/tcp/443/wss/", Address("dns4", "relay.example.org", 443, websocket=True, tls=True)),
    (
        f"/ip4/203.0.113.7/tcp/443/tls/sni/relay.example.org/ws/p2p/{PEER}",
        Address("ip4", "203.0.113.7", 443, True, True, "relay.example.org", peer=PEER),
    ),
    (
        "/dns4/relay.example.org/tcp/443/tls/ws/http-path/a%2Fb",
        Address("dns4", "relay.example.org", 443, True, True, path="/a/b"),
    ),
    ("wss://relay.example.org", Address("dns", "relay.example.org", 443, websocket=True, tls=True)),
    ("https://relay.example.org:8443/r?t=1", Address("dns", "relay.example.org", 8443, True, True, path="/r?t=1")),
    ("ws://127.0.0.1:9091/", Address("ip4", "127.0.0.1", 9091, websocket=True)),
    ("ws://[::1]:9091", Address("ip6", "::1", 9091, websocket=True)),
    ("relay.example.org", Address("dns", "relay.example.org", 443, websocket=True, tls=True)),
]


@pytest.mark.parametrize(("text", "address"), GOOD, ids=[each[0] for each in GOOD])
def test_what_operators_type_is_understood(text: str, address: Address) -> None:
    assert parse(text) == address


BAD = [
    ("", "a multiaddr such as"),
    ("/", "a multiaddr such as"),
    ("/ip4/203.0.113.7", "a multiaddr such as"),
    ("/ip4/2001:db8::1/tcp/1", "an ip4 address"),
    ("/ip4/relay.example.org/tcp/1", "an ip4 address"),
    ("/dns4/under score/tcp/1", "a host name"),
    ("/ip4/203.0.113.7/udp/9090/quic-v1", "/udp"),
    ("/ip4/203.0.113.7/tcp/0", "a port from 1 to 65535"),
    ("/ip4/203.0.113.7/tcp/65536", "a port from 1 to 65535"),
    ("/ip4/203.0.113.7/tcp/９", "a port from 1 to 65535"),
    ("/ip4/203.0.113.7/tcp/1/tls", "/ws, or /tls/ws"),
    ("/ip4/203.0.113.7/tcp/1/p2p/nobody", "a peer ID"),
    (f"/ip4/203.0.113.7/tcp/1/p2p/{PEER}/p2p-circuit", "without /p2p-circuit"),
    (f"/ip4/203.0.113.7/tcp/1/p2p/{PEER}/p2p-circuit/p2p/{PEER}", "without /p2p-circuit"),
    ("/dnsaddr/relay.example.org", "/dnsaddr"),
    ("relay.example.org:9091", "wss://relay.example.org:9091"),
    ("ftp://relay.example.org", "wss://"),
    ("wss://", "a multiaddr such as"),
    ("wss://relay.example.org:0", "a port from 1 to 65535"),
    ("wss://relay.example.org:99999", "a multiaddr such as"),
    ("wss://user@relay.example.org", "no user"),
    ("wss://relay.example.org/ü\x00", "a multiaddr such as"),
    ("wss://relay.example.org/" + "a" * 3000, "a multiaddr such as"),
]


@pytest.mark.parametrize(("text", "expected"), BAD, ids=[each[0][:40] for each in BAD])
def test_what_cannot_be_used_is_one_line_that_says_what_would_be_right(text: str, expected: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(text)
    assert str(caught.value).startswith("ADDRESS = ")
    assert "\n" not in str(caught.value)
    assert expected in str(caught.value)


@pytest.mark.parametrize(
    ("text", "multiaddr"),
    [
        ("wss://relay.example.org", "/dns/relay.example.org/tcp/443/tls/ws"),
        ("/dns4/relay.example.org/tcp/443/wss", "/dns4/relay.example.org/tcp/443/tls/ws"),
        ("/ip4/203.0.113.7/tcp/443/tls/sni/a.example/ws", "/ip4/203.0.113.7/tcp/443/tls/sni/a.example/ws"),
        (f"/ip4/203.0.113.7/tcp/9090/p2p/{PEER}", "/ip4/203.0.113.7/tcp/9090"),
    ],
)
def test_its_multiaddr_is_what_belongs_into_announce_addresses(text: str, multiaddr: str) -> None:
    assert parse(text).multiaddr == multiaddr


def test_a_name_is_the_same_place_however_it_is_to_be_resolved() -> None:
    assert parse("wss://Relay.example.org").same_place(parse("/dns4/relay.example.org./tcp/443/wss"))
    assert not parse("ws://relay.example.org:443").same_place(parse("wss://relay.example.org"))
    assert not parse("wss://relay.example.org").same_place(parse("wss://relay.example.org:8443"))
