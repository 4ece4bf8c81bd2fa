"""yamux: many streams over one ordered byte pipe, each with flow control, half-close and reset.

Sans-IO: plaintext in, frames out (`take_output`), streams call their handler. Time is passed in. Must never hold
received data (it is handed on as it comes) and never accept more than a stream's window, so what a peer can make
us hold is what a handler did not hand on yet, at most one window a stream.

Spec: https://github.com/hashicorp/yamux/blob/master/spec.md and libp2p/specs yamux/README.md.

Callbacks instead of a list of events: one relayed message is one frame, and a call is cheaper than an object that
is made, queued, told apart and dropped.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from transports.yamux_frames import (
    ACK,
    DATA,
    FIN,
    GO_AWAY,
    HEADER,
    HEADER_BYTES,
    INITIAL_WINDOW_BYTES,
    PING,
    PROTOCOL,
    RST,
    SYN,
    WINDOW_UPDATE,
    Buffer,
    ErrorCode,
    FrameFloodError,
    GoAway,
    SessionHandler,
    StreamFloodError,
    StreamHandler,
    YamuxError,
)
from transports.yamux_stream import Stream

OUTPUT_SOFT_LIMIT_BYTES: Final = 64 * 1024
RESET_BUDGET: Final = 200
RESET_BUDGET_PER_S: Final = 20.0
IDLE_FRAME_COST: Final = 0.25
"""Of a reset: 800 frames that move nothing, and 80 a second, are allowed. An honest peer pings twice a minute."""
LATE_FRAME_COST: Final = 0.0625
"""Of data for a stream that is gone: 3,200 and 320 a second. A window of it may be under way when we reset a stream."""


class Session:
    """One end of a yamux session.

    `wake` is called when output appears where there was none; the owner then collects it with `take_output`.
    `congested` is true while the transport does not take more, or when a turn has produced
    OUTPUT_SOFT_LIMIT_BYTES: data then waits in its stream, control frames still go out. `max_resets` is the budget of
    resets and of frames that move nothing; infinite for a peer that is trusted.
    """

    __slots__ = (
        "_body_left",
        "_body_stream",
        "_fin_behind_body",
        "_handler",
        "_inbound",
        "_max_resets",
        "_next_id",
        "_out",
        "_out_bytes",
        "_partial",
        "_peer_parity",
        "_reset_budget",
        "_reset_budget_at_s",
        "_resets_sent",
        "_stream_type",
        "_transport_paused",
        "_waiting",
        "_wake",
        "congested",
        "max_inbound",
        "streams",
    )

    def __init__(
        self,
        initiator: bool,
        handler: SessionHandler,
        wake: Callable[[], None],
        max_inbound_streams: int,
        max_resets: float = RESET_BUDGET,
        stream_type: type[Stream] = Stream,
    ) -> None:
        self._stream_type = stream_type
        self._handler = handler
        self._wake = wake
        self.max_inbound = max_inbound_streams
        # "The client side should use odd ID's, and the server even."
        self._next_id = 1 if initiator else 2
        self._peer_parity = 0 if initiator else 1
        self._inbound = 0
        self.streams: dict[int, Stream] = {}
        self._out: list[Buffer] = []
        self._out_bytes = 0
        self._partial = b""
        self._body_left = 0
        self._body_stream: Stream | None = None
        self._fin_behind_body = False
        self._transport_paused = False
        self.congested = False
        self._waiting: dict[Stream, None] = {}
        self._max_resets = self._reset_budget = max_resets
        self._reset_budget_at_s = 0.0
        self._resets_sent = 0

    # Output

    def send_frame(self, kind: int, flags: int, stream_id: int, length: int, body: Buffer) -> None:
        """Queue one frame for `take_output`."""
        out = self._out
        if not out:
            self._wake()
        out.append(HEADER.pack(0, kind, flags, stream_id, length))
        self._out_bytes += HEADER_BYTES
        if body:
            out.append(body)
            self._out_bytes += len(body)
            if self._out_bytes >= OUTPUT_SOFT_LIMIT_BYTES:
                self.congested = True

    def take_output(self) -> Buffer:
        """All queued frames, joined. Streams that waited for room continue at the next `output_taken`."""
        out = self._out
        if not out:
            return b""
        data = out[0] if len(out) == 1 else b"".join(out)
        self._out = []
        self._out_bytes = 0
        return data

    def output_taken(self) -> None:
        """The output of the last `take_output` was written: streams that waited may fill the next one."""
        if not self._transport_paused:
            self.congested = False
            if self._waiting:
                self._resume_waiting()

    def pause(self) -> None:
        """The transport's buffer is full."""
        self._transport_paused = self.congested = True

    def unpause(self) -> None:
        """The transport's buffer has drained."""
        self._transport_paused = False
        self.output_taken()

    def wait(self, stream: Stream) -> None:
        """A stream has data that its window allows and the transport does not."""
        self._waiting[stream] = None

    def _resume_waiting(self) -> None:
        # One that fills the output waits again at the end of the row, so that each has its turn.
        while self._waiting and not self.congested:
            stream = next(iter(self._waiting))
            del self._waiting[stream]
            stream.resume()

    def reset_sent(self, stream: Stream) -> None:
        """The stream's: it was reset from here, for the peer's fault as a rule; counted when it opens the next."""
        if stream.id & 1 == self._peer_parity:
            self._resets_sent += 1

    def forget(self, stream: Stream) -> None:
        """The stream's: both directions are over."""
        if self.streams.pop(stream.id, None) is not None and stream.id & 1 == self._peer_parity:
            self._inbound -= 1
        self._waiting.pop(stream, None)

    # What the owner asks for

    def open_stream(self) -> Stream:
        """A stream of ours. SYN travels with its first frame; set its handler before you write."""
        stream = self._stream_type(self, self._next_id, SYN)
        self._next_id += 2
        self.streams[stream.id] = stream
        return stream

    def ping(self, value: int) -> None:
        """Ask for a sign of life; `pong_received` tells."""
        self.send_frame(PING, SYN, 0, value, b"")

    def go_away(self, code: GoAway) -> None:
        """Say that the session ends."""
        self.send_frame(GO_AWAY, 0, 0, code, b"")

    def connection_lost(self) -> None:
        """The pipe is gone: every stream ends, every handler is told, also when one of them raises."""
        fault: Exception | None = None
        for stream in list(self.streams.values()):
            if stream.alive:  # one that another's handler has reset meanwhile was told enough
                try:
                    stream.on_gone()
                except Exception as error:  # noqa: BLE001 - raised again below, when all have been told
                    fault = error
        if fault is not None:
            raise fault

    # Input

    def receive(self, data: bytes, now_s: float) -> None:
        """Parse plaintext. Raises YamuxError; the session is unusable afterwards but for `go_away`."""
        if self._partial:
            data = self._partial + data
            self._partial = b""
        position, size = 0, len(data)
        view = memoryview(data)
        streams = self.streams
        while position < size:
            if self._body_left:
                end = min(position + self._body_left, size)
                self._body_left -= end - position
                self._deliver(view[position:end])
                position = end
                continue
            if size - position < HEADER_BYTES:
                self._partial = data[position:]
                return
            version, kind, flags, stream_id, length = HEADER.unpack_from(data, position)
            position += HEADER_BYTES
            if version:
                raise YamuxError(f"version {version}")
            if not (kind or flags) and length and position + length <= size:
                # Whole data on an open stream, which is nearly all that is relayed: two calls fewer.
                stream = streams.get(stream_id)
                if stream is not None and stream.readable and length <= stream.receive_window:
                    stream.receive_window -= length
                    start, position = position, position + length
                    stream.handler.data_received(view[start:position])
                    continue
            if kind == DATA:
                self._on_data_header(flags, stream_id, length, now_s)
            elif kind == WINDOW_UPDATE:
                self._on_window_update(flags, stream_id, length, now_s)
            else:
                self._on_session_frame(kind, flags, stream_id, length, now_s)

    def _deliver(self, body: memoryview) -> None:
        stream = self._body_stream
        if stream is None:
            return
        if stream.readable:
            stream.handler.data_received(body)
        if not self._body_left:
            self._body_stream = None
            if self._fin_behind_body:
                self._fin_behind_body = False
                if stream.alive:
                    stream.on_fin()

    def _on_data_header(self, flags: int, stream_id: int, length: int, now_s: float) -> None:
        stream = self.streams.get(stream_id)
        if flags:
            if flags & SYN:
                stream = self._accept(stream_id, now_s)
            if flags & RST and stream is not None:
                self._on_reset(stream, now_s)
                stream = None
        if not flags & (SYN | FIN | RST) and (stream is None or not length):
            self._spend_on_idle_frame(now_s, LATE_FRAME_COST if length else IDLE_FRAME_COST)
        if stream is None:
            # Data in flight towards a stream that has ended here is read past, up to what it could have in flight.
            self._check_known(stream_id)
            if length > INITIAL_WINDOW_BYTES:
                raise YamuxError("data for a stream that is gone, longer than any window")
        elif length > stream.receive_window or (length and not stream.readable):
            raise YamuxError("data beyond the granted window")
        else:
            stream.receive_window -= length
        self._body_left = length
        self._body_stream = stream
        if flags & FIN and stream is not None:
            if length:
                self._fin_behind_body = True
            else:
                stream.on_fin()

    def _on_window_update(self, flags: int, stream_id: int, delta: int, now_s: float) -> None:
        stream = self.streams.get(stream_id)
        if flags & SYN:
            stream = self._accept(stream_id, now_s)
        if not flags & (SYN | FIN | RST) and (stream is None or stream.send_window >= INITIAL_WINDOW_BYTES):
            self._spend_on_idle_frame(now_s, IDLE_FRAME_COST)  # credit that nobody waits for
        if stream is None:
            self._check_known(stream_id)
            return
        if flags & RST:
            # go-yamux v5 puts an error code where the credit stands: it is never credit.
            stream.reset_code = delta
            self._on_reset(stream, now_s)
            return
        if delta:
            stream.on_window(delta)
        if flags & FIN and stream.alive:
            stream.on_fin()

    def _on_reset(self, stream: Stream, now_s: float) -> None:
        if stream.id & 1 == self._peer_parity:
            self._spend_reset_budget(now_s)
        stream.on_gone()

    def _check_known(self, stream_id: int) -> None:
        """A frame for a stream that ended is late, one for a stream that never was is an error."""
        if stream_id == 0 or (stream_id & 1 != self._peer_parity and stream_id >= self._next_id):
            raise YamuxError(f"a frame for stream {stream_id}, which was never opened")

    def _accept(self, stream_id: int, now_s: float) -> Stream | None:
        if stream_id == 0 or stream_id & 1 != self._peer_parity or stream_id in self.streams:
            raise YamuxError(f"stream {stream_id} can not be opened by the peer")
        if self._resets_sent:
            resets, self._resets_sent = self._resets_sent, 0
            self._spend_reset_budget(now_s, resets)
        stream = self._stream_type(self, stream_id, ACK)
        if self._inbound >= self.max_inbound:
            self._spend_reset_budget(now_s)
            self.send_frame(WINDOW_UPDATE, RST, stream_id, ErrorCode.RESOURCE_LIMIT_EXCEEDED, b"")
            return None
        self.streams[stream_id] = stream
        self._inbound += 1
        handler = self._handler.stream_opened(stream)
        if handler is None:
            stream.reset()
            return None
        stream.handler = handler
        return stream

    def _spend_reset_budget(self, now_s: float, resets: int = 1) -> None:
        """A stream opened and reset at once costs the peer nothing and us some: 200, and 20 a second, are allowed.

        It is the same whether the peer resets it or makes us do so.
        """
        if self._overspent(now_s, resets):
            raise StreamFloodError(f"streams are reset faster than {RESET_BUDGET_PER_S:.0f} a second")

    def _spend_on_idle_frame(self, now_s: float, cost: float) -> None:
        """A frame that moves nothing is not worth more than a few bytes to the peer, and as much work to us as data."""
        if self._overspent(now_s, cost):
            most = RESET_BUDGET_PER_S / cost
            raise FrameFloodError(f"frames that move nothing come faster than {most:.0f} a second")

    def _overspent(self, now_s: float, cost: float) -> bool:
        refill = (now_s - self._reset_budget_at_s) * RESET_BUDGET_PER_S
        self._reset_budget = min(self._max_resets, self._reset_budget + refill) - cost
        self._reset_budget_at_s = now_s
        return self._reset_budget < 0

    def _on_session_frame(self, kind: int, flags: int, stream_id: int, value: int, now_s: float) -> None:
        if stream_id:
            raise YamuxError("a ping or go-away with a stream id")
        self._spend_on_idle_frame(now_s, IDLE_FRAME_COST)
        if kind == PING:
            if flags & SYN:
                self.send_frame(PING, ACK, 0, value, b"")
            elif flags & ACK:
                self._handler.pong_received()
        elif kind == GO_AWAY:
            self._handler.go_away_received(value)
        else:
            raise YamuxError(f"frame type {kind}")


__all__ = [
    "IDLE_FRAME_COST",
    "OUTPUT_SOFT_LIMIT_BYTES",
    "PROTOCOL",
    "RESET_BUDGET",
    "RESET_BUDGET_PER_S",
    "Buffer",
    "ErrorCode",
    "FrameFloodError",
    "GoAway",
    "Session",
    "SessionHandler",
    "Stream",
    "StreamFloodError",
    "StreamHandler",
    "YamuxError",
]
