from __future__ import annotations

import pytest
import uvloop

from config.settings import Limits
from tests.attacks import memory_bound, worst_case
from tests.attacks.report import DOCUMENT
from tests.scenarios.relays import GENEROUS
from tests.support.relay import RelayProcess


def test_the_document_says_what_the_constants_come_to() -> None:
    text = DOCUMENT.read_text()
    for row in memory_bound.rows(Limits()):
        assert row in text


@pytest.mark.fault
def test_the_peer_that_costs_most_costs_no_more_than_the_bound() -> None:
    with RelayProcess(*GENEROUS) as relay:
        grown_bytes = uvloop.run(worst_case.measure(relay))
    bound_bytes = sum(memory_bound.of_connection(Limits()).values())
    # Much less would mean that it did not fill what it meant to.
    assert bound_bytes / 3 < grown_bytes <= bound_bytes
