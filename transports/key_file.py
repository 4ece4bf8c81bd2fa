"""The file that holds the relay's own key: libp2p's protobuf form of a private key, for its owner only.

Read or created once, in main, before anything is started. Must never overwrite a key, accept one that others can read,
or show one.
"""

from __future__ import annotations

import base64
import binascii
import os
from contextlib import suppress
from typing import Final

from google.protobuf.message import DecodeError

from config.errors import ConfigError
from transports.identity import SEED_BYTES, HostKey
from transports.private_file import read_private_file
from transports.proto import crypto_pb2

_KEY: Final = "identity.key_file"
_MAX_FILE_BYTES: Final = 1024
_PUBLIC_KEY_BYTES: Final = 32


def load_or_create_host_key(path: str) -> HostKey:
    """The key in the file, which is created (0600, with its directory) if there is none. Raises ConfigError."""
    try:
        raw = read_private_file(path, _KEY, _MAX_FILE_BYTES + 1)
    except FileNotFoundError:
        try:
            _create_key_file(path, HostKey.generate())
            raw = read_private_file(path, _KEY, _MAX_FILE_BYTES + 1)
        except OSError as error:
            raise ConfigError(_KEY, path, f"a file that can be created ({error.strerror})") from error
    return _parse(raw, _KEY, path)


def parse_private_key(content: bytes, key: str, value: str) -> HostKey:
    """The key in what another implementation exported: the protobuf form, as bytes or as base64 text.

    Raises ConfigError naming `key` and `value`, which are where it came from; the content is never shown.
    """
    with suppress(binascii.Error, ValueError):
        content = base64.b64decode(content.strip(), validate=True)
    return _parse(content, key, value)


def store_host_key(path: str, host: HostKey) -> None:
    """Make `host` the key of this relay. Raises ConfigError when there is another key already: it is never replaced."""
    try:
        _create_key_file(path, host)
    except OSError as error:
        raise ConfigError(_KEY, path, f"a file that can be created ({error.strerror})") from error
    if load_or_create_host_key(path).peer_id != host.peer_id:
        raise ConfigError(_KEY, path, "no key there yet: a key is never replaced, move the file away first")


def _parse(raw: bytes, key: str, value: str) -> HostKey:
    expected = "an Ed25519 private key in libp2p's protobuf form (68 bytes)"
    try:
        parsed = crypto_pb2.PrivateKey.FromString(raw[:_MAX_FILE_BYTES])
    except DecodeError as error:
        raise ConfigError(key, value, expected) from error
    data = parsed.Data
    if parsed.Type != crypto_pb2.Ed25519 or len(raw) > _MAX_FILE_BYTES or len(data) not in (64, 96):
        raise ConfigError(key, value, expected)
    host = HostKey(data[:SEED_BYTES])
    public = host.public_protobuf[-_PUBLIC_KEY_BYTES:]
    # The older form of 96 bytes holds the public key twice: "compare the two public key strings".
    if data[SEED_BYTES:] != public * (len(data) // 32 - 1):
        raise ConfigError(key, value, f"{expected} whose two halves belong together")
    return host


def _create_key_file(path: str, host: HostKey) -> None:
    """Write the key so that `path` holds all of it or does not exist, and is never replaced. Raises OSError."""
    directory = os.path.dirname(path) or "."
    os.makedirs(directory, mode=0o700, exist_ok=True)
    temporary = f"{path}.{os.getpid()}.{os.urandom(4).hex()}"
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(host.private_protobuf())
            file.flush()
            os.fsync(descriptor)
        try:
            os.link(temporary, path)  # fails where a rename would replace
        except FileExistsError:
            return  # another relay was faster; its key is the one
    finally:
        os.unlink(temporary)
    _sync_directory(directory)


def _sync_directory(directory: str) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
