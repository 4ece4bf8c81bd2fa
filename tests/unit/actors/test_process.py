from __future__ import annotations

import subprocess
import sys

import pytest

from actors.process import EXIT_FAULT, end_without_memory, how_ended

ENDING = "from actors.process import end_without_memory; end_without_memory(MemoryError())"
ENDING_WITHOUT_A_LINE = f"from actors import process; process._logger = None; process.{ENDING.rpartition('; ')[2]}"


@pytest.mark.parametrize(
    ("code", "how"),
    [(None, "in order"), (0, "in order"), (70, "exit code 70"), (-9, "SIGKILL"), (-11, "SIGSEGV"), (-40, "signal 40")],
)
def test_an_end_is_called_by_its_signal_or_its_code(code: int | None, how: str) -> None:
    assert how_ended(code) == how


@pytest.mark.parametrize("code", [ENDING, ENDING_WITHOUT_A_LINE], ids=["told", "no memory for a line"])
def test_a_process_that_gets_no_memory_ends(code: str) -> None:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == EXIT_FAULT
    assert ("out of memory" in done.stderr) == (code == ENDING)


@pytest.mark.parametrize("error", [None, RuntimeError("something else")], ids=["none", "another"])
def test_a_process_lives_on_after_other_faults(error: Exception | None) -> None:
    end_without_memory(error)
