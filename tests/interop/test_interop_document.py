"""docs/interop.md names its evidence: every test that it names exists."""

import re

import pytest

from tests.support.builds import ROOT

NAMED = sorted(set(re.findall(r"`(test_\w+)`", (ROOT / "docs" / "interop.md").read_text())))
DEFINED = {
    name
    for path in (ROOT / "tests").rglob("test_*.py")
    if "node_modules" not in path.parts
    for name in re.findall(r"^(?:async )?def (test_\w+)", path.read_text(), re.MULTILINE)
}


@pytest.mark.parametrize("name", NAMED)
def test_a_test_that_the_document_names_exists(name: str) -> None:
    assert name in DEFINED


def test_the_document_names_tests() -> None:
    assert NAMED
