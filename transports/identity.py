"""Who somebody is: peer IDs, the public keys of peers, and our own key. Its file is in key_file.py.

A peer ID is its raw multihash as `bytes` everywhere inside; text is for people and configuration. Everything a peer
made is bounded before it is used, and whatever is wrong with it is a PeerKeyError. Must never show a secret, or hand
libsodium a key or a signature of another length than it reads.

Spec: libp2p/specs peer-ids/peer-ids.md ("the specification" below). libsodium verifies an Ed25519 signature in half
the time that OpenSSL takes, and signs in half the time; the other kinds exist in OpenSSL only.
"""

from __future__ import annotations

import base64
import binascii
import os
from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import lru_cache
from hashlib import sha256
from typing import Final

import base58
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_der_public_key
from google.protobuf.message import DecodeError
from nacl.bindings import crypto_sign, crypto_sign_open, crypto_sign_seed_keypair
from nacl.exceptions import BadSignatureError

from transports.errors import PeerError
from transports.proto import crypto_pb2

SEED_BYTES: Final = 32
MAX_PUBLIC_KEY_BYTES: Final = 1200  # an RSA key of 8192 bits takes 1,066
MAX_SIGNATURE_BYTES: Final = 1024  # RSA of 8192 bits
MIN_RSA_BITS: Final = 2048
MAX_RSA_BITS: Final = 8192
MAX_RSA_EXPONENT: Final = 2**31 - 1  # go's bound; an exponent as long as the modulus makes verifying as dear as signing
MAX_INLINE_KEY_BYTES: Final = 42
MAX_PEER_ID_BYTES: Final = 2 + MAX_INLINE_KEY_BYTES

_ED25519_KEY_BYTES = 32
_ED25519_SIGNATURE_BYTES = 64
_ED25519_PUBLIC_PREFIX = b"\x08\x01\x12\x20"  # Type = Ed25519, Data of 32 bytes
_ED25519_PRIVATE_PREFIX = b"\x08\x01\x12\x40"  # Type = Ed25519, Data of 64 bytes
_IDENTITY_MULTIHASH = 0x00
_SHA256_MULTIHASH = b"\x12\x20"
_CID_PREFIX = b"\x01\x72"  # CIDv1, multicodec libp2p-key
_MAX_PEER_ID_CHARS = 96  # base32 of the longest peer ID takes 75
_BASE36_DIGITS = frozenset("0123456789abcdefghijklmnopqrstuvwxyz")
_DIGITS: Final = base58.BITCOIN_ALPHABET.decode()
_PAIRS: Final = tuple(low + high for high in _DIGITS for low in _DIGITS)  # the number's digits, the lower one first


class IdentityError(ValueError):
    """A text that is no peer ID."""


class PeerKeyError(PeerError):
    """A public key that cannot be used, or a signature that is not its key's."""

    reason = "peer_key"


# Peer IDs


def peer_id_of(public_protobuf: bytes) -> bytes:
    """The peer ID of a serialized PublicKey: the key itself up to 42 bytes, else its SHA-256 (section "Peer Ids")."""
    length = len(public_protobuf)
    if length <= MAX_INLINE_KEY_BYTES:
        return bytes((_IDENTITY_MULTIHASH, length)) + public_protobuf
    return _SHA256_MULTIHASH + sha256(public_protobuf).digest()


def is_peer_id(raw: bytes) -> bool:
    """Whether raw bytes have the form of a peer ID: an identity multihash of 1 to 42 bytes or a SHA-256 one."""
    length = len(raw)
    if length == 34 and raw.startswith(_SHA256_MULTIHASH):
        return True
    return 2 < length <= MAX_PEER_ID_BYTES and raw[0] == _IDENTITY_MULTIHASH and raw[1] == length - 2


@lru_cache(maxsize=512)  # 4 µs without it, and a peer is named in several places while it is here
def peer_id_text(peer: bytes) -> str:
    """The text that people know: base58btc, `12D3Koo…` for Ed25519 keys, `Qm…` for long ones.

    Five pairs of digits at a time: the library divides once a digit, and takes three times as long.
    """
    number, backwards = int.from_bytes(peer), ""
    while number:
        number, ten_digits = divmod(number, 58**10)
        for _ in range(5):
            ten_digits, pair = divmod(ten_digits, 58**2)
            backwards += _PAIRS[pair]
    zeros = len(peer) - len(peer.lstrip(b"\0"))
    return _DIGITS[0] * zeros + backwards[::-1].lstrip(_DIGITS[0])


def parse_peer_id(text: str) -> bytes:
    """The peer ID that a text names: base58btc (`12D3…`, `Qm…`) or a CIDv1 (base32 `b…`, base36 `k…`, base58 `z…`).

    Raises IdentityError (section "String representation").
    """
    if not (text.isascii() and text.isalnum() and len(text) <= _MAX_PEER_ID_CHARS):
        raise IdentityError("not a peer ID: letters and digits only, at most 96")
    try:
        peer = _decode_base58(text) if text.startswith(("1", "Qm")) else _decode_cid(text)
    except (ValueError, binascii.Error) as error:
        raise IdentityError(f"not a peer ID: {error}") from error
    if not is_peer_id(peer):
        raise IdentityError("not a peer ID: neither an inlined key nor a SHA-256")
    return peer


def _decode_base58(text: str) -> bytes:
    return base58.b58decode(text)


def _decode_base36(text: str) -> bytes:
    if not _BASE36_DIGITS.issuperset(text):
        raise ValueError("not base36")
    number = int(text, 36)
    return number.to_bytes((number.bit_length() + 7) // 8, "big")


def _decode_base32(text: str) -> bytes:
    if not text.islower():
        raise ValueError("not lower-case base32")
    return base64.b32decode(text.upper() + "=" * (-len(text) % 8))


_MULTIBASES: dict[str, Callable[[str], bytes]] = {"b": _decode_base32, "k": _decode_base36, "z": _decode_base58}


def _decode_cid(text: str) -> bytes:
    decode = _MULTIBASES.get(text[:1])
    if decode is None or len(text) == 1:
        raise ValueError("it starts like neither base58 nor a CID")
    cid = decode(text[1:])
    if not cid.startswith(_CID_PREFIX):
        raise ValueError("the CID does not name a libp2p key")
    return cid[len(_CID_PREFIX) :]


# Keys of peers


class PublicKey(ABC):
    """The key of a peer: its peer ID, and what it signed."""

    __slots__ = ("peer_id",)

    peer_id: bytes

    @abstractmethod
    def verify(self, signature: bytes, data: bytes) -> None:
        """Return if the signature over `data` is this key's; raises PeerKeyError."""


class Ed25519PublicKey(PublicKey):
    """Nearly every peer has one."""

    __slots__ = ("_point",)

    def __init__(self, public_protobuf: bytes) -> None:
        """`public_protobuf` is canonical: 4 known bytes and the key's 32."""
        self._point = public_protobuf[-_ED25519_KEY_BYTES:]
        self.peer_id = peer_id_of(public_protobuf)

    def verify(self, signature: bytes, data: bytes) -> None:
        """As PublicKey.verify. libsodium also refuses points of small order and keys that are no point at all."""
        if len(signature) != _ED25519_SIGNATURE_BYTES:
            raise PeerKeyError("an Ed25519 signature has 64 bytes")
        try:
            crypto_sign_open(signature + data, self._point)
        except BadSignatureError as error:
            raise PeerKeyError("the Ed25519 signature does not verify") from error


_OpensslKey = rsa.RSAPublicKey | ec.EllipticCurvePublicKey


class OpensslPublicKey(PublicKey):
    """An RSA, Secp256k1 or ECDSA key; all of them sign the SHA-256 of the data."""

    __slots__ = ("_key",)

    def __init__(self, kind: crypto_pb2.KeyType.ValueType, encoded: bytes, key: _OpensslKey) -> None:
        """`encoded` is the canonical form of the key: a peer has one ID, however it wrote its key."""
        self._key = key
        self.peer_id = peer_id_of(crypto_pb2.PublicKey(Type=kind, Data=encoded).SerializeToString())

    def verify(self, signature: bytes, data: bytes) -> None:
        """As PublicKey.verify: RSASSA-PKCS1-v1.5, or ECDSA with a DER signature."""
        if len(signature) > MAX_SIGNATURE_BYTES:
            raise PeerKeyError("signature over 1024 bytes")
        try:
            if isinstance(self._key, rsa.RSAPublicKey):
                self._key.verify(signature, data, padding.PKCS1v15(), SHA256())
            else:
                self._key.verify(signature, data, ec.ECDSA(SHA256()))
        except InvalidSignature as error:
            raise PeerKeyError("the signature does not verify") from error


def decode_public_key(protobuf: bytes) -> PublicKey:
    """The key in a serialized PublicKey, of at most 1200 bytes and of any of the four kinds; raises PeerKeyError."""
    if len(protobuf) == 36 and protobuf.startswith(_ED25519_PUBLIC_PREFIX):
        return Ed25519PublicKey(protobuf)
    if len(protobuf) > MAX_PUBLIC_KEY_BYTES:
        raise PeerKeyError("public key over 1200 bytes")
    try:
        parsed = crypto_pb2.PublicKey.FromString(protobuf)
    except DecodeError as error:
        raise PeerKeyError("the public key is no protobuf message") from error
    if not (parsed.HasField("Type") and parsed.HasField("Data")):
        raise PeerKeyError("public key without type or data")
    decode = _DECODERS.get(parsed.Type)
    if decode is None:
        raise PeerKeyError(f"public key of unknown type {parsed.Type}")
    try:
        return decode(parsed.Data)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise PeerKeyError(f"the public key cannot be read: {error}") from error


def _decode_ed25519(data: bytes) -> PublicKey:
    if len(data) != _ED25519_KEY_BYTES:
        raise PeerKeyError("an Ed25519 key has 32 bytes")
    return Ed25519PublicKey(_ED25519_PUBLIC_PREFIX + data)


def _decode_rsa(data: bytes) -> PublicKey:
    key = load_der_public_key(data)
    if not isinstance(key, rsa.RSAPublicKey):
        raise PeerKeyError("not an RSA key")
    if not MIN_RSA_BITS <= key.key_size <= MAX_RSA_BITS:
        raise PeerKeyError(f"RSA key of {key.key_size} bits, 2048 to 8192 are accepted")
    if key.public_numbers().e > MAX_RSA_EXPONENT:
        raise PeerKeyError("RSA exponent over 31 bits")
    canonical = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return OpensslPublicKey(crypto_pb2.RSA, canonical, key)


def _decode_secp256k1(data: bytes) -> PublicKey:
    key = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256K1(), data)
    canonical = key.public_bytes(Encoding.X962, PublicFormat.CompressedPoint)
    return OpensslPublicKey(crypto_pb2.Secp256k1, canonical, key)


def _decode_ecdsa(data: bytes) -> PublicKey:
    key = load_der_public_key(data)
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise PeerKeyError("not an ECDSA key")
    if not isinstance(key.curve, ec.SECP256R1 | ec.SECP384R1 | ec.SECP521R1):
        raise PeerKeyError(f"ECDSA over {key.curve.name}, only the NIST curves P-256, P-384 and P-521 are accepted")
    canonical = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return OpensslPublicKey(crypto_pb2.ECDSA, canonical, key)


_DECODERS: dict[int, Callable[[bytes], PublicKey]] = {
    crypto_pb2.RSA: _decode_rsa,
    crypto_pb2.Ed25519: _decode_ed25519,
    crypto_pb2.Secp256k1: _decode_secp256k1,
    crypto_pb2.ECDSA: _decode_ecdsa,
}


# Our own key


class HostKey:
    """The relay's Ed25519 key. `public_protobuf` is its serialized PublicKey, 36 bytes."""

    __slots__ = ("_secret", "peer_id", "public_protobuf", "seed")

    def __init__(self, seed: bytes) -> None:
        if len(seed) != SEED_BYTES:
            raise ValueError("an Ed25519 seed has 32 bytes")
        public, self._secret = crypto_sign_seed_keypair(seed)
        self.seed = seed
        self.public_protobuf = _ED25519_PUBLIC_PREFIX + public
        self.peer_id = peer_id_of(self.public_protobuf)

    @classmethod
    def from_seed(cls, seed: bytes) -> HostKey:
        """The key that these 32 bytes make, always the same. Raises ValueError for another length."""
        return cls(seed)

    @classmethod
    def generate(cls) -> HostKey:
        """A new key."""
        return cls(os.urandom(SEED_BYTES))

    def sign(self, data: bytes) -> bytes:
        """The signature over `data`, 64 bytes."""
        return crypto_sign(data, self._secret)[:_ED25519_SIGNATURE_BYTES]

    def private_protobuf(self) -> bytes:
        """The serialized PrivateKey, 68 bytes: type, then private and public key (section "Ed25519")."""
        return _ED25519_PRIVATE_PREFIX + self._secret

    def __repr__(self) -> str:
        return f"HostKey({peer_id_text(self.peer_id)})"
