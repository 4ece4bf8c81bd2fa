"""multistream-select against bytes written down by hand from the specification, and at its bounds."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from transports.errors import PeerError
from transports.multistream import Initiator, NegotiationError, NotSupportedError, Responder

# github.com/multiformats/multistream-select: uvarint(length, the newline counted), the text, a newline.
HEADER = bytes.fromhex("132f6d756c746973747265616d2f312e302e300a")  # 19: "/multistream/1.0.0\n"
NOISE = bytes.fromhex("072f6e6f6973650a")  # 7: "/noise\n"
TLS = bytes.fromhex("0b2f746c732f312e302e300a")  # 11: "/tls/1.0.0\n"
NA = bytes.fromhex("036e610a")  # 3: "na\n"
LS = bytes.fromhex("036c730a")  # 3: "ls\n"
# The answer to "ls" for /noise and /tls/1.0.0: one message, its body two messages, closed by an empty line.
LISTED = bytes.fromhex("15072f6e6f6973650a0b2f746c732f312e302e300a0a")


def name_of(message_bytes: int) -> bytes:
    """A message of `message_bytes`, the newline counted, with its length of two bytes in front."""
    return bytes((message_bytes & 0x7F | 0x80, message_bytes >> 7)) + b"x" * (message_bytes - 1) + b"\n"


def test_the_listener_waits_then_echoes_header_and_choice() -> None:
    responder = Responder((b"/noise",))
    assert responder.start() == b""
    assert (responder.receive(HEADER), responder.selected) == (HEADER, None)
    assert (responder.receive(NOISE), responder.selected) == (NOISE, b"/noise")
    assert responder.rest() == b""


def test_lazy_negotiation_with_data_behind_is_answered_in_one_piece_and_no_byte_is_lost() -> None:
    responder = Responder((b"/noise",))
    assert responder.receive(HEADER + NOISE + b"\x00\x20data") == HEADER + NOISE
    assert responder.rest() == b"\x00\x20data"
    assert responder.rest() == b""


def test_what_is_unknown_is_answered_na_and_the_next_is_taken() -> None:
    responder = Responder((b"/noise",))
    assert responder.receive(HEADER + TLS + NOISE) == HEADER + NA + NOISE


def test_ls_lists_the_protocols() -> None:
    responder = Responder((b"/noise", b"/tls/1.0.0"))
    assert responder.receive(HEADER + LS) == HEADER + LISTED
    assert responder.receive(TLS) == TLS


@pytest.mark.parametrize("first", [NOISE, LS, NA, b"\x01\n", b"\x05abcd\n"])
def test_anything_before_the_header_ends_the_negotiation(first: bytes) -> None:
    with pytest.raises(NegotiationError):
        Responder((b"/noise",)).receive(first)


@pytest.mark.parametrize("asked", [TLS, LS])
def test_ten_unknown_protocols_are_answered_and_the_eleventh_ends_it(asked: bytes) -> None:
    responder = Responder((b"/noise",))
    responder.receive(HEADER)
    for _ in range(10):
        assert responder.receive(asked)
    with pytest.raises(NegotiationError):
        responder.receive(asked)


def test_the_choice_may_come_after_ten_unknown_protocols() -> None:
    responder = Responder((b"/noise",))
    responder.receive(HEADER + TLS * 10)
    assert responder.receive(NOISE) == NOISE


def test_a_message_of_1024_bytes_is_answered_and_one_of_1025_ends_it_by_its_length() -> None:
    responder = Responder((b"/noise",))
    assert responder.receive(HEADER + name_of(1024)) == HEADER + NA
    with pytest.raises(NegotiationError):
        responder.receive(name_of(1025)[:2])


@pytest.mark.parametrize(
    "broken",
    [
        pytest.param(b"\x00", id="without even a newline"),
        pytest.param(b"\x03na!", id="no newline at the end"),
        pytest.param(b"\x83\x00na\n", id="length not minimal"),
        pytest.param(b"\x80\x80\x01", id="length of three bytes"),
    ],
)
def test_a_broken_message_ends_the_negotiation(broken: bytes) -> None:
    responder = Responder((b"/noise",))
    responder.receive(HEADER)
    with pytest.raises(NegotiationError):
        responder.receive(broken)


def test_the_dialer_sends_header_and_name_in_one_piece_and_waits_for_both() -> None:
    initiator = Initiator(b"/noise")
    assert initiator.start() == HEADER + NOISE
    assert (initiator.receive(HEADER), initiator.selected) == (b"", None)
    assert (initiator.receive(NOISE + b"behind"), initiator.selected) == (b"", b"/noise")
    assert initiator.rest() == b"behind"


def test_the_dialer_tells_a_listener_that_does_not_speak_it_from_one_that_errs() -> None:
    with pytest.raises(NotSupportedError):
        Initiator(b"/noise").receive(HEADER + NA)
    with pytest.raises(NegotiationError):
        Initiator(b"/noise").receive(HEADER + TLS)
    with pytest.raises(NegotiationError):
        Initiator(b"/noise").receive(NOISE)


@given(st.integers(0, 60), st.integers(0, 60), st.integers(0, 60))
def test_any_cut_gives_the_same_answer_choice_and_rest(one: int, two: int, three: int) -> None:
    wire = HEADER + TLS + LS + NOISE + b"data"
    responder, answer, behind = Responder((b"/noise",)), b"", b""
    edges = sorted({0, min(one, len(wire)), min(two, len(wire)), min(three, len(wire)), len(wire)})
    for start, end in pairwise(edges):
        if responder.selected is None:
            answer += responder.receive(memoryview(wire)[start:end])
        else:
            behind += wire[start:end]
    assert answer == HEADER + NA + bytes.fromhex("09072f6e6f6973650a0a") + NOISE
    assert responder.rest() + behind == b"data"


@given(st.lists(st.binary(min_size=1, max_size=80), max_size=30), st.booleans())
def test_garbage_only_ever_is_a_peer_error_and_never_more_than_a_message_is_held(
    pieces: list[bytes], header_first: bool
) -> None:
    for end in (Responder((b"/noise",)), Initiator(b"/noise")):
        try:
            for piece in [HEADER, *pieces] if header_first else pieces:
                end.receive(piece)
                if end.selected is not None:
                    break
        except PeerError:
            continue
        if end.selected is None:
            assert len(end.rest()) <= 1024 + 2
