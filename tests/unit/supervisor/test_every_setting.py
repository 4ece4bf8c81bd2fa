"""Every setting with values of the right type that still cannot be used: each is one line, and nothing is started.

Wrong types and ranges are in tests/unit/config/test_explain.py. A new key has to be put into one of the two tables.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from config.errors import ConfigError
from config.load import decode, to_tables
from config.settings import Listener, Settings
from supervisor import plan

WS = "/ip4/127.0.0.1/tcp/0/ws"
WSS = "/ip4/127.0.0.1/tcp/0/tls/ws"


def listener(**keys: Any) -> dict[str, Any]:
    return {"listeners": [{"address": WS, **keys}]}


def limits(**keys: int) -> dict[str, Any]:
    return {"limits": keys}


def access(key: str, *items: str) -> dict[str, Any]:
    return {"access": {key: list(items)}}


# key: tables that are wrong for this key alone, and what the line says is expected
UNUSABLE: dict[str, list[tuple[dict[str, Any], str]]] = {
    "identity.key_file": [
        ({"identity": {"key_file": "/"}}, "a regular file"),
        ({"identity": {"key_file": "/dev/null"}}, "a regular file"),
    ],
    "listeners[0].address": [
        (listener(address="nonsense"), "/ip4/HOST/tcp/PORT with nothing, /ws or /tls/ws"),
        (listener(address="/ip4/127.0.0.1/udp/1"), "/ip4/HOST/tcp/PORT"),
        (listener(address="/ip4/127.0.0.1/tcp/99999"), "a port from 0 to 65535"),
        (listener(address="/ip4/999.0.0.1/tcp/1"), "an IPv4 address"),
        (listener(address="/dns4/relay.example.org/tcp/1"), "/ip4/HOST/tcp/PORT"),
        (listener(address="/ip4/127.0.0.1/tcp/1/p2p-circuit"), "/ip4/HOST/tcp/PORT"),
    ],
    "listeners[0].cert_file": [
        (listener(address=WSS, cert_file="/no/cert", key_file="/no/key"), "a readable file with a certificate"),
        (listener(address=WSS), "a readable file with a certificate"),
        (listener(key_file="/no/key"), "the certificate that belongs to"),
        (listener(cert_file="/no/cert", key_file="/no/key"), "which is not /tls/ws"),
    ],
    "listeners[0].key_file": [(listener(cert_file="/no/cert"), "the private key that belongs to")],
    "listeners[0].proxy_protocol": [
        ({**listener(proxy_protocol=True), **access("trusted_proxies")}, "false as long as access.trusted_proxies"),
    ],
    "announce.addresses": [
        ({"announce": {"addresses": ["nonsense"]}}, "an address to dial"),
        ({"announce": {"addresses": ["/ip4/0.0.0.0/tcp/1"]}}, "no wildcard and no port 0"),
        ({"announce": {"addresses": ["/ip4/192.0.2.1/udp/1"]}}, "an address to dial"),
    ],
    "limits.max_reservations": [(limits(max_reservations=9, max_connections=8), "at most limits.max_connections")],
    "limits.max_circuits_per_peer": [(limits(max_circuits_per_peer=3, max_circuits=2), "at most limits.max_circuits")],
    "limits.max_reservations_per_ip": [
        (limits(max_reservations_per_ip=3, max_reservations=2), "at most limits.max_reservations, which is 2"),
    ],
    "limits.max_connections_per_ip": [
        (limits(max_connections_per_ip=9, max_connections=8), "at most limits.max_connections, which is 8"),
    ],
    "limits.max_pending_handshakes": [
        (limits(max_pending_handshakes=9, max_connections=8), "at most limits.max_connections, which is 8"),
    ],
    "limits.max_memory_mb": [
        (limits(max_memory_mb=1), "0 for three quarters of what there is, or at least 128"),
        (limits(max_memory_mb=127), "0 for three quarters of what there is, or at least 128"),
    ],
    "access.allow_peers": [(access("allow_peers", "nobody"), "a peer ID")],
    "access.deny_peers": [(access("deny_peers", "12D3KooW"), "a peer ID")],
    "access.allow_subnets": [(access("allow_subnets", "10.0.0.0/33"), "a subnet such as")],
    "access.deny_subnets": [(access("deny_subnets", "nowhere"), "a subnet such as")],
    "access.allow_origins": [(access("allow_origins", "wallet.example.org"), "an origin such as")],
    "access.tokens_file": [
        ({"access": {"tokens_file": "/no/such/tokens"}}, "a file that exists"),
        ({"access": {"tokens_file": "/"}}, "a regular file"),
    ],
    "access.trusted_proxies": [(access("trusted_proxies", "::1/129"), "a subnet such as")],
    "admin.listen": [
        ({"admin": {"listen": "0.0.0.0:9095"}}, "a loopback address, or admin.token_file"),
        ({"admin": {"listen": "127.0.0.1:99999"}}, "a port from 0 to 65535"),
    ],
    "admin.token_file": [
        ({"admin": {"token_file": "/no/such/token"}}, "a file that exists"),
        ({"admin": {"token_file": "/"}}, "a regular file"),
    ],
    "admin.control_socket": [
        ({"admin": {"control_socket": "control.sock"}}, "a whole path"),
        ({"admin": {"control_socket": "/" + "x" * 107}}, "a shorter path"),
        ({"admin": {"control_socket": "/dev/null"}}, "a path where nothing is, or a socket"),
    ],
    "canary.interval_s": [
        ({"canary": {"interval_s": 0.5}}, "0 for off, or at least 1"),
        ({"canary": {"interval_s": 30.0}}, "at least 60, because limits.reservation_rate_per_ip"),
    ],
    "canary.address": [({"canary": {"address": "/ip4/nowhere/tcp/1"}}, "canary.address")],
    "canary.ca_file": [({"canary": {"ca_file": "/no/such/ca"}}, "a PEM file with certificates")],
}

# Keys that can be used with every value that their type allows.
ANY = {
    "listeners[0].workers", "listeners[0].require_token",
    *(f"limits.{key}" for key in (
        "max_circuits", "reservation_ttl_s", "circuit_duration_s", "circuit_bytes", "circuit_idle_timeout_s",
        "reservation_rate_per_peer", "reservation_rate_per_ip", "circuit_rate_per_peer", "circuit_rate_per_ip",
        "ipv6_prefix", "max_connections", "connection_rate_per_ip", "handshake_timeout_s", "max_streams_per_connection",
    )),
    "log.level", "log.format", "log.privacy",
    "supervision.hang_timeout_s", "supervision.backoff_max_s", "supervision.stop_timeout_s",
    "supervision.audit_interval_s", "supervision.drain_timeout_s",
}  # fmt: skip


def every_key() -> Iterator[str]:
    for name, table in to_tables(Settings()).items():
        keys = [each.name for each in msgspec.structs.fields(Listener)] if isinstance(table, list) else list(table)
        yield from (f"{name}[0].{key}" if isinstance(table, list) else f"{name}.{key}" for key in keys)


def test_every_key_is_in_one_of_the_two_tables() -> None:
    assert {*UNUSABLE, *ANY} == set(every_key())
    assert not UNUSABLE.keys() & ANY


@pytest.mark.parametrize(
    ("key", "tables", "expected"), [(key, *each) for key, several in UNUSABLE.items() for each in several]
)
def test_a_value_that_cannot_be_used_is_refused_by_its_key_in_one_line(
    tmp_path: Path, key: str, tables: dict[str, Any], expected: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        plan.check(decode(tables), {"STATE_DIRECTORY": str(tmp_path), "RUNTIME_DIRECTORY": str(tmp_path)})
    text = str(caught.value)
    assert text.startswith(key)
    assert "expected " in text
    assert expected in text
    assert text.isprintable()
    assert list(tmp_path.iterdir()) == []
