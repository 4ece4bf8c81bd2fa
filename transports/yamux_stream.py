"""One yamux stream: its two directions, its windows, and what waits to be sent.

Sans-IO. Must never send beyond the peer's window, nor hold received data: it is handed on as it comes.
"""

from __future__ import annotations

from typing import ClassVar, Protocol

from transports.yamux_frames import (
    DATA,
    FIN,
    INITIAL_WINDOW_BYTES,
    MAX_DATA_BYTES,
    MAX_WINDOW_BYTES,
    RST,
    WINDOW_UPDATE,
    Buffer,
    StreamHandler,
    YamuxError,
)


class Sender(Protocol):
    """What a stream needs of its session."""

    congested: bool

    def send_frame(self, kind: int, flags: int, stream_id: int, length: int, body: Buffer) -> None:
        """Queue one frame."""

    def wait(self, stream: Stream) -> None:
        """Call `resume` when there is room again."""

    def reset_sent(self, stream: Stream) -> None:
        """The stream was reset from here."""

    def forget(self, stream: Stream) -> None:
        """Both directions are over."""


class _Nobody:
    """The handler of a stream before it has one."""

    __slots__ = ()

    def data_received(self, data: Buffer) -> None:
        raise AssertionError("a stream without a handler received data")

    def eof_received(self) -> None:
        """Nothing waits for it."""

    def reset_received(self) -> None:
        """Nothing waits for it."""

    def data_sent(self, count_bytes: int) -> None:
        """Nothing waits for it."""


class Stream:
    """One stream of a session. Writing side and reading side close separately; `reset` ends both.

    `write` sends what the peer's window allows and queues the rest; whoever writes bounds what is queued by what it
    has accepted elsewhere (a circuit by the other side's window).
    """

    CREDIT_BYTES: ClassVar = INITIAL_WINDOW_BYTES // 2
    """How much is owed before it is given back in a frame."""

    __slots__ = (
        "_consumed_bytes",
        "_fin_queued",
        "_queue",
        "_session",
        "_to_send",
        "handler",
        "id",
        "readable",
        "receive_window",
        "reset_code",
        "send_window",
        "writable",
    )

    def __init__(self, session: Sender, stream_id: int, opening_flag: int) -> None:
        self._session = session
        self.id = stream_id
        self.handler: StreamHandler = _Nobody()
        self.send_window = INITIAL_WINDOW_BYTES
        self.receive_window = INITIAL_WINDOW_BYTES
        self.readable = True
        self.writable = True
        self._to_send = opening_flag  # SYN or ACK, carried by our first frame whatever it is
        self.reset_code = 0  # what the peer's RST said
        self._consumed_bytes = 0
        self._queue: bytearray | None = None
        self._fin_queued = False

    @property
    def queued_bytes(self) -> int:
        """What `write` accepted and the peer's window or the transport has not let go yet."""
        return len(self._queue) if self._queue else 0

    def write(self, data: Buffer) -> int:
        """Send or queue; returns how many bytes went out now, the rest is told by `data_sent`.

        After `close` or a reset nothing is sent and the bytes count as gone.
        """
        size = len(data)
        if not size or not self.writable or self._fin_queued:
            return size
        session = self._session
        if self._queue is None and size <= self.send_window and size <= MAX_DATA_BYTES and not session.congested:
            self.send_window -= size
            flags, self._to_send = self._to_send, 0
            session.send_frame(DATA, flags, self.id, size, data)
            return size
        # One buffer, not a list: a window of one-byte frames must not cost more than its bytes, nor go out as it came.
        if self._queue is None:
            self._queue = bytearray()
        self._queue += data
        return self._send_queued()

    def close(self) -> None:
        """Half-close: FIN behind everything that was written."""
        if not self.writable or self._fin_queued:
            return
        if self._queue:
            self._fin_queued = True
            return
        self.writable = False
        self._session.send_frame(DATA, self._to_send | FIN, self.id, 0, b"")
        self._to_send = 0
        if not self.readable:
            self._session.forget(self)

    def reset(self, code: int = 0) -> None:
        """RST: both directions end now, queued bytes are dropped. The handler is not called. `code`: an ErrorCode."""
        if not self.alive:
            return
        self._session.send_frame(WINDOW_UPDATE, self._to_send | RST, self.id, code, b"")
        self._session.reset_sent(self)
        self._drop()

    @property
    def alive(self) -> bool:
        """Whether either direction is still open."""
        return self.readable or self.writable

    def consumed(self, count_bytes: int) -> None:
        """Give the peer its window back for bytes that have been handed on; sent once CREDIT_BYTES are owed."""
        self._consumed_bytes += count_bytes
        if self._consumed_bytes >= self.CREDIT_BYTES and self.readable:
            delta, self._consumed_bytes = self._consumed_bytes, 0
            self.receive_window += delta
            self._session.send_frame(WINDOW_UPDATE, self._to_send, self.id, delta, b"")
            self._to_send = 0

    def _send_queued(self) -> int:
        """Send what window and transport allow; returns the bytes that went out."""
        session, queue, sent = self._session, self._queue, 0
        while queue:
            size = min(len(queue), self.send_window, MAX_DATA_BYTES)
            if not size:
                return sent  # until `on_window`
            if session.congested:
                session.wait(self)
                return sent
            data = bytes(queue[:size])
            del queue[:size]
            self.send_window -= size
            sent += size
            session.send_frame(DATA, self._to_send, self.id, size, data)
            self._to_send = 0
        self._queue = None
        if self._fin_queued:
            self._fin_queued = False
            self.close()
        return sent

    def resume(self) -> None:
        """The session's: window or transport opened."""
        if self._queue:
            sent = self._send_queued()
            if sent:
                self.handler.data_sent(sent)

    def _drop(self) -> None:
        self.readable = self.writable = self._fin_queued = False
        self._queue = None
        self._session.forget(self)

    # What the peer's frames do; called by the session only.

    def on_window(self, delta: int) -> None:
        """Credit."""
        self.send_window += delta
        if self.send_window > MAX_WINDOW_BYTES:
            raise YamuxError("send window over 32 bits")
        self.resume()

    def on_fin(self) -> None:
        """FIN."""
        if not self.readable:
            raise YamuxError("a second FIN on a stream")
        self.readable = False
        if not self.writable:
            self._session.forget(self)
        self.handler.eof_received()

    def on_gone(self) -> None:
        """RST, or the connection has ended."""
        self._drop()
        self.handler.reset_received()
