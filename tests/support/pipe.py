"""Sans-IO ends for unit tests: handlers that write down what they are told, and pairs of sessions and connections that
are joined in memory. Nothing moves before a test says so.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import TYPE_CHECKING

from transports.identity import HostKey
from transports.noise import Role, StaticKey
from transports.upgrade import MUXERS, Connection
from transports.yamux import Buffer, Session, Stream, StreamHandler
from transports.yamux_frames import WINDOW_UPDATE

if TYPE_CHECKING:
    from transports.errors import PeerError


class Recorder:
    """The handler of one stream: keeps what comes. `credit`: gives the window back as it takes the bytes."""

    def __init__(self, stream: Stream | None = None, *, credit: bool = True) -> None:
        if stream is not None:
            self.stream = stream
            stream.handler = self
        self.credit = credit
        self._data = bytearray()
        self.pieces: list[bytes] = []
        self.eofs = 0
        self.resets = 0
        self.sent = 0
        self.on_data: Callable[[], None] | None = None
        self.on_reset: Callable[[], None] | None = None

    stream: Stream

    @property
    def data(self) -> bytes:
        """All that has come."""
        return bytes(self._data)

    def data_received(self, data: Buffer) -> None:
        self.pieces.append(bytes(data))
        self._data += data
        if self.credit:
            self.stream.consumed(len(data))
        if self.on_data is not None:
            self.on_data()

    def eof_received(self) -> None:
        self.eofs += 1

    def reset_received(self) -> None:
        self.resets += 1
        if self.on_reset is not None:
            self.on_reset()

    def data_sent(self, count_bytes: int) -> None:
        self.sent += count_bytes


def acknowledge(stream: Stream) -> None:
    """Send SYN or ACK in a frame of its own, as some peers do; ours travel with the first frame."""
    if stream._to_send:
        stream._session.send_frame(WINDOW_UPDATE, stream._to_send, stream.id, 0, b"")
        stream._to_send = 0


class SessionEnd:
    """One yamux session and what it told its owner."""

    def __init__(self, *, initiator: bool, max_inbound: int = 64, credit: bool = True) -> None:
        self.opened: list[Recorder] = []
        self.go_aways: list[int] = []
        self.pongs = 0
        self.wakes = 0
        self.credit = credit
        self.make: Callable[[Stream], StreamHandler | None] = self._record
        self.session = Session(initiator, self, self._wake, max_inbound)

    def _wake(self) -> None:
        self.wakes += 1

    def _record(self, stream: Stream) -> Recorder:
        recorder = Recorder(stream, credit=self.credit)
        self.opened.append(recorder)
        return recorder

    def stream_opened(self, stream: Stream) -> StreamHandler | None:
        return self.make(stream)

    def go_away_received(self, code: int) -> None:
        self.go_aways.append(code)

    def pong_received(self) -> None:
        self.pongs += 1

    def open(self) -> Recorder:
        """A stream of ours."""
        return Recorder(self.session.open_stream(), credit=self.credit)

    def feed(self, *frames: bytes, now_s: float = 0.0) -> None:
        """Bytes of the other end."""
        self.session.receive(b"".join(frames), now_s)

    def output(self) -> bytes:
        """What the session has to say now, as the transport takes it."""
        data = bytes(self.session.take_output())
        self.session.output_taken()
        return data

    def all_output(self) -> bytes:
        """Everything it has to say until it is quiet."""
        data = b""
        while more := self.output():
            data += more
        return data


class SessionPair:
    """Two sessions back to back."""

    def __init__(self, *, max_inbound: int = 64, credit: bool = True) -> None:
        self.left = SessionEnd(initiator=True, max_inbound=max_inbound, credit=credit)
        self.right = SessionEnd(initiator=False, max_inbound=max_inbound, credit=credit)

    def pump(self, now_s: float = 0.0) -> None:
        """Carry output across until both are quiet."""
        moving = True
        while moving:
            moving = False
            for sender, receiver in ((self.left, self.right), (self.right, self.left)):
                data = sender.output()
                if data:
                    receiver.session.receive(data, now_s)
                    moving = True

    def stream(self) -> tuple[Recorder, Recorder]:
        """A stream that left opened, both its ends, accepted and acknowledged."""
        ours = self.left.open()
        acknowledge(ours.stream)
        self.pump()
        theirs = self.right.opened[-1]
        acknowledge(theirs.stream)
        self.pump()
        return ours, theirs


class ConnectionEnd:
    """One upgrade.Connection and what it told its owner."""

    def __init__(self, role: Role, static: StaticKey, protocols: Collection[bytes] = (), max_streams: int = 64) -> None:
        self.upgrades = 0
        self.opened: list[tuple[bytes, Recorder]] = []
        self.errors: list[PeerError] = []
        self.go_aways: list[int] = []
        self.pongs = 0
        self.wakes = 0
        self.make: Callable[[bytes, Stream], StreamHandler] = self._record
        self.connection = Connection(role, static, self, self._wake, protocols, max_streams)

    def _wake(self) -> None:
        self.wakes += 1

    def _record(self, protocol: bytes, stream: Stream) -> Recorder:
        recorder = Recorder(stream)
        self.opened.append((protocol, recorder))
        return recorder

    def upgraded(self) -> None:
        self.upgrades += 1

    def protocol_opened(self, protocol: bytes, stream: Stream) -> StreamHandler:
        return self.make(protocol, stream)

    def peer_erred(self, error: PeerError) -> None:
        self.errors.append(error)

    def go_away_received(self, code: int) -> None:
        self.go_aways.append(code)

    def pong_received(self) -> None:
        self.pongs += 1

    @property
    def session(self) -> Session:
        """The session, which must be there."""
        assert self.connection.session is not None
        return self.connection.session

    def output(self) -> bytes:
        """What goes to the socket now."""
        data = bytes(self.connection.take_output())
        if self.connection.session is not None:
            self.connection.session.output_taken()
        return data

    def open(self, protocol: bytes, first: bytes = b"") -> Recorder:
        """A stream of ours for `protocol`."""
        recorder = Recorder()
        recorder.stream = self.connection.open_stream(protocol, recorder, first)
        return recorder


class ConnectionPair:
    """A dialer and a listener. `protocols` are what each speaks on streams that the other opens."""

    def __init__(
        self, dialer: Collection[bytes] = (), listener: Collection[bytes] = (), *, early_muxer: bool = True
    ) -> None:
        self.dialer_host, self.listener_host = HostKey.from_seed(b"d" * 32), HostKey.from_seed(b"l" * 32)
        offered = MUXERS if early_muxer else ()
        self.dialer = ConnectionEnd(Role.INITIATOR, StaticKey(self.dialer_host, offered), dialer)
        self.listener = ConnectionEnd(Role.RESPONDER, StaticKey(self.listener_host, MUXERS), listener)

    def pump(self, piece_bytes: int = 1 << 20, now_s: float = 0.0) -> None:
        """Carry output across, in pieces of at most `piece_bytes`, until both are quiet."""
        moving = True
        while moving:
            moving = False
            for sender, receiver in ((self.dialer, self.listener), (self.listener, self.dialer)):
                data = sender.output()
                for start in range(0, len(data), piece_bytes):
                    receiver.connection.receive(memoryview(data)[start : start + piece_bytes], now_s)
                    moving = True

    @classmethod
    def upgraded(cls, dialer: Collection[bytes] = (), listener: Collection[bytes] = ()) -> ConnectionPair:
        """A pair that is through with the upgrade."""
        pair = cls(dialer, listener)
        pair.pump()
        return pair


__all__ = ["ConnectionEnd", "ConnectionPair", "Recorder", "SessionEnd", "SessionPair", "acknowledge"]
