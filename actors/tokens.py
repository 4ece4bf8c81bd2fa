"""Tokens of a private relay: who may come in because they know a secret, how much they get, and until when.

The operator writes a file of them, `access.tokens_file`; a client sends its secret in the path or query of the
WebSocket request, because browsers can set no header there. Must never log or
show a secret, and never tell by its time how much of one was right: what is looked up is a digest under a key that
nobody knows.
"""

from __future__ import annotations

import re
import secrets
import tomllib
from datetime import UTC, datetime
from hashlib import blake2b
from math import inf
from typing import Annotated, Final

import msgspec
from msgspec import Meta, Struct

from config.errors import ConfigError
from transports.private_file import read_private_file

KEY: Final = "access.tokens_file"
MAX_TOKENS: Final = 10_000
MAX_FILE_BYTES: Final = 4 * 1024 * 1024

_FORM: Final = r"[A-Za-z0-9._~-]{16,128}"  # RFC 3986, 2.3: what every client writes into an address as it is
_NAME: Final = r"\A[A-Za-z0-9._-]{1,64}\Z"
_IN_PATH: Final = re.compile(rf"(?:/[^?#]*)?/t/({_FORM})/?")
_IN_QUERY: Final = re.compile(rf"(?:.*&)?token=({_FORM})(?:&.*)?")
_PLACE: Final = re.compile(r"at `\$\.([^`]*)`")
_EXPECTED: Final = {
    "name": "1 to 64 letters, digits, dots, dashes and underscores",
    "secret": "16 to 128 letters, digits and . _ ~ - (openssl rand -hex 24)",
    "max_connections": "a whole number from 0 to 1000000",
    "max_reservations": "a whole number from 0 to 1000000",
    "expires": "a time such as 2027-01-31T00:00:00Z",
}
_DIGEST_KEY: Final = secrets.token_bytes(64)

Count = Annotated[int, Meta(ge=0, le=1_000_000)]


class Token(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One entry of the file. `name` is what logs show; the numbers are over all who know the secret, 0 is no limit."""

    name: Annotated[str, Meta(pattern=_NAME)]
    secret: Annotated[str, Meta(pattern=rf"\A{_FORM}\Z")]
    max_connections: Count = 0
    max_reservations: Count = 0
    expires: datetime | None = None

    @property
    def end_unix_s(self) -> float:
        """From when on it is taken no more; infinity for never. A time without a zone is UTC."""
        if self.expires is None:
            return inf
        return (self.expires if self.expires.tzinfo else self.expires.replace(tzinfo=UTC)).timestamp()

    def valid_at(self, unix_s: float) -> bool:
        """Whether it is still taken."""
        return unix_s < self.end_unix_s


class _File(Struct, frozen=True, forbid_unknown_fields=True):
    tokens: tuple[Token, ...] = ()


def read_tokens(path: str) -> tuple[Token, ...] | None:
    """What is in `access.tokens_file`; None when there is none to be. ConfigError never shows a secret.

    Read once, in main: all processes get the same tokens with their settings.
    """
    if not path:
        return None
    try:
        raw = read_private_file(path, KEY, MAX_FILE_BYTES + 1)
    except FileNotFoundError:
        raise ConfigError(KEY, path, "a file that exists") from None
    if len(raw) > MAX_FILE_BYTES:
        raise ConfigError(KEY, path, f"a file of at most {MAX_FILE_BYTES} bytes")
    return _parse(raw, path)


def is_name(text: str) -> bool:
    """Whether a token can have this name."""
    return re.match(_NAME, text) is not None


def secret_of(target: str) -> str:
    """The secret in a request's target, `…/t/SECRET` or `…?token=SECRET`; "" when there is none."""
    path, _, query = target.partition("?")
    found = _IN_PATH.fullmatch(path) or _IN_QUERY.fullmatch(query)
    return found[1] if found else ""


class Tokens:
    """The tokens of one file, to be asked for."""

    __slots__ = ("_by_digest", "_by_name")

    def __init__(self, tokens: tuple[Token, ...]) -> None:
        self._by_name = {token.name: token for token in tokens}
        self._by_digest = {_digest(token.secret): token for token in tokens}

    def by_secret(self, secret: str) -> Token | None:
        """The token with this secret, whether it is still valid or not."""
        return self._by_digest.get(_digest(secret))

    def by_name(self, name: str) -> Token | None:
        """The token of this name; None when it was revoked."""
        return self._by_name.get(name)


def _digest(secret: str) -> bytes:
    return blake2b(secret.encode(), key=_DIGEST_KEY, digest_size=32).digest()


def _parse(raw: bytes, path: str) -> tuple[Token, ...]:
    try:
        tables = tomllib.loads(raw.decode("utf-8-sig"))
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:  # which name a place, and one character at most
        raise ConfigError(KEY, path, f"a TOML file of [[tokens]] tables ({error})") from None
    try:
        tokens = msgspec.convert(tables, _File).tokens
    except msgspec.ValidationError as error:
        raise ConfigError(KEY, path, _explained(str(error))) from None
    if len(tokens) > MAX_TOKENS:
        raise ConfigError(KEY, path, f"a file of at most {MAX_TOKENS} tokens")
    for what in ("name", "secret"):
        if len({getattr(token, what) for token in tokens}) < len(tokens):
            raise ConfigError(KEY, path, f"a file of tokens that each have a {what} of their own")
    return tokens


def _explained(error: str) -> str:
    """What msgspec found wrong, with the place and without the value."""
    found = _PLACE.search(error)
    place = found[1] if found else ""
    expected = _EXPECTED.get(place.rpartition(".")[2], f"[[tokens]] tables of {', '.join(Token.__struct_fields__)}")
    return f"a file of [[tokens]] tables ({place or 'the file'} must be {expected})"
