"""Other addresses while the relay runs: every peer that wants to know is told, and whoever asks later hears of them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from actors import identify
from actors.proto.identify_pb2 import Identify
from actors.proto.peer_record_pb2 import PeerRecord
from actors.voucher import PEER_RECORD_DOMAIN, PEER_RECORD_TYPE, verify_envelope
from tests.scenarios.scene import still_served, until
from tests.support.client import Client
from tests.support.relay import RelayProcess
from transports.address import multiaddr_bytes, with_peer
from transports.identity import HostKey, parse_peer_id
from transports.varint import delimited

NEW = "/dns4/relay.example/tcp/443/tls/ws"


class Unwilling(Client):
    """Does not speak identify push."""

    def __init__(self, *arguments: object) -> None:
        super().__init__(*arguments)  # type: ignore[arg-type]
        self.takes_push = False


class Announcing:
    def __init__(self, folder: Path) -> None:
        self.file = folder / "relay.toml"
        self.file.write_text("")
        self.relay: RelayProcess

    async def announce(self, *addresses: str, also: str = "") -> None:
        listed = ", ".join(f'"{each}"' for each in addresses)
        self.file.write_text(f"[announce]\naddresses = [{listed}]\n{also}")
        outcome = await asyncio.to_thread(self.relay.reload)
        assert outcome["ok"], outcome


@pytest.fixture
def announcing(tmp_path: Path) -> Iterator[Announcing]:
    made = Announcing(tmp_path)
    with RelayProcess(workers=2, env={"FROST_RELAY_CONFIG": str(made.file)}) as made.relay:
        yield made


def record(message: Identify) -> PeerRecord:
    signer, payload = verify_envelope(message.signedPeerRecord, PEER_RECORD_DOMAIN, PEER_RECORD_TYPE)
    assert signer.peer_id == PeerRecord.FromString(payload).peer_id
    return PeerRecord.FromString(payload)


async def identified(client: Client) -> Identify:
    """What the relay says when it is asked; it has asked the client by then, and has its answer soon."""
    return await client.identify()


@pytest.mark.parametrize("transport", ["ws", "tcp"])
async def test_a_peer_is_told_of_other_addresses_with_a_newer_signed_record(
    announcing: Announcing, transport: str
) -> None:
    client = await Client.dial(announcing.relay.address(transport))
    before = await identified(client)
    await announcing.announce(NEW)

    async def pushed() -> bool:
        return bool(client.pushed)

    await until(pushed, "the push")
    (told,) = client.pushed
    assert list(told.listenAddrs) == [multiaddr_bytes(NEW)]
    assert told.observedAddr == before.observedAddr
    assert list(told.protocols) == list(before.protocols)
    assert identify.PUSH_PROTOCOL.decode() in told.protocols
    assert record(told).seq > record(before).seq
    assert [each.multiaddr for each in record(told).addresses] == [multiaddr_bytes(NEW)]
    assert list((await identified(client)).listenAddrs) == [multiaddr_bytes(NEW)]
    granted = await client.reserve()
    assert list(granted.reservation.addrs) == [with_peer(multiaddr_bytes(NEW), parse_peer_id(announcing.relay.peer_id))]
    await client.abort()


async def test_who_does_not_want_pushes_gets_none_and_everybody_else_one(announcing: Announcing) -> None:
    willing = [await Client.dial(announcing.relay.addresses[number % 2]) for number in range(100)]
    unwilling = await Unwilling.dial(announcing.relay.addresses[0])
    for each in (*willing, unwilling):
        await identified(each)
    await announcing.announce(NEW)

    async def all_pushed() -> bool:
        return all(client.pushed for client in willing)

    await until(all_pushed, "100 pushes")
    await announcing.announce(NEW, also="[limits]\nmax_circuits = 7\n")  # the same addresses: nobody is told again
    for each in (*willing, unwilling):
        await still_served(each)
    assert {len(client.pushed) for client in willing} == {1}
    assert unwilling.pushed == []
    await asyncio.gather(*(each.abort() for each in (*willing, unwilling)))


async def test_a_peer_may_push_what_has_changed_of_it(announcing: Announcing) -> None:
    client = await Unwilling.dial(announcing.relay.addresses[0], HostKey.generate())
    await identified(client)
    message = Identify(agentVersion="changed", protocols=[identify.PUSH_PROTOCOL.decode()])
    push = client.open(identify.PUSH_PROTOCOL, delimited(message.SerializeToString()))
    push.close()
    assert await push.read_to_end() == b""
    await announcing.announce(NEW)

    async def pushed() -> bool:
        return bool(client.pushed)

    await until(pushed, "a push to who has said that it takes them")
    await client.abort()


@pytest.mark.parametrize("body", [b"\xff" * 20, bytes(8193)])
async def test_a_push_that_is_none_ends_its_stream_only(announcing: Announcing, body: bytes) -> None:
    client = await Client.dial(announcing.relay.addresses[0])
    push = client.open(identify.PUSH_PROTOCOL, delimited(body))
    await push.reset()
    await still_served(client)
    await client.abort()
