"""From connection to streams: negotiation as peers do it, identify, ping, and what a rude peer gets."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa

from actors import hop, identify, ping
from actors.proto.peer_record_pb2 import PeerRecord
from actors.voucher import PEER_RECORD_DOMAIN, PEER_RECORD_TYPE, verify_envelope
from tests.scenarios.scene import Puppet, Scene, counter, gone, joined, port_of, socket_of, still_served, until
from tests.support.client import Client, ClientStream
from tests.support.relay import RelayProcess
from transports.address import multiaddr_bytes
from transports.identity import decode_public_key, parse_peer_id
from transports.multistream import HEADER, NA, frame
from transports.noise import Role, StaticKey
from transports.proto.crypto_pb2 import KeyType, PublicKey
from transports.upgrade import Connection
from transports.wire import Wire
from transports.yamux_frames import DATA, INITIAL_WINDOW_BYTES, PING, RST, SYN, WINDOW_UPDATE


def _raw(client: Client, first: bytes) -> ClientStream:
    """A stream on which the test speaks multistream itself."""
    assert client.connection.session is not None
    stream = ClientStream(client.wire.wake)
    stream.stream = client.connection.session.open_stream()
    stream.stream.handler = stream
    stream.write(first)
    return stream


# multistream


async def test_na_answers_what_is_unknown_and_the_next_name_is_taken(solo: Scene) -> None:
    client = await solo.dial()
    stream = _raw(client, HEADER + frame(b"/no/such/protocol") + frame(b"/nor/this"))
    assert await stream.read(len(HEADER + NA + NA)) == HEADER + NA + NA
    stream.write(frame(ping.PROTOCOL))
    assert await stream.read(len(frame(ping.PROTOCOL))) == frame(ping.PROTOCOL)
    stream.write(bytes(32))
    assert await stream.read(32) == bytes(32)


async def test_na_reaches_a_dialer_that_has_sent_its_data_already(solo: Scene) -> None:
    client = await solo.dial()
    stream = _raw(client, HEADER + frame(b"/no/such/protocol") + b"\xff\xff\xffdata of it")
    assert await stream.read(len(HEADER + NA)) == HEADER + NA
    await stream.reset()
    await still_served(client)


async def test_ls_lists_what_is_spoken(solo: Scene) -> None:
    client = await solo.dial()
    stream = _raw(client, HEADER + frame(b"ls"))
    listed = b"".join(frame(name) for name in (identify.PROTOCOL, identify.PUSH_PROTOCOL, ping.PROTOCOL, hop.PROTOCOL))
    assert await stream.read(len(HEADER + frame(listed))) == HEADER + frame(listed)


async def test_names_that_come_byte_by_byte_are_names(solo: Scene) -> None:
    client = await solo.dial()
    stream = _raw(client, b"")
    for byte in HEADER + frame(ping.PROTOCOL) + b"p" * 32:
        stream.write(bytes((byte,)))
    expected = HEADER + frame(ping.PROTOCOL) + b"p" * 32
    assert await stream.read(len(expected)) == expected


@pytest.mark.parametrize(
    "rude",
    [frame(b"/not/multistream"), HEADER + frame(b"x" * 1024), HEADER + frame(b"/unknown") * 11, HEADER + b"\x03abc"],
    ids=["other-header", "name-over-1024", "eleven-tries", "no-newline"],
)
async def test_a_stream_that_breaks_multistream_is_reset_and_counted(solo: Scene, rude: bytes) -> None:
    client = await solo.dial()
    async with solo.counting("frost_relay_peer_errors_total", reason="multistream"):
        await _raw(client, rude).reset()
    await still_served(client)


class _WithoutMuxers(Client):
    """Offers no muxer in the Noise handshake, like rust: yamux is agreed on by multistream."""

    def attach(self, wire: Wire) -> None:
        self.wire = wire
        wire.owner = self
        static = StaticKey(self.host, ())
        wire.endpoint = self.connection = Connection(Role.INITIATOR, static, self, wire.wake, (identify.PROTOCOL,), 64)


async def test_a_peer_without_early_muxer_negotiation_is_served(solo: Scene) -> None:
    client = await solo.dial(_WithoutMuxers)
    await client.reserve()
    await still_served(client)


# Identities


class _Key:
    """A peer's key of any kind, with the face of a HostKey."""

    def __init__(self, kind: KeyType.ValueType, public: bytes, sign: Callable[[bytes], bytes]) -> None:
        self.public_protobuf = PublicKey(Type=kind, Data=public).SerializeToString()
        self.peer_id = decode_public_key(self.public_protobuf).peer_id
        self.sign = sign


def _ecdsa() -> _Key:
    key = ec.generate_private_key(ec.SECP256R1())
    return _Key(KeyType.ECDSA, _der(key.public_key()), lambda data: key.sign(data, ec.ECDSA(hashes.SHA256())))


def _secp256k1() -> _Key:
    key = ec.generate_private_key(ec.SECP256K1())
    point = key.public_key().public_bytes(serialization.Encoding.X962, serialization.PublicFormat.CompressedPoint)
    return _Key(KeyType.Secp256k1, point, lambda data: key.sign(data, ec.ECDSA(hashes.SHA256())))


def _rsa() -> _Key:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return _Key(KeyType.RSA, _der(key.public_key()), lambda data: key.sign(data, padding.PKCS1v15(), hashes.SHA256()))


def _der(public: Any) -> bytes:
    der: bytes = public.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return der


@pytest.mark.parametrize("make", [_ecdsa, _secp256k1, _rsa], ids=["ecdsa", "secp256k1", "rsa"])
async def test_peers_of_every_kind_of_key_can_call_and_be_called(solo: Scene, make: Callable[[], _Key]) -> None:
    target, source = await solo.reserved(host=make()), await solo.dial(host=make())
    circuit = await joined(source, target)
    circuit.left.write(b"hello")
    assert await circuit.right.read(5) == b"hello"


# identify, ping


async def test_identify_says_who_the_relay_is_and_where_the_peer_comes_from(solo: Scene) -> None:
    client = await solo.dial()
    said = await client.identify()
    relay = parse_peer_id(solo.relay.peer_id)
    assert decode_public_key(said.publicKey).peer_id == relay
    spoken = (identify.PROTOCOL, identify.PUSH_PROTOCOL, ping.PROTOCOL, hop.PROTOCOL)
    assert set(said.protocols) == {name.decode() for name in spoken}
    assert said.agentVersion.startswith("frost-relay/")
    assert said.protocolVersion == "ipfs/0.1.0"
    announced = [text.rpartition("/p2p/")[0] for text in solo.relay.addresses]
    assert sorted(said.listenAddrs) == sorted(multiaddr_bytes(text) for text in announced)
    tail = {"ws": "/ws", "wss": "/tls/ws", "tcp": ""}[solo.place.transport]
    assert said.observedAddr == multiaddr_bytes(f"/ip4/127.0.0.1/tcp/{port_of(client)}{tail}")
    assert len(said.SerializeToString()) <= 4096


async def test_the_signed_peer_record_is_the_relays_and_verifies(solo: Scene) -> None:
    said = await (await solo.dial()).identify()
    signer, payload = verify_envelope(said.signedPeerRecord, PEER_RECORD_DOMAIN, PEER_RECORD_TYPE)
    record = PeerRecord.FromString(payload)
    assert signer.peer_id == record.peer_id == parse_peer_id(solo.relay.peer_id)
    assert [each.multiaddr for each in record.addresses] == list(said.listenAddrs)
    assert record.seq


async def test_every_peer_is_asked_who_it_is(solo: Scene) -> None:
    client = await solo.dial(Puppet)
    async with asyncio.timeout(10):
        await client.identified.wait()


async def test_a_peer_that_never_says_who_it_is_is_served(solo: Scene) -> None:
    class Silent(Client):
        async def _serve_identify(self, stream: ClientStream) -> None:
            """Says nothing."""

    target = await solo.reserved(Silent)
    await joined(await solo.dial(), target)


async def test_a_peer_that_does_not_speak_identify_is_served(solo: Scene) -> None:
    class Mute(_WithoutMuxers):
        def attach(self, wire: Wire) -> None:
            super().attach(wire)
            self.connection._protocols = ()

    await still_served(await solo.reserved(Mute))


async def test_ping_gives_back_what_it_gets_as_often_as_asked(solo: Scene) -> None:
    client = await solo.dial()
    stream = client.open(ping.PROTOCOL)
    for _ in range(5):
        data = os.urandom(32)
        stream.write(data)
        assert await stream.read(32) == data
    stream.close()
    assert await stream.read_to_end() == b""


async def test_a_yamux_ping_is_answered(solo: Scene) -> None:
    client = await solo.dial()
    assert client.connection.session is not None
    client.connection.session.ping(7)
    await still_served(client)
    assert client.pongs == 1


# Rude peers


async def test_one_stream_more_than_allowed_is_reset_and_the_others_live(solo: Scene) -> None:
    client = await solo.dial()
    held = [client.open(ping.PROTOCOL) for _ in range(64)]
    for stream in held:
        stream.write(bytes(32))
    for stream in held:
        await stream.read(32)
    await client.open(ping.PROTOCOL).reset()
    held.pop().abort()
    again = client.open(ping.PROTOCOL, bytes(32))
    assert await again.read(32) == bytes(32)


async def test_streams_opened_and_reset_without_end_close_the_connection(solo: Scene) -> None:
    client, other = await solo.dial(), await solo.dial()
    async with solo.counting("frost_relay_peer_errors_total", reason="stream_flood"):
        for _ in range(1000):
            client.open(ping.PROTOCOL).abort()
        await gone(client)
    assert client.go_away == 1
    await still_served(other)


def _wrong_version(client: Client) -> None:
    client.connection.session._out.append(b"\x01" + bytes(11))  # type: ignore[union-attr]
    client.wire.wake()


def _wrong_type(client: Client) -> None:
    client.connection.session.send_frame(9, 0, 0, 0, b"")  # type: ignore[union-attr]


def _wrong_parity(client: Client) -> None:
    client.connection.session.send_frame(DATA, SYN, 1000, 0, b"")  # type: ignore[union-attr]


def _unknown_stream(client: Client) -> None:
    client.connection.session.send_frame(WINDOW_UPDATE, RST, 0, 0, b"")  # type: ignore[union-attr]


def _ping_on_a_stream(client: Client) -> None:
    client.connection.session.send_frame(PING, SYN, 3, 0, b"")  # type: ignore[union-attr]


def _beyond_the_window(client: Client) -> None:
    stream = client.open(hop.PROTOCOL)
    client.connection.session.send_frame(  # type: ignore[union-attr]
        DATA, 0, stream.stream.id, INITIAL_WINDOW_BYTES + 1, bytes(64)
    )


@pytest.mark.parametrize(
    "rude",
    [_wrong_version, _wrong_type, _wrong_parity, _unknown_stream, _ping_on_a_stream, _beyond_the_window],
    ids=lambda rude: rude.__name__.strip("_"),
)
async def test_what_breaks_yamux_closes_the_connection_behind_a_goodbye(
    solo: Scene, rude: Callable[[Client], None]
) -> None:
    client, other = await solo.dial(), await solo.reserved()
    await client.reserve()
    async with solo.counting("frost_relay_peer_errors_total", reason="yamux"):
        rude(client)
        await gone(client)
    assert client.go_away == 1
    await solo.settled(reservations=1, connections=1)
    await still_served(other)


async def test_what_noise_can_not_open_closes_the_connection(solo: Scene) -> None:
    client = await solo.dial()
    client.wire.end.write(b"\x00\x20" + bytes(32))
    await gone(client)
    await solo.settled(connections=0)


async def test_a_peer_that_makes_the_relay_answer_and_does_not_read_is_closed(solo: Scene) -> None:
    client = await solo.dial()
    session, transport = client.connection.session, socket_of(client)
    assert session is not None
    async with solo.counting("frost_relay_peer_errors_total", reason="frame_flood"):  # before its answers are too many
        transport.pause_reading()

        async def closed() -> bool:
            if transport.get_write_buffer_size() < 1_000_000:
                for value in range(20_000):
                    session.ping(value)
            return bool((await asyncio.to_thread(solo.relay.status))["connections"] == 0)

        await until(closed, "the end of a peer that does not read")


def test_what_is_no_multistream_ends_the_connection_before_noise(relay: RelayProcess) -> None:
    asyncio.run(_speak_http(relay))


async def _speak_http(relay: RelayProcess) -> None:
    port = int(relay.address("tcp").split("/")[4])
    before = counter(relay, "frost_relay_peer_errors_total", reason="multistream")
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET / HTTP/1.1\r\nUser-Agent: " + b"x" * 100)
    async with asyncio.timeout(10):
        assert await reader.read() == b""
    writer.close()
    assert counter(relay, "frost_relay_peer_errors_total", reason="multistream") == before + 1
