"""docs/relay-behaviour.md: every row names a test, and every test that it names exists and is run."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DOCUMENT = (ROOT / "docs" / "relay-behaviour.md").read_text("utf-8")
NAMED = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")
ROWS = [line for line in DOCUMENT.splitlines() if line.startswith("| ") and not line.startswith("| Case |")]
TESTS = sorted(set(NAMED.findall(DOCUMENT)))


def is_run(source: str, name: str) -> bool:
    """A test function, a state machine's `Test…`, or a scenario that another test of its module is given by name."""
    defined = {
        target
        for item in ast.parse(source).body
        for target in (
            [item.name]
            if isinstance(item, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
            else [each.id for each in item.targets if isinstance(each, ast.Name)]
            if isinstance(item, ast.Assign)
            else []
        )
    }
    collected = name.startswith(("test_", "Test"))
    return name in defined and (collected or len(re.findall(rf"\b{name}\b", source)) > 1)


@pytest.mark.parametrize(("path", "name"), TESTS, ids=[f"{path}::{name}" for path, name in TESTS])
def test_a_test_that_the_document_names_exists(path: str, name: str) -> None:
    assert is_run((ROOT / path).read_text("utf-8"), name)


def test_every_row_says_a_case_an_answer_and_who_shows_it() -> None:
    assert len(ROWS) > 100
    for row in ROWS:
        cells = [cell.strip() for cell in row.strip("|").split(" | ")]
        assert len(cells) == 3, row
        assert all(cells), row
        shown = cells[2].split("<br>")
        assert all(NAMED.fullmatch(each) for each in shown), row


def test_no_case_is_told_twice() -> None:
    cases = [row.split(" | ")[0] for row in ROWS]
    assert len(cases) == len(set(cases))


def test_what_does_not_exist_or_is_not_run_is_noticed() -> None:
    source = (
        "def test_it() -> None: ...\n\ndef scenario() -> None: ...\n\nALL = (scenario,)\n\ndef helper() -> None: ...\n"
    )
    assert is_run(source, "test_it")
    assert is_run(source, "scenario")
    assert not is_run(source, "helper")
    assert not is_run(source, "test_nothing")
