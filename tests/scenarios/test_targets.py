"""A target that does not take the call: the caller is told at once, both are served on, and their slots are free."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from actors import hop, identify
from actors.proto.circuit_pb2 import Status, StopMessage
from tests.scenarios.hop_requests import answer_on, connect_to, refused
from tests.scenarios.relays import Relays
from tests.scenarios.scene import Puppet, Scene, joined, still_served
from tests.support.client import Client, ClientStream, OnStop
from tests.support.relay import RelayProcess
from transports.varint import delimited


@pytest.fixture(scope="module")
def relay(relays: Relays) -> Iterator[RelayProcess]:
    with relays.started("limits.max_circuits_per_peer=1") as relay:
        yield relay


async def _failed(scene: Scene, source: Client, target: Client, reason: str) -> None:
    await refused(scene, source, connect_to(target.peer_id), Status.CONNECTION_FAILED, reason)
    await still_served(target)
    target.on_stop = OnStop.ACCEPT  # and its slots are free: the limits of this relay allow one circuit a peer
    target.__class__ = Client
    await joined(source, target)


@pytest.mark.parametrize("on_stop", [OnStop.REFUSE, OnStop.RESET], ids=["refuses", "resets"])
async def test_a_target_that_does_not_want_is_answered_203(scene: Scene, on_stop: OnStop) -> None:
    source, target = await scene.pair(on_stop=on_stop)
    await _failed(scene, source, target, "target_refused")


class _Answering(Puppet):
    """Answers STOP with `answer`, and FIN if that is empty."""

    answer = b""

    async def _serve_stop(self, stream: ClientStream) -> None:
        await super()._serve_stop(stream)
        if self.answer:
            stream.write(self.answer)
        else:
            stream.close()


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        delimited(b"\xff\xff\xff"),
        b"\xff\xff\x7f",
        delimited(StopMessage(status=Status.OK).SerializeToString()),
        delimited(StopMessage(type=StopMessage.STATUS).SerializeToString()),
        delimited(StopMessage(type=StopMessage.CONNECT, status=Status.OK).SerializeToString()),
    ],
    ids=["fin", "no-protobuf", "too-long", "no-type", "no-status", "connect"],
)
async def test_a_target_that_answers_anything_but_ok_is_answered_203(scene: Scene, answer: bytes) -> None:
    source, target = await scene.pair(_Answering)
    target.answer = answer
    await _failed(scene, source, target, "target_refused")


async def test_a_target_that_does_not_speak_stop_is_answered_203(scene: Scene) -> None:
    source, target = await scene.pair()
    spoken = target.connection._protocols
    target.connection._protocols = (identify.PROTOCOL,)
    await refused(scene, source, connect_to(target.peer_id), Status.CONNECTION_FAILED, "target_without_stop")
    target.connection._protocols = spoken
    await joined(source, target)


async def test_a_target_that_vanishes_before_it_answers_is_answered_203(scene: Scene) -> None:
    source, target = await scene.pair(Puppet)
    stream = source.open(hop.PROTOCOL, delimited(connect_to(target.peer_id).SerializeToString()))
    await target.stop_asked()
    async with scene.refusing("target_gone", source):
        await target.abort()
        assert (await answer_on(stream)).status == Status.CONNECTION_FAILED
