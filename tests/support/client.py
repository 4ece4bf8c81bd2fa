"""A libp2p peer for tests, on the project's own sans-IO layers over asyncio sockets (TCP, WebSocket, WSS).

It does what it is told and nothing by itself, so that a test can be any kind of peer: polite, slow, silent or rude.
Bytes on a circuit are the test's own; no second Noise session runs inside.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import time
from collections import deque
from collections.abc import Callable
from enum import Enum
from typing import Any, Self

from picows import WSCloseCode, WSFrame, WSListener, WSMsgType, WSTransport, ws_connect

from actors import hop, identify, stop
from actors.proto.circuit_pb2 import HopMessage, Peer, Status, StopMessage
from actors.proto.identify_pb2 import Identify
from transports.errors import PeerError
from transports.identity import HostKey, parse_peer_id
from transports.noise import Role, StaticKey
from transports.upgrade import MUXERS, Connection
from transports.varint import DelimitedReader, delimited
from transports.wire import Flusher, Wire
from transports.yamux import Buffer, Stream

WAIT_S = 10.0


class StreamResetError(Exception):
    """The stream was reset under the reader."""


class HopRefusedError(Exception):
    """The relay answered with a status that is not OK."""

    def __init__(self, status: int) -> None:
        super().__init__(Status.Name(Status.ValueType(status)))
        self.status = status


class OnStop(Enum):
    """What the client does with a STOP CONNECT."""

    ACCEPT = "accept"
    REFUSE = "refuse"
    SILENT = "silent"
    RESET = "reset"


def _connected(ip: str, port: int) -> socket.socket:
    connection = socket.create_connection((ip, port), WAIT_S)
    connection.setblocking(False)
    return connection


def _way(ip: str, port: int, local: tuple[str, int] | None, name: str, sock: socket.socket | None) -> dict[str, Any]:
    """How a WebSocket gets its socket."""
    if sock is not None:
        return {"socket_factory": lambda _: sock}
    if name:
        return {"socket_factory": lambda _: _connected(ip, port)}
    return {"local_addr": local}


class ClientStream:
    """A stream with an asyncio face. `credit` False: read bytes are not given back to the sender's window."""

    def __init__(self, wake: Callable[[], None]) -> None:
        self.stream: Stream
        self.credit = True
        self.received_bytes = 0
        self._buffer = bytearray()
        self._eof = self._reset = False
        self._changed = asyncio.Event()
        self._wake = wake

    def data_received(self, data: Buffer) -> None:
        self._buffer += data
        self.received_bytes += len(data)
        if self.credit:
            self.stream.consumed(len(data))
        self._changed.set()

    def eof_received(self) -> None:
        self._eof = True
        self._changed.set()

    def reset_received(self) -> None:
        self._reset = True
        self._changed.set()

    def data_sent(self, count_bytes: int) -> None:
        self._changed.set()

    async def _until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(WAIT_S):
            while not condition():
                if self._reset:
                    raise StreamResetError
                self._changed.clear()
                await self._changed.wait()

    async def read(self, count: int) -> bytes:
        """Exactly `count` bytes; EOFError when the peer ended before."""
        await self._until(lambda: len(self._buffer) >= count or self._eof)
        if len(self._buffer) < count:
            raise EOFError(bytes(self._buffer))
        data = bytes(self._buffer[:count])
        del self._buffer[:count]
        return data

    async def read_to_end(self) -> bytes:
        """Everything up to the peer's FIN."""
        await self._until(lambda: self._eof)
        data = bytes(self._buffer)
        self._buffer.clear()
        return data

    async def reset(self) -> None:
        """Wait until the stream is reset; TimeoutError if it is not."""
        try:
            await self._until(lambda: False)
        except StreamResetError:
            return

    async def read_message(self, limit: int = 8192) -> bytes:
        """One delimited message; what follows stays."""
        reader, fed = DelimitedReader(limit), 0
        while True:
            await self._until(lambda fed=fed: len(self._buffer) > fed or self._eof)  # type: ignore[misc]
            if len(self._buffer) == fed:
                raise EOFError(bytes(self._buffer))
            body = reader.feed(bytes(self._buffer[fed:]))
            fed = len(self._buffer)
            if body is not None:
                self._buffer[:] = reader.rest()
                return body

    def write(self, data: bytes) -> None:
        self.stream.write(data)

    async def drained(self) -> None:
        """Wait until everything written has gone out."""
        await self._until(lambda: not self.stream.queued_bytes)

    def close(self) -> None:
        self.stream.close()

    def abort(self) -> None:
        self.stream.reset()


class _WebSocket(WSListener):
    """The client's end of a WebSocket."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def on_ws_connected(self, transport: WSTransport) -> None:
        self.transport = transport
        self._client.attach(Wire(self, self._client.flusher, time.monotonic, "", 0))

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.msg_type == WSMsgType.CLOSE:
            transport.disconnect()
        elif frame.msg_type == WSMsgType.BINARY:
            self._client.wire.feed(frame.get_payload_as_memoryview())

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        self._client.wire.lost()

    def write(self, data: Buffer) -> None:
        self.transport.send(WSMsgType.BINARY, data)

    def shut(self, error: Exception | None) -> None:
        self.transport.send_close(WSCloseCode.OK)
        self.transport.disconnect(True)

    def cut(self) -> None:
        self.transport.disconnect(False)

    def unsent_bytes(self) -> int:
        return 0


class _Tcp(asyncio.Protocol):
    """The client's end of a TCP connection."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self._client.attach(Wire(self, self._client.flusher, time.monotonic, "", 0))

    def data_received(self, data: bytes) -> None:
        self._client.wire.feed(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self._client.wire.lost()

    def write(self, data: Buffer) -> None:
        self.transport.write(bytes(data))

    def shut(self, error: Exception | None) -> None:
        self.transport.close()

    def cut(self) -> None:
        self.transport.abort()

    def unsent_bytes(self) -> int:
        return 0


class Client:
    """One peer connected to a relay. Make it with `dial`."""

    def __init__(self, host: HostKey, on_stop: OnStop) -> None:
        self.host = host
        self.on_stop = on_stop
        self.wire: Wire
        self.connection: Connection
        self.flusher = Flusher(asyncio.get_running_loop(), self._fault)
        self.relay_identify: Identify | None = None
        self.takes_push = True
        self.pushed: list[Identify] = []
        self.errors: list[Exception] = []
        self.pongs = 0
        self.go_away: int | None = None
        self.closed = asyncio.Event()
        self._upgraded = asyncio.Event()
        self._called: asyncio.Queue[tuple[bytes, ClientStream]] = asyncio.Queue()
        self.stops: deque[StopMessage] = deque()

    @classmethod
    async def dial(
        cls,
        address: str,
        host: HostKey | None = None,
        on_stop: OnStop = OnStop.ACCEPT,
        tls: ssl.SSLContext | None = None,
        headers: dict[str, str] | None = None,
        local: tuple[str, int] | None = None,
        path: str = "/",
        name: str = "",
        *,
        sock: socket.socket | None = None,
    ) -> Self:
        """Connect to `/ip4|ip6/H/tcp/P[/tls][/ws]/p2p/ID`, from the address and port `local` if given, and upgrade.

        `path` is the WebSocket request's, with its query, and `name` the host in it if it is not the address. `sock` is
        a socket that is connected already, for WebSocket.
        """
        client = cls(host or HostKey.generate(), on_stop)
        parts = address.strip("/").split("/")
        ip, port = parts[1], int(parts[3])
        async with asyncio.timeout(WAIT_S):
            if "ws" in parts:
                scheme = "wss" if "tls" in parts else "ws"
                literal = name or (f"[{ip}]" if ":" in ip else ip)
                await ws_connect(
                    lambda: _WebSocket(client),
                    f"{scheme}://{literal}:{port}{path}",
                    ssl_context=tls,
                    use_aiofastnet=False,
                    extra_headers=headers,
                    max_frame_size=1 << 20,
                    **_way(ip, port, local, name, sock),
                )
            else:
                loop = asyncio.get_running_loop()
                await loop.create_connection(lambda: _Tcp(client), ip, port, local_addr=local)
            await client._upgraded.wait()
        if "p2p" in parts and client.relay != parse_peer_id(parts[parts.index("p2p") + 1]):
            raise AssertionError("another relay answered than was dialed")
        return client

    @property
    def peer_id(self) -> bytes:
        return self.host.peer_id

    @property
    def relay(self) -> bytes:
        return self.connection.peer

    def attach(self, wire: Wire) -> None:
        self.wire = wire
        wire.owner = self
        static = StaticKey(self.host, MUXERS)
        protocols = (identify.PROTOCOL, identify.PUSH_PROTOCOL, stop.PROTOCOL)
        wire.endpoint = self.connection = Connection(Role.INITIATOR, static, self, wire.wake, protocols, 1024)

    # What the connection tells

    def upgraded(self) -> None:
        self._upgraded.set()

    def protocol_opened(self, protocol: bytes, stream: Stream) -> ClientStream:
        handler = ClientStream(self.wire.wake)
        handler.stream = stream
        serve = {
            identify.PROTOCOL: self._serve_identify,
            identify.PUSH_PROTOCOL: self._serve_push,
            stop.PROTOCOL: self._serve_stop,
        }[protocol]
        self._spawn(serve(handler))
        return handler

    def peer_erred(self, error: PeerError) -> None:
        self.errors.append(error)

    def go_away_received(self, code: int) -> None:
        self.go_away = code

    def pong_received(self) -> None:
        self.pongs += 1

    def wire_lost(self, error: Exception | None) -> None:
        if error is not None:
            self.errors.append(error)
        self.closed.set()
        self._upgraded.set()

    def _fault(self, error: Exception) -> None:
        self.errors.append(error)

    def _spawn(self, coroutine: Any) -> None:
        task = asyncio.get_running_loop().create_task(coroutine)
        task.add_done_callback(lambda done: done.cancelled() or done.exception())

    async def _serve_identify(self, stream: ClientStream) -> None:
        spoken = [identify.PUSH_PROTOCOL.decode()] if self.takes_push else []
        stream.write(delimited(Identify(agentVersion="frost-relay-test", protocols=spoken).SerializeToString()))
        stream.close()

    async def _serve_push(self, stream: ClientStream) -> None:
        self.pushed.append(Identify.FromString(await stream.read_message()))
        await stream.read_to_end()
        stream.close()

    async def _serve_stop(self, stream: ClientStream) -> None:
        message = StopMessage.FromString(await stream.read_message())
        self.stops.append(message)
        if self.on_stop is OnStop.SILENT:
            return
        if self.on_stop is OnStop.RESET:
            stream.abort()
            return
        status = Status.OK if self.on_stop is OnStop.ACCEPT else Status.PERMISSION_DENIED
        stream.write(delimited(StopMessage(type=StopMessage.STATUS, status=status).SerializeToString()))
        if status == Status.OK:
            await self._called.put((message.peer.id, stream))
        else:
            stream.close()

    # What a test asks for

    def open(self, protocol: bytes, first: bytes = b"") -> ClientStream:
        """A stream for `protocol`, with `first` behind the negotiation in the same write."""
        handler = ClientStream(self.wire.wake)
        handler.stream = self.connection.open_stream(protocol, handler, first)
        return handler

    async def ask(self, message: HopMessage, behind: bytes = b"") -> tuple[HopMessage, ClientStream]:
        """One hop message and its answer."""
        stream = self.open(hop.PROTOCOL, delimited(message.SerializeToString()) + behind)
        return HopMessage.FromString(await stream.read_message()), stream

    async def reserve(self) -> HopMessage:
        """RESERVE; raises HopRefusedError."""
        answer, stream = await self.ask(HopMessage(type=HopMessage.RESERVE))
        if answer.status != Status.OK:
            raise HopRefusedError(answer.status)
        assert await stream.read_to_end() == b"", "the relay sends FIN behind the answer"
        stream.close()
        return answer

    async def connect(self, target: bytes, behind: bytes = b"") -> ClientStream:
        """CONNECT; raises HopRefusedError."""
        answer, stream = await self.ask(HopMessage(type=HopMessage.CONNECT, peer=Peer(id=target)), behind)
        if answer.status != Status.OK:
            raise HopRefusedError(answer.status)
        return stream

    async def called(self) -> tuple[bytes, ClientStream]:
        """The next circuit that was accepted: who calls, and the stream."""
        async with asyncio.timeout(WAIT_S):
            return await self._called.get()

    async def identify(self) -> Identify:
        """Ask the relay who it is."""
        stream = self.open(identify.PROTOCOL)
        return Identify.FromString(await stream.read_message())

    async def close(self) -> None:
        """Leave politely."""
        self.wire.close()
        async with asyncio.timeout(WAIT_S):
            await self.closed.wait()

    async def abort(self) -> None:
        """Vanish."""
        self.wire.abort()
        async with asyncio.timeout(WAIT_S):
            await self.closed.wait()
