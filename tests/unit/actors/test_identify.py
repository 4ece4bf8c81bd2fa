"""Identify: what we say, and what we make of what a peer says."""

from __future__ import annotations

import sys

import pytest
from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st

from actors.identify import MAX_ANSWER_BYTES, HearStream, IdentifyAnswer, ToldStream, agent_of, takes_push
from actors.proto.envelope_pb2 import Envelope
from actors.proto.identify_pb2 import Identify
from actors.proto.peer_record_pb2 import PeerRecord
from config.errors import ConfigError
from tests.support.pipe import Recorder, SessionPair
from transports.address import announced_addresses, multiaddr_bytes
from transports.identity import HostKey
from transports.varint import DelimitedReader, delimited

HOST = HostKey.from_seed(b"h" * 32)
ADDRESSES = [multiaddr_bytes("/dns4/relay.example/tcp/443/tls/ws"), multiaddr_bytes("/ip4/10.0.0.1/tcp/9090")]
PROTOCOLS = [b"/ipfs/id/1.0.0", b"/libp2p/circuit/relay/0.2.0/hop"]


def answer() -> IdentifyAnswer:
    return IdentifyAnswer(HOST, ADDRESSES, PROTOCOLS, "frost-relay/test", 7)


def parsed(observed: bytes) -> Identify:
    body = DelimitedReader(4096).feed(answer().frame(observed))
    assert body is not None
    return Identify.FromString(body)


def test_the_answer_says_who_we_are_and_where_the_peer_comes_from() -> None:
    observed = multiaddr_bytes("/ip4/192.0.2.7/tcp/50000/ws")
    message = parsed(observed)
    assert message.publicKey == HOST.public_protobuf
    assert list(message.listenAddrs) == ADDRESSES
    assert [name.encode() for name in message.protocols] == PROTOCOLS
    assert (message.protocolVersion, message.agentVersion) == ("ipfs/0.1.0", "frost-relay/test")
    assert message.observedAddr == observed


def test_each_peer_is_told_its_own_address_once() -> None:
    one, two = multiaddr_bytes("/ip4/192.0.2.7/tcp/1"), multiaddr_bytes("/ip6/2001:db8::1/tcp/2/ws")
    shared = answer()
    frames = [shared.frame(one), shared.frame(two), shared.frame(one)]
    assert frames[0] == frames[2]
    assert [frame.count(one) for frame in frames] == [1, 0, 1]


def test_the_signed_peer_record_is_ours_and_lists_the_same_addresses() -> None:
    envelope = Envelope.FromString(parsed(b"").signedPeerRecord)
    record = PeerRecord.FromString(envelope.payload)
    assert envelope.public_key == HOST.public_protobuf
    assert (record.peer_id, record.seq) == (HOST.peer_id, 7)
    assert [each.multiaddr for each in record.addresses] == ADDRESSES


# Asking


class Asking:
    """Our ask (left) and the peer that answers (right)."""

    def __init__(self) -> None:
        self.pair = SessionPair()
        ours, self.peer = self.pair.stream()
        self.learned: list[str] = []
        self.ask = HearStream(lambda message: self.learned.append(agent_of(message)))
        self.ask.stream = self.stream = ours.stream
        ours.stream.handler = self.ask

    def says(self, data: bytes) -> Recorder:
        self.peer.stream.write(data)
        self.pair.pump()
        return self.peer


def told(agent: str = "js-libp2p/3.3", **more: object) -> bytes:
    return delimited(Identify(agentVersion=agent, **more).SerializeToString())  # type: ignore[arg-type]


@pytest.mark.parametrize("piece_bytes", [1, 5, 1000])
def test_the_agent_version_is_learned_once_and_the_stream_is_closed(piece_bytes: int) -> None:
    asking = Asking()
    said = told()
    for start in range(0, len(said), piece_bytes):
        asking.says(said[start : start + piece_bytes])
    assert asking.learned == ["js-libp2p/3.3"]
    assert (asking.peer.eofs, asking.peer.resets) == (1, 0)
    asking.peer.stream.close()
    asking.pair.pump()
    assert not asking.pair.left.session.streams


def test_what_follows_the_first_message_is_read_past() -> None:
    asking = Asking()
    asking.says(told("one") + told("two"))
    for _ in range(8):
        asking.says(bytes(100_000))
    assert asking.learned == ["one"]
    assert asking.peer.resets == 0


def test_the_agent_version_is_interned_and_cut_to_128_characters() -> None:
    asking = Asking()
    asking.says(told("é" * 129))
    assert asking.learned == ["é" * 128]
    assert asking.learned[0] is sys.intern("é" * 128)


def test_a_peer_without_agent_version_is_learned_as_such() -> None:
    asking = Asking()
    asking.says(b"\x00")
    assert asking.learned == [""]


def test_an_answer_of_8192_bytes_is_read_and_one_of_8193_resets_the_stream() -> None:
    overhead = len(Identify(agentVersion="a", publicKey=bytes(8000)).SerializeToString()) - 8000
    for size, learned in ((MAX_ANSWER_BYTES, ["a"]), (MAX_ANSWER_BYTES + 1, [])):
        asking = Asking()
        said = told("a", publicKey=bytes(size - overhead))
        assert len(said) == size + 2
        asking.says(said)
        assert asking.learned == learned
        assert asking.peer.resets == (not learned)


def test_an_answer_that_is_no_protobuf_resets_the_stream() -> None:
    asking = Asking()
    with pytest.raises(DecodeError):
        Identify.FromString(b"\xff\xff")
    asking.says(b"\x02\xff\xff")
    assert (asking.learned, asking.peer.resets) == ([], 1)


@pytest.mark.parametrize("end", ["close", "reset"])
def test_a_peer_that_does_not_say_leaves_nothing_behind(end: str) -> None:
    asking = Asking()
    getattr(asking.peer.stream, end)()
    asking.pair.pump()
    assert asking.learned == []
    assert not asking.pair.left.session.streams


@given(st.lists(st.binary(min_size=1, max_size=60), max_size=10))
def test_whatever_a_peer_says_only_its_stream_ends(pieces: list[bytes]) -> None:
    asking = Asking()
    for piece in pieces:
        asking.says(piece)
    asking.peer.stream.close()
    asking.pair.pump()
    assert len(asking.learned) <= 1
    assert not asking.pair.left.session.streams


def test_what_comes_on_a_stream_that_was_answered_is_read_past_and_credited() -> None:
    pair = SessionPair()
    peer, near = pair.stream()
    near.stream.handler = handler = ToldStream()
    handler.stream = near.stream
    near.stream.write(b"answer")
    near.stream.close()
    for _ in range(4):
        peer.stream.write(bytes(200_000))
        pair.pump()
    peer.stream.close()
    pair.pump()
    assert (peer.data, peer.eofs, peer.resets, peer.stream.queued_bytes) == (b"answer", 1, 0, 0)
    assert not pair.right.session.streams


@pytest.mark.parametrize(
    "form",
    [
        "/ip4/203.0.113.{0}/tcp/4001/ws",
        "/ip6/2001:db8::{0:x}/tcp/4001",
        "/dns4/a-rather-long-name-for-a-relay-{0}.example.org/tcp/443/tls/ws",
    ],
)
def test_the_message_fits_into_4096_bytes_with_as_many_addresses_as_may_be_announced(form: str) -> None:
    host = HostKey.generate()

    def fits(count: int) -> bool:
        try:
            announced_addresses([form.format(n) for n in range(count)], [], {}, host.peer_id)
        except ConfigError:
            return False
        return True

    most = next(count for count in range(1, 200) if not fits(count + 1))
    announced = announced_addresses([form.format(n) for n in range(most)], [], {}, host.peer_id)
    addresses = [multiaddr_bytes(text) for text in announced]
    assert len(addresses) > 10
    answer = IdentifyAnswer(host, addresses, PROTOCOLS, "frost-relay/" + "9" * 30, (1 << 64) - 1)
    assert len(answer.frame(bytes(128))) <= 4096


@pytest.mark.parametrize(("protocols", "wanted"), [(["/ipfs/id/push/1.0.0", "/x"], True), (["/ipfs/id/1.0.0"], False)])
def test_whether_a_peer_wants_pushes_is_in_its_protocols(protocols: list[str], wanted: bool) -> None:
    assert takes_push(Identify(protocols=protocols)) is wanted
