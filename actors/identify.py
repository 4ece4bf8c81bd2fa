"""Identify: tells a peer who we are and where it comes from, and asks who it is.

What we say is the same for everybody but for the observed address, so it is signed and serialized once. What a peer
says is bounded, and nothing may depend on it: rust applications wait to be asked, the relay works with peers that never
answer.
Spec: libp2p/specs identify/README.md.
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
PROTOCOL_VERSION: Final = "ipfs/0.1.0"
MAX_ANSWER_BYTES: Final = 8192
MAX_AGENT_CHARACTERS: Final = 128


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


class AskStream:
    """We ask: the handler of an identify stream of ours. `learned` gets the peer's agent version, interned."""

    __slots__ = ("_learned", "_reader", "stream")

    stream: Stream

    def __init__(self, learned: Callable[[str], None]) -> None:
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
            agent = Identify.FromString(body).agentVersion
        except (PeerError, DecodeError):
            metrics.PEER_ERRORS.labels("identify").inc()
            self.stream.reset(ErrorCode.PROTOCOL_VIOLATION)
            return
        self._reader = None
        self._learned(sys.intern(agent[:MAX_AGENT_CHARACTERS]))
        self.stream.close()

    def eof_received(self) -> None:
        """All was said."""
        self.stream.close()

    def reset_received(self) -> None:
        """The peer does not say; nothing depends on it."""

    def data_sent(self, count_bytes: int) -> None:
        """Only the protocol name was sent."""


class AnsweredStream:
    """A stream that we have answered and closed: what the peer still sends is read past."""

    __slots__ = ("_stream",)

    def __init__(self, stream: Stream) -> None:
        self._stream = stream

    def data_received(self, data: Buffer) -> None:
        """Read past."""
        self._stream.consumed(len(data))

    def eof_received(self) -> None:
        """Both sides are done."""

    def reset_received(self) -> None:
        """Both sides are done."""

    def data_sent(self, count_bytes: int) -> None:
        """Nobody counts."""
