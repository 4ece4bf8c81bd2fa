"""A relay that is told to end: what its peers hear, and in which order."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.scenarios.relays import GENEROUS, Certificate, Relays
from tests.scenarios.scene import PLACES, Place, Scene, joined
from tests.support.client import Client
from tests.support.relay import RelayProcess


class _Hearing(Client):
    """Writes down what it hears of the end, in order."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.heard: list[str] = []

    def go_away_received(self, code: int) -> None:
        self.heard.append(f"goodbye {code}")
        super().go_away_received(code)

    def wire_lost(self, error: Exception | None) -> None:
        self.heard.append("end")
        super().wire_lost(error)


@pytest.mark.parametrize("place", PLACES, ids=str)
def test_a_relay_that_ends_resets_circuits_and_says_goodbye_to_everybody(
    relays: Relays, certificate: Certificate, place: Place
) -> None:
    with RelayProcess(*GENEROUS, f"listeners=[{relays.listeners}]") as relay:

        async def play() -> None:
            scene = Scene(relay, place, certificate.trust)
            target = await scene.reserved(_Hearing)
            source = await scene.dial_beside(target, _Hearing)
            circuit = await joined(source, target)
            resets = [asyncio.create_task(stream.reset()) for stream in (circuit.left, circuit.right)]
            assert await asyncio.to_thread(relay.stop) == 0
            for client in (source, target):
                async with asyncio.timeout(10):
                    await client.closed.wait()
                assert client.heard == ["goodbye 0", "end"]
            await asyncio.gather(*resets)

        asyncio.run(play())
        assert "Traceback" not in relay.stderr, relay.stderr
