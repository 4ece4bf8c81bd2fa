"""What attackers do, each a coroutine without end. What they are and how they show is in catalogue.py."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

from actors import hop
from actors.proto.circuit_pb2 import HopMessage
from tests.attacks.ground import BINARY, CONTINUATION, FIRST_FRAGMENT, HANDSHAKE_BEGUN, PING, Ground, noise
from tests.attacks.siege import UPGRADE
from tests.scenarios.hop_requests import connect_to
from tests.support.client import Client, HopRefusedError, OnStop
from transports.identity import HostKey
from transports.multistream import HEADER, frame
from transports.varint import delimited
from transports.websocket import MAX_IDLE_FRAMES
from transports.yamux_frames import DATA, INITIAL_WINDOW_BYTES, MAX_WINDOW_BYTES, RST, SYN, WINDOW_UPDATE
from transports.yamux_frames import HEADER as YAMUX
from transports.yamux_frames import PING as YAMUX_PING

MANY = 400
"""Connections at once: more than may shake hands at once."""
SOME = 24
FEW = 4
IDENTITIES = 2000
RESERVE = delimited(HopMessage(type=HopMessage.RESERVE).SerializeToString())


# Before the handshake is over


async def say_nothing(ground: Ground) -> None:
    """Connect, and wait to be thrown out."""

    async def one() -> None:
        raw = await ground.open("tcp")
        await raw.gone()

    await ground.swarm(MANY, one)


async def upgrade_slowly(ground: Ground) -> None:
    """A request that comes byte by byte."""

    async def one() -> None:
        raw = await ground.open("ws")
        for at in range(len(UPGRADE) - 1):
            raw.say(UPGRADE[at : at + 1])
            await asyncio.sleep(0.2)
            if raw.reader.at_eof():
                break
        raw.cut()

    await ground.swarm(MANY, one)


async def begin_and_stay(ground: Ground) -> None:
    """Have the relay do its part of a handshake, and do nothing more."""

    async def one() -> None:
        raw = await ground.open("tcp")
        raw.say(HANDSHAKE_BEGUN)
        await raw.gone()

    await ground.swarm(MANY, one)


async def begin_and_leave(ground: Ground) -> None:
    """Have the relay do its part of a handshake, and leave: as many as it can be made to do."""

    async def one() -> None:
        raw = await ground.open("tcp")
        raw.say(HANDSHAKE_BEGUN)
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            await raw.reader.readexactly(len(HEADER) + 100)
        raw.cut()

    await ground.swarm(SOME, one)


async def reset_in_frames(ground: Ground) -> None:
    """RST in the middle of a frame, and right behind one."""
    turn = 0

    async def one() -> None:
        nonlocal turn
        turn += 1
        raw = await ground.open("ws")
        client = await raw.upgrade()
        client.send(BINARY, HANDSHAKE_BEGUN, claimed_bytes=len(HANDSHAKE_BEGUN) + turn % 2)
        raw.cut()

    await ground.swarm(SOME, one)


# Frames of WebSocket


async def giant_frames(ground: Ground) -> None:
    """A frame that says it has four exabytes."""

    async def one() -> None:
        raw = await ground.open("ws")
        client = await raw.upgrade()
        client.send(BINARY, noise(1000), claimed_bytes=1 << 62)
        await raw.gone()
        raw.leave()

    await ground.swarm(FEW, one)


async def endless_frames(ground: Ground) -> None:
    """A message in fragments that never ends, empty ones and pings among them."""

    async def one() -> None:
        raw = await ground.open("ws")
        client = await raw.upgrade()
        client.send(FIRST_FRAGMENT, HEADER)
        for _ in range(1000):
            client.send(CONTINUATION)
            client.send(PING, b"?" * 125)
        await raw.gone()
        raw.leave()

    await ground.swarm(FEW, one)


# Inside a connection


def _rude(write: Callable[[Client], None], first: bytes = b"") -> Callable[[Ground], Awaitable[None]]:
    """A few peers that write to their session as fast as it is read, until they are thrown out; `first` once."""

    async def attack(ground: Ground) -> None:
        async def one() -> None:
            client = await ground.client()
            _say_inside(client, first)
            while not client.closed.is_set():
                write(client)
                client.wire.flush()
                await asyncio.sleep(0)
            await client.abort()

        await ground.swarm(FEW, one)

    return attack


def _say_inside(client: Client, frames: bytes) -> None:
    session = client.connection.session
    assert session is not None
    session._out.append(frames)
    client.wire.wake()


def _again(frame: bytes) -> Callable[[Client], None]:
    """Write this frame, as often as fits one Noise message."""
    said = frame * max(1, 48_000 // len(frame))
    return lambda client: _say_inside(client, said)


def _open_streams(client: Client, reset: bool) -> None:
    session = client.connection.session
    assert session is not None
    for _ in range(100):
        stream = session.open_stream()
        session.send_frame(WINDOW_UPDATE, SYN, stream.id, 0, b"")
        if reset:
            session.send_frame(WINDOW_UPDATE, RST, stream.id, 0, b"")


def _negotiate(client: Client) -> None:
    for _ in range(8):
        client.open(b"/" + b"x" * 900, b"".join(frame(b"/no/%d" % number) for number in range(12)))


negotiate_without_end = _rude(_negotiate)
ping_without_end = _rude(_again(YAMUX.pack(0, YAMUX_PING, SYN, 0, 7)))
credit_without_end = _rude(_again(YAMUX.pack(0, WINDOW_UPDATE, 0, 1, 1)), YAMUX.pack(0, WINDOW_UPDATE, SYN, 1, 0))
send_too_late = _rude(
    _again(YAMUX.pack(0, DATA, 0, 1, 1) + b"x"),
    YAMUX.pack(0, WINDOW_UPDATE, SYN, 1, 0) + YAMUX.pack(0, WINDOW_UPDATE, RST, 1, 0),
)
overflow_the_credit = _rude(_again(YAMUX.pack(0, WINDOW_UPDATE, SYN, 1, MAX_WINDOW_BYTES)))
overflow_the_window = _rude(_again(YAMUX.pack(0, DATA, SYN, 1, INITIAL_WINDOW_BYTES + 1) + noise(40_000)))
open_streams = _rude(lambda client: _open_streams(client, reset=False))
open_and_reset = _rude(lambda client: _open_streams(client, reset=True))


async def never_read(ground: Ground) -> None:
    """Ping over WebSocket, with as much data in between as it takes to go on with it, and read none of the answers."""

    async def one() -> None:
        client = await ground.client("ws")
        transport = client.wire.end.transport  # type: ignore[attr-defined]  # the test client's own end
        transport.underlying_transport.pause_reading()
        while not client.closed.is_set():
            for number in range(10 * MAX_IDLE_FRAMES):
                transport.send_ping(b"?" * 125)
                if number % (MAX_IDLE_FRAMES - 4) == 0:
                    client.connection.session.ping(0)  # type: ignore[union-attr]  # it has been upgraded
                    client.wire.flush()
            await asyncio.sleep(0.01 if transport.underlying_transport.get_write_buffer_size() else 0)
        await client.abort()

    await ground.swarm(1, one)


# What is asked of the relay


async def reserve_without_end(ground: Ground) -> None:
    """Reserve with a fresh name each time, and renew it ten times; all of one address."""

    async def one() -> None:
        client = await ground.client(host=HostKey.generate())
        with suppress(HopRefusedError):
            await client.reserve()
        for _ in range(10):
            client.open(hop.PROTOCOL, RESERVE).close()
        with suppress(HopRefusedError):
            await client.reserve()
        await client.abort()

    await ground.swarm(FEW, one)


async def call_strangers(ground: Ground) -> None:
    """Call peers that are not here."""

    async def one() -> None:
        client = await ground.client()
        for _ in range(200):
            request = delimited(connect_to(HostKey.generate().peer_id).SerializeToString())
            asked = [client.open(hop.PROTOCOL, request) for _ in range(20)]
            await asyncio.gather(*(each.read_message() for each in asked))
            for each in asked:
                each.close()
        await client.abort()

    await ground.swarm(FEW, one)


async def call_the_silent(ground: Ground) -> None:
    """Call peers that never answer, from as many as it takes."""
    silent = [
        await Client.dial(ground.tcp, HostKey.generate(), OnStop.SILENT, local=(ground.address(), 0)) for _ in range(8)
    ]
    for each in silent:
        await each.reserve()

    async def one() -> None:
        client = await ground.client(host=HostKey.generate())
        for target in silent:
            for _ in range(2):
                client.open(hop.PROTOCOL, delimited(connect_to(target.peer_id).SerializeToString()))
        await asyncio.sleep(0.2)
        await client.abort()

    await ground.swarm(FEW, one)


async def reserve_and_vanish(ground: Ground) -> None:
    """Two thousand names, each once."""
    left = IDENTITIES

    async def one() -> None:
        nonlocal left
        if left <= 0:
            await asyncio.Event().wait()
        left -= 1
        client = await ground.client("ws" if left & 1 else "tcp", HostKey.generate())
        await client.reserve()
        await client.abort()

    await ground.swarm(SOME, one)


async def random_bytes(ground: Ground) -> None:
    """At every layer: of TCP, of WebSocket, of Noise, of yamux, of hop."""

    async def plainly(transport: str) -> None:
        raw = await ground.open(transport)
        raw.say(noise(500))
        await raw.gone()
        raw.leave()

    async def handshake() -> None:
        raw = await ground.open("tcp")
        raw.say(HEADER + frame(b"/noise") + (48).to_bytes(2, "big") + noise(48) + (300).to_bytes(2, "big") + noise(300))
        await raw.gone()
        raw.leave()

    async def frames() -> None:
        raw = await ground.open("ws")
        client = await raw.upgrade()
        for _ in range(20):
            client.writer.write(noise(200))
        await raw.gone()
        raw.leave()

    async def inside() -> None:
        client = await ground.client()
        for _ in range(20):
            client.open(hop.PROTOCOL, delimited(b"\xff" + noise(200)))
        await client.identify()
        _say_inside(client, b"\x01" + noise(11))
        await client.closed.wait()

    async def one() -> None:
        await asyncio.gather(plainly("ws"), plainly("tcp"), handshake(), frames(), inside(), return_exceptions=True)

    await ground.swarm(FEW, one)
