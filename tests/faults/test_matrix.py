"""The kill matrix: in short the fewest cells that have every process, fault and load; `make faults` plays all."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from importlib import metadata

import pytest

from loadtests import machine
from tests.faults.matrix import FAULTS, LOADS, PROCESSES, Cell, Scale, Seen, play
from tests.support.builds import ROOT

pytestmark = pytest.mark.fault

Results = dict[Cell, Seen | None]

DOCUMENT = ROOT / "docs" / "faults.md"
BEGIN = "<!-- begin: written by make faults -->\n"
END = "<!-- end -->\n"
FAILS = "fails"
UPDATE = os.environ.get("UPDATE_DOCS") == "1"
ALL = [Cell(process, fault, load) for process in PROCESSES for fault in FAULTS for load in LOADS]
SHORT = [
    Cell("main", "SIGKILL", "busy"),
    Cell("system", "out of memory", "idle"),
    Cell("supervisor", "exception", "idle"),
    Cell("registry", "SIGKILL", "busy"),
    Cell("ws", "SIGSEGV", "busy"),
    Cell("ws", "exception", "busy"),
    Cell("tcp", "SIGSTOP", "busy"),
    Cell("admin", "out of memory", "busy"),
    Cell("canary", "SIGSEGV", "idle"),
]
CELLS = ALL if UPDATE else SHORT
SCALE = Scale() if UPDATE else Scale(peers=60, circuits=12, stop_s=3.0, hang_timeout_s=2.0)


@pytest.fixture(scope="module")
def results() -> Results:
    return {}


def test_the_short_form_has_every_process_fault_and_load() -> None:
    assert {cell.process for cell in SHORT} == set(PROCESSES)
    assert {cell.fault for cell in SHORT} == set(FAULTS)
    assert {cell.load for cell in SHORT} == set(LOADS)


@pytest.mark.parametrize("cell", CELLS, ids=str)
def test_only_who_has_to_be_hit_is_hit_and_nothing_is_left(cell: Cell, results: Results) -> None:
    results[cell] = None
    results[cell] = play(cell, SCALE)


def test_the_document_has_all_cells_and_none_that_failed(results: Results) -> None:
    before, written, after = parted(DOCUMENT.read_text("utf-8"))
    if UPDATE and len(results) == len(ALL):
        written = table(results)
        DOCUMENT.write_text(before + written + after, "utf-8")
    rows = [tuple(each.strip() for each in line.split("|")[1:3]) for line in written.splitlines() if "|" in line]
    assert rows[2:] == [(process, fault) for process in PROCESSES for fault in FAULTS]
    assert FAILS not in written


def table(results: Results) -> str:
    """When and with what, and a row for each process and fault."""
    here = machine.describe()
    parts = ", ".join(f"{name} {metadata.version(name)}" for name in ("uvloop", "picows", "thespian"))
    head = (
        f"Measured on {datetime.now(UTC):%Y-%m-%d} with commit {machine.commit()} on Python {here['python']}, {parts}; "
        f"{here['cores']} cores, Linux {here['kernel'].partition('-')[0]}. "
        f"{SCALE.peers} reserved peers and {SCALE.circuits} circuits where it says busy.\n\n"
    )
    columns = ["process", "fault", "what happens", "after, idle", "after, busy", "hit: peers, circuits", "the others"]
    rows = [columns, ["---"] * len(columns)]
    for process in PROCESSES:
        for fault in FAULTS:
            rows.append(row(process, fault, *(results[Cell(process, fault, load)] for load in LOADS)))
    return head + "".join(f"| {' | '.join(each)} |\n" for each in rows)


def row(process: str, fault: str, idle: Seen | None, busy: Seen | None) -> list[str]:
    """One process and fault, both loads."""
    if idle is None or busy is None:
        return [process, fault, FAILS, "", "", "", ""]
    after = ["" if seen.after_s is None else f"{seen.after_s * 1000:.0f} ms" for seen in (idle, busy)]
    others = f"{busy.circuits} circuits, {busy.compared_bytes / 1000:.0f} kB as sent" if busy.circuits else "none"
    outcomes = " / ".join(dict.fromkeys((idle.outcome, busy.outcome)))
    return [process, fault, outcomes, *after, f"{busy.hit_peers}, {busy.hit_circuits}", others]


def parted(document: str) -> tuple[str, str, str]:
    """What stands before, between and after the markers."""
    before, begin, rest = document.partition(BEGIN)
    written, end, after = rest.partition(END)
    assert begin, f"no {BEGIN!r} in the document"
    assert end, f"no {END!r} in the document"
    return before + begin, written, end + after
