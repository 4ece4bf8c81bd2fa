"""Every attack of the catalogue in a short form; `make attacks` plays them longer and writes docs/attacks.md."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.attacks.catalogue import ATTACKS, Attack
from tests.attacks.conductor import Conductor
from tests.scenarios.scene import counter

pytestmark = pytest.mark.fault

QUIET_S = 0.2
ATTACK_S = 1.0
LET_IN = 0.95


@pytest.fixture(scope="module")
def conductor() -> Iterator[Conductor]:
    with Conductor() as made:
        yield made
        relay = made.relay
        assert counter(relay, "frost_relay_faults_total") == 0, relay.stderr
        assert [each["restarts"] for each in relay.status()["workers"] if each["restarts"]] == []
        assert "Traceback" not in relay.stderr


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name)
def test_an_attack_is_seen_by_name_and_nobody_else_suffers(conductor: Conductor, attack: Attack) -> None:
    outcome = conductor.play(attack, QUIET_S, ATTACK_S)
    assert outcome.lost == ""
    assert outcome.came
    assert outcome.let_in >= LET_IN, outcome.kept_out
    assert set(outcome.seen_s) == set(attack.signs)
    assert outcome.returned, (outcome.memory_before_bytes, outcome.memory_after_bytes)


def test_names_of_attacks_and_their_addresses_are_their_own() -> None:
    assert len({attack.name for attack in ATTACKS}) == len(ATTACKS)
    addresses = [address for attack in ATTACKS for address in attack.where()]
    assert len(set(addresses)) == len(addresses)
