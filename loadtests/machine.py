"""What a result was measured on: without it a figure says nothing."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import tomllib
from importlib import metadata
from pathlib import Path

from loadtests.relays import PEERS
from tests.support.builds import ROOT


def commit() -> str:
    """The short hash of the commit, with a plus when the worktree has changes that are not committed."""
    return _said("git", "rev-parse", "--short", "HEAD") + ("+" if _said("git", "status", "--porcelain") else "")


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


def versions() -> dict[str, str]:
    """What was compared, and with what it was built."""
    ours = ", ".join(f"{name} {metadata.version(name)}" for name in ("picows", "uvloop", "cryptography", "PyNaCl"))
    cargo = tomllib.loads((PEERS / "rust" / "Cargo.toml").read_text())["dependencies"]
    packages = json.loads((PEERS / "js" / "package.json").read_text())
    go = next(line for line in (PEERS / "go" / "go.mod").read_text().splitlines() if "/go-libp2p v" in line)
    node = next(iter(packages["optionalDependencies"].values()))
    return {
        "ours": f"{metadata.version('frost-relay')} on Python {platform.python_version()}, {ours}",
        "rust-libp2p": f"{cargo['libp2p']['version'].lstrip('=')}, {_said('rustc', '--version')}, release profile",
        "go-libp2p": f"{go.split()[1].lstrip('v')}, {_said('go', 'env', 'GOVERSION')}",
        "js-libp2p": f"{packages['dependencies']['libp2p']} on Node {node}",
        "py-libp2p": f"{metadata.version('libp2p')} on Python {platform.python_version()}",
    }


def _said(*command: str) -> str:
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False).stdout.strip()
