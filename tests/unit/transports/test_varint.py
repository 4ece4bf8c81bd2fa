"""Unsigned varints and delimited frames."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from transports.varint import DelimitedReader, FrameError, delimited, encode_uvarint

# github.com/multiformats/unsigned-varint, "Format", examples.
SPEC_EXAMPLES = [
    (1, "01"),
    (127, "7f"),
    (128, "8001"),
    (255, "ff01"),
    (300, "ac02"),
    (16384, "808001"),
]


@pytest.mark.parametrize(("number", "encoded"), SPEC_EXAMPLES)
def test_the_examples_of_the_specification_are_encoded_as_it_says(number: int, encoded: str) -> None:
    assert encode_uvarint(number).hex() == encoded


def test_zero_is_one_zero_byte() -> None:
    assert encode_uvarint(0) == b"\x00"


@pytest.mark.parametrize(("number", "encoded"), SPEC_EXAMPLES)
def test_a_frame_of_the_length_in_the_examples_is_read(number: int, encoded: str) -> None:
    reader = DelimitedReader(number)
    assert reader.feed(bytes.fromhex(encoded) + bytes(number - 1)) is None
    assert reader.feed(b"\x01rest") == bytes(number - 1) + b"\x01"
    assert reader.rest() == b"rest"
    assert reader.rest() == b""


def test_a_frame_of_the_greatest_length_is_read_and_one_byte_more_is_refused_by_its_length() -> None:
    assert DelimitedReader(4096).feed(delimited(bytes(4096))) == bytes(4096)
    with pytest.raises(FrameError):
        DelimitedReader(4096).feed(encode_uvarint(4097))


def test_an_empty_frame_is_a_frame() -> None:
    assert DelimitedReader(10).feed(b"\x00") == b""


def test_a_length_of_five_bytes_is_read_and_one_of_six_is_refused() -> None:
    assert DelimitedReader(1 << 35).feed(bytes.fromhex("8080808001")) is None
    assert DelimitedReader(1 << 35).feed(bytes.fromhex("80808080")) is None
    with pytest.raises(FrameError):
        DelimitedReader(1 << 42).feed(bytes.fromhex("8080808080"))


@pytest.mark.parametrize("encoded", ["8000", "ff00", "818000"])
def test_a_length_that_is_not_minimal_is_refused(encoded: str) -> None:
    """unsigned-varint: "implementations MUST reject" what is not the shortest form."""
    with pytest.raises(FrameError):
        DelimitedReader(4096).feed(bytes.fromhex(encoded))


@given(st.integers(0, 1 << 34))
def test_the_encoding_is_the_shortest_that_reads_back(number: int) -> None:
    encoded = encode_uvarint(number)
    assert len(encoded) == max(1, -(-number.bit_length() // 7))
    assert sum((byte & 0x7F) << 7 * place for place, byte in enumerate(encoded)) == number


@given(st.binary(max_size=300), st.binary(max_size=20), st.lists(st.integers(0, 330), max_size=6))
def test_any_cut_gives_the_same_frame_and_rest(body: bytes, behind: bytes, cuts: list[int]) -> None:
    wire = delimited(body) + behind
    reader = DelimitedReader(300)
    edges = sorted({0, len(wire), *(cut for cut in cuts if cut < len(wire))})
    got: bytes | None = None
    left = b""
    for start, end in pairwise(edges):
        if got is None:
            got = reader.feed(memoryview(wire)[start:end])
        else:
            left += wire[start:end]
    assert got == body
    assert reader.rest() + left == behind


@given(st.lists(st.binary(min_size=1, max_size=40), max_size=20))
def test_garbage_only_ever_is_a_frame_error(pieces: list[bytes]) -> None:
    reader = DelimitedReader(64)
    try:
        for piece in pieces:
            if reader.feed(piece) is not None:
                reader.rest()
    except FrameError:
        return
    assert len(reader.rest()) <= 64 + 5
