"""multistream-select 1.0.0: two ends agree on the name of a protocol.

Sans-IO: bytes in, bytes and a choice out. Used twice a connection (security, muxer) and once a stream.
Must never buffer more than one message of MAX_MESSAGE_BYTES, and never answer for ever: a peer that keeps
asking for what we do not speak is ended after MAX_TRIES.

Spec: https://github.com/multiformats/multistream-select. A message is `uvarint(length) name newline`, the length
counting the newline. Both ends send the header first; a dialer may send header, protocol and its first data in
one write (lazy negotiation), so whatever follows the choice is handed on untouched.
"""

from __future__ import annotations

from collections.abc import Collection
from functools import lru_cache

from transports.errors import PeerError
from transports.varint import encode_uvarint

PROTOCOL = b"/multistream/1.0.0"
MAX_MESSAGE_BYTES = 1024
MAX_TRIES = 10


class NegotiationError(PeerError):
    """The peer broke multistream-select; the stream or connection ends, once `answer` was sent.

    A lazy dialer that is told `na` has sent the data of its protocol already, which then is no multistream.
    """

    reason = "multistream"
    answer = b""


class NotSupportedError(PeerError):
    """The listener answered `na`: it does not speak the protocol that we asked for."""

    reason = "protocol_not_supported"


@lru_cache(maxsize=64)
def frame(name: bytes) -> bytes:
    """One message: `uvarint(len(name) + 1) name newline`."""
    return encode_uvarint(len(name) + 1) + name + b"\n"


HEADER = frame(PROTOCOL)


@lru_cache(maxsize=64)
def opening(name: bytes) -> bytes:
    """Header and name, as who asks for a protocol sends them at once, and as who agrees to it at once answers."""
    return HEADER + frame(name)


NA = frame(b"na")
LS = b"ls"


class _Reader:
    """Cuts the byte stream into messages; keeps at most one unfinished message."""

    __slots__ = ("buffer",)

    def __init__(self) -> None:
        self.buffer = bytearray()

    def feed(self, data: bytes | bytearray | memoryview) -> None:
        self.buffer += data

    def next(self) -> bytes | None:
        """The next whole message without its newline, or None. Raises NegotiationError."""
        buffer = self.buffer
        if not buffer:
            return None
        length, start = buffer[0], 1
        if length & 0x80:
            if len(buffer) < 2:
                return None
            if buffer[1] & 0x80:
                raise NegotiationError("message length takes more than two bytes")
            if not buffer[1]:
                raise NegotiationError("message length is not minimal")
            length, start = length & 0x7F | buffer[1] << 7, 2
        if not 1 <= length <= MAX_MESSAGE_BYTES:
            raise NegotiationError(f"message of {length} bytes, at most {MAX_MESSAGE_BYTES} are allowed")
        end = start + length
        if len(buffer) < end:
            return None
        if buffer[end - 1] != 0x0A:
            raise NegotiationError("message does not end in a newline")
        message = bytes(buffer[start : end - 1])
        del buffer[:end]
        return message

    def rest(self) -> bytes:
        """What came behind the last message; the reader is empty afterwards."""
        rest = bytes(self.buffer)
        self.buffer.clear()
        return rest


class Responder:
    """The listening end: takes the first offered protocol that it supports.

    `receive` returns the bytes to send. Once `selected` is set, `rest()` gives what already belongs to the
    protocol and the object is done.
    """

    __slots__ = ("_header_seen", "_reader", "_supported", "_tries", "selected")

    def __init__(self, supported: Collection[bytes]) -> None:
        self._supported = supported
        self._reader = _Reader()
        self._header_seen = False
        self._tries = 0
        self.selected: bytes | None = None

    def start(self) -> bytes:
        """The listening end waits to be asked."""
        return b""

    def receive(self, data: bytes | bytearray | memoryview) -> bytes:
        """Feed bytes; returns the answer, maybe empty. Raises NegotiationError."""
        if not self._header_seen and not self._reader.buffer:
            for name in self._supported:
                if self._asked_at_once(name, data):
                    return opening(name)
        self._reader.feed(data)
        answer = b""
        try:
            while self.selected is None:
                message = self._reader.next()
                if message is None:
                    break
                answer += self._answer(message)
        except NegotiationError as error:
            error.answer = answer
            raise
        return answer

    def _asked_at_once(self, name: bytes, data: bytes | bytearray | memoryview) -> bool:
        """Header and a name that is spoken here in one piece, as dialers send them: a third of the loop's price."""
        asked = opening(name)
        size = len(asked)
        if data[:size] != asked:
            return False
        self._header_seen, self.selected = True, name
        self._reader.feed(data[size:])
        return True

    def _answer(self, message: bytes) -> bytes:
        if not self._header_seen:
            if message != PROTOCOL:
                raise NegotiationError("the first message is not the multistream header")
            self._header_seen = True
            return HEADER
        if message in self._supported:
            self.selected = message
            return frame(message)
        self._tries += 1
        if self._tries > MAX_TRIES:
            raise NegotiationError(f"more than {MAX_TRIES} protocols that are not spoken here")
        if message == LS:
            # "ls": one message whose body is the list, each entry a message, closed by an empty line.
            return frame(b"".join(frame(name) for name in self._supported))
        return NA

    def rest(self) -> bytes:
        """The bytes behind the choice, which belong to the chosen protocol."""
        return self._reader.rest()


class Initiator:
    """The dialing end: asks for one protocol, optimistically (header and name in one write)."""

    __slots__ = ("_header_seen", "_protocol", "_reader", "selected")

    def __init__(self, protocol: bytes) -> None:
        self._protocol = protocol
        self._reader = _Reader()
        self._header_seen = False
        self.selected: bytes | None = None

    def start(self) -> bytes:
        """The bytes that open the negotiation; data of the protocol may follow them at once."""
        return opening(self._protocol)

    def receive(self, data: bytes | bytearray | memoryview) -> bytes:
        """Feed bytes; sets `selected` when agreed, and has nothing more to send.

        Raises NotSupportedError, NegotiationError.
        """
        self._reader.feed(data)
        while self.selected is None:
            message = self._reader.next()
            if message is None:
                break
            if not self._header_seen:
                if message != PROTOCOL:
                    raise NegotiationError("the first message is not the multistream header")
                self._header_seen = True
            elif message == self._protocol:
                self.selected = message
            elif message == b"na":
                raise NotSupportedError(f"the peer does not speak {self._protocol.decode()}")
            else:
                raise NegotiationError("the answer names another protocol than was asked for")
        return b""

    def rest(self) -> bytes:
        """The bytes behind the choice, which belong to the chosen protocol."""
        return self._reader.rest()
