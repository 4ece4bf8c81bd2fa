from __future__ import annotations

import os
import pickle

import pytest
from thespian.system.transport import streamBuffer as stream  # noqa: N813 - a module

from supervisor.seal import MAX_MESSAGE_BYTES, BoundedReceiveBuffer, Seal, SealError


class Trap:
    """Leaves a mark when it is unpickled."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (self.path,)


def test_what_was_sealed_is_read_back() -> None:
    seal = Seal(b"k" * 32)
    assert seal.loads(seal.dumps({"a": (1, b"2")})) == {"a": (1, b"2")}


@pytest.mark.parametrize("prefix", [b"", b"\x00" * 16])
def test_a_foreign_pickle_is_refused_before_it_is_unpickled(tmp_path: object, prefix: bytes) -> None:
    mark = f"{tmp_path}/mark"
    with pytest.raises(SealError):
        Seal(b"k" * 32).loads(prefix + pickle.dumps(Trap(mark)))
    assert not os.path.exists(mark)


def test_a_seal_of_another_boot_is_refused() -> None:
    with pytest.raises(SealError):
        Seal(b"k" * 32).loads(Seal(b"l" * 32).dumps("message"))


@pytest.mark.parametrize("position", [0, 15, 16, -1])
def test_a_changed_byte_anywhere_is_refused(position: int) -> None:
    sealed = bytearray(Seal(b"k" * 32).dumps("message"))
    sealed[position] ^= 1
    with pytest.raises(SealError):
        Seal(b"k" * 32).loads(bytes(sealed))


def test_a_sealed_message_passes_the_bounded_buffer_in_pieces() -> None:
    seal = Seal(b"k" * 32)
    data = stream.toSendBuffer(list(range(1000)), seal.dumps)
    buffer = BoundedReceiveBuffer(seal.loads)
    for start in range(0, len(data), 7):
        buffer.addMore(data[start : start + 7])
    assert buffer.completed() == (list(range(1000)), b"")


@pytest.mark.parametrize("length", [17, MAX_MESSAGE_BYTES])
def test_lengths_within_the_bounds_are_taken(length: int) -> None:
    buffer = BoundedReceiveBuffer(bytes)
    buffer.addMore(b"%d>" % length)
    assert buffer.remainingAmount() == length


@pytest.mark.parametrize("header", [b"-5>", b"0>", b"16>", b"%d>" % (MAX_MESSAGE_BYTES + 1), b"9" * 21, b"abc>", b">"])
def test_lengths_out_of_bounds_are_refused(header: bytes) -> None:
    with pytest.raises(ValueError, match=r"out of bounds|invalid literal"):
        BoundedReceiveBuffer(bytes).addMore(header)
