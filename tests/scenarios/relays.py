"""Relays for scenarios: on every transport with two workers each, and with a certificate for loopback."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.scenarios.scene import counter
from tests.support.certificate import loopback_certificate
from tests.support.relay import RelayProcess

GENEROUS = (
    "limits.max_circuits=10000",
    "limits.max_circuits_per_peer=1000",
    "limits.circuit_duration_s=0",
    "limits.circuit_bytes=0",
    "limits.max_connections_per_ip=10000",
    "limits.max_pending_handshakes=10000",
)


@dataclass(frozen=True)
class Certificate:
    """A certificate for loopback, and what a client needs to trust it."""

    cert_file: Path
    key_file: Path
    trust: ssl.SSLContext


class Relays:
    """Starts relays that listen on every transport with two workers each."""

    def __init__(self, certificate: Certificate) -> None:
        files = f'cert_file="{certificate.cert_file}", key_file="{certificate.key_file}"'
        self.listeners = (
            '{address="/ip4/127.0.0.1/tcp/0/ws", workers=2}, {address="/ip4/127.0.0.1/tcp/0", workers=2}, '
            f'{{address="/ip4/127.0.0.1/tcp/0/tls/ws", workers=2, {files}}}'
        )

    @contextmanager
    def started(self, *settings: str) -> Iterator[RelayProcess]:
        """A relay; none of its processes may fail or be replaced while it runs."""
        with RelayProcess(*GENEROUS, f"listeners=[{self.listeners}]", *settings) as relay:
            yield relay
            assert counter(relay, "frost_relay_faults_total") == 0, relay.stderr
            assert [each["restarts"] for each in relay.status()["workers"] if each["restarts"]] == [], relay.stderr
            assert "Traceback" not in relay.stderr, relay.stderr


def make_certificate(folder: Path) -> Certificate:
    """A certificate that signs itself, and a client's trust in it."""
    cert_file, key_file = loopback_certificate(folder)
    return Certificate(cert_file, key_file, ssl.create_default_context(cafile=str(cert_file)))
