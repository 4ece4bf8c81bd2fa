"""The peer that costs most: it fills every buffer that one connection may fill, and stays within every rule."""

from __future__ import annotations

import asyncio

from actors import hop, ping
from supervisor.admin.memory import read_memory_bytes
from tests.scenarios.scene import socket_of, until
from tests.support.client import Client
from tests.support.relay import RelayProcess
from transports.varint import encode_uvarint
from transports.websocket import MAX_FRAME_BYTES, MAX_IDLE_FRAMES
from transports.wire import OUTPUT_LIMIT_BYTES

PEERS = 20
STREAMS = 62
"""Half a message on each; of 64 that a connection may have, one is for what fills its output."""
_PONG_BYTES = 127
_BULK_BYTES = 16 * 1024


async def measure(relay: RelayProcess) -> int:
    """What a worker grows by for one such peer."""
    pid = next(each["pid"] for each in relay.workers("listener") if each["name"].startswith("ws-"))
    peers = [await Client.dial(relay.address("ws"), local=(f"127.5.0.{1 + number}", 0)) for number in range(PEERS)]
    before = read_memory_bytes(pid)
    for each in peers:
        await _fill(each)
    most = 0

    async def grown() -> bool:
        nonlocal most
        now = read_memory_bytes(pid)
        still, most = now <= most, max(most, now)
        return still

    await until(grown, "the end of the growth")
    assert not any(each.closed.is_set() for each in peers), "they have stayed within the rules"
    await asyncio.gather(*(each.abort() for each in peers))
    return (most - before) // PEERS


async def _fill(client: Client) -> None:
    session, transport = client.connection.session, socket_of(client)
    assert session is not None
    for _ in range(STREAMS):
        client.open(hop.PROTOCOL, encode_uvarint(hop.MAX_MESSAGE_BYTES) + bytes(hop.MAX_MESSAGE_BYTES - 1))
    await client.identify()
    transport.pause_reading()
    echo = client.open(ping.PROTOCOL)
    # The kernel's buffers first, until the echoes wait in the relay and nothing more is taken.
    for _ in range(400):
        echo.write(bytes(_BULK_BYTES))
        client.wire.flush()
        await asyncio.sleep(0)
    # Then what is answered whether it is read or not, up to what the relay holds for who does not read.
    pongs = (OUTPUT_LIMIT_BYTES // 2) // _PONG_BYTES
    for number in range(pongs):
        client.wire.end.transport.send_ping(b"?" * 125)  # type: ignore[attr-defined]  # the test client's own end
        if number % (MAX_IDLE_FRAMES - 4) == 0:
            session.ping(0)
            client.wire.flush()
    # At last a frame that is all there but for its last byte.
    header = b"\x82\xff" + MAX_FRAME_BYTES.to_bytes(8, "big") + bytes(4)
    transport.write(header + bytes(MAX_FRAME_BYTES - 1))
    await asyncio.sleep(0)
