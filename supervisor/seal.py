"""Seals on the actor system's messages: only who was forked from main can make one that is read.

Thespian unpickles what arrives on its sockets. The sockets lie in a private directory already; the seal is the second
lock: a keyed digest before each pickle, with a key that is made at each boot and never leaves the process tree. Nothing
may be unpickled before its seal was found good, and nothing longer than MAX_MESSAGE_BYTES is even collected.
"""

from __future__ import annotations

import hashlib
import hmac
import pickle
from typing import Any

from supervisor.thespian_parts import stream, tcp

MAX_MESSAGE_BYTES = 16 << 20
_SEAL_BYTES = 16
_MAX_HEADER_BYTES = 20  # Thespian's header is the length in decimal digits and ">"


class SealError(Exception):
    """A message that none of our processes has made."""


class Seal:
    """Pickles with a keyed digest in front. Takes the place of the pickle module in Thespian's transport."""

    __slots__ = ("_key",)

    def __init__(self, key: bytes) -> None:
        self._key = key

    def _digest(self, body: bytes) -> bytes:
        return hashlib.blake2b(body, key=self._key, digest_size=_SEAL_BYTES).digest()

    def dumps(self, message: object) -> bytes:
        """Digest (16 bytes) and pickle."""
        body = pickle.dumps(message, pickle.HIGHEST_PROTOCOL)
        return self._digest(body) + body

    def loads(self, sealed: bytes) -> Any:
        """The message. Raises SealError before anything is unpickled."""
        digest, body = sealed[:_SEAL_BYTES], sealed[_SEAL_BYTES:]
        if not hmac.compare_digest(digest, self._digest(body)):
            raise SealError
        return pickle.loads(body)  # noqa: S301 - sealed by one of our own processes


class BoundedReceiveBuffer(stream.ReceiveBuffer):  # type: ignore[misc]  # thespian is not annotated
    """Thespian's receive buffer, which by itself takes any length, also a negative one."""

    def addMore(self, buf: bytes) -> None:  # noqa: N802 - Thespian's name
        """Raises ValueError for a header or a length that none of our processes would send."""
        super().addMore(buf)
        if self._size is None:
            bad = len(self._buf) > _MAX_HEADER_BYTES
        else:
            bad = not _SEAL_BYTES < self._size <= MAX_MESSAGE_BYTES
        if bad:
            raise ValueError("message length out of bounds")


def install(key: bytes) -> None:
    """Seal everything that this process and all forked from it say over Thespian. Before the first fork."""
    seal = Seal(key)
    tcp.serializer = seal  # messages
    tcp.ReceiveBuffer = BoundedReceiveBuffer  # lengths
    tcp.ackMsg = stream.toSendBuffer(stream.ackPacket, seal.dumps)  # acknowledgements are made once, at import
    tcp.ackDataErrMsg = stream.toSendBuffer(stream.ackDataErrPacket, seal.dumps)
