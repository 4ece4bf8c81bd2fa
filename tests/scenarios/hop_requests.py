"""Requests of the hop protocol as a test makes them, and what an answer must look like."""

from __future__ import annotations

from actors import hop
from actors.proto.circuit_pb2 import HopMessage, Peer
from tests.scenarios.scene import Scene, still_served
from tests.support.client import Client, ClientStream
from transports.varint import delimited

RESERVE = HopMessage(type=HopMessage.RESERVE)


def connect_to(target: bytes) -> HopMessage:
    return HopMessage(type=HopMessage.CONNECT, peer=Peer(id=target))


async def answer_on(stream: ClientStream) -> HopMessage:
    """The answer, which must be all that comes: a status, and FIN."""
    answer = HopMessage.FromString(await stream.read_message())
    assert answer.type == HopMessage.STATUS
    assert await stream.read_to_end() == b""
    return answer


async def refused(scene: Scene, client: Client, asked: HopMessage | bytes, status: int, reason: str) -> None:
    """What is asked (a message, or a raw frame) is answered with `status`; the refusal is counted and logged."""
    async with scene.refusing(reason, client):
        frame = delimited(asked.SerializeToString()) if isinstance(asked, HopMessage) else asked
        answer = await answer_on(client.open(hop.PROTOCOL, frame))
        assert (answer.status, answer.HasField("reservation"), answer.HasField("limit")) == (status, False, False)
    await still_served(client)
