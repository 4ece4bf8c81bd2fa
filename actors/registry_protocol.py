"""What workers and the registry say to each other, and how it is framed.

Each message is msgpack behind its length (4 bytes, big-endian); messages that are ready together are joined into one
write. No I/O here but for the question who sits at the other end of a socket. It must never guess: a frame that is
too long, cannot be decoded or is not of this direction raises RegistryLinkError, which ends the link.

    worker -> registry   Hello, then Declare for the rest of what it holds; Reserve, Release, OpenCircuit, CloseCircuit,
                         Connected, Disconnected; Tally, Inventory (each answers Ask)
    registry -> worker   Granted, CircuitGranted, Refused (each answers a request), Evict, Superseded, Ask
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterable, Iterator
from typing import Final, Generic, TypeVar

import msgspec

from actors.limits import Reason

MAX_FRAME_BYTES: Final = 8 * 1024 * 1024
"""Longest message that is sent or taken, without its length."""

_DECLARED_PER_FRAME: Final = 4096  # of each kind: under 1 MiB a frame, and a pause of a few ms for the registry
_LENGTH: Final = struct.Struct(">I")
_PEER_CREDENTIALS: Final = struct.Struct("iII")  # pid, uid, gid: struct ucred of unix(7)

T = TypeVar("T")


class RegistryLinkError(Exception):
    """The other end of a registry link broke the protocol. Our own fault: both ends are ours."""


class Held(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A reservation that a worker holds, until `expires_s` on CLOCK_MONOTONIC."""

    peer: bytes
    connection: int
    ip: str
    expires_s: float


class HeldCircuit(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A circuit that a worker owns."""

    circuit: int
    source: bytes
    target: bytes
    source_ip: str


class Hello(msgspec.Struct, frozen=True, array_like=True, tag=1):
    """First on every connection: who speaks, and what it holds. `more`: Declare messages follow with the rest."""

    worker: str
    pid: int
    reservations: list[Held]
    circuits: list[HeldCircuit]
    connections: list[tuple[int, str]]
    more: bool = False
    tokens: list[tuple[int, str]] = []


class Declare(msgspec.Struct, frozen=True, array_like=True, tag=2):
    """A further part of what a worker holds, so that no frame grows with the number of its peers."""

    reservations: list[Held]
    circuits: list[HeldCircuit]
    connections: list[tuple[int, str]]
    more: bool = False
    tokens: list[tuple[int, str]] = []


class Reserve(msgspec.Struct, frozen=True, array_like=True, tag=3, gc=False):
    """May `peer` have a reservation on `connection`? Answered by Granted or Refused."""

    request: int
    peer: bytes
    connection: int
    ip: str


class Release(msgspec.Struct, frozen=True, array_like=True, tag=4, gc=False):
    """The reservation of `peer` ends, if `connection` still holds it. Not answered."""

    peer: bytes
    connection: int


class OpenCircuit(msgspec.Struct, frozen=True, array_like=True, tag=5, gc=False):
    """May `source` have a circuit to `target`? Answered by CircuitGranted or Refused."""

    request: int
    source: bytes
    target: bytes
    source_ip: str


class CloseCircuit(msgspec.Struct, frozen=True, array_like=True, tag=6, gc=False):
    """A circuit has ended. Not answered."""

    circuit: int


class Connected(msgspec.Struct, frozen=True, array_like=True, tag=7, gc=False):
    """A peer has connected, by a token if it is a private relay. Answered by Evict only if it must go."""

    connection: int
    ip: str
    token: str = ""


class Disconnected(msgspec.Struct, frozen=True, array_like=True, tag=8, gc=False):
    """A connection has ended, and with it the reservation on it. Not answered."""

    connection: int


class Granted(msgspec.Struct, frozen=True, array_like=True, tag=9, gc=False):
    """Reserved until `expires_s` (CLOCK_MONOTONIC). `replaced`: the peer had a live reservation, here or elsewhere."""

    request: int
    expires_s: float
    replaced: bool


class CircuitGranted(msgspec.Struct, frozen=True, array_like=True, tag=10, gc=False):
    """The circuit may be opened; the target's reservation is held by `connection` of `worker`."""

    request: int
    circuit: int
    worker: str
    connection: int


class Refused(msgspec.Struct, frozen=True, array_like=True, tag=11, gc=False):
    """The answer to Reserve or OpenCircuit is no."""

    request: int
    reason: Reason


class Evict(msgspec.Struct, frozen=True, array_like=True, tag=12, gc=False):
    """Close this connection; it is not counted."""

    connection: int
    reason: Reason


class Superseded(msgspec.Struct, frozen=True, array_like=True, tag=13, gc=False):
    """The reservation of `peer` is no longer on `connection`: another connection of that peer has it."""

    peer: bytes
    connection: int


class Ask(msgspec.Struct, frozen=True, array_like=True, tag=14, gc=False):
    """How much does the worker hold? Answered by Tally; `whole`: what does it hold? Answered by Inventory."""

    whole: bool


class Tally(msgspec.Struct, frozen=True, array_like=True, tag=15, gc=False):
    """What a worker holds now: of each kind how many, and the sum of their numbers (actors/audit.py)."""

    reservations: tuple[int, int]
    circuits: tuple[int, int]
    connections: tuple[int, int]


class Inventory(msgspec.Struct, frozen=True, array_like=True, tag=16):
    """All that a worker holds now, or a part of it; `more`: the next follows at once."""

    reservations: list[Held]
    circuits: list[HeldCircuit]
    connections: list[tuple[int, str]]
    more: bool = False
    tokens: list[tuple[int, str]] = []


Request = Reserve | Release | OpenCircuit | CloseCircuit | Connected | Disconnected | Tally | Inventory
FromWorker = Hello | Declare | Request
FromRegistry = Granted | CircuitGranted | Refused | Evict | Superseded | Ask


Part = tuple[list[Held], list[HeldCircuit], list[tuple[int, str]], bool, list[tuple[int, str]]]
"""The fields of a Declare or an Inventory."""


def in_parts(whole: Hello) -> Iterator[Part]:
    """What a worker holds, cut into as many parts as it takes; at least one."""
    longest = max(len(whole.reservations), len(whole.circuits), len(whole.connections), 1)
    tokens = dict(whole.tokens)
    for start in range(0, longest, _DECLARED_PER_FRAME):
        cut = slice(start, start + _DECLARED_PER_FRAME)
        connections = whole.connections[cut]
        part_tokens = [(connection, tokens[connection]) for connection, _ in connections if connection in tokens]
        yield whole.reservations[cut], whole.circuits[cut], connections, cut.stop < longest, part_tokens


_ENCODER: Final = msgspec.msgpack.Encoder()
_FROM_WORKER: Final[msgspec.msgpack.Decoder[FromWorker]] = msgspec.msgpack.Decoder(FromWorker)
_FROM_REGISTRY: Final[msgspec.msgpack.Decoder[FromRegistry]] = msgspec.msgpack.Decoder(FromRegistry)


def encode_frames(messages: Iterable[msgspec.Struct]) -> bytearray:
    """All `messages` behind their lengths, for one write; RegistryLinkError when one is over MAX_FRAME_BYTES."""
    frames = bytearray()
    for message in messages:
        start = len(frames)
        _ENCODER.encode_into(message, frames, start + _LENGTH.size)
        length = len(frames) - start - _LENGTH.size
        if length > MAX_FRAME_BYTES:
            raise RegistryLinkError(f"a message of {length} bytes is over {MAX_FRAME_BYTES}")
        _LENGTH.pack_into(frames, start, length)
    return frames


class FrameDecoder(Generic[T]):
    """Turns bytes as they come into the messages of one direction. Holds at most one unfinished frame."""

    __slots__ = ("_buffer", "_decoder")

    def __init__(self, decoder: msgspec.msgpack.Decoder[T]) -> None:
        self._decoder = decoder
        self._buffer = bytearray()

    @classmethod
    def from_worker(cls) -> FrameDecoder[FromWorker]:
        """A decoder for the registry's end."""
        return FrameDecoder(_FROM_WORKER)

    @classmethod
    def from_registry(cls) -> FrameDecoder[FromRegistry]:
        """A decoder for a worker's end."""
        return FrameDecoder(_FROM_REGISTRY)

    def feed(self, data: bytes) -> list[T]:
        """The messages that `data` completes; RegistryLinkError, after which the decoder is of no more use."""
        buffer = self._buffer
        buffer += data
        messages: list[T] = []
        position, end = 0, len(buffer)
        with memoryview(buffer) as view:
            while end - position >= _LENGTH.size:
                (length,) = _LENGTH.unpack_from(buffer, position)
                if length > MAX_FRAME_BYTES:
                    raise RegistryLinkError(f"a frame of {length} bytes is over {MAX_FRAME_BYTES}")
                start = position + _LENGTH.size
                if end - start < length:
                    break
                messages.append(self._decode(view[start : start + length]))
                position = start + length
        del buffer[:position]
        return messages

    def _decode(self, body: memoryview) -> T:
        try:
            with body:
                return self._decoder.decode(body)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:  # the latter for a text that is not UTF-8
            raise RegistryLinkError(f"a frame that cannot be decoded: {error}") from error


def same_user(sock: socket.socket) -> bool:
    """Whether the process at the other end of this Unix socket runs as our user (SO_PEERCRED)."""
    credentials = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER_CREDENTIALS.size)
    uid: int = _PEER_CREDENTIALS.unpack(credentials)[1]
    return uid == os.getuid()
