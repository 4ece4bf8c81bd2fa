"""Unsigned varints and the frames `uvarint(length) body` that libp2p's small protocols are made of.

Sans-IO. Must never allocate for a length before it was checked against the caller's bound.
Spec: https://github.com/multiformats/unsigned-varint.
"""

from __future__ import annotations

from transports.errors import PeerError


class FrameError(PeerError):
    """A length prefix that is too long, not minimal, or over the bound."""

    reason = "frame_length"


def encode_uvarint(value: int) -> bytes:
    """The shortest encoding of a number >= 0, seven bits a byte, least significant first."""
    if value < 0x80:
        return bytes((value,))
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def delimited(body: bytes) -> bytes:
    """`uvarint(len(body)) body`."""
    return encode_uvarint(len(body)) + body


class DelimitedReader:
    """Collects one `uvarint(length) body` frame of at most `max_bytes`; what follows it is kept for `rest()`.

    The bound is checked as soon as the length is known, so never more than `max_bytes` and one read are held.
    """

    __slots__ = ("_buffer", "_max_bytes")

    def __init__(self, max_bytes: int) -> None:
        self._buffer = bytearray()
        self._max_bytes = max_bytes

    def feed(self, data: bytes | bytearray | memoryview) -> bytes | None:
        """Add bytes; the body once it is whole, else None. Raises FrameError."""
        buffer = self._buffer
        buffer += data
        length, shift, start = 0, 0, 0
        while True:
            if start == len(buffer):
                return None
            byte = buffer[start]
            start += 1
            length |= (byte & 0x7F) << shift
            if not byte & 0x80:
                if not byte and start > 1:
                    raise FrameError("length prefix with a byte too many")
                break
            shift += 7
            if shift > 28:
                raise FrameError("length prefix over 5 bytes")
        if length > self._max_bytes:
            raise FrameError(f"frame of {length} bytes, at most {self._max_bytes} are allowed")
        end = start + length
        if len(buffer) < end:
            return None
        body = bytes(buffer[start:end])
        del buffer[:end]
        return body

    def rest(self) -> bytes:
        """The bytes behind the frame; the reader is empty afterwards."""
        rest = bytes(self._buffer)
        self._buffer.clear()
        return rest
