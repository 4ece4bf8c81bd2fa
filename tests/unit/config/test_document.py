"""docs/settings.md says what the tables say."""

from pathlib import Path

import pytest

from config.document import document
from config.load import to_tables
from config.settings import Settings

WRITTEN = Path(__file__).parents[3] / "docs" / "settings.md"


def test_the_document_is_what_the_tables_say() -> None:
    assert WRITTEN.read_text("utf-8") == document(), "run `make docs-settings`"


@pytest.mark.parametrize(
    ("table", "key"),
    [(name, key) for name, keys in to_tables(Settings()).items() if isinstance(keys, dict) for key in keys],
)
def test_every_key_has_a_row_and_a_text(table: str, key: str) -> None:
    section = document().partition(f"## [{table}]\n")[2].partition("\n## ")[0]
    (row,) = (line for line in section.splitlines() if line.startswith(f"| `{key}` |"))
    assert all(cell.strip() for cell in row.strip("|").split("|"))
    (text,) = (
        line for line in section.splitlines() if line.startswith("**") and f"`{key}`" in line.partition("**:")[0]
    )
    assert len(text) > 20


def test_every_key_of_a_listener_is_explained() -> None:
    section = document().partition("## [[listeners]]\n")[2].partition("\n## ")[0]
    for key in ("address", "workers", "proxy_protocol", "cert_file", "key_file"):
        assert f"| `{key}` |" in section
    assert "(has to be there)" in section


def test_no_row_is_broken_by_what_stands_in_it() -> None:
    rows = [line for line in document().splitlines() if line.startswith("|")]
    assert {row.count("|") for row in rows} == {5}
