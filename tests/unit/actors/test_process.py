from __future__ import annotations

import pytest

from actors.process import how_ended


@pytest.mark.parametrize(
    ("code", "how"),
    [(None, "in order"), (0, "in order"), (70, "exit code 70"), (-9, "SIGKILL"), (-11, "SIGSEGV"), (-40, "signal 40")],
)
def test_an_end_is_called_by_its_signal_or_its_code(code: int | None, how: str) -> None:
    assert how_ended(code) == how
