"""Peer IDs, peers' keys, our key and its file."""

from __future__ import annotations

import base64
import contextlib
import json
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import dsa, ec, padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_der_private_key
from hypothesis import given
from hypothesis import strategies as st
from libp2p.crypto.ed25519 import Ed25519PrivateKey
from libp2p.crypto.rsa import create_new_key_pair as create_rsa_pair
from libp2p.crypto.secp256k1 import create_new_key_pair as create_secp256k1_pair
from libp2p.crypto.serialization import deserialize_public_key
from libp2p.peer.id import ID

from transports.errors import PeerError
from transports.identity import (
    HostKey,
    IdentityError,
    PeerKeyError,
    decode_public_key,
    is_peer_id,
    parse_peer_id,
    peer_id_of,
    peer_id_text,
)
from transports.proto import crypto_pb2

VECTORS: dict[str, Any] = json.loads((Path(__file__).parent / "data" / "peer_key_vectors.json").read_text())
KINDS = sorted(VECTORS["keys"])
PUBLIC = {kind: bytes.fromhex(VECTORS["keys"][kind]["public"]) for kind in KINDS}
PRIVATE = {kind: bytes.fromhex(keys["private"]) for kind, keys in VECTORS["keys"].items() if "private" in keys}
DATA = b"noise-libp2p-static-key:" + bytes(range(32))
SPKI = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def marshalled(kind: crypto_pb2.KeyType.ValueType, data: bytes) -> bytes:
    return crypto_pb2.PublicKey(Type=kind, Data=data).SerializeToString()


def private_key_of(kind: str) -> ec.EllipticCurvePrivateKey:
    """The private key of a published vector; ECDSA is DER, Secp256k1 the number itself."""
    data = crypto_pb2.PrivateKey.FromString(PRIVATE[kind]).Data
    if kind == "secp256k1":
        return ec.derive_private_key(int.from_bytes(data, "big"), ec.SECP256K1())
    key = load_der_private_key(data, None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    return key


def rsa_key(bits: int, exponent: int = 65537) -> bytes:
    """A marshalled RSA public key of this size; nobody knows its factors, and nobody needs to."""
    modulus = (1 << (bits - 1)) | (0x5A5A << 64) | 1
    return marshalled(crypto_pb2.RSA, rsa.RSAPublicNumbers(exponent, modulus).public_key().public_bytes(*SPKI))


# Published vectors


@pytest.mark.parametrize("kind", KINDS)
def test_published_keys_decode_to_the_peer_id_that_py_libp2p_gives_them(kind: str) -> None:
    peer = decode_public_key(PUBLIC[kind]).peer_id
    if kind == "ecdsa":  # py-libp2p has no ECDSA keys, but its ID is made of any bytes
        assert peer == ID.from_pubkey(_Serialized(PUBLIC[kind])).to_bytes()
    else:
        assert peer == ID.from_pubkey(deserialize_public_key(PUBLIC[kind])).to_bytes()


class _Serialized:
    def __init__(self, raw: bytes) -> None:
        self._raw = raw

    def serialize(self) -> bytes:
        return self._raw


@pytest.mark.parametrize("kind", ["ecdsa", "secp256k1"])
def test_signatures_of_published_private_keys_verify_and_altered_ones_do_not(kind: str) -> None:
    key = decode_public_key(PUBLIC[kind])
    signature = private_key_of(kind).sign(DATA, ec.ECDSA(SHA256()))
    key.verify(signature, DATA)
    for wrong_signature, wrong_data in (
        (signature, DATA + b"."),
        (signature[:-1], DATA),
        (b"", DATA),
        (bytes(72), DATA),
    ):
        with pytest.raises(PeerKeyError):
            key.verify(wrong_signature, wrong_data)


def test_the_published_ed25519_private_key_makes_the_published_public_key() -> None:
    host = HostKey.from_seed(crypto_pb2.PrivateKey.FromString(PRIVATE["ed25519"]).Data[:32])
    assert host.public_protobuf == PUBLIC["ed25519"]
    assert host.private_protobuf() == PRIVATE["ed25519"]
    assert host.peer_id == decode_public_key(PUBLIC["ed25519"]).peer_id


@pytest.mark.parametrize("kind", KINDS)
def test_both_text_forms_of_one_peer_are_equal_and_are_those_of_py_libp2p(kind: str) -> None:
    peer = peer_id_of(PUBLIC[kind])
    theirs = ID(peer)
    assert peer_id_text(peer) == theirs.to_base58()
    assert parse_peer_id(theirs.to_base58()) == peer
    in_base32 = "b" + base64.b32encode(b"\x01\x72" + peer).decode().lower().rstrip("=")  # CIDv1, libp2p-key
    assert parse_peer_id(in_base32) == peer


# Signatures


def test_an_ed25519_signature_verifies_for_its_key_its_data_and_its_length_only() -> None:
    host = HostKey.generate()
    signature = host.sign(DATA)
    assert len(signature) == 64
    key = decode_public_key(host.public_protobuf)
    key.verify(signature, DATA)
    flipped = bytes((signature[0] ^ 1,)) + signature[1:]
    for wrong_signature, wrong_data in (
        (flipped, DATA),
        (signature, DATA + b"."),
        (signature, b""),
        (signature[:63], DATA),
        (signature + b"\0", DATA),
        (signature + DATA[:1], DATA[1:]),  # the same bytes, cut elsewhere
        (b"", DATA),
    ):
        with pytest.raises(PeerKeyError):
            key.verify(wrong_signature, wrong_data)
    with pytest.raises(PeerKeyError):
        decode_public_key(HostKey.generate().public_protobuf).verify(signature, DATA)


def test_our_signatures_verify_in_py_libp2p_and_its_signatures_verify_here() -> None:
    host = HostKey.generate()
    theirs = Ed25519PrivateKey.new(host.seed)
    assert theirs.get_public_key().serialize() == host.public_protobuf
    assert ID.from_pubkey(theirs.get_public_key()).to_bytes() == host.peer_id
    assert theirs.get_public_key().verify(DATA, host.sign(DATA))
    decode_public_key(host.public_protobuf).verify(theirs.sign(DATA), DATA)


@pytest.mark.parametrize("create_pair", [create_rsa_pair, create_secp256k1_pair])
def test_rsa_and_secp256k1_peers_of_py_libp2p_are_recognised(create_pair: Any) -> None:
    pair = create_pair()
    key = decode_public_key(pair.public_key.serialize())
    assert key.peer_id == ID.from_pubkey(pair.public_key).to_bytes()
    key.verify(pair.private_key.sign(DATA), DATA)
    with pytest.raises(PeerKeyError):
        key.verify(pair.private_key.sign(DATA), DATA + b".")


def test_rsa_signatures_are_pkcs1_v15_over_sha256() -> None:
    private = rsa.generate_private_key(65537, 2048)
    key = decode_public_key(marshalled(crypto_pb2.RSA, private.public_key().public_bytes(*SPKI)))
    key.verify(private.sign(DATA, padding.PKCS1v15(), SHA256()), DATA)
    with pytest.raises(PeerKeyError):
        key.verify(private.sign(DATA, padding.PSS(padding.MGF1(SHA256()), 32), SHA256()), DATA)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "ed25519"])
def test_a_signature_over_the_bound_never_reaches_the_library(kind: str) -> None:
    key = decode_public_key(PUBLIC[kind])
    with pytest.raises(PeerKeyError, match="over 1024"):
        key.verify(bytes(1025), DATA)
    with pytest.raises(PeerKeyError, match="does not verify"):
        key.verify(bytes(1024), DATA)


# Bounds of keys


@pytest.mark.parametrize("bits", [2048, 8192])
def test_rsa_keys_at_both_ends_of_the_range_are_accepted(bits: int) -> None:
    assert is_peer_id(decode_public_key(rsa_key(bits)).peer_id)


@pytest.mark.parametrize("bits", [2047, 8193])
def test_rsa_keys_one_bit_outside_the_range_are_refused(bits: int) -> None:
    with pytest.raises(PeerKeyError, match=f"{bits} bits"):
        decode_public_key(rsa_key(bits))


def test_an_rsa_exponent_of_more_than_31_bits_is_refused() -> None:
    decode_public_key(rsa_key(2048, 2**31 - 1))
    with pytest.raises(PeerKeyError, match="exponent"):
        decode_public_key(rsa_key(2048, 2**31 + 1))


def test_a_key_over_1200_bytes_is_refused_before_it_is_parsed() -> None:
    def padded(length: int) -> bytes:  # an unknown field 15 around a good key
        good = marshalled(crypto_pb2.Ed25519, PUBLIC["ed25519"][4:])
        filler = length - len(good) - 3
        return good + b"\x7a" + bytes((filler & 0x7F | 0x80, filler >> 7)) + bytes(filler)

    assert len(padded(1200)) == 1200
    assert decode_public_key(padded(1200)).peer_id == decode_public_key(PUBLIC["ed25519"]).peer_id
    with pytest.raises(PeerKeyError, match="over 1200"):
        decode_public_key(padded(1201))


def test_a_peer_has_one_id_however_it_writes_its_key() -> None:
    data = PUBLIC["ed25519"][4:]
    reordered = b"\x12\x20" + data + b"\x08\x01"
    long_varint = b"\x08\x81\x00\x12\x20" + data
    uncompressed = marshalled(
        crypto_pb2.Secp256k1,
        private_key_of("secp256k1").public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint),
    )
    assert decode_public_key(reordered).peer_id == decode_public_key(PUBLIC["ed25519"]).peer_id
    assert decode_public_key(long_varint).peer_id == decode_public_key(PUBLIC["ed25519"]).peer_id
    assert decode_public_key(uncompressed).peer_id == decode_public_key(PUBLIC["secp256k1"]).peer_id


@pytest.mark.parametrize("curve", [ec.SECP256R1(), ec.SECP384R1(), ec.SECP521R1()])
def test_ecdsa_over_each_nist_curve_is_accepted(curve: ec.EllipticCurve) -> None:
    private = ec.generate_private_key(curve)
    key = decode_public_key(marshalled(crypto_pb2.ECDSA, private.public_key().public_bytes(*SPKI)))
    key.verify(private.sign(DATA, ec.ECDSA(SHA256())), DATA)


@pytest.mark.parametrize(
    "protobuf",
    [
        b"",
        b"\x08\x01",
        b"\x12\x20" + bytes(32),
        b"\xff\xff\xff",
        marshalled(crypto_pb2.Ed25519, bytes(31)),
        marshalled(crypto_pb2.Ed25519, bytes(33)),
        marshalled(crypto_pb2.Ed25519, b""),
        b"\x08\x04\x12\x20" + bytes(32),
        marshalled(crypto_pb2.Secp256k1, b""),
        marshalled(crypto_pb2.Secp256k1, b"\x02" + b"\xff" * 32),
        marshalled(crypto_pb2.RSA, b""),
        marshalled(crypto_pb2.RSA, PUBLIC["ecdsa"][4:]),
        marshalled(crypto_pb2.ECDSA, crypto_pb2.PublicKey.FromString(PUBLIC["rsa"]).Data),
        marshalled(crypto_pb2.ECDSA, ec.generate_private_key(ec.SECP256K1()).public_key().public_bytes(*SPKI)),
        marshalled(crypto_pb2.ECDSA, ec.generate_private_key(ec.BrainpoolP256R1()).public_key().public_bytes(*SPKI)),
        marshalled(crypto_pb2.RSA, dsa.generate_private_key(1024).public_key().public_bytes(*SPKI)),
    ],
    ids=lambda _: "key",  # some are random, and a test has to have one name in all processes
)
def test_what_is_no_usable_key_is_the_peers_fault(protobuf: bytes) -> None:
    with pytest.raises(PeerKeyError) as caught:
        decode_public_key(protobuf)
    assert isinstance(caught.value, PeerError)
    assert caught.value.reason == "peer_key"


@given(st.binary(max_size=1300))
def test_random_bytes_decode_to_a_key_or_raise_peer_key_error(protobuf: bytes) -> None:
    _decode_and_verify(protobuf)


@given(st.sampled_from(KINDS), st.integers(0, 700), st.integers(1, 255), st.sampled_from(crypto_pb2.KeyType.values()))
def test_damaged_keys_decode_to_a_key_or_raise_peer_key_error(kind: str, at: int, flip: int, claimed: Any) -> None:
    protobuf = bytearray(PUBLIC[kind])
    protobuf[at % len(protobuf)] ^= flip
    _decode_and_verify(bytes(protobuf))
    data = crypto_pb2.PublicKey.FromString(PUBLIC[kind]).Data
    _decode_and_verify(marshalled(claimed, data[:at]))


@given(st.sampled_from(KINDS), st.binary(max_size=1100), st.binary(max_size=64))
def test_random_signatures_are_refused_by_every_kind_of_key(kind: str, signature: bytes, data: bytes) -> None:
    with pytest.raises(PeerKeyError):
        decode_public_key(PUBLIC[kind]).verify(signature, data)


def _decode_and_verify(protobuf: bytes) -> None:
    try:
        key = decode_public_key(protobuf)
    except PeerKeyError:
        return
    assert is_peer_id(key.peer_id)
    with pytest.raises(PeerKeyError):
        key.verify(bytes(64), DATA)


# Peer IDs


def test_keys_of_42_bytes_are_inlined_and_longer_ones_hashed() -> None:
    assert peer_id_of(bytes(42)) == b"\x00\x2a" + bytes(42)
    assert peer_id_of(bytes(43))[:2] == b"\x12\x20"
    assert len(peer_id_of(bytes(43))) == 34


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (b"\x00\x01a", True),
        (b"\x00\x2a" + bytes(42), True),
        (b"\x00\x2b" + bytes(43), False),
        (b"\x00\x00", False),
        (b"\x00\x02a", False),
        (b"\x12\x20" + bytes(32), True),
        (b"\x12\x20" + bytes(31), False),
        (b"\x12\x20" + bytes(33), False),
        (b"\x12\x1f" + bytes(31), False),
        (b"\x13\x20" + bytes(32), False),
        (b"", False),
    ],
)
def test_the_form_of_a_peer_id(raw: bytes, expected: bool) -> None:
    assert is_peer_id(raw) is expected


@given(
    st.one_of(
        st.binary(min_size=1, max_size=200).map(peer_id_of),
        st.binary(min_size=32, max_size=32).map(b"\x12\x20".__add__),
    )
)
def test_every_peer_id_survives_its_text_forms(peer: bytes) -> None:
    assert parse_peer_id(peer_id_text(peer)) == peer
    cid = b"\x01\x72" + peer
    base32 = base64.b32encode(cid).decode().rstrip("=").lower()
    assert parse_peer_id("b" + base32) == peer
    assert parse_peer_id("k" + _base36(cid)) == peer
    assert parse_peer_id("z" + peer_id_text(cid)) == peer


def _base36(raw: bytes) -> str:
    number, text = int.from_bytes(raw, "big"), ""
    while number:
        number, digit = divmod(number, 36)
        text = "0123456789abcdefghijklmnopqrstuvwxyz"[digit] + text
    return text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "1",
        "b",
        "k",
        "z",
        "Qm",
        "x",
        "relay",
        "0OIl",
        " 12D3KooWD3eckifWpRn9wQpMG9R9hX3sD158z7EqHWmweQAJU5SA",
        "12D3KooWD3eckifWpRn9wQpMG9R9hX3sD158z7EqHWmweQAJU5SA\n",
        "12D3KooWD3eckifWpRn9wQpMG9R9hX3sD158z7EqHWmweQAJU5S",
        "12D3KooWD3eckifWpRn9wQpMG9R9hX3sD158z7EqHWmweQAJU5S0",
        "QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5NN",
        "bAFZBEIE5745RPV2M6TJYUUGYWY4D5EWRQGQQHFNF445HE3OMZPJBX5XQXE",
        "bafybeigdyrzt5sfp7udm7hu76uh7y26nf3efuylqabf3oclgtqy55fbzdi",  # a CID, but of a file
        "1" * 97,
        "z" * 100_000,
        "١٢",
    ],
)
def test_what_names_no_peer_is_refused(text: str) -> None:
    with pytest.raises(IdentityError):
        parse_peer_id(text)


@given(st.one_of(st.text(max_size=100), st.from_regex(r"[bkz1][0-9A-Za-z]{0,95}", fullmatch=True)))
def test_random_text_is_a_peer_id_or_raises_identity_error(text: str) -> None:
    with contextlib.suppress(IdentityError):
        assert is_peer_id(parse_peer_id(text))


# Our key


@pytest.mark.parametrize("length", [0, 31, 33, 64])
def test_a_seed_of_another_length_is_refused(length: int) -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        HostKey.from_seed(bytes(length))


def test_the_seed_makes_the_key_and_is_not_shown() -> None:
    host = HostKey.generate()
    assert HostKey.from_seed(host.seed).sign(DATA) == host.sign(DATA)
    assert HostKey.generate().peer_id != host.peer_id
    assert repr(host) == f"HostKey({peer_id_text(host.peer_id)})"
