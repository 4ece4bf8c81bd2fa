"""A py-libp2p peer as a program: calls come as lines of JSON on standard input, answers go out the same way.

It runs apart from the tests because trio wants a main thread of its own and py-libp2p configures logging when imported.
Its circuit client is py-libp2p's own from end to end: Noise, yamux, identify, HopMessage and StopMessage, the stop
handler and `CircuitV2Transport`. What had to be done by hand with 0.8.1:

- Reserving: its listener (`CircuitV2Listener`) only answers STOP and never asks for a reservation, and its discovery
  only asks relays that it has found by itself. The hop stream is opened here and handed to
  `CircuitV2Transport.reserve`.
- STOP is answered by `CircuitV2Protocol`, not by `CircuitV2Listener`, which takes over the same handler, writes no
  STATUS and so leaves every relay waiting.
- Its keeper of connections is switched off: below 300 of them it dials every address that identify ever told, so a
  peer that hung up would be back at its relay a moment later, over two transports at once.
- A peer that dials reserves for itself first (its default role) and shows that voucher in CONNECT; left as it is.
"""

import json
import os
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import trio
from libp2p import new_host
from libp2p.connection_types import ConnectionType
from libp2p.custom_types import TProtocol
from libp2p.network.config import ConnectionConfig
from libp2p.peer.id import ID
from libp2p.peer.peerinfo import info_from_p2p_addr
from libp2p.relay.circuit_v2.config import RelayConfig
from libp2p.relay.circuit_v2.protocol import PROTOCOL_ID as HOP_PROTOCOL
from libp2p.relay.circuit_v2.protocol import CircuitV2Protocol
from libp2p.relay.circuit_v2.transport import CircuitV2Transport
from libp2p.tools.anyio_service import background_trio_service
from multiaddr import Multiaddr

ECHO_PROTOCOL = TProtocol("/interop/echo/1.0.0")
CIRCUIT = "/p2p-circuit"
WAIT_S = 15.0
READ_BYTES = 16 * 1024
# The keeper aims for the middle of the two marks; the grace period keeps the pruner from what is above the higher one.
NOTHING_BY_ITSELF = ConnectionConfig(min_connections=0, low_watermark=0, high_watermark=1, grace_period=3600.0)


async def answer_echo(stream: Any) -> None:
    """Send back what comes until the other side has ended its direction."""
    while data := await stream.read(READ_BYTES):
        await stream.write(data)
    await stream.close()


class PyPeerProgram:
    """The calls; each returns what goes into the JSON answer."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self._nursery = nursery
        self._host = new_host(enable_tcp=True, enable_websocket=True, connection_config=NOTHING_BY_ITSELF)
        self._protocol = CircuitV2Protocol(self._host, allow_hop=False)
        self._transport = CircuitV2Transport(self._host, self._protocol, RelayConfig())
        self._echo: Any = None
        self._host.set_stream_handler(ECHO_PROTOCOL, answer_echo)

    async def serve(self, *, task_status: Any = trio.TASK_STATUS_IGNORED) -> None:
        """Run the host and its stop handler for as long as the program lives."""
        async with self._host.run(listen_addrs=[]), background_trio_service(self._protocol):
            await self._protocol.event_started.wait()
            task_status.started()
            await trio.sleep_forever()

    async def start(self, listen: list[str]) -> dict[str, Any]:
        """Serve; with RELAY/p2p-circuit in `listen`, reserve there."""
        await self._nursery.start(self.serve)
        for address in listen:
            await self._reserve(address.removesuffix(CIRCUIT))
        peer = str(self._host.get_id())
        return {"peer": peer, "addresses": [f"{address}/p2p/{peer}" for address in listen]}

    async def dial(self, address: str) -> dict[str, Any]:
        """Connect to a relay, or through a relay to a peer."""
        maddr = Multiaddr(address)
        if CIRCUIT in address:
            return self._described(await self._transport.dial(maddr))
        info = info_from_p2p_addr(maddr)
        await self._host.connect(info)
        return self._described(self._host.get_network().connections[info.peer_id][0])

    async def connections(self) -> list[dict[str, Any]]:
        return [self._described(connection) for connection in self._open_connections()]

    async def hangUp(self, peer: str) -> None:  # noqa: N802 (the name that pages use, too)
        await self._host.disconnect(ID.from_string(peer))

    async def openEcho(self, connection: str) -> None:  # noqa: N802
        """Open the echo stream; py-libp2p takes the first connection to the peer, so it must be the asked one."""
        wanted = next(found for found in self._open_connections() if str(id(found)) == connection)
        peer = wanted.muxed_conn.peer_id
        if self._host.get_network().connections[peer][0] is not wanted:
            raise LookupError(f"an older connection to {peer} would carry the stream")
        self._echo = await self._host.new_stream(peer, [ECHO_PROTOCOL])

    async def say(self, text: str) -> str:
        sent = text.encode()
        await self._echo.write(sent)
        received = b""
        while len(received) < len(sent):
            data = await self._echo.read(len(sent) - len(received))
            if not data:
                raise EOFError(f"the echo stream ended after {len(received)} of {len(sent)} bytes")
            received += data
        return received.decode()

    async def _reserve(self, relay: str) -> None:
        info = info_from_p2p_addr(Multiaddr(relay))
        await self._host.connect(info)
        stream = await self._host.new_stream(info.peer_id, [HOP_PROTOCOL])
        granted = await self._transport.reserve(stream, info.peer_id, self._nursery)
        await stream.close()
        if not granted:
            raise ConnectionError(f"the relay {info.peer_id} granted no reservation")

    def _open_connections(self) -> list[Any]:
        return [one for several in self._host.get_network().connections.values() for one in several]

    @staticmethod
    def _described(connection: Any) -> dict[str, Any]:
        return {
            "id": str(id(connection)),
            "peer": str(connection.muxed_conn.peer_id),
            "address": ",".join(str(address) for address in connection.get_transport_addresses()),
            "limited": connection.get_connection_type() == ConnectionType.RELAYED,
        }


async def answer(call: Callable[..., Awaitable[Any]], argument: dict[str, Any]) -> dict[str, Any]:
    """Run one call within WAIT_S; whatever it raises is the answer."""
    try:
        with trio.fail_after(WAIT_S):
            return {"value": await call(**argument)}
    except Exception as error:  # noqa: BLE001 (told to the test, which fails with it)
        return {"failure": f"{type(error).__name__}: {error}"}


async def lines(stream: trio.abc.ReceiveStream) -> Any:
    """Lines of a stream until it ends."""
    buffer = b""
    async for data in stream:
        buffer += data
        while b"\n" in buffer:
            line, buffer = buffer.split(b"\n", 1)
            yield line


async def main() -> None:
    """Answer calls until standard input ends: with its test, however that ends, the program is gone."""
    async with trio.open_nursery() as nursery:
        program = PyPeerProgram(nursery)
        async for line in lines(trio.lowlevel.FdStream(os.dup(0))):
            request = json.loads(line)
            answered = await answer(getattr(program, request["call"]), request["argument"])
            sys.stdout.write(json.dumps(answered) + "\n")
            sys.stdout.flush()
        nursery.cancel_scope.cancel()


if __name__ == "__main__":
    trio.run(main)
