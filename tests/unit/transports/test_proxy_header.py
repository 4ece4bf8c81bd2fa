"""Both forms of the PROXY header: what each says, where each ends, and everything that is none."""

from __future__ import annotations

import ipaddress
import socket
from struct import pack

import pytest
from hypothesis import given
from hypothesis import strategies as st

from transports.proxy_header import MAX_V1_BYTES, MAX_V2_BYTES, ProxyHeaderError, ProxyHeaderReader

SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
LOCAL, PROXY = 0x20, 0x21
TCP4, TCP6 = 0x11, 0x21
IP4 = socket.inet_aton("192.0.2.7") + socket.inet_aton("198.51.100.1") + pack(">HH", 4711, 9091)
IP6 = (
    socket.inet_pton(socket.AF_INET6, "2001:db8::7")
    + socket.inet_pton(socket.AF_INET6, "2001:db8::1")
    + pack(">HH", 4712, 443)
)


def v2(command: int = PROXY, family: int = TCP4, body: bytes = IP4) -> bytes:
    return SIGNATURE + pack(">BBH", command, family, len(body)) + body


def read(data: bytes) -> tuple[tuple[str, int] | None, bytes | None]:
    reader = ProxyHeaderReader()
    rest = reader.feed(data)
    return reader.source, rest


WHOLE = [
    pytest.param(b"PROXY TCP4 192.0.2.7 198.51.100.1 4711 9091\r\n", ("192.0.2.7", 4711), id="v1-tcp4"),
    pytest.param(b"PROXY TCP6 2001:DB8::7 2001:db8::1 4712 443\r\n", ("2001:db8::7", 4712), id="v1-tcp6"),
    pytest.param(b"PROXY TCP4 0.0.0.0 0.0.0.0 0 0\r\n", ("0.0.0.0", 0), id="v1-zero"),
    pytest.param(b"PROXY UNKNOWN\r\n", None, id="v1-unknown"),
    pytest.param(b"PROXY UNKNOWN ffff::1 whatever 65535 1\r\n", None, id="v1-unknown-with-more"),
    pytest.param(v2(), ("192.0.2.7", 4711), id="v2-tcp4"),
    pytest.param(v2(family=TCP6, body=IP6), ("2001:db8::7", 4712), id="v2-tcp6"),
    pytest.param(v2(body=IP4 + b"\x03\x00\x04crc!"), ("192.0.2.7", 4711), id="v2-with-more"),
    pytest.param(v2(LOCAL, 0, b""), None, id="v2-local"),
    pytest.param(v2(LOCAL), None, id="v2-local-with-addresses"),
    pytest.param(v2(family=0, body=b""), None, id="v2-unspecified"),
    pytest.param(v2(family=0x12), None, id="v2-datagrams"),
    pytest.param(v2(family=0x31, body=bytes(216)), None, id="v2-unix"),
]


@pytest.mark.parametrize(("header", "source"), WHOLE)
def test_a_header_says_who_is_behind_the_proxy(header: bytes, source: tuple[str, int] | None) -> None:
    assert read(header) == (source, b"")


@pytest.mark.parametrize(("header", "source"), WHOLE)
@pytest.mark.parametrize("size", [1, 5, 13])
def test_a_header_may_come_in_pieces_and_what_follows_is_handed_on(
    header: bytes, source: tuple[str, int] | None, size: int
) -> None:
    reader, rest = ProxyHeaderReader(), None
    data = header + b"behind it\r\n"
    for start in range(0, len(data), size):
        if (rest := reader.feed(data[start : start + size])) is not None:
            rest += data[start + size :]
            break
    assert (reader.source, rest) == (source, b"behind it\r\n")


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"G", id="another protocol"),
        pytest.param(b"\x13/multistream/1.0.0\n", id="multistream"),
        pytest.param(b"PROXY\r\n", id="v1-nothing"),
        pytest.param(b"proxy UNKNOWN\r\n", id="v1-small letters"),
        pytest.param(b"PROXY TCP5 192.0.2.7 198.51.100.1 1 2\r\n", id="v1-another family"),
        pytest.param(b"PROXY TCP4 192.0.2.7 198.51.100.1 1\r\n", id="v1-too few"),
        pytest.param(b"PROXY TCP4 192.0.2.7 198.51.100.1 1 2 3\r\n", id="v1-too many"),
        pytest.param(b"PROXY TCP4  192.0.2.7 198.51.100.1 1 2\r\n", id="v1-two spaces"),
        pytest.param(b"PROXY TCP4 2001:db8::7 2001:db8::1 1 2\r\n", id="v1-another version"),
        pytest.param(b"PROXY TCP6 192.0.2.7 198.51.100.1 1 2\r\n", id="v1-another version"),
        pytest.param(b"PROXY TCP4 192.0.2.7 nowhere 1 2\r\n", id="v1-no address"),
        pytest.param(b"PROXY TCP6 fe80::1%eth0 2001:db8::1 1 2\r\n", id="v1-with a zone"),
        pytest.param(b"PROXY TCP4 192.0.2.\x00 198.51.100.1 1 2\r\n", id="v1-a zero byte"),
        pytest.param(b"PROXY TCP4 192.0.2.\xc3\xa9 198.51.100.1 1 2\r\n", id="v1-no ascii"),
        pytest.param(b"PROXY TCP4 192.0.2.7 198.51.100.1 65536 2\r\n", id="v1-port too large"),
        pytest.param(b"PROXY TCP4 192.0.2.7 198.51.100.1 1 -2\r\n", id="v1-port negative"),
        pytest.param(b"PROXY TCP4 192.0.2.7 198.51.100.1 1 000002\r\n", id="v1-port too long"),
        pytest.param(SIGNATURE[:-1] + b"!", id="v2-another signature"),
        pytest.param(v2(0x11), id="v2-version 1"),
        pytest.param(v2(0x22), id="v2-unknown command"),
        pytest.param(v2(family=0x13), id="v2-unknown protocol"),
        pytest.param(v2(family=0x41), id="v2-unknown family"),
        pytest.param(v2(body=IP4[:-1]), id="v2-addresses cut short"),
        pytest.param(v2(family=TCP6, body=IP6[:-1]), id="v2-addresses cut short"),
    ],
)
def test_what_is_no_header_is_an_error(data: bytes) -> None:
    with pytest.raises(ProxyHeaderError):
        read(data)


def test_a_line_may_have_107_bytes_and_not_one_more() -> None:
    def line(length: int) -> bytes:
        return b"PROXY UNKNOWN ".ljust(length - 2, b"x") + b"\r\n"

    assert read(line(MAX_V1_BYTES)) == (None, b"")
    with pytest.raises(ProxyHeaderError):
        read(line(MAX_V1_BYTES + 1))


def test_a_line_without_an_end_is_not_waited_for() -> None:
    assert read(b"PROXY UNKNOWN ".ljust(MAX_V1_BYTES - 1, b"x"))[1] is None
    with pytest.raises(ProxyHeaderError):
        read(b"PROXY UNKNOWN ".ljust(MAX_V1_BYTES, b"x"))


def test_a_binary_header_that_claims_too_much_is_refused_by_its_first_bytes() -> None:
    largest = v2(body=IP4.ljust(MAX_V2_BYTES - 16, b"x"))
    assert len(largest) == MAX_V2_BYTES
    assert read(largest) == (("192.0.2.7", 4711), b"")
    with pytest.raises(ProxyHeaderError):
        read(v2(body=IP4.ljust(MAX_V2_BYTES - 15, b"x"))[:16])


@given(st.binary(max_size=300) | st.binary(max_size=60).map(lambda tail: SIGNATURE + tail))
def test_whatever_comes_it_is_a_source_or_one_error(data: bytes) -> None:
    try:
        source, _ = read(data)
    except ProxyHeaderError:
        return
    if source is not None:
        ipaddress.ip_address(source[0])
        assert 0 <= source[1] <= 65535
