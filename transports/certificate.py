"""The certificate of a WSS listener, which a renewed one can take the place of while it serves.

A context whose certificate is loaded anew in place is broken when that fails half-way (a key that does not belong to
the certificate), and keeps offering an old RSA certificate beside a new ECDSA one. So each certificate gets a context
of its own, and the listening one hands every new handshake to the latest. Must never lose the certificate it has to one
that is no better.
"""

from __future__ import annotations

import ssl
import time
from weakref import WeakKeyDictionary

from cryptography import x509

from config.errors import ConfigError
from transports.tls import server_context


class Certificate:
    """A listener's certificate with its key. `context` is what it listens with; `key` names it as in `listeners[2]`.

    The constructor and `load` raise ConfigError naming the file that cannot be read, or does not hold what it should.
    """

    __slots__ = ("_key", "_latest", "_names", "context", "expires_unix_s")

    def __init__(self, cert_file: str, key_file: str, key: str) -> None:
        self._key = key
        self._names: WeakKeyDictionary[ssl.SSLObject, str] = WeakKeyDictionary()
        self.expires_unix_s = 0
        """When the certificate that is served ends."""
        self.load(cert_file, key_file)
        self.context = self._latest
        self.context.sni_callback = self._use_latest  # called for every handshake, also for one that names no server

    def load(self, cert_file: str, key_file: str, now_unix_s: float = 0.0) -> None:
        """Serve this certificate to all handshakes that begin from now on. When it raises, the one before stays.

        One that has ended does not take the place of one that has not.
        """
        context = server_context(cert_file, key_file, self._key)
        expires_unix_s = _expiry_unix_s(cert_file, self._key)
        if expires_unix_s <= now_unix_s < self.expires_unix_s:
            ended = time.strftime("%Y-%m-%d", time.gmtime(expires_unix_s))
            raise ConfigError(
                f"{self._key}.cert_file", cert_file, f"a certificate that has not ended (it did on {ended})"
            )
        self.expires_unix_s = expires_unix_s
        self._latest = context

    def name_asked_for(self, handshake: ssl.SSLObject) -> str:
        """By which name a client came (SNI); said once, and "" for one that told none."""
        return self._names.pop(handshake, "")

    def _use_latest(self, handshake: ssl.SSLObject, name: str | None, _context: ssl.SSLContext) -> None:
        if name:
            self._names[handshake] = name
        if self._latest is not self.context:
            handshake.context = self._latest


def _expiry_unix_s(cert_file: str, key: str) -> int:
    """When the first certificate of the file ends."""
    try:
        with open(cert_file, "rb") as file:
            certificate = x509.load_pem_x509_certificate(file.read())
    except (OSError, ValueError) as error:
        expected = f"a PEM certificate chain ({error})"
        raise ConfigError(f"{key}.cert_file", cert_file, expected) from error
    return int(certificate.not_valid_after_utc.timestamp())
