"""Runs `frost-relay check` as a program and gives what it found."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

from tests.support.relay import ROOT

LIMIT_S = 120


def run_check(*arguments: str, setup: str = "") -> subprocess.CompletedProcess[str]:
    """The command, ended; `setup` is Python that runs in its process before it."""
    start = f"{setup}\nfrom supervisor.cli import main\nmain(prog_name='frost-relay')"
    command = [sys.executable, "-c", start, "check", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=LIMIT_S, check=False)


class Looked:
    """What a check found, by its JSON document."""

    def __init__(self, *arguments: str, setup: str = "") -> None:
        ended = run_check("--json", *arguments, setup=setup)
        assert ended.stderr == "", ended.stderr
        self.code = ended.returncode
        self.document: dict[str, Any] = json.loads(ended.stdout)
        self.steps: dict[str, dict[str, Any]] = {step["name"]: step for step in self.document["steps"]}

    @property
    def outcomes(self) -> dict[str, str]:
        """How each step ended."""
        return {name: step["outcome"] for name, step in self.steps.items()}

    def failure(self) -> tuple[str, str, str]:
        """The one step that failed, with cause and remedy. It must be the last, and the exit code must say it."""
        name, step = list(self.steps.items())[-1]
        assert step["outcome"] == "failed", self.document
        assert list(self.outcomes.values()).count("failed") == 1
        assert self.code == 1
        return name, step["detail"], step["remedy"]

    def well(self) -> None:
        """Nothing failed."""
        assert self.code == 0, self.document
        assert self.document["ok"], self.document
