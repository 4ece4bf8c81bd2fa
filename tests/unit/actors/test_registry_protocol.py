"""Frames of the registry link: what goes in comes out, however it is cut, and nothing else does."""

from __future__ import annotations

import os
import socket
import struct

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.limits import Reason
from actors.registry_protocol import (
    MAX_FRAME_BYTES,
    CircuitGranted,
    CloseCircuit,
    Connected,
    Declare,
    Disconnected,
    Evict,
    FrameDecoder,
    FromRegistry,
    FromWorker,
    Granted,
    Held,
    HeldCircuit,
    Hello,
    OpenCircuit,
    Refused,
    RegistryLinkError,
    Release,
    Reserve,
    Superseded,
    encode_frames,
    same_user,
)

HELD = [Held(b"\x00\x24peer", 7, "2001:db8::1", 1234.5)]
CIRCUITS = [HeldCircuit((1 << 63) - 1, b"source", b"target", "192.0.2.1")]
FROM_WORKER: list[FromWorker] = [
    Hello("ws-9091/0", 4711, HELD, CIRCUITS, [(7, "192.0.2.1")], more=True),
    Declare(HELD, CIRCUITS, [(8, "192.0.2.1")]),
    Reserve(1, b"\x00\x24peer", 7, "192.0.2.1"),
    Release(b"\x00\x24peer", 7),
    OpenCircuit(2, b"source", b"target", "192.0.2.1"),
    CloseCircuit(1 << 62),
    Connected(7, "192.0.2.1"),
    Disconnected(7),
]
FROM_REGISTRY: list[FromRegistry] = [
    Granted(1, 9876.0, replaced=True),
    CircuitGranted(2, 1 << 62, "tcp-9090/0", 9),
    Refused(3, Reason.CIRCUITS_FULL),
    Evict(7, Reason.CONNECTIONS_PER_IP),
    Superseded(b"peer", 7),
]


def frame(body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + body


@given(st.lists(st.sampled_from(FROM_WORKER)), st.lists(st.integers(1, 200)))
def test_messages_come_out_as_they_went_in_however_they_are_cut(messages: list[FromWorker], cuts: list[int]) -> None:
    data = bytes(encode_frames(messages))
    decoder = FrameDecoder.from_worker()
    got: list[FromWorker] = []
    for cut in cuts:
        got += decoder.feed(data[:cut])
        data = data[cut:]
    got += decoder.feed(data)
    assert got == messages


def test_the_registry_says_what_a_worker_understands() -> None:
    assert FrameDecoder.from_registry().feed(bytes(encode_frames(FROM_REGISTRY))) == FROM_REGISTRY


def test_a_reason_arrives_as_a_reason() -> None:
    (refused,) = FrameDecoder.from_registry().feed(bytes(encode_frames([Refused(1, Reason.CIRCUITS_FULL)])))
    assert isinstance(refused, Refused)
    assert refused.reason is Reason.CIRCUITS_FULL


def test_a_length_is_four_bytes_big_endian() -> None:
    data = encode_frames([Disconnected(5)])
    assert data == frame(msgspec.msgpack.encode([8, 5]))


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xc1",
        msgspec.msgpack.encode([99, 1]),
        msgspec.msgpack.encode([8, "five"]),
        msgspec.msgpack.encode([8]),
        msgspec.msgpack.encode([8, 5]) + b"\x00",
        msgspec.msgpack.encode([9, 1, 2.0, False]),
        msgspec.msgpack.encode({"connection": 5}),
    ],
    ids=[
        "empty",
        "no msgpack",
        "no such tag",
        "wrong type",
        "too short",
        "bytes behind",
        "other direction",
        "no array",
    ],
)
def test_a_frame_that_is_no_message_raises(body: bytes) -> None:
    with pytest.raises(RegistryLinkError):
        FrameDecoder.from_worker().feed(frame(body))


def test_an_unknown_reason_raises() -> None:
    with pytest.raises(RegistryLinkError, match="mood"):
        FrameDecoder.from_registry().feed(frame(msgspec.msgpack.encode([11, 1, "mood"])))


def test_a_frame_of_eight_mebibytes_is_taken_and_one_byte_more_raises_by_its_length_alone() -> None:
    fitting = FrameDecoder.from_worker()
    assert fitting.feed(struct.pack(">I", MAX_FRAME_BYTES)) == []
    with pytest.raises(RegistryLinkError, match="decoded"):  # it was read to its end
        fitting.feed(b"\xc1" * MAX_FRAME_BYTES)
    with pytest.raises(RegistryLinkError, match="over"):
        FrameDecoder.from_worker().feed(struct.pack(">I", MAX_FRAME_BYTES + 1))


def test_a_message_over_eight_mebibytes_is_not_sent() -> None:
    overhead = len(encode_frames([Release(b"x" * 100_000, 1)])) - 4 - 100_000
    assert len(encode_frames([Release(b"x" * (MAX_FRAME_BYTES - overhead), 1)])) == MAX_FRAME_BYTES + 4
    with pytest.raises(RegistryLinkError):
        encode_frames([Release(b"x" * (MAX_FRAME_BYTES - overhead + 1), 1)])


@given(st.binary(max_size=200))
def test_noise_raises_or_waits_and_nothing_else(data: bytes) -> None:
    try:
        FrameDecoder.from_worker().feed(data)
    except RegistryLinkError:
        return


def test_our_own_user_is_known_and_another_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX)
    with ours, theirs:
        assert same_user(ours)
        uid = os.getuid()
        monkeypatch.setattr(os, "getuid", lambda: uid + 1)
        assert not same_user(ours)
