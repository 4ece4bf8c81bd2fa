"""The operator's lists."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.access import MAX_RULES, AccessRules, SubnetSet, counted_as, normal_ip
from config.errors import ConfigError
from config.settings import Access
from transports.identity import parse_peer_id

ALICE = "12D3KooWD3eckifWpRn9wQpMG9R9hX3sD158z7EqHWmweQAJU5SA"
BOB = "QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5N"
CAROL = "12D3KooWPjceQrSwdWXPyLLeABRXmuqt69Rg3sBYbU1Nft9HyQ6X"


def rules(**lists: tuple[str, ...]) -> AccessRules:
    return AccessRules.from_settings(Access(**lists))  # type: ignore[arg-type]  # one of its fields is no list


def test_without_lists_everyone_is_let_in() -> None:
    open_to_all = rules()
    assert open_to_all.peer_allowed(parse_peer_id(ALICE))
    assert open_to_all.address_allowed("203.0.113.9")
    assert open_to_all.address_allowed("not an address")
    assert open_to_all.origin_allowed("https://anything.example")
    assert open_to_all.origin_allowed(None)


def test_an_allow_list_of_peers_lets_in_its_peers_only() -> None:
    some = rules(allow_peers=(ALICE, BOB))
    assert some.peer_allowed(parse_peer_id(ALICE))
    assert some.peer_allowed(parse_peer_id(BOB))
    assert not some.peer_allowed(parse_peer_id(CAROL))


def test_a_peer_on_both_lists_is_denied() -> None:
    some = rules(allow_peers=(ALICE, BOB), deny_peers=(BOB,))
    assert some.peer_allowed(parse_peer_id(ALICE))
    assert not some.peer_allowed(parse_peer_id(BOB))


def test_a_deny_list_alone_lets_in_all_others() -> None:
    some = rules(deny_peers=(BOB,))
    assert some.peer_allowed(parse_peer_id(ALICE))
    assert not some.peer_allowed(parse_peer_id(BOB))


@pytest.mark.parametrize(
    ("ip", "allowed"),
    [
        ("10.0.0.0", True),
        ("10.255.255.255", True),
        ("9.255.255.255", False),
        ("11.0.0.0", False),
        ("10.1.2.3", False),  # denied as one address
        ("10.9.255.255", False),  # denied as part of a subnet
        ("10.10.0.0", True),
        ("::ffff:10.0.0.1", True),
        ("::ffff:10.1.2.3", False),
        ("2001:db8::1", True),
        ("2001:db9::1", False),
        ("::a00:1", False),  # the number of 10.0.0.1, but not that address
        ("nonsense", False),
        ("", False),
    ],
)
def test_subnets_match_to_the_last_address(ip: str, allowed: bool) -> None:
    some = rules(allow_subnets=("10.0.0.0/8", "2001:db8::/32"), deny_subnets=("10.1.2.3", "10.8.0.0/15"))
    assert some.address_allowed(ip) is allowed


def test_a_mapped_subnet_is_the_ipv4_subnet() -> None:
    some = rules(deny_subnets=("::ffff:192.0.2.0/120",))
    assert not some.address_allowed("192.0.2.255")
    assert not some.address_allowed("::ffff:192.0.2.0")
    assert some.address_allowed("192.0.3.0")


def test_a_link_local_address_with_its_scope_matches() -> None:
    assert not rules(deny_subnets=("fe80::/10",)).address_allowed("fe80::1%eth0")


NETWORKS = st.lists(
    st.one_of(
        st.tuples(st.integers(0, 2**32 - 1), st.integers(0, 32)).map(lambda n: ipaddress.IPv4Network(n, strict=False)),
        st.tuples(st.integers(0, 2**128 - 1), st.integers(0, 128)).map(
            lambda n: ipaddress.IPv6Network(n, strict=False)
        ),
    ),
    max_size=6,
)


@given(NETWORKS, st.data())
def test_a_subnet_set_holds_what_any_of_its_subnets_holds(
    networks: list[ipaddress.IPv4Network | ipaddress.IPv6Network], data: st.DataObject
) -> None:
    edges = [edge for n in networks for edge in (n.network_address, n.broadcast_address)]
    address = data.draw(st.sampled_from(edges) if edges else st.ip_addresses())
    near = type(address)((int(address) + data.draw(st.integers(-1, 1))) % 2**address.max_prefixlen)
    assert (near in SubnetSet(networks)) == any(near in network for network in networks)


@pytest.mark.parametrize(
    ("origin", "allowed"),
    [
        ("https://wallet.example", True),
        ("HTTPS://Wallet.Example/", True),
        ("http://localhost:5173", True),
        ("null", True),
        ("http://wallet.example", False),
        ("https://wallet.example:8443", False),
        ("https://evil.example", False),
        ("https://wallet.example.evil.example", False),
        ("", False),
    ],
)
def test_origins_are_compared_as_a_whole(origin: str, allowed: bool) -> None:
    some = rules(allow_origins=("https://WALLET.example/", "http://localhost:5173", "null"))
    assert some.origin_allowed(origin) is allowed


def test_a_client_without_an_origin_is_no_web_page() -> None:
    assert rules(allow_origins=("https://wallet.example",)).origin_allowed(None)


def test_only_listed_proxies_are_trusted() -> None:
    some = rules(trusted_proxies=("127.0.0.1/32", "::1/128"))
    assert some.is_trusted_proxy("127.0.0.1")
    assert some.is_trusted_proxy("::ffff:127.0.0.1")
    assert some.is_trusted_proxy("::1")
    assert not some.is_trusted_proxy("127.0.0.2")
    assert not some.is_trusted_proxy("nonsense")
    assert not rules(trusted_proxies=()).is_trusted_proxy("127.0.0.1")


@pytest.mark.parametrize(
    ("name", "entries", "index"),
    [
        ("allow_peers", (ALICE, "12D3KooWnobody"), 1),
        ("deny_peers", ("peer",), 0),
        ("allow_subnets", ("10.0.0.0/8", "10.0.0.0/33"), 1),
        ("deny_subnets", ("10.0.0.1/8",), 0),
        ("deny_subnets", ("example.org",), 0),
        ("trusted_proxies", ("127.0.0.1/32", "::1/129"), 1),
        ("allow_origins", ("wallet.example",), 0),
        ("allow_origins", ("https://wallet.example/path",), 0),
        ("allow_origins", ("https://",), 0),
        ("allow_origins", ("https://wallet.example:port",), 0),
        ("allow_origins", ("*",), 0),
    ],
)
def test_an_entry_that_cannot_be_read_is_named(name: str, entries: tuple[str, ...], index: int) -> None:
    with pytest.raises(ConfigError) as caught:
        rules(**{name: entries})
    assert caught.value.key == f"access.{name}[{index}]"
    assert caught.value.value == entries[index]


def test_a_list_may_be_as_long_as_the_cap_and_no_longer() -> None:
    entries = tuple(f"10.{n >> 16}.{n >> 8 & 255}.{n & 255}" for n in range(MAX_RULES + 1))
    assert not rules(deny_subnets=entries[:MAX_RULES]).address_allowed(entries[MAX_RULES - 1])
    with pytest.raises(ConfigError) as caught:
        rules(deny_subnets=entries)
    assert caught.value.key == "access.deny_subnets"


@pytest.mark.parametrize(
    ("ip", "normal"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:DB8:0:0::1", "2001:db8::1"),
        ("somewhere", "somewhere"),
    ],
)
def test_an_address_is_written_in_one_way(ip: str, normal: str) -> None:
    assert normal_ip(ip) == normal


@pytest.mark.parametrize(
    ("ip", "prefix", "counted"),
    [
        ("192.0.2.1", 64, "192.0.2.1"),
        ("192.0.2.1", 32, "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", 64, "2001:db8:1:2::/64"),
        ("2001:db8:1:2:ffff:ffff:ffff:ffff", 64, "2001:db8:1:2::/64"),
        ("2001:db8:1:3::", 64, "2001:db8:1:3::/64"),
        ("2001:db8:1:2f::1", 60, "2001:db8:1:20::/60"),
        ("2001:db8:1:2::1", 32, "2001:db8::/32"),
        ("2001:db8:1:2::1", 127, "2001:db8:1:2::/127"),
        ("2001:db8:1:2::1", 128, "2001:db8:1:2::1"),
        ("fe80::1:2%eth0", 64, "fe80::/64"),
        ("", 64, ""),
    ],
)
def test_ipv6_is_counted_by_its_subnet_and_ipv4_by_itself(ip: str, prefix: int, counted: str) -> None:
    assert counted_as(ip, prefix) == counted


def test_an_ipv4_address_mapped_into_ipv6_is_counted_as_ipv4() -> None:
    assert counted_as(normal_ip("::ffff:192.0.2.1"), 64) == "192.0.2.1"
