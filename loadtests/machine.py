"""What a result was measured on: without it a figure says nothing."""

from __future__ import annotations

import os
import platform
import subprocess
from pathlib import Path

from tests.support.builds import ROOT


def commit() -> str:
    """The short hash of the commit, with a plus when the worktree has changes that are not committed."""
    return _git("rev-parse", "--short", "HEAD") + ("+" if _git("status", "--porcelain") else "")


def describe() -> dict[str, str]:
    """Cores, CPU, kernel and Python."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return {
        "cores": str(os.cpu_count()),
        "cpu": models[0] if models else platform.machine(),
        "kernel": platform.release(),
        "python": platform.python_version(),
    }


def _git(*words: str) -> str:
    done = subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout.strip()
