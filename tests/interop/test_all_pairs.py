"""Every implementation reserves and is dialled by every other, through one relay: the table of docs/interop.md.

The table says what was measured, nothing else: `make interop-table` writes it, and without that a difference fails.
"""

import json
import os
import re
from collections.abc import Iterator
from importlib.metadata import version
from itertools import product

import pytest

from tests.support.builds import ROOT
from tests.support.meeting import meet_and_leave
from tests.support.peers import Peer
from tests.support.relay import RelayProcess
from tests.support.toolchain import EXAMPLE, GO, RUST

# The peers are built or installed while fixtures are set up, and their limits are not those of a test.
pytestmark = [pytest.mark.interop, pytest.mark.timeout(func_only=True)]

DOCUMENT = ROOT / "docs" / "interop.md"
BEGIN, END = "<!-- begin: written by make interop-table -->\n", "<!-- end -->"
STARTERS = {"go": "start_go_peer", "rust": "start_rust_peer", "js": "open_page", "py": "start_py_peer"}
PAIRS = list(product(STARTERS, repeat=2))

Cells = dict[tuple[str, str], str]


def transports(called: str, caller: str) -> tuple[str, str]:
    """One over TCP and one over WebSocket, by turns; a browser only has WebSocket."""
    if called == "js":
        return "ws", "ws" if caller == "js" else "tcp"
    if caller == "js" or (list(STARTERS).index(called) + list(STARTERS).index(caller)) % 2 == 0:
        return "tcp", "ws"
    return "ws", "tcp"


@pytest.fixture(scope="module")
def relay() -> Iterator[RelayProcess]:
    with RelayProcess() as running:
        yield running
        assert "Traceback" not in running.stderr, running.stderr


@pytest.fixture(scope="module")
def cells() -> Cells:
    return {}


@pytest.fixture
def pair(request: pytest.FixtureRequest, called: str, caller: str) -> tuple[Peer, Peer]:
    return request.getfixturevalue(STARTERS[called])(), request.getfixturevalue(STARTERS[caller])()


@pytest.mark.parametrize(
    ("called", "caller"),
    [pytest.param(*names, marks=[pytest.mark.browser] if "js" in names else []) for names in PAIRS],
)
def test_a_pair_meets_and_talks(
    relay: RelayProcess, cells: Cells, pair: tuple[Peer, Peer], called: str, caller: str
) -> None:
    called_via, caller_via = transports(called, caller)
    cells[called, caller] = "fails"
    meet_and_leave(relay, pair[0], called_via, pair[1], caller_via)
    cells[called, caller] = f"{called_via}, {caller_via}"


def test_the_document_says_what_was_measured(cells: Cells, capsys: pytest.CaptureFixture[str]) -> None:
    if len(cells) < len(PAIRS):
        pytest.skip(f"{len(cells)} of {len(PAIRS)} pairs were run")
    measured = table(cells)
    with capsys.disabled():
        print(f"\n{measured}", end="")  # noqa: T201 (whoever runs this wants to see it)
    before, written, after = parted(DOCUMENT.read_text())
    if os.environ.get("UPDATE_DOCS") == "1":
        DOCUMENT.write_text(before + measured + after)
    else:
        assert written == measured, "`make interop-table` writes the table"
    assert "fails" not in cells.values()


def table(cells: Cells) -> str:
    """The measured pairs; who reserves stands at the left, who dials at the top."""
    names = {"go": f"go-libp2p {go_version()}", "rust": f"rust-libp2p {rust_version()}"}
    names |= {"js": f"js-libp2p {js_version()}", "py": f"py-libp2p {version('libp2p')}"}
    rows = [["reserves ↓ dials →", *names.values()], ["---"] * (len(names) + 1)]
    rows += [[name, *(cells[called, caller] for caller in names)] for called, name in names.items()]
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def parted(document: str) -> tuple[str, str, str]:
    """What stands before, between and after the markers."""
    before, begin, rest = document.partition(BEGIN)
    written, end, after = rest.partition(END)
    assert begin, f"no {BEGIN!r} in the document"
    assert end, f"no {END!r} in the document"
    return before + begin, written, end + after


def go_version() -> str:
    found = re.search(r"github\.com/libp2p/go-libp2p v(\S+)", (GO / "go.mod").read_text())
    assert found
    return found[1]


def rust_version() -> str:
    found = re.search(r'^libp2p = \{ version = "=([\d.]+)"', (RUST / "Cargo.toml").read_text(), re.MULTILINE)
    assert found
    return found[1]


def js_version() -> str:
    wanted: dict[str, str] = json.loads((EXAMPLE / "package.json").read_text())["dependencies"]
    return wanted["libp2p"]
