"""A handshake costs the relay a key and two exchanges, and whoever begins one nothing: so it is done only for those who
are within their limits."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from tests.attacks.ground import HANDSHAKE_BEGUN, Raw
from tests.attacks.siege import read_to_end
from tests.scenarios.relays import GENEROUS
from tests.scenarios.scene import counter, until
from tests.support.client import Client
from tests.support.relay import RelayProcess
from transports.multistream import HEADER, frame
from transports.noise import PROTOCOL as NOISE

pytestmark = pytest.mark.fault

ALLOWED = 20
BEGUN = 100
AGREED = HEADER + frame(NOISE)


@pytest.fixture(scope="module")
def relay() -> Iterator[RelayProcess]:
    with RelayProcess(*GENEROUS, f'limits.connection_rate_per_ip="{ALLOWED}/1h"') as relay:
        yield relay


async def _begin(relay: RelayProcess, transport: str, local: str) -> bytes:
    """What the relay says to a handshake that is begun and left."""
    raw = await Raw.open(int(relay.address(transport).split("/")[4]), local)
    try:
        if transport == "tcp":
            raw.say(HANDSHAKE_BEGUN)
            raw.writer.write_eof()
            return await read_to_end(raw.reader)
        client = await raw.upgrade()
        client.send(0x82, HANDSHAKE_BEGUN)
        client.send(0x88)
        frames = await client.read_to_end()
        return b"".join(payload for first, payload in frames if first == 0x82)
    except (OSError, EOFError):
        return b""
    finally:
        raw.leave()


@pytest.mark.parametrize(("transport", "local"), [("tcp", "127.4.0.1"), ("ws", "127.4.0.2")])
def test_of_a_flood_from_one_address_only_what_its_rate_allows_is_shaken_hands_with(
    relay: RelayProcess, transport: str, local: str
) -> None:
    async def flood() -> list[bytes]:
        return await asyncio.gather(*(_begin(relay, transport, local) for _ in range(BEGUN)))

    reason = "connection_rate_per_ip"
    before = counter(relay, "frost_relay_refusals_total", reason=reason)
    said = asyncio.run(flood())
    done = [each for each in said if each.startswith(AGREED) and len(each) > len(AGREED)]
    assert len(done) == ALLOWED
    assert [each for each in said if each not in done] == [b""] * (BEGUN - ALLOWED), "not even the protocol's name"
    asyncio.run(_counted(relay, before + BEGUN - ALLOWED, reason))
    asyncio.run(_welcome(relay, transport))


async def _counted(relay: RelayProcess, times: float, reason: str) -> None:
    async def all_of_them() -> bool:
        return counter(relay, "frost_relay_refusals_total", reason=reason) == times

    await until(all_of_them, f"{times} refusals for {reason}")


async def _welcome(relay: RelayProcess, transport: str) -> None:
    """From another address."""
    client = await Client.dial(relay.address(transport), local=("127.4.1.1", 0))
    await client.reserve()
    await client.close()
