"""Noise XX against published vectors, libp2p's handshake over it, and the transport messages at their bounds."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from transports.identity import HostKey
from transports.noise import (
    MAX_HANDSHAKE_BYTES,
    XX,
    EphemeralKey,
    Handshake,
    NoiseError,
    Role,
    SecureChannel,
    StaticKey,
)
from transports.proto.noise_pb2 import NoiseExtensions, NoiseHandshakePayload

YAMUX = b"/yamux/1.0.0"
PREFIX = b"noise-libp2p-static-key:"
VECTORS: list[dict[str, Any]] = json.loads((Path(__file__).parent / "data" / "noise_xx_vectors.json").read_text())[
    "vectors"
]


class GivenStatic(StaticKey):
    """A static key from a given private key."""

    def __init__(self, private: bytes, payload: bytes = b"") -> None:
        self._private = X25519PrivateKey.from_private_bytes(private)
        self.public = self._private.public_key().public_bytes_raw()
        self.payload = payload
        self.muxers = ()


def given_ephemeral(private: bytes) -> EphemeralKey:
    return EphemeralKey(X25519PrivateKey.from_private_bytes(private).public_key().public_bytes_raw(), private)


class Vector:
    """Both ends of one published vector, and its messages."""

    def __init__(self, vector: dict[str, Any]) -> None:
        assert vector["protocol_name"] == "Noise_XX_25519_ChaChaPoly_SHA256"
        self.ends = [
            XX(
                GivenStatic(bytes.fromhex(vector[f"{role}_static"])),
                given_ephemeral(bytes.fromhex(vector[f"{role}_ephemeral"])),
                bytes.fromhex(vector[f"{role}_prologue"]),
            )
            for role in ("init", "resp")
        ]
        self.hash = vector.get("handshake_hash")
        messages = vector["messages"]
        self.payloads = [bytes.fromhex(message["payload"]) for message in messages]
        self.ciphertexts = [bytes.fromhex(message["ciphertext"]) for message in messages]


@pytest.fixture(params=VECTORS, ids=lambda vector: vector["collection"])
def vector(request: pytest.FixtureRequest) -> Vector:
    return Vector(request.param)


def test_the_published_handshakes_are_written_as_published(vector: Vector) -> None:
    (initiator, responder), payloads, ciphertexts = vector.ends, vector.payloads, vector.ciphertexts
    assert initiator.write_first(payloads[0]) == ciphertexts[0]
    assert responder.read_first(ciphertexts[0]) == payloads[0]
    assert responder.write_second(payloads[1]) == ciphertexts[1]
    assert initiator.read_second(ciphertexts[1]) == payloads[1]
    assert initiator.write_third(payloads[2]) == ciphertexts[2]
    assert responder.read_third(ciphertexts[2]) == payloads[2]
    assert initiator.peer_static == responder._static.public
    assert responder.peer_static == initiator._static.public
    assert initiator.state.hash == responder.state.hash
    assert initiator.state.split() == responder.state.split()


def test_the_published_handshake_hash_comes_out() -> None:
    hashes = [vector for vector in VECTORS if "handshake_hash" in vector]
    assert hashes
    for published in hashes:
        vector = Vector(published)
        run_handshake(vector)
        assert [end.state.hash.hex() for end in vector.ends] == [vector.hash] * 2


def run_handshake(vector: Vector) -> None:
    (initiator, responder), payloads = vector.ends, vector.payloads
    responder.read_first(initiator.write_first(payloads[0]))
    initiator.read_second(responder.write_second(payloads[1]))
    responder.read_third(initiator.write_third(payloads[2]))


def test_the_published_transport_messages_are_sealed_and_opened_as_published(vector: Vector) -> None:
    run_handshake(vector)
    to_responder, to_initiator = vector.ends[0].state.split()
    channels = SecureChannel(to_responder, to_initiator), SecureChannel(to_initiator, to_responder)
    assert len(vector.payloads) > 3
    # As in the handshake, the ends take turns: message 3 is the responder's.
    for number in range(3, len(vector.payloads)):
        sender, receiver = channels[number % 2], channels[1 - number % 2]
        framed = len(vector.ciphertexts[number]).to_bytes(2, "big") + vector.ciphertexts[number]
        assert sender.seal(vector.payloads[number]) == framed
        assert receiver.open(framed) == vector.payloads[number]


@pytest.mark.parametrize("position", [0, 40, 60, 100])
def test_a_bit_changed_in_the_second_message_is_found(position: int) -> None:
    vector = Vector(VECTORS[0])
    vector.ends[0].write_first(vector.payloads[0])
    changed = bytearray(vector.ciphertexts[1])
    changed[position] ^= 1
    with pytest.raises(NoiseError):
        vector.ends[0].read_second(bytes(changed))


def test_handshake_messages_that_are_too_short_are_refused() -> None:
    vector = Vector(VECTORS[0])
    initiator, responder = vector.ends
    with pytest.raises(NoiseError):
        responder.read_first(bytes(31))
    initiator.write_first()
    with pytest.raises(NoiseError):
        initiator.read_second(bytes(95))
    responder.read_first(vector.ciphertexts[0])
    responder.write_second(b"")
    with pytest.raises(NoiseError):
        responder.read_third(bytes(63))


# RFC 7748 section 6.1 and curve25519: points whose product with any key is zero.
SMALL_ORDER = [bytes(32), b"\x01" + bytes(31), bytes.fromhex("ec" + "ff" * 30 + "7f")]


@pytest.mark.parametrize("point", SMALL_ORDER, ids=["zero", "one", "minus one"])
def test_a_key_of_small_order_is_refused(point: bytes) -> None:
    with pytest.raises(NoiseError):
        EphemeralKey.generate().exchange(point)
    with pytest.raises(NoiseError):
        GivenStatic(b"\x01" * 32).exchange(point)
    responder = Handshake(Role.RESPONDER, StaticKey(HostKey.generate(), ()))
    with pytest.raises(NoiseError):
        responder.receive(b"\x00\x20" + point)


# libp2p's handshake

ALICE, BOB = HostKey.from_seed(b"a" * 32), HostKey.from_seed(b"b" * 32)


def handshakes(
    muxers_of_initiator: tuple[bytes, ...] = (YAMUX,), muxers_of_responder: tuple[bytes, ...] = (YAMUX,)
) -> tuple[Handshake, Handshake]:
    return (
        Handshake(Role.INITIATOR, StaticKey(ALICE, muxers_of_initiator)),
        Handshake(Role.RESPONDER, StaticKey(BOB, muxers_of_responder)),
    )


def shake(
    initiator: Handshake, responder: Handshake, piece_bytes: int = 1 << 16
) -> tuple[SecureChannel, SecureChannel]:
    def carry(data: bytes, to: Handshake) -> bytes:
        answer = b""
        for start in range(0, len(data), piece_bytes):
            answer += to.receive(memoryview(data)[start : start + piece_bytes])
        return answer

    assert responder.start() == b""
    assert carry(carry(carry(initiator.start(), responder), initiator), responder) == b""
    assert initiator.channel is not None
    assert responder.channel is not None
    return initiator.channel, responder.channel


@pytest.mark.parametrize("piece_bytes", [1, 7, 1 << 16])
def test_both_ends_learn_who_the_other_is_however_the_bytes_are_cut(piece_bytes: int) -> None:
    initiator, responder = handshakes()
    ours, theirs = shake(initiator, responder, piece_bytes)
    assert (initiator.peer, responder.peer) == (BOB.peer_id, ALICE.peer_id)
    assert theirs.open(ours.seal(b"to bob")) == b"to bob"
    assert ours.open(theirs.seal(b"to alice")) == b"to alice"


@pytest.mark.parametrize(
    ("initiator", "responder", "chosen"),
    [
        ((YAMUX,), (YAMUX,), YAMUX),
        ((b"/mplex/6.7.0", YAMUX), (YAMUX,), YAMUX),
        ((b"/b", b"/a"), (b"/a", b"/b"), b"/b"),
        ((), (YAMUX,), None),
        ((b"/mplex/6.7.0",), (YAMUX,), None),
    ],
)
def test_both_ends_find_the_initiators_first_common_muxer(
    initiator: tuple[bytes, ...], responder: tuple[bytes, ...], chosen: bytes | None
) -> None:
    """connections/inlined-muxer-negotiation.md."""
    ends = handshakes(initiator, responder)
    shake(*ends)
    assert [end.muxer for end in ends] == [chosen, chosen]


def test_bytes_behind_the_last_handshake_message_are_kept_for_the_channel() -> None:
    initiator, responder = handshakes()
    third = initiator.receive(responder.receive(initiator.start()))
    assert initiator.channel is not None
    early = bytes(initiator.channel.seal(b"early"))
    responder.receive(third + early[:5])
    assert responder.channel is not None
    assert responder.rest() == early[:5]
    assert responder.rest() == b""
    assert responder.channel.open(early) == b"early"


def test_a_handshake_message_of_4096_bytes_is_read_and_one_of_4097_is_refused_by_its_length() -> None:
    responder = handshakes()[1]
    first = EphemeralKey.generate().public + bytes(MAX_HANDSHAKE_BYTES - 32)
    assert len(first) == 4096
    assert responder.receive((4096).to_bytes(2, "big") + first)
    for greeting in (b"", (32).to_bytes(2, "big") + EphemeralKey.generate().public):
        responder = handshakes()[1]
        if greeting:
            responder.receive(greeting)
        with pytest.raises(NoiseError):
            responder.receive((4097).to_bytes(2, "big"))


def payload(**changes: Any) -> bytes:
    """A payload of ALICE for the static key b"\\x01" * 32, with fields changed."""
    public = GivenStatic(b"\x01" * 32).public
    fields: dict[str, Any] = {"identity_key": ALICE.public_protobuf, "identity_sig": ALICE.sign(PREFIX + public)}
    return NoiseHandshakePayload(**fields | changes).SerializeToString()


def dial_with(sent: bytes) -> Handshake:
    """A responder that has got `sent` as the payload of the third message."""
    responder = handshakes()[1]
    initiator = Handshake(Role.INITIATOR, GivenStatic(b"\x01" * 32, sent))
    responder.receive(initiator.receive(responder.receive(initiator.start())))
    return responder


def test_a_payload_with_extensions_that_nobody_knows_is_accepted() -> None:
    responder = dial_with(payload(extensions=NoiseExtensions(webtransport_certhashes=[b"x"])) + b"\xfa\x01\x01x")
    assert responder.peer == ALICE.peer_id


@pytest.mark.parametrize(
    "sent",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"\xff\xff\xff", id="no protobuf"),
        pytest.param(payload(identity_key=b""), id="no identity"),
        pytest.param(payload(identity_key=BOB.public_protobuf), id="the identity of another"),
        pytest.param(payload(identity_sig=b""), id="not signed"),
        pytest.param(payload(identity_sig=ALICE.sign(PREFIX + bytes(32))), id="another static key signed"),
        pytest.param(
            payload(identity_sig=ALICE.sign(GivenStatic(b"\x01" * 32).public)), id="signed without the prefix"
        ),
    ],
)
def test_an_identity_that_is_not_proven_is_refused(sent: bytes) -> None:
    with pytest.raises(NoiseError):
        dial_with(sent)


# Transport messages


def channels() -> tuple[SecureChannel, SecureChannel]:
    return SecureChannel(b"1" * 32, b"2" * 32), SecureChannel(b"2" * 32, b"1" * 32)


@pytest.mark.parametrize(
    ("size", "messages"), [(0, [16]), (1, [17]), (65519, [65535]), (65520, [65535, 17]), (131038, [65535, 65535])]
)
def test_plaintext_is_cut_into_messages_of_at_most_65535_bytes(size: int, messages: list[int]) -> None:
    ours, theirs = channels()
    plain = bytes(range(256)) * (size // 256 + 1)
    sealed = bytes(ours.seal(plain[:size]))
    lengths, position = [], 0
    while position < len(sealed):
        lengths.append(int.from_bytes(sealed[position : position + 2], "big"))
        position += 2 + lengths[-1]
    assert lengths == messages
    assert theirs.open(sealed) == plain[:size]


@pytest.mark.parametrize("size", [0, 1, 15])
def test_a_message_shorter_than_its_tag_is_refused(size: int) -> None:
    with pytest.raises(NoiseError):
        channels()[1].open(size.to_bytes(2, "big") + bytes(size))


def test_messages_that_are_changed_repeated_left_out_or_swapped_are_refused() -> None:
    ours, _ = channels()
    first, second = bytes(ours.seal(b"first")), bytes(ours.seal(b"second"))
    changed = first[:-1] + bytes((first[-1] ^ 1,))
    for wire in (changed, first + first, second, second + first):
        with pytest.raises(NoiseError):
            channels()[1].open(wire)


def test_nothing_of_a_message_that_does_not_authenticate_comes_out() -> None:
    """The good message before it is lost too: the connection ends, and nothing half-true is handed on."""
    ours, theirs = channels()
    good, bad = bytes(ours.seal(b"good")), bytearray(ours.seal(b"bad"))
    bad[5] ^= 1
    with pytest.raises(NoiseError):
        theirs.open(good + bytes(bad))


def test_a_long_message_in_many_pieces_is_collected_in_place() -> None:
    ours, theirs = channels()
    sealed = bytes(ours.seal(bytes(65519)))
    theirs.open(sealed[:10])
    held = theirs._partial
    for position in range(10, 1000):
        assert theirs.open(sealed[position : position + 1]) == b""
    assert theirs._partial is held
    assert theirs.open(sealed[1000:]) == bytes(65519)
    assert theirs._partial is None


@given(st.lists(st.binary(max_size=50), min_size=1, max_size=5), st.lists(st.integers(0, 400), max_size=6))
def test_any_cut_gives_the_same_plaintext(messages: list[bytes], cuts: list[int]) -> None:
    ours, theirs = channels()
    sealed = b"".join(bytes(ours.seal(message)) for message in messages)
    edges = sorted({0, len(sealed), *(cut for cut in cuts if cut < len(sealed))})
    got = b"".join(theirs.open(memoryview(sealed)[a:b]) for a, b in pairwise(edges))
    assert got == b"".join(messages)


@given(st.lists(st.binary(min_size=1, max_size=200), max_size=8), st.sampled_from(list(Role)))
def test_garbage_only_ever_is_a_noise_error(pieces: list[bytes], role: Role) -> None:
    handshake = handshakes()[0 if role is Role.INITIATOR else 1]
    handshake.start()
    try:
        for piece in pieces:
            handshake.receive(piece)
    except NoiseError:
        pass
    assert handshake.channel is None
    channel = channels()[0]
    try:
        for piece in pieces:
            assert channel.open(piece) == b""
    except NoiseError:
        pass
