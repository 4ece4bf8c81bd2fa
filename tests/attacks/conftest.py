"""What attacks are made on: one relay a module, bystanders who use it all the time, and a scene for the attackers."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.attacks.bystanders import Bystanders
from tests.attacks.siege import Siege, sockets_of
from tests.scenarios.conftest import pytest_pyfunc_call
from tests.scenarios.relays import GENEROUS
from tests.scenarios.scene import counter
from tests.support.relay import RelayProcess


@pytest.fixture(scope="module")
def besieged() -> Iterator[tuple[RelayProcess, Bystanders]]:
    """A relay and its bystanders. Whatever was done: no fault, no restart, no stack trace, nothing left open."""
    with RelayProcess(*GENEROUS) as relay, Bystanders(relay) as bystanders:
        sockets = sockets_of(relay)
        yield relay, bystanders
        bystanders.assert_undisturbed()
        assert counter(relay, "frost_relay_faults_total") == 0, relay.stderr
        assert [each["restarts"] for each in relay.status()["workers"] if each["restarts"]] == [], relay.stderr
        assert "Traceback" not in relay.stderr, relay.stderr
        assert sockets_of(relay) == sockets


@pytest.fixture(params=["ws", "tcp"])
def siege(request: pytest.FixtureRequest, besieged: tuple[RelayProcess, Bystanders]) -> Siege:
    """Attackers over each transport."""
    return Siege(*besieged, request.param)


@pytest.fixture
def web(besieged: tuple[RelayProcess, Bystanders]) -> Siege:
    """Attackers of the WebSocket port."""
    return Siege(*besieged, "ws")


@pytest.fixture
def plain(besieged: tuple[RelayProcess, Bystanders]) -> Siege:
    """Attackers of the TCP port."""
    return Siege(*besieged, "tcp")


__all__ = ["pytest_pyfunc_call"]
