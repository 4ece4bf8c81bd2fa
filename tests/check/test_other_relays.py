"""`frost-relay check` against relays that are not ours: it is for any relay v2."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from loadtests.relays import RelayProgram, go_relay, js_relay, py_relay
from tests.check.looking import Looked
from tests.support.toolchain import told_to_the_test

pytestmark = [pytest.mark.interop, pytest.mark.slow, pytest.mark.timeout(600)]


MAKE: dict[str, Callable[[], RelayProgram]] = {"go": go_relay, "js": js_relay, "py": py_relay}
"""Not rust, which takes minutes to build: checked by hand, it is well, and gives no voucher."""


@pytest.fixture(scope="module", params=MAKE)
def relay(request: pytest.FixtureRequest) -> Iterator[RelayProgram]:
    with told_to_the_test():
        program = MAKE[request.param]()
    with program:
        yield program


def test_every_step_is_well(relay: RelayProgram) -> None:
    looked = Looked(next(each for each in relay.addresses if each.startswith("/ip4/")))
    looked.well()
    assert set(looked.outcomes.values()) == {"ok"}, looked.document
    assert list(looked.steps)[-4:] == ["second host", "circuit", "echo", "release"]
