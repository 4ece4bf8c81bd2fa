"""The secure channel: Noise_XX_25519_ChaChaPoly_SHA256 with libp2p's payloads.

Sans-IO: bytes in, bytes out. Must never release plaintext that did not authenticate, and never hold more than one
unfinished Noise message (65,535 bytes and its length prefix).

Specs: noiseprotocol.org/noise.html (section numbers below are its), libp2p/specs noise/README.md.

libsodium makes the ephemeral key and its exchanges, OpenSSL the exchanges of the static key and all
ChaCha20-Poly1305: one key 18 against 32 us, one exchange with a ready key 31 against 30 us, 600 bytes sealed 3.2
against 1.1 us. A key that libsodium made would have to be imported into OpenSSL for another 31 us, so each key
stays with the library that made it.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from hashlib import sha256
from struct import Struct
from typing import TYPE_CHECKING, Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from google.protobuf.message import DecodeError
from nacl.bindings import crypto_box_keypair, crypto_scalarmult
from nacl.exceptions import CryptoError

from transports.errors import PeerError
from transports.identity import HostKey, PeerKeyError, decode_public_key
from transports.proto.noise_pb2 import NoiseExtensions, NoiseHandshakePayload

if TYPE_CHECKING:
    from _hashlib import HASH

PROTOCOL = b"/noise"
MAX_MESSAGE_BYTES: Final = 65535
TAG_BYTES: Final = 16
MAX_PLAINTEXT_BYTES: Final = MAX_MESSAGE_BYTES - TAG_BYTES
MAX_HANDSHAKE_BYTES: Final = 4096
KEY_BYTES: Final = 32
_LENGTH_BYTES: Final = 2

_PROTOCOL_NAME = b"Noise_XX_25519_ChaChaPoly_SHA256"
_SIGNATURE_PREFIX = b"noise-libp2p-static-key:"
# Section 12 (ChaChaPoly): 32 zero bits, then the counter as 64 bits little-endian.
_NONCE = Struct("<4xQ")
# RFC 2104: a key is filled up to the block size of the hash, then every byte of it is XORed with ipad or opad.
_KEY_FILL: Final = bytes(64 - KEY_BYTES)
_INNER: Final = bytes(byte ^ 0x36 for byte in range(256))
_OUTER: Final = bytes(byte ^ 0x5C for byte in range(256))


class NoiseError(PeerError):
    """A handshake that fails or a message that does not authenticate. The connection ends."""

    reason = "noise"


class Role(Enum):
    """Who dialed. The initiator of the transport connection is Noise's initiator too."""

    INITIATOR = "initiator"
    RESPONDER = "responder"


Buffer = bytes | bytearray | memoryview


class StaticKey:
    """The relay's static Noise key, made once a process, with the signed payload that every handshake sends.

    The payload carries the identity key, its signature over the static key and the muxers of early negotiation; none of
    it depends on the peer, so it is signed once and not once a connection (14 us saved).
    """

    __slots__ = ("_private", "muxers", "payload", "public")

    def __init__(self, host: HostKey, muxers: Sequence[bytes]) -> None:
        self.muxers = muxers
        self._private = X25519PrivateKey.generate()
        self.public: bytes = self._private.public_key().public_bytes_raw()
        self.payload: bytes = NoiseHandshakePayload(
            identity_key=host.public_protobuf,
            identity_sig=host.sign(_SIGNATURE_PREFIX + self.public),
            extensions=NoiseExtensions(stream_muxers=[name.decode() for name in muxers]),
        ).SerializeToString()

    def exchange(self, public: bytes) -> bytes:
        """X25519 with a peer's 32-byte public key. Raises NoiseError for a point of small order."""
        try:
            return self._private.exchange(X25519PublicKey.from_public_bytes(public))
        except ValueError as error:
            raise NoiseError("the peer's key is of small order") from error


class EphemeralKey:
    """A key for one handshake. `private` is 32 bytes and given only by tests with published vectors."""

    __slots__ = ("_private", "public")

    def __init__(self, public: bytes, private: bytes) -> None:
        self.public = public
        self._private = private

    @classmethod
    def generate(cls) -> EphemeralKey:
        """A fresh random key."""
        return cls(*crypto_box_keypair())

    def exchange(self, public: bytes) -> bytes:
        """X25519 with a peer's 32-byte public key. Raises NoiseError for a point of small order."""
        try:
            return crypto_scalarmult(self._private, public)
        except (CryptoError, RuntimeError) as error:
            raise NoiseError("the peer's key is of small order") from error


class SymmetricState:
    """Section 5.2: chaining key, handshake hash and the cipher of the handshake."""

    __slots__ = ("_aead", "_chaining_key", "_counter", "hash")

    def __init__(self, prologue: bytes = b"") -> None:
        # The protocol name is exactly HASHLEN bytes long, so it is the first hash as it stands.
        self._chaining_key = _PROTOCOL_NAME
        self.hash = sha256(_PROTOCOL_NAME + prologue).digest()
        self._aead: ChaCha20Poly1305 | None = None
        self._counter = 0

    def mix_hash(self, data: bytes) -> None:
        """MixHash."""
        self.hash = sha256(self.hash + data).digest()

    def mix_key(self, secret: bytes) -> None:
        """MixKey, with a 32-byte result of an exchange."""
        self._chaining_key, key = _hkdf(self._chaining_key, secret)
        self._aead = ChaCha20Poly1305(key)
        self._counter = 0

    def encrypt_and_hash(self, plaintext: bytes) -> bytes:
        """EncryptAndHash: in the clear before the first MixKey."""
        if self._aead is None:
            ciphertext = plaintext
        else:
            ciphertext = self._aead.encrypt(_NONCE.pack(self._counter), plaintext, self.hash)
            self._counter += 1
        self.mix_hash(ciphertext)
        return ciphertext

    def decrypt_and_hash(self, ciphertext: bytes) -> bytes:
        """DecryptAndHash. Raises NoiseError."""
        plaintext = ciphertext
        if self._aead is not None:
            try:
                plaintext = self._aead.decrypt(_NONCE.pack(self._counter), ciphertext, self.hash)
            except InvalidTag as error:
                raise NoiseError("a handshake message does not authenticate") from error
            self._counter += 1
        self.mix_hash(ciphertext)
        return plaintext

    def split(self) -> tuple[bytes, bytes]:
        """The transport keys: (initiator to responder, responder to initiator)."""
        return _hkdf(self._chaining_key, b"")


def _hkdf(chaining_key: bytes, secret: bytes) -> tuple[bytes, bytes]:
    """Section 4.3, two outputs. HMAC by RFC 2104, which for keys of 32 bytes is four hashes written out.

    OpenSSL's own HMAC fetches its algorithm anew each time: 9 us for the three, against 5 here.
    """
    key = chaining_key + _KEY_FILL
    key = sha256(key.translate(_OUTER) + sha256(key.translate(_INNER) + secret).digest()).digest() + _KEY_FILL
    inner, outer = sha256(key.translate(_INNER)), sha256(key.translate(_OUTER))
    first = _digest(outer.copy(), inner.copy(), b"\x01")
    return first, _digest(outer, inner, first + b"\x02")


def _digest(outer: HASH, inner: HASH, message: bytes) -> bytes:
    inner.update(message)
    outer.update(inner.digest())
    return outer.digest()


class SecureChannel:
    """Transport messages of an established session: seals what goes out, opens what comes in.

    On the wire each message is `length(2 bytes, big-endian) ciphertext`, at most 65,535 bytes of ciphertext.
    """

    __slots__ = ("_open", "_open_counter", "_partial", "_seal", "_seal_counter")

    def __init__(self, seal_key: bytes, open_key: bytes) -> None:
        self._seal = ChaCha20Poly1305(seal_key)
        self._open = ChaCha20Poly1305(open_key)
        self._seal_counter = 0
        self._open_counter = 0
        self._partial: bytearray | None = None

    def seal(self, plaintext: Buffer) -> bytes | bytearray:
        """Everything in `plaintext` as framed messages, as few as fit, in one buffer."""
        size = len(plaintext)
        if size <= MAX_PLAINTEXT_BYTES:
            counter = self._seal_counter
            self._seal_counter = counter + 1
            return (size + TAG_BYTES).to_bytes(2, "big") + self._seal.encrypt(_NONCE.pack(counter), plaintext, None)
        out = bytearray()
        view = memoryview(plaintext)
        for start in range(0, size, MAX_PLAINTEXT_BYTES):
            out += self.seal(view[start : start + MAX_PLAINTEXT_BYTES])
        return out

    def open(self, data: Buffer) -> bytes:
        """The plaintext of all whole messages in `data`; an unfinished one is kept. Raises NoiseError."""
        position, size = 0, len(data)
        if self._partial is not None:
            self._partial += data
            data = self._partial
            size = len(data)
        elif size > TAG_BYTES and size - _LENGTH_BYTES == data[0] << 8 | data[1]:
            # One whole message, as nearly every frame that is relayed: half the price of the general way below.
            counter = self._open_counter
            self._open_counter = counter + 1
            try:
                return self._open.decrypt(_NONCE.pack(counter), data[_LENGTH_BYTES:], None)
            except InvalidTag as error:
                raise NoiseError("a message does not authenticate") from error
        plain: list[bytes] = []
        view = memoryview(data)
        while size - position >= _LENGTH_BYTES:
            end = position + _LENGTH_BYTES + (data[position] << 8 | data[position + 1])
            if end > size:
                break
            counter = self._open_counter
            try:
                plain.append(self._open.decrypt(_NONCE.pack(counter), view[position + _LENGTH_BYTES : end], None))
            except InvalidTag as error:
                raise NoiseError("a message does not authenticate") from error
            self._open_counter = counter + 1
            position = end
        if position or data is not self._partial:
            self._partial = bytearray(view[position:]) if position < size else None
        return plain[0] if len(plain) == 1 else b"".join(plain)


class XX:
    """The pattern alone (section 7.5): `-> e`, `<- e, ee, s, es`, `-> s, se`, with any payloads and prologue.

    Write and read the messages in the order of the pattern, each method once.
    """

    __slots__ = ("_ephemeral", "_peer_ephemeral", "_static", "peer_static", "state")

    def __init__(self, static: StaticKey, ephemeral: EphemeralKey, prologue: bytes = b"") -> None:
        self._static = static
        self._ephemeral = ephemeral
        self._peer_ephemeral = b""
        self.peer_static = b""
        self.state = SymmetricState(prologue)

    def write_first(self, payload: bytes = b"") -> bytes:
        """Send `e`."""
        self.state.mix_hash(self._ephemeral.public)
        return self._ephemeral.public + self.state.encrypt_and_hash(payload)

    def read_first(self, message: bytes) -> bytes:
        """Take `e`; returns the payload, which nobody authenticated."""
        if len(message) < KEY_BYTES:
            raise NoiseError("the first handshake message is too short")
        self._peer_ephemeral = message[:KEY_BYTES]
        self.state.mix_hash(self._peer_ephemeral)
        return self.state.decrypt_and_hash(message[KEY_BYTES:])

    def write_second(self, payload: bytes) -> bytes:
        """Send `e, ee, s, es`."""
        state = self.state
        state.mix_hash(self._ephemeral.public)
        state.mix_key(self._ephemeral.exchange(self._peer_ephemeral))
        static = state.encrypt_and_hash(self._static.public)
        state.mix_key(self._static.exchange(self._peer_ephemeral))
        return self._ephemeral.public + static + state.encrypt_and_hash(payload)

    def read_second(self, message: bytes) -> bytes:
        """Take `e, ee, s, es`; returns the payload. Raises NoiseError."""
        if len(message) < 2 * KEY_BYTES + 2 * TAG_BYTES:
            raise NoiseError("the second handshake message is too short")
        state = self.state
        self._peer_ephemeral = message[:KEY_BYTES]
        state.mix_hash(self._peer_ephemeral)
        state.mix_key(self._ephemeral.exchange(self._peer_ephemeral))
        self.peer_static = state.decrypt_and_hash(message[KEY_BYTES : 2 * KEY_BYTES + TAG_BYTES])
        state.mix_key(self._ephemeral.exchange(self.peer_static))
        return state.decrypt_and_hash(message[2 * KEY_BYTES + TAG_BYTES :])

    def write_third(self, payload: bytes) -> bytes:
        """Send `s, se`."""
        state = self.state
        static = state.encrypt_and_hash(self._static.public)
        state.mix_key(self._static.exchange(self._peer_ephemeral))
        return static + state.encrypt_and_hash(payload)

    def read_third(self, message: bytes) -> bytes:
        """Take `s, se`; returns the payload. Raises NoiseError."""
        if len(message) < KEY_BYTES + 2 * TAG_BYTES:
            raise NoiseError("the third handshake message is too short")
        state = self.state
        self.peer_static = state.decrypt_and_hash(message[: KEY_BYTES + TAG_BYTES])
        state.mix_key(self._ephemeral.exchange(self.peer_static))
        return state.decrypt_and_hash(message[KEY_BYTES + TAG_BYTES :])


class Handshake:
    """One libp2p handshake over XX.

    Feed what arrives to `receive`, send what it returns. When `channel` is set the handshake is over: `peer` is the
    authenticated peer ID, `muxer` the one both named (None: negotiate it), and `rest()` gives the bytes that came
    behind.
    """

    __slots__ = ("_buffer", "_muxers", "_payload", "_role", "_step", "_xx", "channel", "muxer", "peer")

    def __init__(self, role: Role, static: StaticKey) -> None:
        self._role = role
        self._payload = static.payload
        self._muxers = static.muxers
        self._xx = XX(static, EphemeralKey.generate())
        self._buffer = bytearray()
        self._step = 0
        self.channel: SecureChannel | None = None
        self.peer = b""
        self.muxer: bytes | None = None

    def start(self) -> bytes:
        """The initiator's first message; empty for the responder."""
        return _framed(self._xx.write_first()) if self._role is Role.INITIATOR else b""

    def receive(self, data: Buffer) -> bytes:
        """Feed bytes; returns bytes to send. Raises NoiseError."""
        self._buffer += data
        out = b""
        while self.channel is None and len(self._buffer) >= _LENGTH_BYTES:
            size = int.from_bytes(self._buffer[:_LENGTH_BYTES], "big")
            if size > MAX_HANDSHAKE_BYTES:
                raise NoiseError(f"a handshake message of {size} bytes, at most {MAX_HANDSHAKE_BYTES} are allowed")
            end = _LENGTH_BYTES + size
            if len(self._buffer) < end:
                break
            message = bytes(self._buffer[_LENGTH_BYTES:end])
            del self._buffer[:end]
            out += self._read(message)
        return out

    def rest(self) -> bytes:
        """Bytes behind the last handshake message: the first transport messages."""
        rest = bytes(self._buffer)
        self._buffer.clear()
        return rest

    def _read(self, message: bytes) -> bytes:
        if self._role is Role.INITIATOR:
            self._accept(self._xx.read_second(message))
            out = _framed(self._xx.write_third(self._payload))
            self._finish()
            return out
        self._step += 1
        if self._step == 1:
            self._xx.read_first(message)
            return _framed(self._xx.write_second(self._payload))
        self._accept(self._xx.read_third(message))
        self._finish()
        return b""

    def _accept(self, payload: bytes) -> None:
        """libp2p: the identity key must have signed the static key that this handshake authenticated."""
        try:
            parsed = NoiseHandshakePayload.FromString(payload)
            key = decode_public_key(parsed.identity_key)
            key.verify(parsed.identity_sig, _SIGNATURE_PREFIX + self._xx.peer_static)
        except (DecodeError, PeerKeyError) as error:
            raise NoiseError(f"the identity in the handshake is not valid: {error}") from error
        self.peer = key.peer_id
        theirs = [name.encode() for name in parsed.extensions.stream_muxers]
        first, second = (self._muxers, theirs) if self._role is Role.INITIATOR else (theirs, self._muxers)
        # connections/inlined-muxer-negotiation.md: the first of the initiator's that the responder supports too.
        self.muxer = next((name for name in first if name in second), None)

    def _finish(self) -> None:
        to_responder, to_initiator = self._xx.state.split()
        if self._role is Role.INITIATOR:
            self.channel = SecureChannel(to_responder, to_initiator)
        else:
            self.channel = SecureChannel(to_initiator, to_responder)


def _framed(message: bytes) -> bytes:
    return len(message).to_bytes(2, "big") + message
