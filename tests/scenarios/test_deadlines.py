"""What ends by itself when nobody does anything: each deadline, in every place.

They are all waited for at the same time, once for the module, because waiting is all they do; each test then asks how
its own went. What takes longest is a target that is silent on STOP (25 s).
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from typing import Any, TypeVar

import pytest
import uvloop

from actors import hop
from actors.proto.circuit_pb2 import HopMessage, Peer, Status
from tests.scenarios.relays import Certificate, Relays
from tests.scenarios.scene import (
    PLACES,
    TRANSPORTS,
    Circuit,
    Place,
    Puppet,
    Scene,
    joined,
    name_of,
    still_served,
    until,
)
from tests.support.client import Client, ClientStream, HopRefusedError, OnStop, StreamResetError
from transports.identity import HostKey
from transports.multistream import HEADER
from transports.varint import delimited

pytestmark = pytest.mark.slow

DURATION_S = 4
IDLE_S = 3
TTL_S = 12  # all peers of all scenarios come first, on a busy machine for some seconds
HANDSHAKE_S = 8
TICK_S = 0.2
BRIEF = (
    f"limits.circuit_duration_s={DURATION_S}",
    "limits.circuit_idle_timeout_s=120",
    f"limits.handshake_timeout_s={HANDSHAKE_S}",
)
IDLE = (
    "limits.circuit_duration_s=0",
    f"limits.circuit_idle_timeout_s={IDLE_S}",
    f"limits.reservation_ttl_s={TTL_S}",
)
_UPGRADE = (
    b"GET / HTTP/1.1\r\nHost: relay\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)

T = TypeVar("T")
Scenario = Callable[[Scene], Coroutine[Any, Any, None]]
Outcomes = dict[tuple[str, str], BaseException | None]


async def _patiently(wait: Callable[[], Awaitable[T]]) -> T:
    """A client waits 10 s for anything; these things take longer."""
    for _ in range(4):
        try:
            return await wait()
        except TimeoutError:
            continue
    return await wait()


async def _keep_busy(writer: ClientStream) -> None:
    while True:
        writer.write(b".")
        await asyncio.sleep(TICK_S)


async def _circuit_ended(scene: Scene, circuit: Circuit, reason: str) -> None:
    await asyncio.gather(_patiently(circuit.left.reset), _patiently(circuit.right.reset))
    source, target = f"source={name_of(circuit.source)}", f"target={name_of(circuit.target)}"
    await scene.logged("circuit", "ended", f"reason={reason}", source, target)


# At a relay of short circuits


async def a_circuit_is_reset_when_its_time_is_over_however_busy_it_is(scene: Scene) -> None:
    circuit = await scene.circuit()
    busy = asyncio.create_task(_keep_busy(circuit.left))
    await _circuit_ended(scene, circuit, "duration_limit")
    busy.cancel()
    await still_served(circuit.source)
    await still_served(circuit.target)


async def half_a_hop_message_is_reset(scene: Scene) -> None:
    client = await scene.dial()
    stream = client.open(hop.PROTOCOL, b"\x20half")
    await _patiently(stream.reset)
    await still_served(client)


async def an_answer_that_nobody_takes_leave_of_is_reset(scene: Scene) -> None:
    client = await scene.dial()
    answer, stream = await client.ask(HopMessage(type=HopMessage.CONNECT, peer=Peer(id=HostKey.generate().peer_id)))
    assert answer.status == Status.NO_RESERVATION
    assert await stream.read_to_end() == b""
    await _patiently(stream.reset)
    await still_served(client)


async def a_connection_that_says_nothing_is_closed(scene: Scene) -> None:
    await _cut_off(scene, b"")


async def a_connection_that_says_half_is_closed(scene: Scene) -> None:
    await _cut_off(scene, _UPGRADE[:-2] if scene.place.transport != "tcp" else HEADER[:-2])


async def a_connection_that_stops_before_noise_is_closed(scene: Scene) -> None:
    await _cut_off(scene, _UPGRADE if scene.place.transport != "tcp" else HEADER)


async def a_connection_that_drips_is_closed(scene: Scene) -> None:
    await _cut_off(scene, b"", drip=True)


async def _cut_off(scene: Scene, first: bytes, *, drip: bool = False) -> None:
    tls = scene._tls if scene.place.transport == "wss" else None
    reader, writer = await asyncio.open_connection("127.0.0.1", int(scene.address.split("/")[4]), ssl=tls)
    port = writer.get_extra_info("sockname")[1]
    writer.write(first)
    dripping = asyncio.create_task(_drip(writer)) if drip else None
    try:
        async with asyncio.timeout(3 * HANDSHAKE_S):
            while await reader.read(4096):
                pass
    except (ConnectionError, ssl.SSLError):
        pass
    if dripping is not None:
        dripping.cancel()
    writer.close()
    await scene.logged("refused", "reason=handshake_timeout", f"address=127.0.0.1:{port}")


async def _drip(writer: asyncio.StreamWriter) -> None:
    for byte in _UPGRADE * 3:
        writer.write(bytes((byte,)))
        await asyncio.sleep(TICK_S)


async def a_connection_that_never_begins_with_tls_is_closed(scene: Scene) -> None:
    await _cut_off_below_tls(scene, b"")


async def a_connection_that_stops_in_the_middle_of_tls_is_closed(scene: Scene) -> None:
    await _cut_off_below_tls(scene, b"\x16\x03\x01\x02\x00\x01")


async def _cut_off_below_tls(scene: Scene, first: bytes) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", int(scene.address.split("/")[4]))
    port = writer.get_extra_info("sockname")[1]
    writer.write(first)
    async with asyncio.timeout(3 * HANDSHAKE_S):
        assert await reader.read() == b""
    writer.close()
    await scene.logged("refused", "reason=handshake_timeout", f"address=127.0.0.1:{port}")


# At a relay of patient circuits


async def a_circuit_without_movement_is_reset(scene: Scene) -> None:
    circuit = await scene.circuit()
    circuit.left.write(b"one word")
    await _circuit_ended(scene, circuit, "idle")


async def a_half_closed_circuit_without_movement_is_reset(scene: Scene) -> None:
    circuit = await scene.circuit()
    circuit.left.close()
    assert await circuit.right.read_to_end() == b""
    await _circuit_ended(scene, circuit, "idle")


async def movement_in_one_direction_keeps_a_circuit_and_its_end_lets_it_go(scene: Scene) -> None:
    circuit = await scene.circuit()
    for _ in range(int(2 * IDLE_S / TICK_S)):
        circuit.right.write(b".")
        assert await circuit.left.read(1) == b"."
        await asyncio.sleep(TICK_S)
    await _circuit_ended(scene, circuit, "idle")


async def a_reservation_expires_and_its_circuit_lives_on(scene: Scene) -> None:
    source, target = await scene.pair()
    circuit = await joined(source, target)
    other = await scene.dial_beside(target)

    async def expired() -> bool:
        circuit.left.write(b".")
        await asyncio.sleep(TICK_S)
        try:
            (await other.connect(target.peer_id)).abort()
        except HopRefusedError as refused:
            return refused.status == Status.NO_RESERVATION
        return False

    await until(expired, "the end of a reservation")
    circuit.right.write(b"still here")
    assert await circuit.left.read(10) == b"still here"
    await target.reserve()
    (await other.connect(target.peer_id)).abort()


async def a_target_that_is_silent_on_stop_is_answered_203(scene: Scene) -> None:
    source, target = await scene.pair(on_stop=OnStop.SILENT)
    await _silence(scene, source, target)


async def a_target_that_says_half_of_its_status_is_answered_203(scene: Scene) -> None:
    source, target = await scene.pair(_Stammering)
    await _silence(scene, source, target)


class _Stammering(Puppet):
    """Begins to answer STOP."""

    async def _serve_stop(self, stream: ClientStream) -> None:
        await super()._serve_stop(stream)
        stream.write(b"\x04\x08")


async def _silence(scene: Scene, source: Client, target: Client) -> None:
    message = HopMessage(type=HopMessage.CONNECT, peer=Peer(id=target.peer_id))
    stream = source.open(hop.PROTOCOL, delimited(message.SerializeToString()))
    answer = HopMessage.FromString(await _patiently(stream.read_message))
    assert answer.status == Status.CONNECTION_FAILED
    assert await stream.read_to_end() == b""
    await scene.logged("refused", "reason=target_silent", f"peer={name_of(source)}", f"target={name_of(target)}")
    await still_served(target)


async def a_source_that_leaves_a_silent_target_is_forgotten_at_once(scene: Scene) -> None:
    source, target = await scene.pair(Puppet)
    connecting = asyncio.create_task(source.connect(target.peer_id))
    right = await target.stop_asked()
    await source.abort()
    with pytest.raises(StreamResetError):
        await connecting
    await right.reset()


_BRIEF_PLACED: tuple[Scenario, ...] = (a_circuit_is_reset_when_its_time_is_over_however_busy_it_is,)
_BRIEF_SOLO: tuple[Scenario, ...] = (
    half_a_hop_message_is_reset,
    an_answer_that_nobody_takes_leave_of_is_reset,
    a_connection_that_says_nothing_is_closed,
    a_connection_that_says_half_is_closed,
    a_connection_that_stops_before_noise_is_closed,
    a_connection_that_drips_is_closed,
)
_BRIEF_WSS: tuple[Scenario, ...] = (
    a_connection_that_never_begins_with_tls_is_closed,
    a_connection_that_stops_in_the_middle_of_tls_is_closed,
)
_IDLE_PLACED: tuple[Scenario, ...] = (
    a_circuit_without_movement_is_reset,
    a_half_closed_circuit_without_movement_is_reset,
    movement_in_one_direction_keeps_a_circuit_and_its_end_lets_it_go,
    a_reservation_expires_and_its_circuit_lives_on,
    a_target_that_is_silent_on_stop_is_answered_203,
    a_target_that_says_half_of_its_status_is_answered_203,
    a_source_that_leaves_a_silent_target_is_forgotten_at_once,
)
_ALONE = tuple(Place(transport, together=False) for transport in TRANSPORTS)
_AT_BRIEF = [
    *((scenario, place) for scenario in _BRIEF_PLACED for place in PLACES),
    *((scenario, place) for scenario in _BRIEF_SOLO for place in _ALONE),
    *((scenario, _ALONE[-1]) for scenario in _BRIEF_WSS),
]
_AT_IDLE = [(scenario, place) for scenario in _IDLE_PLACED for place in PLACES]


@pytest.fixture(scope="module")
def outcomes(relays: Relays, certificate: Certificate) -> Iterator[Outcomes]:
    with relays.started(*BRIEF) as brief, relays.started(*IDLE) as idle:
        plays = [
            *((scenario, Scene(brief, place, certificate.trust)) for scenario, place in _AT_BRIEF),
            *((scenario, Scene(idle, place, certificate.trust)) for scenario, place in _AT_IDLE),
        ]
        results = uvloop.run(_play_all(plays))
        yield {
            (scenario.__name__, str(scene.place)): result
            for (scenario, scene), result in zip(plays, results, strict=True)
        }


async def _play_all(plays: list[tuple[Scenario, Scene]]) -> list[BaseException | None]:
    async def play(scenario: Scenario, scene: Scene) -> None:
        try:
            await scenario(scene)
        finally:
            await scene.leave()

    results = await asyncio.gather(*(play(*each) for each in plays), return_exceptions=True)
    for relay_scene in {scene.relay.pid: scene for _, scene in plays}.values():
        await relay_scene.close()
    return results


@pytest.mark.parametrize(
    ("name", "place"),
    [(scenario.__name__, str(place)) for scenario, place in (*_AT_BRIEF, *_AT_IDLE)],
)
def test_in_time(outcomes: Outcomes, name: str, place: str) -> None:
    outcome = outcomes[name, place]
    if outcome is not None:
        raise outcome
