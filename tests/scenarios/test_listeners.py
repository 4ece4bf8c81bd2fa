"""What a relay may listen on: both families of addresses, several of a kind, both words for secure WebSocket."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Coroutine, Iterator
from typing import Any

import pytest

from tests.scenarios.relays import Certificate
from tests.scenarios.scene import port_of, still_served
from tests.support.client import Client
from tests.support.relay import RelayProcess
from transports.address import multiaddr_bytes


@pytest.fixture(scope="module")
def relay(certificate: Certificate) -> Iterator[RelayProcess]:
    files = f'cert_file="{certificate.cert_file}", key_file="{certificate.key_file}"'
    plain = (
        f'{{address="/{host}/tcp/0{end}", workers=1}}' for host in ("ip4/127.0.0.1", "ip6/::1") for end in ("", "/ws")
    )
    again = '{address="/ip4/127.0.0.1/tcp/0/ws", workers=1}'
    secure = f'{{address="/ip4/127.0.0.1/tcp/0/wss", workers=1, {files}}}'
    with RelayProcess(f"listeners=[{', '.join([*plain, again, secure])}]") as relay:
        yield relay
        assert "Traceback" not in relay.stderr, relay.stderr


def addresses(relay: RelayProcess, *, having: str, ending: str) -> list[str]:
    """What the relay printed, by its family and its transport."""
    printed = [(address, address.partition("/p2p/")[0]) for address in relay.addresses]
    return [address for address, dialled in printed if having in dialled and dialled.endswith(ending)]


def run(play: Coroutine[Any, Any, None]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(30):
            await play

    asyncio.run(bounded())


async def call(source: Client, target: Client) -> None:
    """A reservation, a circuit, and some bytes along it; then both leave."""
    await target.reserve()
    left = await source.connect(target.peer_id)
    _, right = await target.called()
    left.write(b"hello")
    assert await right.read(5) == b"hello"
    await source.close()
    await target.close()


@pytest.mark.parametrize("ending", ["/ws", ""], ids=["ws", "tcp"])
def test_a_peer_on_ipv6_and_one_on_ipv4_meet(relay: RelayProcess, ending: str) -> None:
    async def play() -> None:
        dialled = [
            address for address in addresses(relay, having="/ip6/::1/", ending=ending) if ending or "/ws" not in address
        ]
        target = await Client.dial(dialled[0])
        observed = (await target.identify()).observedAddr
        assert observed == multiaddr_bytes(f"/ip6/::1/tcp/{port_of(target)}{ending}")
        source = await Client.dial(addresses(relay, having="/ip4/", ending="/ws")[0])
        await call(source, target)

    run(play())


def test_several_listeners_of_one_kind_serve_side_by_side(relay: RelayProcess) -> None:
    async def play() -> None:
        one, other = [each for each in addresses(relay, having="/ip4/", ending="/ws") if "/tls/" not in each]
        assert one != other
        await call(await Client.dial(one), await Client.dial(other))

    run(play())


def test_wss_is_another_word_for_tls_ws(relay: RelayProcess, certificate: Certificate) -> None:
    async def play() -> None:
        (address,) = addresses(relay, having="/ip4/", ending="/tls/ws")
        source, target = [await Client.dial(address, tls=certificate.trust) for _ in range(2)]
        await call(source, target)

    run(play())


@pytest.mark.parametrize(
    "said",
    [
        b"GET / HTTP/1.1\r\nHost: relay\r\n\r\n",
        b"\x13/multistream/1.0.0\n",
        b"\x16\x03\x01\xff\xff" + bytes(20_000),
        b"\x16\x03\x01\x00\x04\x01\x00\x00\x00",
        b"\xff" * 4096,
    ],
    ids=["http", "multistream", "too-long", "too-short", "garbage"],
)
def test_what_is_no_tls_is_ended_and_the_next_peer_is_served(
    relay: RelayProcess, certificate: Certificate, said: bytes
) -> None:
    async def play() -> None:
        (address,) = addresses(relay, having="/ip4/", ending="/tls/ws")
        reader, writer = await asyncio.open_connection("127.0.0.1", int(address.split("/")[4]))
        writer.write(said)
        try:
            answer = await reader.read()
        except ConnectionError:
            answer = b""
        writer.close()
        assert not answer or answer[0] == 0x15, "nothing, or a TLS alert"
        client = await Client.dial(address, tls=certificate.trust)
        await still_served(client)
        await client.close()

    run(play())


def test_a_client_that_trusts_another_certificate_is_nobody_elses_trouble(
    relay: RelayProcess, certificate: Certificate
) -> None:
    async def play() -> None:
        (address,) = addresses(relay, having="/ip4/", ending="/tls/ws")
        with pytest.raises(ssl.SSLError):
            await asyncio.open_connection("127.0.0.1", int(address.split("/")[4]), ssl=ssl.create_default_context())
        client = await Client.dial(address, tls=certificate.trust)
        await still_served(client)
        await client.close()

    run(play())
