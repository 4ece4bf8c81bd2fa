from __future__ import annotations

from pathlib import Path

from loadtests.soak.conduct import Kill, Result, Sample
from loadtests.soak.report import LONG_S, growths, judge, markdown, write

MIB = 1 << 20
CLEAN = {"age_s": 0.5, "differences": 0, "mended": 0}


def result(bytes_per_s: float = 0.0, seconds: float = LONG_S) -> Result:
    """A run in which `ws` lives all the time, and `tcp` is killed in the second half."""
    found = Result(seconds, {"ws": 4, "tcp": 2}, audits=dict(CLEAN), empty_after_s=0.5)
    for at_s in range(0, int(seconds), 10):
        sizes = {"ws": int(16 * MIB + at_s * bytes_per_s), "tcp": 8 * MIB + at_s * 10_000}
        found.samples.append(Sample(at_s, sizes, {"ws": 1, "tcp": 2 if at_s < 0.75 * seconds else 3}))
    found.kills.append(Kill("tcp", "SIGKILL", 0.25))
    found.steps["ws", "connect"] = 10, 1
    found.errors["connect: LostError()"] = 1
    return found


def failed(found: Result) -> list[str]:
    return [what for what, _, so in judge(found) if not so]


def test_the_slope_is_that_of_the_second_half_of_who_lived_through_it() -> None:
    (ws,) = growths(result(bytes_per_s=1024.0))
    assert (ws.name, ws.restarts) == ("ws", 0)
    assert round(ws.bytes_per_s) == 1024
    assert 16 * MIB + 300 * 1024 < ws.first_bytes < ws.last_bytes < 16 * MIB + 600 * 1024


def test_a_twentieth_or_a_mebibyte_in_the_second_half_is_flat_and_more_is_not() -> None:
    assert failed(result()) == []
    assert failed(result(bytes_per_s=MIB / 310)) == []
    assert failed(result(bytes_per_s=MIB / 270)) == ["memory is flat in the second half"]


def test_of_memory_a_short_run_says_nothing() -> None:
    assert failed(result(bytes_per_s=10 * MIB, seconds=60)) == []


def test_each_thing_that_has_to_be_is_told_when_it_is_not() -> None:
    found = result()
    found.audits["mended"] = 1
    found.empty_after_s = None
    found.faults = 2
    found.left.append("/dev/shm/something")
    found.kills.clear()
    assert len(failed(found)) == 5
    assert markdown(found).count("| **no** |") == 5


def test_the_page_has_what_was_measured(tmp_path: Path) -> None:
    write(result(), tmp_path)
    page = (tmp_path / "soak.md").read_text("utf-8")
    assert page.startswith("# A long run\n\nWritten by `make soak MINUTES=10` on ")
    assert "4 users over WebSocket, 2 over TCP" in page
    assert "| ws | 0 | 16.00 | 16.00 | +0.0 |" in page
    assert "| tcp | 1, at most 0.2 s |" in page
    assert "| ws | connect | 10 | 1 |" in page
    assert "- 1 × connect: LostError()" in page
