"""yamux's frames: the numbers of the specification, and what streams and sessions tell their owners.

Definitions only; the state is in yamux_stream.py and yamux.py.
Spec: https://github.com/hashicorp/yamux/blob/master/spec.md and libp2p/specs yamux/README.md. A frame is
`version(1)=0 type(1) flags(2) stream(4) length(4)` big-endian, DATA followed by `length` bytes.
"""

from __future__ import annotations

from enum import IntEnum
from struct import Struct
from typing import TYPE_CHECKING, Final, Protocol

from transports.errors import PeerError

if TYPE_CHECKING:
    from transports.yamux_stream import Stream

PROTOCOL: Final = b"/yamux/1.0.0"
INITIAL_WINDOW_BYTES: Final = 256 * 1024
MAX_WINDOW_BYTES: Final = 0xFFFFFFFF
MAX_DATA_BYTES: Final = 64 * 1024
HEADER: Final = Struct(">BBHII")
HEADER_BYTES: Final = HEADER.size

# Types ("Type Field") and flags ("Flag Field"). Plain ints: an operation on an IntFlag costs 0.3 us, on an int 0.02.
DATA: Final = 0
WINDOW_UPDATE: Final = 1
PING: Final = 2
GO_AWAY: Final = 3
SYN: Final = 1
ACK: Final = 2
FIN: Final = 4
RST: Final = 8

Buffer = bytes | bytearray | memoryview


class GoAway(IntEnum):
    """Spec, 'Go Away' codes."""

    NORMAL = 0
    PROTOCOL_ERROR = 1
    INTERNAL_ERROR = 2


class ErrorCode(IntEnum):
    """Why a stream is reset: what RST carries where WINDOW_UPDATE has the credit.

    The numbers of go-libp2p (core/network), which sends and shows them; in libp2p/specs they are pull requests 622 and
    623, not merged yet.
    """

    NONE = 0
    NEGOTIATION_FAILED = 0x1001
    RESOURCE_LIMIT_EXCEEDED = 0x1002
    PROTOCOL_VIOLATION = 0x1004
    GARBAGE_COLLECTED = 0x1006
    SHUTDOWN = 0x1007


class YamuxError(PeerError):
    """The peer broke yamux; the connection ends after a GoAway."""

    reason = "yamux"


class StreamFloodError(YamuxError):
    """The peer opens streams only to reset them, or opens more than it may again and again."""

    reason = "stream_flood"


class FrameFloodError(YamuxError):
    """The peer sends frames that move nothing, again and again: pings, goodbyes, credit that nobody needs."""

    reason = "frame_flood"


class StreamHandler(Protocol):
    """What a stream tells its owner. Each call is made at most with the stream's own data, in order."""

    def data_received(self, data: Buffer) -> None:
        """Bytes of the stream, to be copied when they are kept. The handler owes `Stream.consumed` for them."""

    def eof_received(self) -> None:
        """The peer will send nothing more (FIN)."""

    def reset_received(self) -> None:
        """The stream is gone, by RST or with its connection; nothing can be written any more."""

    def data_sent(self, count_bytes: int) -> None:
        """Bytes that `Stream.write` had queued have gone out."""


class SessionHandler(Protocol):
    """What a session tells its owner."""

    def stream_opened(self, stream: Stream) -> StreamHandler | None:
        """The peer opened a stream; None resets it."""

    def go_away_received(self, code: int) -> None:
        """The peer will open no more streams, and accepts none."""

    def pong_received(self) -> None:
        """The peer answered our ping."""
