"""The one place that stacks the layers into a connection: multistream, Noise, yamux.

Sans-IO: `receive` takes what the socket brought, `take_output` gives what goes to the socket, `wake` is called when
there is something to give. The same object serves the relay (uvloop) and its clients in tests and load tests.
Must never give bytes to a layer before the one below it is established.

A connection's life is a chain of stages, each a small class that knows the next:
_Security -> _Noise -> (_Muxer ->) _Open -> _Closed.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Final, Protocol

from transports import multistream, noise, yamux
from transports.errors import PeerError
from transports.negotiation import InboundNegotiation, OutboundNegotiation
from transports.noise import Handshake, Role, SecureChannel, StaticKey
from transports.yamux import Buffer, GoAway, Session, Stream, StreamHandler

MUXERS: Final = (yamux.PROTOCOL,)


class ConnectionHandler(Protocol):
    """What a connection tells its owner."""

    def upgraded(self) -> None:
        """The peer is authenticated and streams can be opened; called once."""

    def protocol_opened(self, protocol: bytes, stream: Stream) -> StreamHandler:
        """The peer opened a stream for one of `protocols`; returns who serves it."""

    def peer_erred(self, error: PeerError) -> None:
        """The peer broke a rule on one stream, which was reset; the connection goes on."""

    def go_away_received(self, code: int) -> None:
        """The peer will open no more streams, and accepts none."""

    def pong_received(self) -> None:
        """The peer answered our ping."""


class _Stage(Protocol):
    """Where the upgrade stands: what incoming bytes mean now."""

    def receive(self, connection: Connection, data: Buffer, now_s: float) -> None:
        """Take bytes from the socket; enter the next stage when this one is over. Raises PeerError."""


class Connection:
    """One libp2p connection over any ordered byte pipe.

    `protocols` are what the peer may ask for on streams it opens. After `upgraded`, `peer` is the authenticated ID.
    """

    __slots__ = ("_clear", "_owner", "_protocols", "_seal", "_stage", "_wake", "max_streams", "peer", "role", "session")

    def __init__(
        self,
        role: Role,
        static: StaticKey,
        owner: ConnectionHandler,
        wake: Callable[[], None],
        protocols: Collection[bytes],
        max_streams: int,
    ) -> None:
        self.role = role
        self.peer = b""
        self.session: Session | None = None
        self.max_streams = max_streams
        self._owner = owner
        self._wake = wake
        self._protocols = protocols
        self._clear: list[Buffer] = []
        self._seal: Callable[[Buffer], Buffer] = bytes
        self._stage: _Stage = _Security(self, static)

    def receive(self, data: Buffer, now_s: float) -> None:
        """Feed bytes from the socket. Raises PeerError: close the connection, after what `take_output` gives."""
        self._stage.receive(self, data, now_s)

    def take_output(self) -> Buffer:
        """What goes to the socket now, as few Noise messages as possible, in one buffer."""
        plain = self.session.take_output() if self.session is not None else b""
        sealed = self._seal(plain) if plain else b""
        if self._clear:
            clear, self._clear = self._clear, []
            return b"".join((*clear, sealed))
        return sealed

    def open_stream(self, protocol: bytes, handler: StreamHandler, first: bytes = b"") -> Stream:
        """A stream of ours for `protocol`; `first` is sent along with the negotiation. Only after `upgraded`."""
        if self.session is None:
            raise RuntimeError("a stream was opened before the upgrade")
        stream = self.session.open_stream()
        OutboundNegotiation(stream, protocol, handler, first)
        return stream

    def limit_streams(self, max_streams: int) -> None:
        """The peer may have so many streams open from now on; those that are open stay."""
        self.max_streams = max_streams
        if self.session is not None:
            self.session.max_inbound = max_streams

    def go_away(self, code: GoAway) -> None:
        """Say goodbye when there is a session to say it in."""
        if self.session is not None:
            self.session.go_away(code)

    @property
    def over(self) -> bool:
        """Whether the socket is gone."""
        return isinstance(self._stage, _Closed)

    def closed(self) -> None:
        """The socket is gone: all streams end and nothing is received any more."""
        self._stage = _Closed()
        if self.session is not None:
            self.session.connection_lost()

    # The session's owner is the connection: it puts multistream on every stream.

    def stream_opened(self, stream: Stream) -> StreamHandler | None:
        """The peer opened a stream."""
        return InboundNegotiation(stream, self._protocols, self._owner.protocol_opened, self._owner.peer_erred)

    def go_away_received(self, code: int) -> None:
        """The peer says goodbye."""
        self._owner.go_away_received(code)

    def pong_received(self) -> None:
        """The peer answered a ping."""
        self._owner.pong_received()

    # For the stages

    def send(self, data: Buffer) -> None:
        """Queue bytes for the socket as they are."""
        if data:
            if not self._clear:
                self._wake()
            self._clear.append(data)

    def enter(self, stage: _Stage, rest: Buffer, now_s: float) -> None:
        """The next stage; `rest` came behind the last one's bytes."""
        self._stage = stage
        if rest:
            self.receive(rest, now_s)

    def open(self, channel: SecureChannel, rest: Buffer, now_s: float) -> None:
        """All layers stand; `rest` are the first sealed bytes."""
        self.session = Session(self.role is Role.INITIATOR, self, self._wake, self.max_streams)
        self._seal = channel.seal
        self._stage = _Open(channel, self.session)
        self._owner.upgraded()
        if rest:
            self.receive(rest, now_s)


def _negotiation(role: Role, protocol: bytes) -> multistream.Initiator | multistream.Responder:
    return multistream.Initiator(protocol) if role is Role.INITIATOR else multistream.Responder((protocol,))


def _negotiate(
    negotiation: multistream.Initiator | multistream.Responder, data: Buffer, send: Callable[[bytes], None]
) -> None:
    """Feed bytes and answer, also when they end the connection: the `na` before tells a lazy dialer why."""
    try:
        send(negotiation.receive(data))
    except multistream.NegotiationError as error:
        send(error.answer)
        raise


class _Security:
    """multistream in the clear: agree on Noise."""

    __slots__ = ("_negotiation", "_static")

    def __init__(self, connection: Connection, static: StaticKey) -> None:
        self._static = static
        self._negotiation = _negotiation(connection.role, noise.PROTOCOL)
        connection.send(self._negotiation.start())

    def receive(self, connection: Connection, data: Buffer, now_s: float) -> None:
        _negotiate(self._negotiation, data, connection.send)
        if self._negotiation.selected is not None:
            connection.enter(_Noise(connection, self._static), self._negotiation.rest(), now_s)


class _Noise:
    """The handshake."""

    __slots__ = ("_handshake",)

    def __init__(self, connection: Connection, static: StaticKey) -> None:
        self._handshake = Handshake(connection.role, static)
        connection.send(self._handshake.start())

    def receive(self, connection: Connection, data: Buffer, now_s: float) -> None:
        handshake = self._handshake
        connection.send(handshake.receive(data))
        channel = handshake.channel
        if channel is None:
            return
        connection.peer = handshake.peer
        if handshake.muxer is not None:
            connection.open(channel, handshake.rest(), now_s)
        else:
            connection.enter(_Muxer(connection, channel), handshake.rest(), now_s)


class _Muxer:
    """multistream under Noise, for a peer without early muxer negotiation (rust): agree on yamux."""

    __slots__ = ("_channel", "_negotiation")

    def __init__(self, connection: Connection, channel: SecureChannel) -> None:
        self._channel = channel
        self._negotiation = _negotiation(connection.role, yamux.PROTOCOL)
        self._send(connection, self._negotiation.start())

    def receive(self, connection: Connection, data: Buffer, now_s: float) -> None:
        _negotiate(self._negotiation, self._channel.open(data), lambda answer: self._send(connection, answer))
        if self._negotiation.selected is not None:
            connection.open(self._channel, b"", now_s)
            rest = self._negotiation.rest()
            if rest and connection.session is not None:
                connection.session.receive(rest, now_s)

    def _send(self, connection: Connection, data: bytes) -> None:
        if data:
            connection.send(self._channel.seal(data))


class _Open:
    """All layers stand."""

    __slots__ = ("_channel", "_session")

    def __init__(self, channel: SecureChannel, session: Session) -> None:
        self._channel = channel
        self._session = session

    def receive(self, connection: Connection, data: Buffer, now_s: float) -> None:
        self._session.receive(self._channel.open(data), now_s)


class _Closed:
    """Bytes that the socket still had when it was closed are nobody's."""

    __slots__ = ()

    def receive(self, connection: Connection, data: Buffer, now_s: float) -> None:
        """Dropped."""
