"""What a check says to a relay: identify, RESERVE, CONNECT, and how it answers STOP. One message at a time, bounded.

Specs: libp2p/specs relay/circuit-v2.md, identify/README.md, RFC/0002-signed-envelopes.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import trio
from google.protobuf.message import DecodeError
from libp2p.identity.identify.pb.identify_pb2 import Identify
from libp2p.peer.envelope import unmarshal_envelope
from libp2p.peer.id import ID
from libp2p.relay.circuit_v2.pb.circuit_pb2 import HopMessage, PeerId, Status, StopMessage
from libp2p.relay.circuit_v2.utils import read_delimited_msg, write_delimited_msg
from libp2p.utils.varint import read_varint_prefixed_bytes_limited

from actors.proto.voucher_pb2 import Voucher
from supervisor.check import causes
from supervisor.check.peer import ECHO, HOP, IDENTIFY, Connection, Peer, answer_echo
from supervisor.check.report import Finding, Trouble

MAX_IDENTIFY_BYTES: Final = 65_536
VOUCHER_DOMAIN: Final = "libp2p-relay-rsvp"
VOUCHER_TYPE: Final = b"\x03\x02"


async def ask_identify(connection: Connection) -> Any:
    """The other side's Identify message."""
    stream = await connection.open(IDENTIFY)
    message = Identify()
    message.ParseFromString(await read_varint_prefixed_bytes_limited(stream, MAX_IDENTIFY_BYTES))
    await stream.close()
    return message


async def reserve(connection: Connection) -> Any:
    """RESERVE; the relay's HopMessage when it grants. Raises Trouble when it does not."""
    stream = await connection.open(HOP)
    await write_delimited_msg(stream, HopMessage(type=HopMessage.RESERVE))
    answer = await read_delimited_msg(stream, HopMessage)
    await stream.close()
    if answer.status != causes.OK:
        raise causes.status(answer.status, "the reservation was")
    if not answer.HasField("reservation"):
        raise Trouble("the relay grants a reservation and does not say until when", "look for a newer version of it")
    return answer


@dataclass(frozen=True, slots=True)
class Called:
    """The answer to a CONNECT."""

    status: int
    stream: Any


async def call(connection: Connection, target: Any) -> Called:
    """CONNECT to a peer."""
    stream = await connection.open(HOP)
    await write_delimited_msg(stream, HopMessage(type=HopMessage.CONNECT, peer=PeerId(id=target.to_bytes())))
    answer = await read_delimited_msg(stream, HopMessage)
    return Called(answer.status, stream)


def check_voucher(voucher: bytes, relay: str, peer: Any, expire_unix_s: int) -> Finding:
    """Whether the relay signed for this very reservation. Raises Trouble."""
    if not voucher:
        return Finding("the relay gives none, which the specification allows (rust-libp2p gives none)")
    bad = "the relay's software is wrong here: look for a newer version, or report it to its makers"
    try:
        envelope = unmarshal_envelope(voucher)
        payload = Voucher.FromString(envelope.raw_payload)
    except (DecodeError, ValueError) as error:
        raise Trouble(f"the voucher cannot be read: {error}", bad) from error
    try:
        envelope.validate(VOUCHER_DOMAIN)
    except ValueError as error:
        raise Trouble(f"the voucher's signature does not hold for the domain {VOUCHER_DOMAIN}", bad) from error
    for fault, found in (
        ("is of another type than 03 02", envelope.payload_type != VOUCHER_TYPE),
        ("is signed by another key than the relay's", str(ID.from_pubkey(envelope.public_key)) != relay),
        ("names another relay", str(ID(payload.relay)) != relay),
        ("names another peer", payload.peer != peer.to_bytes()),
        ("has another expiry than the reservation", payload.expiration != expire_unix_s),
    ):
        if found:
            raise Trouble(f"the voucher {fault}", bad)
    return Finding("signed by the relay, for this peer and this expiry")


class Target:
    """The host that is called: answers STOP, and the echo over the circuit."""

    def __init__(self, peer: Peer, nursery: trio.Nursery) -> None:
        self._peer = peer
        self._nursery = nursery
        self.callers: list[str] = []
        """Whom the relay said that it brought, and whom Noise proved."""

    async def answer_stop(self, stream: Any) -> None:
        """Take the circuit, and serve it until it ends."""
        message = await read_delimited_msg(stream, StopMessage)
        if message.type != StopMessage.CONNECT:
            await stream.reset()
            return
        self.callers.append(str(ID(message.peer.id)))
        await write_delimited_msg(stream, StopMessage(type=StopMessage.STATUS, status=Status.OK))
        secured = await self._peer.secure(stream, initiator=False)
        self.callers.append(str(secured.get_remote_peer()))
        connection = await self._peer.multiplex(secured, self._nursery, {ECHO: answer_echo})
        await connection.closed.wait()
