"""Signed envelopes: reservation vouchers and peer records."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from libp2p.crypto.ed25519 import Ed25519PrivateKey
from libp2p.peer.envelope import Envelope as TheirEnvelope
from libp2p.peer.envelope import consume_envelope, make_unsigned, seal_record, unmarshal_envelope
from libp2p.peer.id import ID
from libp2p.peer.peer_record import PeerRecord as TheirPeerRecord
from libp2p.relay.circuit_v2.pb.circuit_pb2 import Voucher as TheirVoucher
from libp2p.relay.circuit_v2.resources import RELAY_RSVP_DOMAIN, VOUCHER_PAYLOAD_TYPE
from multiaddr import Multiaddr

from actors.proto.envelope_pb2 import Envelope
from actors.proto.peer_record_pb2 import PeerRecord
from actors.proto.voucher_pb2 import Voucher
from actors.voucher import (
    MAX_ENVELOPE_BYTES,
    PEER_RECORD_DOMAIN,
    PEER_RECORD_TYPE,
    VOUCHER_DOMAIN,
    VOUCHER_TYPE,
    EnvelopeError,
    reservation_voucher,
    signed_peer_record,
    verify_envelope,
)
from transports.address import multiaddr_bytes
from transports.errors import PeerError
from transports.identity import HostKey, PeerKeyError

RELAY = HostKey.from_seed(bytes(range(32)))
PEER = HostKey.from_seed(bytes(range(1, 33))).peer_id
RSA_PEER = b"\x12\x20" + bytes(range(32))
EXPIRE_UNIX_S = 1_800_000_000
ADDRESSES = ["/ip4/203.0.113.7/tcp/9090", "/dns4/relay.example.org/tcp/443/tls/ws"]

THEIR_RELAY = Ed25519PrivateKey.new(RELAY.seed)


# Vouchers


def test_a_voucher_is_made_of_the_bytes_that_the_specifications_describe() -> None:
    payload = b"\x0a\x26" + RELAY.peer_id + b"\x12\x26" + PEER + b"\x18\x80\xa4\xa7\xda\x06"
    signed = b"\x11libp2p-relay-rsvp" + b"\x02\x03\x02" + bytes((len(payload),)) + payload
    expected = (
        b"\x0a\x24"
        + RELAY.public_protobuf
        + b"\x12\x02\x03\x02"
        + b"\x1a"
        + bytes((len(payload),))
        + payload
        + b"\x2a\x40"
        + RELAY.sign(signed)
    )
    assert reservation_voucher(RELAY, PEER, EXPIRE_UNIX_S) == expected


@pytest.mark.parametrize("peer", [PEER, RSA_PEER])
def test_a_voucher_verifies_in_py_libp2p(peer: bytes) -> None:
    envelope = unmarshal_envelope(reservation_voucher(RELAY, peer, EXPIRE_UNIX_S))
    envelope.validate(RELAY_RSVP_DOMAIN)
    assert envelope.payload_type == VOUCHER_PAYLOAD_TYPE == VOUCHER_TYPE
    assert ID.from_pubkey(envelope.public_key).to_bytes() == RELAY.peer_id
    voucher = TheirVoucher.FromString(envelope.raw_payload)
    assert (voucher.relay, voucher.peer, voucher.expiration) == (RELAY.peer_id, peer, EXPIRE_UNIX_S)


def test_a_voucher_is_byte_for_byte_what_py_libp2p_would_have_made() -> None:
    payload = TheirVoucher(relay=RELAY.peer_id, peer=PEER, expiration=EXPIRE_UNIX_S).SerializeToString()
    signature = THEIR_RELAY.sign(make_unsigned(RELAY_RSVP_DOMAIN, VOUCHER_PAYLOAD_TYPE, payload))
    theirs = TheirEnvelope(THEIR_RELAY.get_public_key(), VOUCHER_PAYLOAD_TYPE, payload, signature)
    assert reservation_voucher(RELAY, PEER, EXPIRE_UNIX_S) == theirs.marshal_envelope()


@given(st.integers(0, 2**64 - 1))
def test_every_expiry_survives_the_way_through_a_voucher(expire_unix_s: int) -> None:
    signer, payload = verify_envelope(reservation_voucher(RELAY, PEER, expire_unix_s), VOUCHER_DOMAIN, VOUCHER_TYPE)
    assert signer.peer_id == RELAY.peer_id
    voucher = Voucher.FromString(payload)
    assert (voucher.relay, voucher.peer, voucher.expiration) == (RELAY.peer_id, PEER, expire_unix_s)


# Peer records


def test_a_peer_record_verifies_in_py_libp2p_and_holds_our_addresses_in_order() -> None:
    raw = signed_peer_record(RELAY, [multiaddr_bytes(text) for text in ADDRESSES], 42)
    envelope, record = consume_envelope(raw, PEER_RECORD_DOMAIN.decode())
    assert envelope.payload_type == PEER_RECORD_TYPE
    assert record.peer_id.to_bytes() == RELAY.peer_id
    assert record.seq == 42
    assert [str(address) for address in record.addrs] == ADDRESSES


def test_a_peer_record_of_py_libp2p_verifies_here() -> None:
    theirs = TheirPeerRecord(ID(RELAY.peer_id), [Multiaddr(text) for text in ADDRESSES], 7)
    raw = seal_record(theirs, THEIR_RELAY).marshal_envelope()
    signer, payload = verify_envelope(raw, PEER_RECORD_DOMAIN, PEER_RECORD_TYPE)
    assert signer.peer_id == RELAY.peer_id
    record = PeerRecord.FromString(payload)
    assert record.peer_id == RELAY.peer_id
    assert record.seq == 7
    assert [info.multiaddr for info in record.addresses] == [multiaddr_bytes(text) for text in ADDRESSES]


def test_a_record_whose_payload_needs_a_length_of_two_bytes_verifies() -> None:
    addresses = [multiaddr_bytes(f"/ip4/203.0.113.7/tcp/{port}") for port in range(1, 40)]
    raw = signed_peer_record(RELAY, addresses, 1)
    _, payload = verify_envelope(raw, PEER_RECORD_DOMAIN, PEER_RECORD_TYPE)
    assert len(payload) > 127
    assert len(consume_envelope(raw, PEER_RECORD_DOMAIN.decode())[1].addrs) == 39


# What does not verify


def test_a_voucher_is_no_peer_record_and_the_other_way_round() -> None:
    voucher = reservation_voucher(RELAY, PEER, EXPIRE_UNIX_S)
    record = signed_peer_record(RELAY, [], 1)
    with pytest.raises(EnvelopeError, match="type 0302, not 0301"):
        verify_envelope(voucher, PEER_RECORD_DOMAIN, PEER_RECORD_TYPE)
    with pytest.raises(EnvelopeError, match="type 0301, not 0302"):
        verify_envelope(record, VOUCHER_DOMAIN, VOUCHER_TYPE)
    with pytest.raises(PeerKeyError):
        verify_envelope(voucher, PEER_RECORD_DOMAIN, VOUCHER_TYPE)


def test_a_voucher_with_any_byte_changed_does_not_verify_as_the_relays() -> None:
    voucher = reservation_voucher(RELAY, PEER, EXPIRE_UNIX_S)
    for at in range(len(voucher)):
        damaged = bytearray(voucher)
        damaged[at] ^= 0x01
        with pytest.raises(PeerError):
            verify_envelope(bytes(damaged), VOUCHER_DOMAIN, VOUCHER_TYPE)


def test_a_voucher_signed_by_somebody_else_names_that_one_as_its_signer() -> None:
    forger = HostKey.generate()
    payload = Voucher(relay=RELAY.peer_id, peer=PEER, expiration=EXPIRE_UNIX_S)
    honest = Envelope.FromString(reservation_voucher(forger, PEER, EXPIRE_UNIX_S))
    signer, _ = verify_envelope(honest.SerializeToString(), VOUCHER_DOMAIN, VOUCHER_TYPE)
    assert signer.peer_id == forger.peer_id
    honest.payload = payload.SerializeToString()
    with pytest.raises(PeerKeyError):
        verify_envelope(honest.SerializeToString(), VOUCHER_DOMAIN, VOUCHER_TYPE)


@pytest.mark.parametrize("field", ["public_key", "payload_type", "payload", "signature"])
def test_an_envelope_that_lacks_a_field_is_the_peers_fault(field: Any) -> None:
    envelope = Envelope.FromString(reservation_voucher(RELAY, PEER, EXPIRE_UNIX_S))
    envelope.ClearField(field)
    with pytest.raises(PeerError):
        verify_envelope(envelope.SerializeToString(), VOUCHER_DOMAIN, VOUCHER_TYPE)


def test_an_envelope_over_8192_bytes_is_refused_before_it_is_parsed() -> None:
    voucher = reservation_voucher(RELAY, PEER, EXPIRE_UNIX_S)
    filler_bytes = MAX_ENVELOPE_BYTES - len(voucher) - 3  # an unknown field: its key and two bytes of length
    padded = voucher + b"\x7a" + bytes((filler_bytes & 0x7F | 0x80, filler_bytes >> 7)) + bytes(filler_bytes)
    assert len(padded) == MAX_ENVELOPE_BYTES
    assert verify_envelope(padded, VOUCHER_DOMAIN, VOUCHER_TYPE)[0].peer_id == RELAY.peer_id
    with pytest.raises(EnvelopeError, match="over 8192"):
        verify_envelope(padded + b"\0", VOUCHER_DOMAIN, VOUCHER_TYPE)


@given(st.binary(max_size=300))
def test_random_bytes_are_no_envelope(raw: bytes) -> None:
    with pytest.raises(PeerError):
        verify_envelope(raw, VOUCHER_DOMAIN, VOUCHER_TYPE)
