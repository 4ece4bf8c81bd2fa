"""Bad input to each layer over real sockets: the connection or the stream ends with the most telling answer there is.

Each test is one way of breaking one layer; the siege sees to it that the counts return to what they were, that exactly
one counter of errors has moved, and that the bystanders have noticed nothing. What other tests play already (frames
that break yamux in scenarios/test_upgrade.py, refused hop messages in scenarios/test_hop_answers.py, stalls in
scenarios/test_deadlines.py) is not repeated here.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable
from contextlib import suppress

import pytest
from picows import WSError

from actors import hop, ping
from actors.proto.circuit_pb2 import HopMessage, Peer, Status
from actors.proto.identify_pb2 import Identify
from tests.attacks.siege import BINARY, CLOSE, UPGRADE, Cutter, Siege, read_to_end, sockets_of
from tests.scenarios.hop_requests import answer_on, connect_to
from tests.scenarios.scene import ACCEPTED, Puppet, gone, still_served, until
from tests.support.client import Client, ClientStream
from tests.support.sockets import WebSocketClient
from transports.identity import HostKey
from transports.multistream import HEADER, NA, frame
from transports.noise import PROTOCOL as NOISE
from transports.noise import XX, EphemeralKey, StaticKey
from transports.upgrade import MUXERS
from transports.varint import delimited
from transports.websocket import MAX_IDLE_FRAMES
from transports.yamux_frames import DATA, INITIAL_WINDOW_BYTES, SYN, WINDOW_UPDATE, Buffer

pytestmark = pytest.mark.fault

RESERVE = delimited(HopMessage(type=HopMessage.RESERVE).SerializeToString())
CLIENT_REQUEST_BYTES = 160
"""More than the test client's upgrade request takes, and less than that and its first frame."""
MEMORY_BOUND_BYTES = 12 << 20
"""How much a worker may have grown by all of this: fragments of the heap, no data of anybody."""


# HTTP


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        pytest.param(b"\r\n\r\n", 400, id="too-short"),
        pytest.param(b"\xff\x00\xfe\r\n\r\n", 400, id="garbage"),
        pytest.param(b"\x16\x03\x01\x02\x00\x01\x00", 400, id="tls"),
        pytest.param(HEADER, 400, id="multistream"),
        pytest.param(UPGRADE.replace(b"1.1", b"2.0", 1), 505, id="wrong-version"),
        pytest.param(UPGRADE.replace(b"n: 13", b"n: 12"), 426, id="wrong-websocket-version"),
        pytest.param(UPGRADE.replace(b"Upgrade: websocket", b"Upgrade: h2c"), 426, id="another-upgrade"),
        pytest.param(UPGRADE.replace(b"GET", b"PUT"), 405, id="wrong-method"),
        pytest.param(UPGRADE.replace(b"Key", b"Kex"), 400, id="no-key"),
        pytest.param(b"Host: relay\r\n" + UPGRADE, 400, id="wrong-order"),
        pytest.param(UPGRADE.replace(b"Host: relay", b"no colon"), 400, id="no-header"),
    ],
)
async def test_a_request_that_is_none(web: Siege, request_bytes: bytes, status: int) -> None:
    async with web.erring("http_request"):
        said = await web.say(request_bytes)
    assert said.startswith(b"HTTP/1.1 %d " % status)


@pytest.mark.parametrize(
    "request_bytes",
    [
        pytest.param(b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 3000, id="headers"),
        pytest.param(b"GET /" + b"a" * 20_000, id="request-line"),
    ],
)
async def test_a_request_over_8_kib(web: Siege, request_bytes: bytes) -> None:
    async with web.erring("http_head_too_long"):
        said = await web.say(request_bytes)
    assert said.startswith(b"HTTP/1.1 431 ")


async def test_headers_that_never_end(web: Siege) -> None:
    async with web.erring("http_head_too_long"):
        reader, writer = await asyncio.open_connection("127.0.0.1", web.port)
        ended = asyncio.create_task(read_to_end(reader))
        writer.write(UPGRADE[:-2])
        with suppress(ConnectionError):
            while not ended.done() and not writer.is_closing():
                writer.write(b"X-Another: header\r\n" * 10)
                await writer.drain()
                await asyncio.sleep(0)  # which `drain` does only when the socket is full
        assert (await ended).startswith(b"HTTP/1.1 431 ")
        writer.close()


async def test_a_request_that_is_repeated_is_no_frame(web: Siege) -> None:
    async with web.erring("websocket"):
        said = await web.say(UPGRADE + UPGRADE)
    assert said.startswith(b"HTTP/1.1 101 ")


# WebSocket frames


@pytest.mark.parametrize(
    ("first", "payload", "options"),
    [
        pytest.param(BINARY, b"", {"claimed_bytes": (256 << 10) + 1}, id="too-long"),
        pytest.param(BINARY, b"", {"claimed_bytes": (1 << 63) - 1}, id="longer-than-any-memory"),
        pytest.param(BINARY, b"", {"claimed_bytes": (1 << 64) - 1}, id="length-over-63-bits"),
        pytest.param(BINARY, b"x", {"masked": False}, id="unmasked"),
        pytest.param(0x81, b"text", {}, id="text"),
        pytest.param(0x83, b"x", {}, id="wrong-opcode"),
        pytest.param(BINARY | 0x40, b"x", {}, id="reserved-bit"),
        pytest.param(0x89, bytes(126), {}, id="ping-too-long"),
        pytest.param(0x09, b"x", {}, id="ping-in-fragments"),
    ],
)
async def test_a_frame_that_is_none(web: Siege, first: int, payload: bytes, options: dict[str, int]) -> None:
    async with web.erring("websocket"):
        client = await WebSocketClient.connect(web.port)
        client.send(first, payload, **options)  # type: ignore[arg-type]  # an int and a bool, by name
        frames = await client.read_to_end()
        client.writer.close()
    assert [first for first, _ in frames] == [CLOSE]
    assert frames[0][1][:2] in {(code).to_bytes(2, "big") for code in (1002, 1009)}


async def test_fragments_that_never_end(web: Siege) -> None:
    async with web.erring("websocket"):
        client = await WebSocketClient.connect(web.port)
        client.send(0x02, HEADER)
        for _ in range(MAX_IDLE_FRAMES + 1):
            client.send(0x00)
        frames = await client.read_to_end()
        client.writer.close()
    assert [first for first, _ in frames] == [BINARY, CLOSE]


async def test_a_frame_and_a_reset_at_once_a_hundred_times(web: Siege) -> None:
    sockets = await asyncio.to_thread(sockets_of, web.relay)
    for _ in range(100):
        client = await WebSocketClient.connect(web.port)
        client.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.send(BINARY, HEADER + frame(NOISE))
        client.writer.close()
    await web.at_peace()
    await still_served(await web.reserved())
    await web.leave()
    await web.at_peace()

    async def closed() -> bool:
        return sockets_of(web.relay) == sockets

    await until(closed, "the end of every socket")


# multistream, in the clear


@pytest.mark.parametrize(
    ("said", "answer"),
    [
        pytest.param(b"\x81\x08", b"", id="too-long"),
        pytest.param(HEADER + b"\x81\x08", HEADER, id="name-too-long"),
        pytest.param(b"\xff\xff\x03", b"", id="length-of-three-bytes"),
        pytest.param(b"\x00", b"", id="too-short"),
        pytest.param(b"\x93\x00" + HEADER[1:], b"", id="length-not-minimal"),
        pytest.param(HEADER.replace(b"\n", b"\0"), b"", id="no-newline"),
        pytest.param(frame(NOISE) + HEADER, b"", id="wrong-order"),
        pytest.param(HEADER.replace(b"1.0", b"2.0"), b"", id="wrong-version"),
        pytest.param(b"\x16\x03\x01\x02\x00" + bytes(100), b"", id="tls"),
        pytest.param(HEADER * 12, HEADER + NA * 10, id="repeated"),
        pytest.param(HEADER + frame(b"/tls/1.0.0") * 1000, HEADER + NA * 10, id="never-ending"),
        pytest.param(HEADER + frame(b"/tls/1.0.0") + bytes(100) + b"\x16", HEADER + NA, id="lazy-dialer"),
    ],
)
async def test_a_negotiation_that_is_none(siege: Siege, said: bytes, answer: bytes) -> None:
    async with siege.erring("multistream"):
        assert await siege.say_inside(said) == answer


# Noise, the handshake


class _Dialer:
    """A peer that is at its third handshake message, which it may write as it likes."""

    def __init__(self, prologue: bytes = b"") -> None:
        self.host = HostKey.generate()
        self.static = StaticKey(self.host, MUXERS)
        self.xx = XX(self.static, EphemeralKey.generate(), prologue)
        self.first = _sized(self.xx.write_first())

    def third(self, payload: bytes | None = None) -> bytes:
        return _sized(self.xx.write_third(self.static.payload if payload is None else payload))


def _sized(message: bytes) -> bytes:
    return len(message).to_bytes(2, "big") + message


_LAZY = HEADER + frame(NOISE)


@pytest.mark.parametrize(
    "first",
    [
        pytest.param(b"\x10\x01", id="too-long"),
        pytest.param(b"\x00\x00", id="empty"),
        pytest.param(_sized(bytes(31)), id="too-short"),
        pytest.param(_sized(bytes(32)), id="key-of-small-order"),
    ],
)
async def test_a_first_handshake_message_that_is_none(siege: Siege, first: bytes) -> None:
    async with siege.erring("noise"):
        assert await siege.say_inside(_LAZY, first) == _LAZY


@pytest.mark.parametrize(
    "third",
    [
        pytest.param(lambda dialer: b"\x10\x01", id="too-long"),
        pytest.param(lambda dialer: dialer.third()[:2][:1] + b"\x10" + bytes(16), id="too-short"),
        pytest.param(lambda dialer: _sized(b"\x5a" * 200), id="garbage"),
        pytest.param(lambda dialer: dialer.first, id="repeated"),
        pytest.param(lambda dialer: dialer.third(b""), id="no-identity"),
        pytest.param(lambda dialer: dialer.third(b"\xff\xff"), id="identity-that-is-no-message"),
        pytest.param(lambda dialer: dialer.third(_Dialer().static.payload), id="identity-of-another"),
        pytest.param(lambda dialer: _sized(dialer.third()[2:-1] + b"x"), id="changed"),
    ],
)
async def test_a_last_handshake_message_that_is_none(siege: Siege, third: Callable[[_Dialer], bytes]) -> None:
    async with siege.erring("noise"):
        assert await _shake(siege, _Dialer(), third)


async def test_a_handshake_of_another_version(siege: Siege) -> None:
    """What both ends hash first is not the same, so that the second message does not open: the dialer guesses."""
    async with siege.erring("noise"):
        assert await _shake(siege, _Dialer(b"another version"), lambda dialer: _sized(bytes(160)), reads=False)


async def _shake(siege: Siege, dialer: _Dialer, third: Callable[[_Dialer], bytes], *, reads: bool = True) -> bool:
    """Shake hands up to the third message; whether the relay closed without another word."""
    if siege.place.transport == "ws":
        client = await WebSocketClient.connect(siege.port)
        client.send(BINARY, _LAZY + dialer.first)
        said = b""
        while len(said) < len(_LAZY) + 2 or len(said) < len(_LAZY) + 2 + int.from_bytes(said[len(_LAZY) :][:2], "big"):
            said += (await client.read())[1]
        if reads:
            dialer.xx.read_second(said[len(_LAZY) + 2 :])
        client.send(BINARY, third(dialer))
        frames = await client.read_to_end()
        client.writer.close()
        return [(first, payload[:2]) for first, payload in frames] == [(CLOSE, (1002).to_bytes(2, "big"))]
    reader, writer = await asyncio.open_connection("127.0.0.1", siege.port)
    writer.write(_LAZY + dialer.first)
    said = await reader.readexactly(len(_LAZY) + 2)
    second = await reader.readexactly(int.from_bytes(said[-2:], "big"))
    if reads:
        dialer.xx.read_second(second)
    writer.write(third(dialer))
    rest = await read_to_end(reader)
    writer.close()
    return rest == b""


# Noise, its messages


class _Recorded(Client):
    """Keeps what it sends, to send it again."""

    def attach(self, wire: object) -> None:
        super().attach(wire)  # type: ignore[arg-type]
        self.sent: list[bytes] = []
        send = self.wire.end.write

        def write(data: Buffer) -> None:
            self.sent.append(bytes(data))
            send(data)

        self.send = send
        self.wire.end.write = write  # type: ignore[method-assign]


def _sealed(client: _Recorded) -> bytes:
    """The next message, taken away from the socket."""
    assert client.connection.session is not None
    client.connection.session.ping(1)
    return bytes(client.connection.take_output())


def _swapped(client: _Recorded) -> bytes:
    one, two = _sealed(client), _sealed(client)
    return two + one


def _left_out(client: _Recorded) -> bytes:
    _sealed(client)
    return _sealed(client)


@pytest.mark.parametrize(
    "rude",
    [
        pytest.param(lambda client: b"\x00\x00", id="empty"),
        pytest.param(lambda client: b"\x00\x0f" + bytes(15), id="too-short"),
        pytest.param(lambda client: b"\xff\xff" + bytes(65535), id="longest-garbage"),
        pytest.param(lambda client: client.sent[-1], id="repeated"),
        pytest.param(_swapped, id="wrong-order"),
        pytest.param(_left_out, id="left-out"),
        pytest.param(lambda client: _sealed(client)[:-1] + b"x", id="changed"),
        pytest.param(lambda client: _LAZY, id="negotiation-again"),
    ],
)
async def test_a_message_that_does_not_open_ends_the_connection_behind_a_goodbye(
    siege: Siege, rude: Callable[[_Recorded], bytes]
) -> None:
    client = await siege.reserved(_Recorded)
    async with siege.erring("noise"):
        client.send(rude(client) + bytes(10_000))
        await gone(client)
    assert client.go_away == 1


# yamux


def _opened_twice(client: Client) -> None:
    stream = client.open(ping.PROTOCOL).stream.id
    _send(client, DATA, SYN, stream, 0)


def _much_for_a_stream_that_is_gone(client: Client) -> None:
    stream = client.open(ping.PROTOCOL)
    stream.abort()
    _send(client, DATA, 0, stream.stream.id, INITIAL_WINDOW_BYTES + 1)


def _credit_without_end(client: Client) -> None:
    stream = client.open(ping.PROTOCOL).stream.id
    for _ in range(3):
        _send(client, WINDOW_UPDATE, 0, stream, 0x7FFFFFFF)


def _data_behind_the_end(client: Client) -> None:
    stream = client.open(hop.PROTOCOL, RESERVE[:1]).stream.id
    _send(client, DATA, 0, stream, INITIAL_WINDOW_BYTES)


def _garbage(client: Client) -> None:
    client.connection.session._out.append(b"\x5a" * 1000)  # type: ignore[union-attr]
    client.wire.wake()


def _send(client: Client, kind: int, flags: int, stream: int, length: int) -> None:
    client.connection.session.send_frame(kind, flags, stream, length, b"")  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "rude",
    [
        _opened_twice,
        _much_for_a_stream_that_is_gone,
        _credit_without_end,
        _data_behind_the_end,
        _garbage,
    ],
    ids=lambda rude: rude.__name__.strip("_"),
)
async def test_frames_in_the_wrong_order_end_the_connection_behind_a_goodbye(
    siege: Siege, rude: Callable[[Client], None]
) -> None:
    client = await siege.reserved()
    async with siege.erring("yamux"):
        rude(client)
        await gone(client)
    assert client.go_away == 1


async def test_pings_are_answered_until_they_are_a_flood(siege: Siege) -> None:
    client = await siege.dial()
    session = client.connection.session
    assert session is not None
    for value in range(700):
        session.ping(value)
        if value % 100 == 0:
            await still_served(client)
    await still_served(client)
    assert client.pongs == 700
    async with siege.erring("frame_flood"):
        while not client.closed.is_set():
            session.ping(0)
            await asyncio.sleep(0)


# hop, identify, ping


@pytest.mark.parametrize("kind", [HopMessage.RESERVE, HopMessage.CONNECT], ids=["reserve", "connect"])
async def test_a_hop_message_that_ends_before_it_is_whole_ends_its_stream(
    siege: Siege, kind: HopMessage.Type.ValueType
) -> None:
    client = await siege.dial()
    message = delimited(HopMessage(type=kind, peer=Peer(id=HostKey.generate().peer_id)).SerializeToString())
    async with siege.erring("hop_cut", len(message)):
        for at in range(len(message)):
            stream = client.open(hop.PROTOCOL, message[:at])
            stream.close()
            await stream.reset()
    await still_served(client)


async def test_a_hop_message_that_is_repeated_is_answered_once(siege: Siege) -> None:
    client = await siege.dial()
    stream = client.open(hop.PROTOCOL, RESERVE * 50)
    assert HopMessage.FromString(await stream.read_message()).status == Status.OK
    assert await stream.read_to_end() == b""
    await still_served(client)


async def test_another_version_of_hop_is_declined(siege: Siege) -> None:
    client = await siege.dial()
    for name in (b"/libp2p/circuit/relay/0.1.0", b"/libp2p/circuit/relay/0.3.0/hop"):
        stream = client.open(name)
        await stream.reset()
    await still_served(client)


async def test_a_status_that_is_cut_at_every_byte_is_a_refusal(siege: Siege) -> None:
    for at in range(len(ACCEPTED)):
        target = await siege.reserved(Puppet)
        source = await siege.dial()
        stream = source.open(hop.PROTOCOL, delimited(connect_to(target.peer_id).SerializeToString()))
        asked = await target.stop_asked()
        asked.write(ACCEPTED[:at])
        asked.close()
        assert (await answer_on(stream)).status == Status.CONNECTION_FAILED
        await still_served(target)
        await asyncio.gather(source.abort(), target.abort())


async def test_bytes_without_end_behind_a_refusal_are_read_past_and_end_the_stream(siege: Siege) -> None:
    client = await siege.dial()
    stream = client.open(hop.PROTOCOL, delimited(b""))
    assert HopMessage.FromString(await stream.read_message()).status == Status.MALFORMED_MESSAGE
    for _ in range(4 * INITIAL_WINDOW_BYTES // 65536):
        stream.write(bytes(65536))
        await stream.drained()
    await still_served(client)


async def test_echoes_that_nobody_reads_end_their_stream(siege: Siege) -> None:
    client = await siege.dial()
    async with siege.erring("ping"):
        stream = client.open(ping.PROTOCOL)
        stream.credit = False
        stream.write(bytes(2 * INITIAL_WINDOW_BYTES))
        await stream.reset()
    await still_served(client)


class _Named(Client):
    """Says what it is told when it is asked who it is."""

    said = b""

    async def _serve_identify(self, stream: ClientStream) -> None:
        stream.write(self.said)
        self.asked = stream


def _saying(said: bytes) -> type[_Named]:
    return type("_Saying", (_Named,), {"said": said})


@pytest.mark.parametrize(
    "said",
    [
        pytest.param(b"\x81\x40", id="too-long"),
        pytest.param(delimited(b"\xff" * 20), id="garbage"),
        pytest.param(delimited(b"\x32\x02\xff\xfe"), id="name-that-is-no-text"),
        pytest.param(b"\xff" * 6, id="length-without-end"),
    ],
)
async def test_an_answer_to_identify_that_is_none_ends_its_stream(siege: Siege, said: bytes) -> None:
    async with siege.erring("identify"):
        client = await siege.dial(_saying(said))
        await still_served(client)
        await client.asked.reset()
    await still_served(client)


async def test_an_answer_to_identify_that_is_cut_or_never_ends_is_nothing(siege: Siege) -> None:
    whole = delimited(Identify(agentVersion="cut").SerializeToString())
    for said in (*(whole[:at] for at in range(len(whole))), whole * 1000):
        await still_served(await siege.dial(_saying(said)))
    await still_served(await siege.dial())


# Cut at every byte


async def _session(client: Client, target: Client) -> None:
    """Reservation, ping, a call and a few bytes along it."""
    while not target._called.empty():
        target._called.get_nowait()  # of one that was cut
    await client.reserve()
    ponged = client.open(ping.PROTOCOL, b"p" * 32)
    assert await ponged.read(32) == b"p" * 32
    call = await client.connect(target.peer_id)
    call.write(b"a few bytes")
    _, other = await target.called()
    assert await other.read(11) == b"a few bytes"
    assert (await client.identify()).publicKey


async def _exchange(siege: Siege, port: int, target: Client) -> bool:
    """Upgrade and a session, until the connection is cut; whether it came to its end."""
    try:
        client = await Client.dial(siege.address.replace(f"/{siege.port}/", f"/{port}/"))
    except (OSError, AssertionError, WSError):
        return False
    session = asyncio.create_task(_session(client, target))
    cut = asyncio.create_task(client.closed.wait())
    await asyncio.wait((session, cut), return_when=asyncio.FIRST_COMPLETED)
    whole = session.done() and session.exception() is None
    session.cancel()
    cut.cancel()
    await asyncio.gather(session, cut, return_exceptions=True)
    if not client.closed.is_set():
        await client.abort()
    return whole


async def test_a_request_that_is_cut_at_every_byte_leaves_nothing(web: Siege) -> None:
    for at in range(len(UPGRADE)):
        _, writer = await asyncio.open_connection("127.0.0.1", web.port)
        writer.write(UPGRADE[:at])
        if at & 1:
            await writer.drain()
            writer.transport.abort()
        else:
            writer.close()


@pytest.mark.slow
async def test_a_whole_session_that_is_cut_at_every_byte_leaves_nothing(siege: Siege) -> None:
    target = await siege.reserved()
    async with Cutter(siege.port, whole=True) as whole:
        assert await _exchange(siege, whole.port, target)

        async def ended() -> bool:
            return whole.passed_bytes > 0

        await until(ended, "the end of the whole session")
    # A client of this library waits for the end of its own patience when its request is cut, so that is another test.
    first = CLIENT_REQUEST_BYTES if siege.place.transport == "ws" else 0
    async with Cutter(siege.port, first) as cutter:
        for _ in range(first, whole.passed_bytes + 1):
            await _exchange(siege, cutter.port, target)
    await still_served(target)


# Memory


async def test_memory_returns(web: Siege, plain: Siege) -> None:
    """The same attacks again and again, each as heavy as the rules let it be, cost no more than the first time."""
    async with asyncio.timeout(120):
        await _heavy(web, plain)
        before = await _memory(web)
        for _ in range(5):
            await _heavy(web, plain)
        await plain.at_peace()

        async def returned() -> bool:
            after = await _memory(web)
            return all(after[name] - size <= MEMORY_BOUND_BYTES for name, size in before.items())

        await until(returned, f"memory within {MEMORY_BOUND_BYTES} bytes of what it was")


async def _heavy(*sieges: Siege) -> None:
    for siege in sieges:
        clients = await asyncio.gather(*(siege.dial() for _ in range(50)))
        for client in clients:
            for _ in range(8):
                stream = client.open(ping.PROTOCOL)
                stream.credit = False
                stream.write(bytes(2 * INITIAL_WINDOW_BYTES))
            client.open(hop.PROTOCOL, delimited(bytes(4096)))
        await asyncio.gather(*(still_served(client) for client in clients))
        for client in clients:
            _garbage(client)
        await asyncio.gather(*(gone(client) for client in clients))
        await siege.leave()


async def _memory(siege: Siege) -> dict[str, int]:
    """What each process takes, as the admin process has read it in the last two seconds."""
    status = await asyncio.to_thread(siege.relay.status)
    return {each["name"]: each["memory_bytes"] for each in status["workers"]}
