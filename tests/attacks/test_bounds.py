"""Each bound on what a peer may send, over real sockets: what is within it is taken, and one more is not, also from a
peer that sends and never reads.

Deadlines are in scenarios/test_deadlines.py, and each bound on both sides of it in the unit tests of its layer; here it
is seen that reading is no condition of any.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from actors import identify
from tests.attacks.siege import Siege
from tests.scenarios.scene import socket_of, still_served
from tests.support.client import Client, ClientStream
from transports.multistream import HEADER, MAX_TRIES, frame
from transports.websocket import MAX_IDLE_FRAMES
from transports.yamux import IDLE_FRAME_COST, RESET_BUDGET, Session, Stream
from transports.yamux_frames import DATA, INITIAL_WINDOW_BYTES, PING, RST, SYN, WINDOW_UPDATE

pytestmark = pytest.mark.fault

IDLE_FRAMES = int(RESET_BUDGET / IDLE_FRAME_COST)


def _session(client: Client) -> Session:
    session = client.connection.session
    assert session is not None
    return session


def _opened(client: Client) -> Stream:
    """A stream for which nothing has been said yet."""
    stream = _session(client).open_stream()
    stream.handler = ClientStream(client.wire.wake)
    stream.handler.stream = stream
    return stream


def _negotiation(client: Client, over: int) -> None:
    asked = b"".join(frame(b"/no/%d" % number) for number in range(MAX_TRIES + over))
    _opened(client).write(HEADER + asked)


def _resets(client: Client, over: int) -> None:
    session = _session(client)
    for _ in range(RESET_BUDGET + over):
        stream = session.open_stream()
        session.send_frame(WINDOW_UPDATE, SYN, stream.id, 0, b"")
        session.send_frame(WINDOW_UPDATE, RST, stream.id, 0, b"")


def _idle_frames(client: Client, over: int) -> None:
    for number in range(IDLE_FRAMES + over):
        _session(client).send_frame(PING, SYN, 0, number, b"")


def _window(client: Client, over: int) -> None:
    """A stream's whole window at once, its protocol included, and read past by whoever serves it."""
    asked = HEADER + frame(identify.PROTOCOL)
    stream = _opened(client)
    stream.write(asked)
    first = INITIAL_WINDOW_BYTES // 3  # no credit is due for it yet, and a WebSocket frame has not room for all
    for size in (first, INITIAL_WINDOW_BYTES - len(asked) - first + over):
        _session(client).send_frame(DATA, 0, stream.id, size, bytes(size))
        client.wire.flush()


def _websocket_pings(client: Client, over: int) -> None:
    for _ in range(MAX_IDLE_FRAMES + over):
        client.wire.end.transport.send_ping(b"?")  # type: ignore[attr-defined]  # the test client's own end


@dataclass(frozen=True)
class Bound:
    """What is sent, `over` the bound by so much, and as what one more is counted; `ends`: the connection."""

    name: str
    send: Callable[[Client, int], None]
    reason: str
    ends: bool


BOUNDS = (
    Bound("negotiation", _negotiation, "multistream", ends=False),
    Bound("resets", _resets, "stream_flood", ends=True),
    Bound("idle-frames", _idle_frames, "frame_flood", ends=True),
    Bound("window", _window, "yamux", ends=True),
)


@pytest.mark.parametrize("reads", [True, False], ids=["reads", "never-reads"])
@pytest.mark.parametrize("bound", BOUNDS, ids=lambda bound: bound.name)
async def test_what_is_within_a_bound_is_taken_and_one_more_is_not(siege: Siege, bound: Bound, reads: bool) -> None:
    await _within(siege, bound, reads)
    await _beyond(siege, bound, reads)


@pytest.mark.parametrize("reads", [True, False], ids=["reads", "never-reads"])
async def test_pings_of_websocket_are_taken_up_to_their_bound(web: Siege, reads: bool) -> None:
    bound = Bound("websocket-pings", _websocket_pings, "websocket", ends=True)
    await _within(web, bound, reads)
    await _beyond(web, bound, reads)


async def _within(siege: Siege, bound: Bound, reads: bool) -> None:
    client = await siege.dial()
    await still_served(client)
    _read(client, reads)
    before = await siege._errors()
    bound.send(client, 0)
    client.wire.flush()
    _read(client, True)
    await still_served(client)
    assert await siege._errors() == before


async def _beyond(siege: Siege, bound: Bound, reads: bool) -> None:
    client = await siege.dial()
    await still_served(client)
    _read(client, reads)
    async with siege.erring(bound.reason):
        bound.send(client, 1)
        client.wire.flush()
    _read(client, True)
    if bound.ends:
        async with asyncio.timeout(10):
            await client.closed.wait()
    else:
        await still_served(client)


def _read(client: Client, reads: bool) -> None:
    transport = socket_of(client)
    if reads and not transport.is_reading():
        transport.resume_reading()
    elif not reads:
        transport.pause_reading()
