"""Relays for scenarios: on every transport with two workers each, and with a certificate for loopback."""

from __future__ import annotations

import datetime
import ipaddress
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.scenarios.scene import counter
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
        self._listeners = (
            '{address="/ip4/127.0.0.1/tcp/0/ws", workers=2}, {address="/ip4/127.0.0.1/tcp/0", workers=2}, '
            f'{{address="/ip4/127.0.0.1/tcp/0/tls/ws", workers=2, {files}}}'
        )

    @contextmanager
    def started(self, *settings: str) -> Iterator[RelayProcess]:
        """A relay; none of its processes may fail or be replaced while it runs."""
        with RelayProcess(*GENEROUS, f"listeners=[{self._listeners}]", *settings) as relay:
            yield relay
            assert counter(relay, "frost_relay_faults_total") == 0, relay.stderr
            assert [each["restarts"] for each in relay.status()["workers"] if each["restarts"]] == [], relay.stderr
            assert "Traceback" not in relay.stderr, relay.stderr


def make_certificate(folder: Path) -> Certificate:
    """A certificate that signs itself, in PEM files."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "loopback")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    cert_file, key_file = folder / "fullchain.pem", folder / "privkey.pem"
    cert_file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    key_file.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return Certificate(cert_file, key_file, ssl.create_default_context(cafile=str(cert_file)))
