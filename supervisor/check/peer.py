"""A libp2p host of the check: py-libp2p's Noise, yamux, multistream and messages, put together step by step.

py-libp2p's own BasicHost would dial again by itself, keep connections alive and swallow errors. Here each layer is a
call, so that the step that fails is the step that is named. A host answers what a relay asks of it: identify, ping and
stop; and over a circuit it answers the echo.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Any, Final

import trio
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.crypto.x25519 import create_new_key_pair as create_noise_key_pair
from libp2p.identity.identify.pb.identify_pb2 import Identify
from libp2p.network.connection.raw_connection import RawConnection
from libp2p.peer.envelope import pub_key_to_protobuf
from libp2p.peer.id import ID
from libp2p.protocol_muxer.multiselect import Multiselect
from libp2p.protocol_muxer.multiselect_client import MultiselectClient
from libp2p.protocol_muxer.multiselect_communicator import MultiselectCommunicator
from libp2p.security.noise.transport import PROTOCOL_ID as NOISE
from libp2p.security.noise.transport import Transport as NoiseTransport
from libp2p.security.security_multistream import SecurityMultistream
from libp2p.stream_muxer.muxer_multistream import MuxerMultistream
from libp2p.stream_muxer.yamux.yamux import PROTOCOL_ID as YAMUX
from libp2p.stream_muxer.yamux.yamux import Yamux
from libp2p.utils.varint import encode_varint_prefixed

IDENTIFY: Final = "/ipfs/id/1.0.0"
PING: Final = "/ipfs/ping/1.0.0"
HOP: Final = "/libp2p/circuit/relay/0.2.0/hop"
STOP: Final = "/libp2p/circuit/relay/0.2.0/stop"
ECHO: Final = "/frost-relay/check/echo/1.0.0"

MAX_INBOUND_STREAMS: Final = 16
"""That are served at the same time on one connection; a relay needs one or two."""
NEGOTIATION_S: Final = 10
_PING_BYTES: Final = 32
_READ_BYTES: Final = 16_384

Handler = Callable[[Any], Awaitable[None]]
_logger = logging.getLogger(__name__)


class Connection:
    """A multiplexed connection. Serves the other side's streams as long as it lives."""

    def __init__(self, muxed: Any, handlers: dict[str, Handler]) -> None:
        self._muxed = muxed
        self._handlers = handlers
        self._serving = trio.CapacityLimiter(MAX_INBOUND_STREAMS)
        self.remote: str = str(muxed.peer_id)
        self.closed = trio.Event()

    async def run(self, *, task_status: Any = trio.TASK_STATUS_IGNORED) -> None:
        """Until it is closed, by either side."""
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._muxed.start)
                await self._muxed.event_started.wait()
                task_status.started()
                nursery.start_soon(self._accept, nursery)
                await self._muxed.event_shutting_down.wait()
                nursery.cancel_scope.cancel()
        except* Exception as group:  # py-libp2p's read loop: however it fails, the connection is over
            _logger.debug("connection ended", exc_info=group)
        finally:
            self.closed.set()

    async def open(self, protocol: str) -> Any:
        """A stream on which the protocol is agreed."""
        stream = await self._muxed.open_stream()
        await MultiselectClient().select_one_of([protocol], MultiselectCommunicator(stream), NEGOTIATION_S)
        return stream

    async def close(self) -> None:
        """GoAway, then the end of everything below."""
        await self._muxed.close()

    async def _accept(self, nursery: trio.Nursery) -> None:
        while True:
            stream = await self._muxed.accept_stream()
            await self._serving.acquire_on_behalf_of(stream)
            nursery.start_soon(self._serve, stream)

    async def _serve(self, stream: Any) -> None:
        try:
            multiselect = Multiselect(dict.fromkeys(self._handlers))
            protocol, _ = await multiselect.negotiate(MultiselectCommunicator(stream), NEGOTIATION_S)
            await self._handlers[str(protocol)](stream)
        except Exception as error:  # one stream of the other side's; what it breaks is that stream
            _logger.debug("stream ended", exc_info=error)
            await stream.reset()
        finally:
            self._serving.release_on_behalf_of(stream)


class Peer:
    """One identity, and what it can do with a stream of bytes."""

    def __init__(self) -> None:
        self._keys = create_new_key_pair()
        self.id = ID.from_pubkey(self._keys.public_key)
        noise = NoiseTransport(self._keys, noise_privkey=create_noise_key_pair().private_key)
        self._security = SecurityMultistream({NOISE: noise})
        self._muxers = MuxerMultistream({YAMUX: Yamux}, NEGOTIATION_S)

    async def secure(self, stream: Any, *, initiator: bool) -> Any:
        """Noise over a stream; whoever answers is in `get_remote_peer()`."""
        raw = RawConnection(stream, initiator)
        if initiator:
            return await self._security.secure_outbound(raw, None)
        return await self._security.secure_inbound(raw)

    async def multiplex(self, secured: Any, nursery: trio.Nursery, handlers: dict[str, Handler]) -> Connection:
        """Streams over a secured stream, served in the nursery."""
        muxed = await self._muxers.new_conn(secured, secured.get_remote_peer())
        every = {IDENTIFY: self._answer_identify, PING: answer_ping, **handlers}
        connection = Connection(muxed, every)
        await nursery.start(connection.run)
        return connection

    async def _answer_identify(self, stream: Any) -> None:
        message = Identify(
            protocol_version="ipfs/0.1.0",
            agent_version="frost-relay-check",
            public_key=pub_key_to_protobuf(self._keys.public_key).SerializeToString(),
            protocols=[IDENTIFY, PING, STOP],
        )
        await stream.write(encode_varint_prefixed(message.SerializeToString()))
        await stream.close()


async def answer_ping(stream: Any) -> None:
    """Send back what comes, 32 bytes at most at a time."""
    while data := await stream.read(_PING_BYTES):
        await stream.write(data)


async def answer_echo(stream: Any) -> None:
    """Send back what comes."""
    while data := await stream.read(_READ_BYTES):
        await stream.write(data)


async def read_exactly(stream: Any, size: int) -> bytes:
    """So many bytes; raises EOFError when it ends before."""
    received = b""
    while len(received) < size:
        data = await stream.read(size - len(received))
        if not data:
            raise EOFError(f"it ended after {len(received)} of {size} bytes")
        received += data
    return received
