"""Certificates for loopback, made by the test that needs them; nothing outside the test may ever trust one."""

import datetime
import ipaddress
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


@dataclass(frozen=True)
class Issued:
    """A certificate for 127.0.0.1 with its chain, its key, and the authority that issued it in both forms."""

    certificate: Path
    key: Path
    authority_pem: Path
    authority_der: Path

    @property
    def listener(self) -> str:
        """The setting of a relay that serves secure WebSocket with it, and nothing else."""
        files = f'cert_file="{self.certificate}", key_file="{self.key}"'
        return f'listeners=[{{address="/ip4/127.0.0.1/tcp/0/tls/ws", workers=1, {files}}}]'


def loopback_certificate(folder: Path, days: float = 1.0) -> tuple[Path, Path]:
    """Write a self-signed certificate for 127.0.0.1 and its key into the folder; gives both files' paths.

    It ends after so many days; negative: before now.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = _certificate("loopback", key, "loopback", key, authority=True, loopback=True, days=days)
    return _written(folder, key, certificate)


def issued_certificate(folder: Path) -> Issued:
    """As the web has it, and rust-libp2p insists: a certificate that is no authority's, issued by one."""
    key, issuer = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    authority = _certificate("authority", issuer, "authority", issuer, authority=True, loopback=False)
    certificate = _certificate("loopback", key, "authority", issuer, authority=False, loopback=True)
    pem, der = folder / "authority.pem", folder / "authority.der"
    pem.write_bytes(authority.public_bytes(serialization.Encoding.PEM))
    der.write_bytes(authority.public_bytes(serialization.Encoding.DER))
    return Issued(*_written(folder, key, certificate, authority), pem, der)


def _certificate(
    subject: str,
    key: ec.EllipticCurvePrivateKey,
    issuer: str,
    issuer_key: ec.EllipticCurvePrivateKey,
    *,
    authority: bool,
    loopback: bool,
    days: float = 1.0,
) -> x509.Certificate:
    now = datetime.datetime.now(datetime.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(_name(subject))
        .issuer_name(_name(issuer))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=100))
        .not_valid_after(now + datetime.timedelta(days=days))
        .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
    )
    if loopback:
        address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
        builder = builder.add_extension(x509.SubjectAlternativeName([address]), critical=False)
    return builder.sign(issuer_key, hashes.SHA256())


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _written(folder: Path, key: ec.EllipticCurvePrivateKey, *chain: x509.Certificate) -> tuple[Path, Path]:
    certificate_file, key_file = folder / "fullchain.pem", folder / "privkey.pem"
    certificate_file.write_bytes(b"".join(each.public_bytes(serialization.Encoding.PEM) for each in chain))
    key_file.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return certificate_file, key_file
