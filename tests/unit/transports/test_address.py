"""Where we listen, what we announce, where a peer was seen."""

from __future__ import annotations

import contextlib
import socket
from dataclasses import dataclass
from typing import Any

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st
from multiaddr import Multiaddr

from config.errors import ConfigError
from transports.address import (
    MAX_ANNOUNCED_COST_BYTES,
    ListenAddress,
    announced_addresses,
    multiaddr_bytes,
    observed_address,
    parse_listen,
    undialable_warnings,
    with_peer,
)
from transports.identity import HostKey, peer_id_text

OWN = HostKey.from_seed(bytes(32)).peer_id
OTHER = HostKey.from_seed(bytes(31) + b"\1").peer_id


@dataclass(frozen=True)
class Row:
    family: int
    address: str


def interfaces(*addresses: str) -> dict[str, list[Row]]:
    rows = [Row(socket.AF_INET6 if ":" in address else socket.AF_INET, address) for address in addresses]
    return {"eth0": [Row(socket.AF_PACKET, "02:42:ac:11:00:02"), *rows]}


def bound(*texts: str) -> list[ListenAddress]:
    return [parse_listen(text, "listeners[0].address") for text in texts]


# Listeners


@pytest.mark.parametrize(
    ("text", "expected", "canonical"),
    [
        ("/ip4/0.0.0.0/tcp/9090", ("0.0.0.0", 9090, socket.AF_INET, False, False), None),
        ("/ip4/0.0.0.0/tcp/9091/ws", ("0.0.0.0", 9091, socket.AF_INET, True, False), None),
        ("/ip4/127.0.0.1/tcp/443/tls/ws", ("127.0.0.1", 443, socket.AF_INET, True, True), None),
        ("/ip4/127.0.0.1/tcp/443/wss", ("127.0.0.1", 443, socket.AF_INET, True, True), "/ip4/127.0.0.1/tcp/443/tls/ws"),
        ("/ip6/::/tcp/0", ("::", 0, socket.AF_INET6, False, False), None),
        ("/ip6/::1/tcp/65535/ws", ("::1", 65535, socket.AF_INET6, True, False), None),
        ("/ip6/2001:DB8:0::1/tcp/1/ws", ("2001:db8::1", 1, socket.AF_INET6, True, False), "/ip6/2001:db8::1/tcp/1/ws"),
    ],
)
def test_listeners_are_read_and_written_canonically(
    text: str, expected: tuple[Any, ...], canonical: str | None
) -> None:
    address = parse_listen(text, "listeners[0].address")
    assert (address.host, address.port, address.family, address.websocket, address.tls) == expected
    assert address.text == text
    assert address.multiaddr == (canonical or text)
    assert parse_listen(address.multiaddr, "k").multiaddr == address.multiaddr


def test_the_port_that_the_kernel_chose_replaces_port_0() -> None:
    address = parse_listen("/ip4/127.0.0.1/tcp/0/wss", "k").with_port(40123)
    assert address.multiaddr == "/ip4/127.0.0.1/tcp/40123/tls/ws"
    assert address.text == "/ip4/127.0.0.1/tcp/0/wss"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "/",
        "9091",
        "127.0.0.1:9091",
        "ip4/127.0.0.1/tcp/9091",
        "/ip4/127.0.0.1",
        "/ip4/127.0.0.1/tcp",
        "/ip4/127.0.0.1/tcp/",
        "/ip4/127.0.0.1/tcp/9091/",
        "/ip4/127.0.0.1/tcp/9091/ws/",
        "//ip4/127.0.0.1/tcp/9091",
        "/ip4/127.0.0.1/udp/9091",
        "/ip4/127.0.0.1/udp/9091/quic-v1",
        "/ip4/127.0.0.1/tcp/9091/tls",
        "/ip4/127.0.0.1/tcp/9091/ws/tls",
        "/ip4/127.0.0.1/tcp/9091/WS",
        "/ip4/127.0.0.1/tcp/9091/ws/p2p/" + peer_id_text(OWN),
        "/ip4/127.0.0.1/tcp/65536",
        "/ip4/127.0.0.1/tcp/-1",
        "/ip4/127.0.0.1/tcp/+1",
        "/ip4/127.0.0.1/tcp/ 1",
        "/ip4/127.0.0.1/tcp/1e3",
        "/ip4/127.0.0.1/tcp/١٢",
        "/ip4/127.0.0.1/tcp/" + "0" * 5000 + "1",
        "/ip4/127.0.0/tcp/1",
        "/ip4/127.0.0.256/tcp/1",
        "/ip4/::1/tcp/1",
        "/ip6/127.0.0.1/tcp/1",
        "/ip6/fe80::1%eth0/tcp/1",
        "/ip4/localhost/tcp/1",
        "/dns4/relay.example/tcp/1",
    ],
)
def test_what_no_listener_can_be_is_refused_with_the_key_and_the_value(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_listen(text, "listeners[3].address")
    assert caught.value.key == "listeners[3].address"
    assert caught.value.value == text
    assert "\n" not in str(caught.value)


@given(
    st.one_of(
        st.text(max_size=60),
        st.lists(st.sampled_from(["", "ip4", "ip6", "::", "1.1.1.1", "tcp", "0", "ws"])).map("/".join),
    )
)
def test_random_text_is_a_listener_or_a_config_error(text: str) -> None:
    with contextlib.suppress(ConfigError):
        Multiaddr(parse_listen(text, "k").multiaddr)


# Announced addresses that were configured


@pytest.mark.parametrize(
    "text",
    [
        "/dns4/relay.example.org/tcp/443/tls/ws",
        "/dns4/relay.example.org/tcp/443/wss",
        "/dns/relay.example.org/tcp/9091/ws",
        "/dns6/relay.example.org/tcp/9090",
        "/ip4/203.0.113.7/tcp/443/tls/sni/relay.example.org/ws",
        "/ip6/2001:db8::1/tcp/65535",
        "/ip4/127.0.0.1/tcp/9091/ws",
    ],
)
def test_configured_addresses_are_announced_as_they_are(text: str) -> None:
    assert announced_addresses([text], bound("/ip4/0.0.0.0/tcp/1"), interfaces("10.0.0.1"), OWN) == (text,)


def test_our_own_peer_id_behind_an_address_is_taken_off_and_doubles_are_announced_once() -> None:
    address = "/dns4/relay.example.org/tcp/443/tls/ws"
    other = "/ip4/203.0.113.7/tcp/9090"
    configured = [f"{address}/p2p/{peer_id_text(OWN)}", other, address]
    assert announced_addresses(configured, [], {}, OWN) == (address, other)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "/",
        "relay.example.org",
        "https://relay.example.org",
        "/dns4/relay.example.org",
        "/dns4//tcp/443",
        "/dns4/relay example/tcp/443",
        "/dnsaddr/relay.example.org",
        "/dns4/relay.example.org/udp/443/quic-v1",
        "/dns4/relay.example.org/tcp/443/tls",
        "/dns4/relay.example.org/tcp/443/ws/tls",
        "/dns4/relay.example.org/tcp/443/tls/ws/p2p-circuit",
        "/dns4/relay.example.org/tcp/70000/ws",
        "/dns4/relay.example.org/tcp/0/ws",
        "/ip4/0.0.0.0/tcp/9091/ws",
        "/ip6/::/tcp/9091/ws",
        "/tcp/9091/ip4/1.2.3.4",
        f"/p2p/{peer_id_text(OWN)}",
        f"/dns4/relay.example.org/tcp/443/p2p/{peer_id_text(OTHER)}",
        f"/dns4/relay.example.org/tcp/443/p2p/{peer_id_text(OTHER)}/p2p/{peer_id_text(OWN)}",
        f"/dns4/relay.example.org/tcp/443/p2p/{peer_id_text(OWN)}/p2p-circuit",
        f"/dns4/relay.example.org/tcp/443/p2p/{peer_id_text(OWN)}/p2p-circuit/p2p/{peer_id_text(OWN)}",
        "/dns4/relay.example.org/tcp/443/p2p/relay",
    ],
)
def test_what_nobody_can_dial_is_refused_with_its_place_in_the_list(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        announced_addresses(["/ip4/203.0.113.7/tcp/9090", text], [], {}, OWN)
    assert caught.value.key == "announce.addresses[1]"
    assert caught.value.value == text


def test_another_relays_peer_id_is_answered_with_ours() -> None:
    with pytest.raises(ConfigError, match=peer_id_text(OWN)):
        announced_addresses([f"/ip4/203.0.113.7/tcp/9090/p2p/{peer_id_text(OTHER)}"], [], {}, OWN)


def test_configured_addresses_beyond_one_answer_are_refused_at_the_first_that_does_not_fit() -> None:
    cost_bytes = 2 * len(multiaddr_bytes("/ip4/203.0.113.7/tcp/10000")) + 44
    fit = MAX_ANNOUNCED_COST_BYTES // cost_bytes
    configured = [f"/ip4/203.0.113.7/tcp/{10000 + index}" for index in range(fit + 1)]
    assert len(announced_addresses(configured[:fit], [], {}, OWN)) == fit
    with pytest.raises(ConfigError) as caught:
        announced_addresses(configured, [], {}, OWN)
    assert caught.value.key == f"announce.addresses[{fit}]"


# Announced addresses that were found


def test_a_wildcard_stands_for_every_address_of_its_family_the_dialable_ones_first() -> None:
    have = interfaces("127.0.0.1", "192.168.1.5", "93.184.216.34", "::1", "fe80::1%eth0", "fd00::5", "2606:4700::1111")
    assert announced_addresses([], bound("/ip4/0.0.0.0/tcp/9091/ws", "/ip4/0.0.0.0/tcp/9090"), have, OWN) == (
        "/ip4/93.184.216.34/tcp/9091/ws",
        "/ip4/93.184.216.34/tcp/9090",
        "/ip4/192.168.1.5/tcp/9091/ws",
        "/ip4/192.168.1.5/tcp/9090",
    )
    assert announced_addresses([], bound("/ip6/::/tcp/9091/tls/ws"), have, OWN) == (
        "/ip6/2606:4700::1111/tcp/9091/tls/ws",
        "/ip6/fd00::5/tcp/9091/tls/ws",
    )


def test_what_is_bound_to_one_address_is_announced_as_that_with_loopback_last() -> None:
    listeners = bound("/ip4/127.0.0.1/tcp/1/ws", "/ip4/10.0.0.7/tcp/2", "/ip6/::1/tcp/3", "/ip4/0.0.0.0/tcp/4/wss")
    assert announced_addresses([], listeners, interfaces("127.0.0.1", "10.0.0.7"), OWN) == (
        "/ip4/10.0.0.7/tcp/2",
        "/ip4/10.0.0.7/tcp/4/tls/ws",
        "/ip4/127.0.0.1/tcp/1/ws",
        "/ip6/::1/tcp/3",
    )


def test_loopback_stands_in_for_a_wildcard_when_the_machine_has_nothing_else() -> None:
    listeners = bound("/ip4/0.0.0.0/tcp/1/ws", "/ip6/::/tcp/2")
    alone = interfaces("127.0.0.1", "::1", "fe80::1%lo")
    assert announced_addresses([], listeners, alone, OWN) == ("/ip4/127.0.0.1/tcp/1/ws", "/ip6/::1/tcp/2")
    with_neighbours = interfaces("127.0.0.1", "::1", "10.0.0.7")
    assert announced_addresses([], listeners, with_neighbours, OWN) == ("/ip4/10.0.0.7/tcp/1/ws",)


def test_a_listener_without_any_address_is_not_announced_as_a_wildcard() -> None:
    for listeners, have in (
        (bound("/ip6/::/tcp/2"), interfaces("10.0.0.7")),
        ([], {}),
        (bound("/ip4/0.0.0.0/tcp/2"), {}),
    ):
        with pytest.raises(ConfigError, match=r"announce\.addresses = \[\]"):
            announced_addresses([], listeners, have, OWN)


def test_a_machine_with_many_addresses_announces_the_best_that_fit() -> None:
    many = interfaces(*(f"10.0.{index}.1" for index in range(100)), "93.184.216.34")
    announced = announced_addresses([], bound("/ip4/0.0.0.0/tcp/9091/ws"), many, OWN)
    cost_bytes = 2 * len(multiaddr_bytes(announced[0])) + 44
    assert announced[0] == "/ip4/93.184.216.34/tcp/9091/ws"
    assert len(announced) == MAX_ANNOUNCED_COST_BYTES // cost_bytes


def test_the_interfaces_of_this_machine_give_addresses_that_parse() -> None:
    announced = announced_addresses([], bound("/ip4/0.0.0.0/tcp/9091/ws"), psutil.net_if_addrs(), OWN)
    assert announced
    for text in announced:
        assert str(Multiaddr(text)) == text
        assert "/0.0.0.0/" not in text


def test_private_and_loopback_addresses_are_named_in_a_warning_and_public_ones_are_not() -> None:
    private = ["/ip4/192.168.1.5/tcp/1/ws", "/ip6/fd00::5/tcp/1", "/ip4/100.64.0.1/tcp/1", "/ip4/169.254.1.1/tcp/1"]
    loopback = ["/ip4/127.0.0.1/tcp/1", "/ip6/::1/tcp/1", "/dns4/localhost/tcp/1/ws"]
    public = ["/ip4/93.184.216.34/tcp/1", "/ip6/2606:4700::1111/tcp/1", "/dns4/relay.example.org/tcp/443/wss"]
    warnings = undialable_warnings([*private, *public, *loopback])
    assert len(warnings) == len(private) + len(loopback)
    for text, warning in zip([*private, *loopback], warnings, strict=True):
        assert warning.startswith(text)
        assert ("loopback" in warning) == (text in loopback)
        assert ("private" in warning) == (text in private)


# Bytes


@given(
    st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6)),
    st.integers(0, 65535),
    st.sampled_from([(False, False, ""), (True, False, "/ws"), (True, True, "/tls/ws")]),
)
def test_an_observed_address_is_what_the_multiaddr_package_makes_of_its_text(
    ip: Any, port: int, kind: tuple[Any, ...]
) -> None:
    websocket, tls, tail = kind
    mapped = ip.ipv4_mapped if ip.version == 6 else None
    shown = mapped or ip
    text = f"/ip{shown.version}/{shown}/tcp/{port}{tail}"
    assert observed_address(str(ip), port, websocket, tls) == Multiaddr(text).to_bytes() == multiaddr_bytes(text)


@pytest.mark.parametrize(
    ("ip", "text"),
    [
        ("::ffff:192.0.2.1", "/ip4/192.0.2.1/tcp/7/ws"),
        ("::ffff:c000:201", "/ip4/192.0.2.1/tcp/7/ws"),
        ("fe80::1%eth0", "/ip6/fe80::1/tcp/7/ws"),
        ("::", "/ip6/::/tcp/7/ws"),
    ],
)
def test_mapped_and_zoned_addresses_are_seen_as_what_they_are(ip: str, text: str) -> None:
    assert observed_address(ip, 7, websocket=True, tls=False) == Multiaddr(text).to_bytes()


@pytest.mark.parametrize(
    "ip", ["", "1.2.3", "1", "0x7f.1.1.1", "01.2.3.4", "256.1.1.1", "localhost", ":", "1::2::3", "1.2.3.4\0"]
)
def test_what_is_no_ip_address_is_not_observed(ip: str) -> None:
    with pytest.raises(ValueError, match=r"no IP address|null character"):
        observed_address(ip, 1, websocket=False, tls=False)


@pytest.mark.parametrize("port", [-1, 65536])
def test_what_is_no_port_is_not_observed(port: int) -> None:
    with pytest.raises(ValueError, match="no port"):
        observed_address("127.0.0.1", port, websocket=False, tls=False)


@pytest.mark.parametrize("peer", [OWN, b"\x12\x20" + bytes(32)])
def test_a_peer_behind_an_address_is_what_the_multiaddr_package_makes_of_its_text(peer: bytes) -> None:
    text = "/dns4/relay.example.org/tcp/443/tls/ws"
    assert with_peer(multiaddr_bytes(text), peer) == Multiaddr(f"{text}/p2p/{peer_id_text(peer)}").to_bytes()


@pytest.mark.parametrize("text", ["relay", "/ip4/1.2.3/tcp/1", "/ip4/1.2.3.4/tcp", "/nothing/1"])
def test_what_is_no_multiaddr_has_no_bytes(text: str) -> None:
    with pytest.raises(ValueError, match="no multiaddr"):
        multiaddr_bytes(text)
