"""multistream-select on a yamux stream: finds the protocol of a stream, then steps aside.

Sans-IO. The negotiation is the stream's handler until a protocol is chosen; then the protocol's own handler takes
its place and gets every byte behind the choice, in order. Must never outlive the choice.
"""

from __future__ import annotations

from collections.abc import Callable, Collection

from transports.errors import PeerError
from transports.multistream import Initiator, NegotiationError, NotSupportedError, Responder
from transports.yamux import Buffer, ErrorCode, Stream, StreamHandler


class InboundNegotiation:
    """The peer opened the stream and asks for one of `protocols`; `accept(protocol, stream)` makes its handler.

    A peer that breaks the rules has its stream reset and `on_error` told.
    """

    __slots__ = ("_accept", "_on_error", "_responder", "_stream")

    def __init__(
        self,
        stream: Stream,
        protocols: Collection[bytes],
        accept: Callable[[bytes, Stream], StreamHandler],
        on_error: Callable[[PeerError], None],
    ) -> None:
        self._stream = stream
        self._responder = Responder(protocols)
        self._accept = accept
        self._on_error = on_error

    def data_received(self, data: Buffer) -> None:
        """Answer; at the choice hand the stream over."""
        stream = self._stream
        try:
            answer = self._responder.receive(data)
        except NegotiationError as error:
            stream.write(error.answer)
            self._on_error(error)
            stream.reset(ErrorCode.NEGOTIATION_FAILED)
            return
        if answer:
            stream.write(answer)
        selected = self._responder.selected
        if selected is None:
            stream.consumed(len(data))
            return
        rest = self._responder.rest()
        stream.consumed(len(data) - len(rest))
        handler = stream.handler = self._accept(selected, stream)
        if rest and stream.readable:
            handler.data_received(rest)

    def eof_received(self) -> None:
        """A stream that ends before it named a protocol has nothing to say."""
        self._stream.reset(ErrorCode.NEGOTIATION_FAILED)

    def reset_received(self) -> None:
        """Nothing was built yet."""

    def data_sent(self, count_bytes: int) -> None:
        """Answers are not counted."""


class OutboundNegotiation:
    """We opened the stream for one protocol. Name and first data leave in one write (lazy negotiation).

    `handler` gets what follows the peer's agreement; if the peer declines or breaks the rules, `handler.reset_received`
    is called after the stream was reset. `declined`: it was because the peer does not speak the protocol.
    """

    __slots__ = ("_handler", "_initiator", "_stream", "declined")

    def __init__(self, stream: Stream, protocol: bytes, handler: StreamHandler, first: bytes = b"") -> None:
        self._stream = stream
        self._handler = handler
        self._initiator = Initiator(protocol)
        self.declined = False
        stream.handler = self
        stream.write(self._initiator.start() + first)

    def data_received(self, data: Buffer) -> None:
        """Wait for the agreement."""
        stream = self._stream
        try:
            self._initiator.receive(data)
        except PeerError as error:
            self.declined = isinstance(error, NotSupportedError)
            stream.reset(ErrorCode.NEGOTIATION_FAILED)
            self._handler.reset_received()
            return
        if self._initiator.selected is None:
            stream.consumed(len(data))
            return
        rest = self._initiator.rest()
        stream.consumed(len(data) - len(rest))
        stream.handler = self._handler
        if rest:
            self._handler.data_received(rest)

    def eof_received(self) -> None:
        """The peer closed instead of agreeing."""
        self._stream.reset()
        self._handler.reset_received()

    def reset_received(self) -> None:
        """The peer reset instead of agreeing, or its connection is gone."""
        self._handler.reset_received()

    def data_sent(self, count_bytes: int) -> None:
        """Part of the protocol's own data may have waited behind the name; nobody counts it yet."""
