"""The relays that scenarios are played at, and how a scenario is played: real process trees, coroutines as tests.

A module that needs other settings than a generous relay's overrides `relay`.
"""

from __future__ import annotations

import datetime
import inspect
import ipaddress
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import uvloop
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.scenarios.scene import PLACES, TRANSPORTS, Place, Scene, counter
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


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """A test that is a coroutine runs in an event loop of its own, and its scene is closed in it."""
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    arguments = {name: pyfuncitem.funcargs[name] for name in inspect.signature(pyfuncitem.obj).parameters}

    async def play() -> None:
        try:
            await pyfuncitem.obj(**arguments)
        finally:
            for each in arguments.values():
                if isinstance(each, Scene):
                    await each.close()

    uvloop.run(play())
    return True


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    folder = tmp_path_factory.mktemp("certificate")
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


@pytest.fixture(scope="session")
def relays(certificate: Certificate) -> Relays:
    return Relays(certificate)


@pytest.fixture(scope="session")
def generous_relay(relays: Relays) -> Iterator[RelayProcess]:
    with relays.started() as relay:
        yield relay


@pytest.fixture
def relay(generous_relay: RelayProcess) -> RelayProcess:
    return generous_relay


@pytest.fixture(params=PLACES, ids=str)
def scene(request: Any, relay: RelayProcess, certificate: Certificate) -> Scene:
    """Two peers over each transport, in one worker and in two."""
    return Scene(relay, request.param, certificate.trust)


@pytest.fixture(params=TRANSPORTS)
def solo(request: Any, relay: RelayProcess, certificate: Certificate) -> Scene:
    """One peer, or several wherever they land, over each transport."""
    return Scene(relay, Place(request.param, together=False), certificate.trust)
