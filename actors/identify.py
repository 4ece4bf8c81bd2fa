"""Identify: tells a peer who we are and where it comes from, asks who it is, and both again when something changes.

What we say is the same for everybody but for the observed address, so it is signed and serialized once. What a peer
says is bounded, and nothing may depend on it: rust applications wait to be asked, the relay works with peers that never
answer.
Spec: libp2p/specs identify/README.md, "identify" and "identify/push".
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Final

from google.protobuf.message import DecodeError

from actors import metrics
from actors.proto.identify_pb2 import Identify
from actors.voucher import signed_peer_record
from transports.errors import PeerError
from transports.identity import HostKey
from transports.varint import DelimitedReader, delimited
from transports.yamux import Buffer, ErrorCode, Stream

PROTOCOL: Final = b"/ipfs/id/1.0.0"
PUSH_PROTOCOL: Final = b"/ipfs/id/push/1.0.0"
PROTOCOL_VERSION: Final = "ipfs/0.1.0"
MAX_ANSWER_BYTES: Final = 8192
MAX_AGENT_CHARACTERS: Final = 128


def agent_of(message: Identify) -> str:
    """The agent version, bounded, and one text for all peers that have the same."""
    return sys.intern(message.agentVersion[:MAX_AGENT_CHARACTERS])


def takes_push(message: Identify) -> bool:
    """Whether the peer wants to be told when something changes."""
    return PUSH_PROTOCOL.decode() in message.protocols


class IdentifyAnswer:
    """Our identify message, made once and again when the addresses change."""

    __slots__ = ("_common",)

    def __init__(
        self, host: HostKey, addresses: Sequence[bytes], protocols: Sequence[bytes], agent_version: str, sequence: int
    ) -> None:
        self._common = Identify(
            publicKey=host.public_protobuf,
            listenAddrs=addresses,
            protocols=[name.decode() for name in protocols],
            protocolVersion=PROTOCOL_VERSION,
            agentVersion=agent_version,
            signedPeerRecord=signed_peer_record(host, addresses, sequence),
        ).SerializeToString()

    def frame(self, observed: bytes) -> bytes:
        """The delimited message for a peer at the binary multiaddr `observed`.

        A protobuf message is the concatenation of its fields, so the one that differs is appended.
        """
        return delimited(self._common + Identify(observedAddr=observed).SerializeToString())


class HearStream:
    """The peer says who it is: the handler of a stream on which we ask, or on which it pushes what has changed.

    `learned` gets its message. "Missing fields should be ignored", so each is for the receiver to look for.
    """

    __slots__ = ("_learned", "_reader", "stream")

    stream: Stream

    def __init__(self, learned: Callable[[Identify], None]) -> None:
        self._learned = learned
        self._reader: DelimitedReader | None = DelimitedReader(MAX_ANSWER_BYTES)

    def data_received(self, data: Buffer) -> None:
        """Read the first message, ignore what follows."""
        self.stream.consumed(len(data))
        if self._reader is None:
            return
        try:
            body = self._reader.feed(data)
            if body is None:
                return
            message = Identify.FromString(body)
        except (PeerError, DecodeError):
            metrics.PEER_ERRORS.labels("identify").inc()
            self.stream.reset(ErrorCode.PROTOCOL_VIOLATION)
            return
        self._reader = None
        self._learned(message)
        self.stream.close()

    def eof_received(self) -> None:
        """All was said."""
        self.stream.close()

    def reset_received(self) -> None:
        """The peer does not say; nothing depends on it."""

    def data_sent(self, count_bytes: int) -> None:
        """Only the protocol name was sent."""


class ToldStream:
    """A stream on which we have said all and closed our side: what the peer still sends is read past."""

    __slots__ = ("stream",)

    stream: Stream

    def data_received(self, data: Buffer) -> None:
        """Read past."""
        self.stream.consumed(len(data))

    def eof_received(self) -> None:
        """Both sides are done."""

    def reset_received(self) -> None:
        """Both sides are done."""

    def data_sent(self, count_bytes: int) -> None:
        """Nobody counts."""
