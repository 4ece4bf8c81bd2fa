"""Whose address a reverse proxy tells, and what a client can not make us believe."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from transports.proxy import MAX_HEADER_CHARACTERS, client_address

PROXY = ("127.0.0.1", 50000)


def trusted(ip: str) -> bool:
    return ip in {"127.0.0.1", "::1", "10.0.0.9"}


def client(*lines: str) -> tuple[str, int]:
    headers = CIMultiDict([("Host", "relay"), *(("X-Forwarded-For", line) for line in lines)])
    return client_address(headers, *PROXY, trusted)


@pytest.mark.parametrize(
    ("header", "address"),
    [
        ("192.0.2.7", ("192.0.2.7", 0)),
        ("192.0.2.7:4001", ("192.0.2.7", 4001)),
        ("2001:db8::1", ("2001:db8::1", 0)),
        ("[2001:db8::1]", ("2001:db8::1", 0)),
        ("[2001:DB8:0::1]:4001", ("2001:db8::1", 4001)),
        (" 192.0.2.7 ", ("192.0.2.7", 0)),
    ],
)
def test_every_way_to_write_an_address_is_understood(header: str, address: tuple[str, int]) -> None:
    assert client(header) == address


def test_what_the_client_wrote_itself_is_not_believed() -> None:
    assert client("6.6.6.6, 192.0.2.7") == ("192.0.2.7", 0)
    assert client("6.6.6.6, 7.7.7.7, 192.0.2.7, 10.0.0.9") == ("192.0.2.7", 0)


def test_what_the_client_wrote_in_a_line_of_its_own_is_not_believed() -> None:
    """HAProxy adds its line behind the client's instead of appending to it."""
    assert client("6.6.6.6", "192.0.2.7") == ("192.0.2.7", 0)
    assert client("6.6.6.6", "192.0.2.7", "10.0.0.9") == ("192.0.2.7", 0)


@pytest.mark.parametrize(
    "lines",
    [
        pytest.param((), id="no header"),
        pytest.param(("",), id="empty"),
        pytest.param(("unknown",), id="no address"),
        pytest.param(("192.0.2.7, unknown",), id="last is no address"),
        pytest.param(("192.0.2.7:65536",), id="port too large"),
        pytest.param(("192.0.2.7:-1",), id="port negative"),
        pytest.param(("192.0.2.7:٣",), id="port in other digits"),
        pytest.param(("127.0.0.1, 10.0.0.9",), id="proxies only"),
        pytest.param((",".join(["192.0.2.7"] * 200),), id="far too long"),
    ],
)
def test_without_a_usable_entry_it_is_the_proxy_itself(lines: tuple[str, ...]) -> None:
    assert client(*lines) == PROXY


def test_1024_characters_are_read_and_1025_are_not() -> None:
    for length, address in ((MAX_HEADER_CHARACTERS, ("192.0.2.7", 0)), (MAX_HEADER_CHARACTERS + 1, PROXY)):
        assert client("192.0.2.7".rjust(length)) == address


@given(st.text(max_size=60))
def test_whatever_a_header_says_the_answer_is_an_address(header: str) -> None:
    ip, port = client(header)
    ipaddress.ip_address(ip)
    assert 0 <= port <= 65535


@given(st.lists(st.text(alphabet="0123456789abcdef:.,[] %", max_size=30), max_size=4))
def test_a_client_can_not_speak_over_the_proxy(lies: list[str]) -> None:
    assert client(*lies, "192.0.2.7") == ("192.0.2.7", 0)
