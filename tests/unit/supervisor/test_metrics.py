"""The counters of many processes, added up."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from supervisor import metrics

_COUNTS = "from actors import metrics; metrics.REFUSALS.labels('denied').inc(2)"


def _count_in_a_process(directory: Path) -> None:
    subprocess.run([sys.executable, "-c", _COUNTS], check=True, env={"PROMETHEUS_MULTIPROC_DIR": str(directory)})


def test_counters_of_processes_are_added_up(tmp_path: Path) -> None:
    _count_in_a_process(tmp_path)
    _count_in_a_process(tmp_path)
    assert metrics.refusals(str(tmp_path))["denied"] == 4


def test_a_file_that_a_process_has_only_just_created_counts_nothing(tmp_path: Path) -> None:
    _count_in_a_process(tmp_path)
    (tmp_path / "counter_ws-9091-1.db").touch()
    assert metrics.refusals(str(tmp_path))["denied"] == 2


def test_no_file_at_all_is_no_refusal(tmp_path: Path) -> None:
    assert metrics.refusals(str(tmp_path)) == {}


def test_a_directory_that_is_gone_is_no_refusal(tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    shutil.rmtree(gone)
    assert metrics.refusals(str(gone)) == {}
