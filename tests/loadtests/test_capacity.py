"""`make capacity` in short: all parts of a run, with few peers."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

from tests.support.builds import ROOT


def capacity(*arguments: str, descriptors: int = 4096) -> subprocess.CompletedProcess[str]:
    limit = f"ulimit -n {descriptors}; exec " + '"$@"'
    command = ["bash", "-c", limit, "bash", sys.executable, "-m", "loadtests.capacity", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=120)


def test_a_small_run_writes_every_figure_and_judges_no_goal(tmp_path: Path) -> None:
    done = capacity("--peers", "200", "--idle-s", "1", "--docs", str(tmp_path))
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "capacity.md").read_text()
    assert page.count("**not at this size**") == 8
    assert "200 answered after" in page
    assert "200 of 200 for" in page
    assert "| 200 | " in page
    assert ElementTree.parse(tmp_path / "capacity.svg").getroot().tag.endswith("svg")


def test_a_size_that_cannot_be_is_named() -> None:
    done = capacity("--peers", "many")
    assert done.returncode == 2
    assert "'many': expected a whole number from 50 to 200000" in done.stderr


def test_too_few_descriptors_are_named_before_anything_starts() -> None:
    done = capacity("--peers", "5000", descriptors=4096)
    assert done.returncode == 2
    assert done.stderr == (
        "make capacity: ulimit -Hn = 4096: expected at least 5200 for so many peers, or a smaller PEERS\n"
    )
