"""One browser: a libp2p peer that connects to a relay, reserves, calls and is called. Blocking, for greenlets.

Two greenlets move its bytes, one each way; whoever asks for something waits for it with a deadline. Must never wait for
ever: a relay that does not answer is an error with a name.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

import gevent
from gevent.event import Event
from gevent.lock import Semaphore

from actors import hop, identify, stop
from actors.identify import IdentifyAnswer
from actors.proto.circuit_pb2 import HopMessage, Peer, Status, StopMessage
from actors.proto.identify_pb2 import Identify
from loadtests.browsers.pipes import Pipe, PipeError, Target, dial
from transports.errors import PeerError
from transports.identity import HostKey, peer_id_text
from transports.noise import Role, StaticKey
from transports.upgrade import MUXERS, Connection
from transports.varint import DelimitedReader, delimited
from transports.yamux import Buffer, GoAway, Stream

WAIT_S: Final = 10.0
AGENT: Final = "frost-relay-load"
_PROTOCOLS: Final = (identify.PROTOCOL, stop.PROTOCOL)
_MAX_STREAMS: Final = 256
_MAX_MESSAGE_BYTES: Final = 8192
_OBSERVED: Final = bytes.fromhex("047f000001062383")  # /ip4/127.0.0.1/tcp/9091: where a peer says it sees the relay

OnCall = Callable[[bytes, "BrowserStream"], None]


class BrowserError(Exception):
    """Something that a browser asked for did not come; the text is the reason in locust's table."""


class RefusedError(BrowserError):
    """The relay answered with a status that is not OK."""


class TimedOutError(BrowserError):
    """The relay did not answer in time."""


class LostError(BrowserError):
    """The stream or the connection is gone."""


class GoodbyeError(LostError):
    """The relay has said goodbye: it is being stopped, and nobody's fault."""


class BrowserStream:
    """A stream with a blocking face."""

    def __init__(self, browser: Browser) -> None:
        self.stream: Stream
        self._browser = browser
        self._buffer = bytearray()
        self._ended = self._reset = False
        self._changed = Event()

    def data_received(self, data: Buffer) -> None:
        """Keep it for the reader."""
        self._buffer += data
        self.stream.consumed(len(data))
        self._changed.set()

    def eof_received(self) -> None:
        """The other side has said all."""
        self._ended = True
        self._changed.set()

    def reset_received(self) -> None:
        """The stream is gone."""
        self._reset = True
        self._changed.set()

    def data_sent(self, count_bytes: int) -> None:
        """What waits fits into a window."""

    def _until(self, condition: Callable[[], bool], what: str) -> None:
        with gevent.Timeout(WAIT_S, TimedOutError(f"no {what} within {WAIT_S:.0f} s")):
            while not condition():
                if self._reset:
                    raise self._browser.loss() if self._browser.gone.is_set() else LostError(f"reset before {what}")
                if self._ended:
                    raise LostError(f"closed before {what}")
                self._changed.clear()
                self._changed.wait()

    def read(self, count: int, what: str = "message") -> bytes:
        """Exactly `count` bytes; `what` names them in an error."""
        self._until(lambda: len(self._buffer) >= count, what)
        data = bytes(self._buffer[:count])
        del self._buffer[:count]
        return data

    def read_to_end(self) -> bytes:
        """All up to the other side's end."""
        self._until(lambda: self._ended, "end")
        return bytes(self._buffer)

    def read_delimited(self, what: str) -> bytes:
        """One delimited message; what follows it stays."""
        reader = DelimitedReader(_MAX_MESSAGE_BYTES)
        while True:
            self._until(lambda: bool(self._buffer), what)
            body = reader.feed(bytes(self._buffer))
            self._buffer.clear()
            if body is not None:
                self._buffer += reader.rest()
                return body

    def write(self, data: bytes) -> None:
        """Send, or queue until the window allows."""
        self.stream.write(data)

    def close(self) -> None:
        """Nothing more comes from here."""
        self.stream.close()

    def abort(self) -> None:
        """Reset."""
        self.stream.reset()


class Browser:
    """One peer and one connection. `on_call(caller, stream)` runs in a greenlet of its own for each circuit taken."""

    def __init__(self, target: Target, source: str | None = None, on_call: OnCall | None = None) -> None:
        self.host = HostKey.generate()
        self.gone = Event()
        self.said_goodbye = False
        self.reserved_until = 0
        self._target = target
        self._source = source
        self._on_call = on_call
        self._pipe: Pipe | None = None
        self._reason = "the relay closed the connection"
        self._upgraded = Event()
        self._output = Event()
        self._writing = Semaphore()
        self._greenlets: list[Any] = []
        static = StaticKey(self.host, MUXERS)
        self._connection = Connection(Role.INITIATOR, static, self, self._output.set, _PROTOCOLS, _MAX_STREAMS)

    @property
    def peer_id(self) -> bytes:
        """Who this is."""
        return self.host.peer_id

    @property
    def socket_bytes(self) -> int:
        """What has passed its socket so far, both ways."""
        return self._pipe.socket_bytes if self._pipe is not None else 0

    @property
    def entered(self) -> bool:
        """Whether the relay has let it in."""
        return self._connection.session is not None

    # The steps of a browser's life

    def connect(self) -> None:
        """A socket, with TLS if the address has it."""
        self._pipe = dial(self._target, self._source)

    def upgrade(self) -> None:
        """WebSocket, Noise and yamux; checks that the relay is the one that was asked for."""
        assert self._pipe is not None, "connect first"
        self._pipe.wait_at_most(WAIT_S)
        self._pipe.open()
        self._greenlets = [gevent.spawn(self._read, self._pipe), gevent.spawn(self._write, self._pipe)]
        if not self._upgraded.wait(WAIT_S):
            raise TimedOutError(f"no upgrade within {WAIT_S:.0f} s")
        if self.gone.is_set():
            raise self.loss()
        answered = peer_id_text(self._connection.peer)
        if self._target.peer not in {"", answered}:
            raise BrowserError(f"{answered} answered, another relay than was dialled")

    def identify(self) -> Identify:
        """Ask the relay who it is."""
        stream = self.open(identify.PROTOCOL)
        answer = Identify.FromString(stream.read_delimited("identify"))
        stream.close()
        return answer

    def reserve(self) -> None:
        """RESERVE, the first time or again."""
        answer, stream = self._ask(HopMessage(type=HopMessage.RESERVE))
        stream.close()
        self.reserved_until = answer.reservation.expire

    def call(self, peer: bytes) -> BrowserStream:
        """CONNECT: a circuit to a reserved peer."""
        return self._ask(HopMessage(type=HopMessage.CONNECT, peer=Peer(id=peer)))[1]

    def leave(self) -> None:
        """Say goodbye and close; returns when the socket is gone."""
        if self._pipe is None:
            return
        if not self.gone.is_set() and self._upgraded.is_set():
            self._connection.go_away(GoAway.NORMAL)
            with suppress(PipeError, OSError):  # the relay was first
                self._flush(self._pipe)
        self._pipe.close()
        gevent.joinall(self._greenlets, timeout=WAIT_S)

    def vanish(self) -> None:
        """Drop everything at once, from wherever that is called."""
        gevent.killall([each for each in self._greenlets if each is not gevent.getcurrent()], block=False)
        if self._pipe is not None:
            self._pipe.close()
        self._lost()

    def open(self, protocol: bytes, first: bytes = b"") -> BrowserStream:
        """A stream of our own, with `first` behind the negotiation."""
        if self.gone.is_set():
            raise self.loss()
        handler = BrowserStream(self)
        handler.stream = self._connection.open_stream(protocol, handler, first)
        return handler

    def loss(self) -> LostError:
        """Why the connection is gone, as an error."""
        return GoodbyeError("the relay said goodbye") if self.said_goodbye else LostError(self._reason)

    def _ask(self, message: HopMessage) -> tuple[HopMessage, BrowserStream]:
        stream = self.open(hop.PROTOCOL, delimited(message.SerializeToString()))
        answer = HopMessage.FromString(stream.read_delimited("answer"))
        if answer.status != Status.OK:
            stream.close()
            raise RefusedError(Status.Name(answer.status))
        return answer, stream

    # What the connection tells

    def upgraded(self) -> None:
        """All layers stand."""
        self._upgraded.set()

    def protocol_opened(self, protocol: bytes, stream: Stream) -> BrowserStream:
        """The relay asks who we are, or whether we take a call."""
        handler = BrowserStream(self)
        handler.stream = stream
        gevent.spawn(self._identified if protocol == identify.PROTOCOL else self._called, handler)
        return handler

    def peer_erred(self, error: PeerError) -> None:
        """The relay broke a rule on a stream: so much for this relay."""
        self._reason = f"the relay broke a rule: {error}"
        self.vanish()

    def go_away_received(self, code: int) -> None:
        """The relay leaves, or has had enough of us."""
        self.said_goodbye = code == GoAway.NORMAL

    def pong_received(self) -> None:
        """We ask for none."""

    def _identified(self, stream: BrowserStream) -> None:
        stream.write(IdentifyAnswer(self.host, (), _PROTOCOLS, AGENT, 1).frame(_OBSERVED))
        stream.close()

    def _called(self, stream: BrowserStream) -> None:
        """Take a call, as a browser does that listens on /p2p-circuit; who fails to call us knows why."""
        try:
            message = StopMessage.FromString(stream.read_delimited("call"))
            status = Status.OK if self._on_call is not None else Status.PERMISSION_DENIED
            stream.write(delimited(StopMessage(type=StopMessage.STATUS, status=status).SerializeToString()))
            if self._on_call is not None:
                self._on_call(message.peer.id, stream)
        except BrowserError:
            stream.abort()

    # The two directions of the socket

    def _read(self, pipe: Pipe) -> None:
        try:
            for data in pipe.receive():
                self._connection.receive(data, time.monotonic())
            self._reason = "the relay closed the connection"
        except PeerError as error:
            self._reason = f"the relay broke a rule: {error}"
        except (PipeError, OSError) as error:
            self._reason = f"{type(error).__name__}: {error}"
        finally:
            self._lost()

    def _write(self, pipe: Pipe) -> None:
        try:
            while not self.gone.is_set():
                self._output.wait()
                self._flush(pipe)
        except (PipeError, OSError):  # the reader sees the end too, behind what has come before it
            return

    def _flush(self, pipe: Pipe) -> None:
        with self._writing:  # what is taken first goes first
            self._output.clear()
            data = self._connection.take_output()
            if data:
                pipe.send(bytes(data))
        session = self._connection.session
        if session is not None and session.congested:
            session.output_taken()

    def _lost(self) -> None:
        if not self.gone.is_set():
            self.gone.set()
            self._connection.closed()
            self._upgraded.set()
            self._output.set()
