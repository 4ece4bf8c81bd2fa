"""The relays that scenarios are played at, and how a scenario is played: real process trees, coroutines as tests.

A module that needs other settings than a generous relay's overrides `relay`.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

import pytest
import uvloop

from tests.scenarios.relays import Certificate, Relays, make_certificate
from tests.scenarios.scene import PLACES, TRANSPORTS, Place, Scene
from tests.support.relay import RelayProcess


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """A test that is a coroutine runs in an event loop of its own, and its scene is closed in it."""
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    arguments = {name: pyfuncitem.funcargs[name] for name in inspect.signature(pyfuncitem.obj).parameters}

    async def play() -> None:
        try:
            await pyfuncitem.obj(**arguments)
        finally:
            for each in arguments.values():
                if isinstance(each, Scene):
                    await each.close()

    uvloop.run(play())
    return True


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return make_certificate(tmp_path_factory.mktemp("certificate"))


@pytest.fixture(scope="session")
def relays(certificate: Certificate) -> Relays:
    return Relays(certificate)


@pytest.fixture(scope="session")
def generous_relay(relays: Relays) -> Iterator[RelayProcess]:
    with relays.started() as relay:
        yield relay


@pytest.fixture
def relay(generous_relay: RelayProcess) -> RelayProcess:
    return generous_relay


@pytest.fixture(params=PLACES, ids=str)
def scene(request: Any, relay: RelayProcess, certificate: Certificate) -> Scene:
    """Two peers over each transport, in one worker and in two."""
    return Scene(relay, request.param, certificate.trust)


@pytest.fixture(params=TRANSPORTS)
def solo(request: Any, relay: RelayProcess, certificate: Certificate) -> Scene:
    """One peer, or several wherever they land, over each transport."""
    return Scene(relay, Place(request.param, together=False), certificate.trust)
