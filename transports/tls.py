"""TLS for WSS listeners: a server context from certificate and key files.

Must never start with a certificate that clients will refuse for a reason that is visible here.
"""

from __future__ import annotations

import ssl

from config.errors import ConfigError


def server_context(cert_file: str, key_file: str, key: str) -> ssl.SSLContext:
    """A TLS 1.2+ server context. `key` is the listener's name in the configuration, as in `listeners[2]`.

    Raises ConfigError naming the file that can not be read, or that does not hold what it should.
    """
    _readable(cert_file, f"{key}.cert_file", "a certificate chain in PEM form")
    _readable(key_file, f"{key}.key_file", "a private key in PEM form")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    try:
        context.load_cert_chain(cert_file, key_file, password=_no_password)
    except (ssl.SSLError, ValueError) as error:
        expected = "a PEM certificate chain whose first certificate belongs to the unencrypted PEM key in key_file"
        raise ConfigError(f"{key}.cert_file", cert_file, f"{expected} ({_reason(error)})") from error
    return context


def _readable(path: str, key: str, expected: str) -> None:
    try:
        with open(path, "rb"):
            return
    except OSError as error:
        raise ConfigError(key, path, f"a readable file with {expected} ({error.strerror})") from error


def _no_password() -> str:
    raise ValueError("the key is encrypted")


def _reason(error: Exception) -> str:
    return (getattr(error, "reason", None) or str(error)).lower().replace("_", " ")
