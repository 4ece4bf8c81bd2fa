"""docs/wallets.md says what is so: its code is what the pages of the tests run, its numbers are the relay's."""

import re

import pytest

from actors.proto.circuit_pb2 import Status
from config.rates import Rate
from config.settings import Limits
from tests.support.builds import ROOT
from tests.support.toolchain import EXAMPLE, JAVASCRIPT

DOCUMENT = (ROOT / "docs" / "wallets.md").read_text("utf-8")
WALLET = (EXAMPLE / "wallet.js").read_text("utf-8")


def table(heading: str) -> list[list[str]]:
    """The cells of the rows below the heading's table head."""
    section = DOCUMENT.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    rows = [line.strip("|").split("|") for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in row] for row in rows[2:]]


def test_the_code_is_the_one_that_example_and_pages_run() -> None:
    (quoted,) = re.findall(
        r"^<!-- begin: examples/browser/wallet.js -->\n```js\n(.*?)^```\n<!-- end -->$",
        DOCUMENT,
        re.MULTILINE | re.DOTALL,
    )
    assert quoted == WALLET
    page = (JAVASCRIPT / "page.js").read_text("utf-8")
    meeting = (EXAMPLE / "meeting.js").read_text("utf-8")
    for program in (page, meeting):
        assert re.search(r"^import \{.*walletSettings.*\} from './wallet.js'$", program, re.MULTILINE)


def test_every_function_that_the_text_calls_is_in_the_code() -> None:
    exported = set(re.findall(r"^export (?:async )?function (\w+)", WALLET, re.MULTILINE))
    text = DOCUMENT.partition("<!-- end -->")[2]
    assert exported - {"walletSettings"} == {name for name in exported if re.search(rf"\b{name}\b", text)}


def test_every_package_that_the_code_imports_is_named() -> None:
    imported = set(re.findall(r"from '([^.'][^']*)'", WALLET))
    assert imported
    assert [name for name in imported if f"`{name}`" not in DOCUMENT.partition("<!-- begin")[0]] == []


def test_every_status_is_explained_with_its_number() -> None:
    explained = {name.strip("`"): int(number) for name, number, *_ in table("What a refusal means")}
    assert explained == {name: number for name, number in Status.items() if name not in {"UNUSED", "OK"}}


@pytest.mark.parametrize(
    ("row", "figures"),
    [
        ("a reservation", {"1 hour": Limits().reservation_ttl_s / 3600}),
        (
            "a circuit",
            {
                "2 minutes": Limits().circuit_duration_s / 60,
                "128 KiB": Limits().circuit_bytes / 1024,
                "1 minute": Limits().circuit_idle_timeout_s / 60,
            },
        ),
        ("circuits of one peer", {"4 as caller": Limits().max_circuits_per_peer}),
        ("circuits of the whole relay", {"16": Limits().max_circuits}),
    ],
)
def test_a_limit_is_the_relays_default(row: str, figures: dict[str, float]) -> None:
    (said,) = [text for name, text in table("What a circuit allows") if name == row]
    for figure, default in figures.items():
        assert figure in said
        assert float(figure.split()[0]) == default


@pytest.mark.parametrize(
    ("row", "by_peer", "by_ip"),
    [
        ("reservations asked for", Limits().reservation_rate_per_peer, Limits().reservation_rate_per_ip),
        ("circuits asked for", Limits().circuit_rate_per_peer, Limits().circuit_rate_per_ip),
    ],
)
def test_a_rate_is_the_relays_default(row: str, by_peer: Rate | None, by_ip: Rate | None) -> None:
    (said,) = [text for name, text in table("What a circuit allows") if name == row]
    peer, address = re.findall(r"(\d+) an hour", said)
    assert by_peer == Rate(int(peer), 3600.0)
    assert by_ip == Rate(int(address), 3600.0)


def test_its_links_lead_somewhere() -> None:
    links = re.findall(r"\]\((?!\w+:|#)([^)#\s]+)", DOCUMENT)
    assert links
    assert [link for link in links if not (ROOT / "docs" / link).exists()] == []


def test_no_line_is_too_long_to_read() -> None:
    prose = DOCUMENT.partition("<!-- begin")[0] + DOCUMENT.partition("<!-- end -->")[2]
    assert [line for line in prose.splitlines() if len(line) > 140 and not line.startswith("|")] == []
