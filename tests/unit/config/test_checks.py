"""Values that contradict one another."""

from typing import Any

import pytest

from config.errors import ConfigError
from config.load import decode

WS = "/ip4/127.0.0.1/tcp/9091/ws"


def refusal(tables: dict[str, Any]) -> str:
    with pytest.raises(ConfigError) as caught:
        decode(tables)
    return str(caught.value)


@pytest.mark.parametrize(
    ("share", "total"),
    [
        ("max_circuits_per_peer", "max_circuits"),
        ("max_reservations_per_ip", "max_reservations"),
        ("max_connections_per_ip", "max_connections"),
    ],
)
def test_a_share_above_the_total_is_refused_and_an_equal_one_is_not(share: str, total: str) -> None:
    assert getattr(decode({"limits": {share: 8, total: 8}}).limits, share) == 8
    text = refusal({"limits": {share: 9, total: 8}})
    assert text == f"limits.{share} = 9: expected at most limits.{total}, which is 8"


def test_a_share_is_held_against_the_default_total() -> None:
    text = refusal({"limits": {"max_circuits_per_peer": 17}})
    assert text == "limits.max_circuits_per_peer = 17: expected at most limits.max_circuits, which is 16"


def test_a_small_total_needs_no_new_share() -> None:
    assert decode({"limits": {"max_circuits": 1, "max_connections": 1}}).limits.max_circuits_per_peer == 4


def test_a_certificate_needs_its_key_and_a_key_its_certificate() -> None:
    listener = decode({"listeners": [{"address": WS, "cert_file": "/c", "key_file": "/k"}]}).listeners[0]
    assert (listener.cert_file, listener.key_file) == ("/c", "/k")
    text = refusal({"listeners": [{"address": WS, "cert_file": "/c"}]})
    assert text.startswith(
        "listeners[0].key_file is missing: expected the private key that belongs to listeners[0].cert"
    )
    text = refusal({"listeners": [{"address": WS}, {"address": "/ip4/1.2.3.4/tcp/1", "key_file": "/k"}]})
    assert text.startswith("listeners[1].cert_file is missing: expected the certificate")


@pytest.mark.parametrize("again", [WS, WS + "/"])
def test_two_listeners_cannot_share_an_address(again: str) -> None:
    text = refusal({"listeners": [{"address": WS}, {"address": "/ip4/1.2.3.4/tcp/1"}, {"address": again}]})
    assert text == f'listeners[2].address = "{again}": expected an address that listeners[0] does not have'


@pytest.mark.parametrize("free", ["/ip4/127.0.0.1/tcp/0", "/ip4/127.0.0.1/tcp/0/ws"])
def test_two_listeners_on_port_0_get_a_port_each(free: str) -> None:
    assert len(decode({"listeners": [{"address": free}, {"address": free}]}).listeners) == 2


def test_a_port_is_at_most_65535() -> None:
    assert decode({"admin": {"listen": "127.0.0.1:65535"}}).admin.address == ("127.0.0.1", 65535)
    assert refusal({"admin": {"listen": "127.0.0.1:65536"}}) == (
        'admin.listen = "127.0.0.1:65536": expected a port from 0 to 65535'
    )


@pytest.mark.parametrize("listen", ["0.0.0.0:9095", "[::]:9095", "192.0.2.1:1", "relay.example.org:1"])
def test_an_admin_off_loopback_needs_a_token(listen: str) -> None:
    text = refusal({"admin": {"listen": listen}})
    assert text == f'admin.listen = "{listen}": expected a loopback address, or admin.token_file to protect it'
    assert decode({"admin": {"listen": listen, "token_file": "/t"}}).admin.listen == listen


@pytest.mark.parametrize("listen", ["127.0.0.1:1", "127.9.9.9:1", "[::1]:1", "localhost:1", "LOCALHOST:1", ""])
def test_an_admin_on_loopback_needs_none(listen: str) -> None:
    assert decode({"admin": {"listen": listen}}).admin.listen == listen


def test_a_control_socket_has_a_whole_path() -> None:
    assert decode({"admin": {"control_socket": "/a/b"}}).admin.control_socket == "/a/b"
    text = refusal({"admin": {"control_socket": "run/control.sock"}})
    assert text.startswith('admin.control_socket = "run/control.sock": expected a whole path such as "/run/')


def test_a_listener_behind_a_proxy_needs_a_proxy_that_is_trusted() -> None:
    listeners = [{"address": WS, "proxy_protocol": True}]
    assert decode({"listeners": listeners}).listeners[0].proxy_protocol
    text = refusal({"listeners": listeners, "access": {"trusted_proxies": []}})
    assert text.startswith("listeners[0].proxy_protocol = true: expected false as long as access.trusted_proxies")


def test_a_canary_keeps_to_the_rates_that_hold_for_any_address() -> None:
    assert decode({"canary": {"interval_s": 60}}).canary.interval_s == 60
    text = refusal({"canary": {"interval_s": 59}})
    assert text == "canary.interval_s = 59.0: expected at least 60, because limits.reservation_rate_per_ip is 60/1h"
    text = refusal({"canary": {"interval_s": 60}, "limits": {"circuit_rate_per_ip": "1/2m"}})
    assert text == "canary.interval_s = 60.0: expected at least 120, because limits.circuit_rate_per_ip is 1/2m"


def test_a_canary_that_never_rests_is_refused_even_without_rates() -> None:
    off = {"reservation_rate_per_ip": "off", "circuit_rate_per_ip": "off"}
    assert decode({"canary": {"interval_s": 1}, "limits": off}).canary.interval_s == 1
    text = refusal({"canary": {"interval_s": 0.5}, "limits": off})
    assert text == "canary.interval_s = 0.5: expected 0 for off, or at least 1"


def test_a_canary_that_is_off_may_stand_beside_any_rate() -> None:
    assert decode({"limits": {"circuit_rate_per_ip": "1/31d"}}).canary.interval_s == 0
