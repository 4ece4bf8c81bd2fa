from __future__ import annotations

from pathlib import Path

import psutil
import pytest

from config.checks import LEAST_MEMORY_MB
from config.settings import Limits
from supervisor.memory_limit import limit_bytes, share_of, usable_bytes

MACHINE = psutil.virtual_memory().total
V2 = "sys/fs/cgroup"
V1 = "sys/fs/cgroup/memory"


def machine(folder: Path, groups: str, files: dict[str, str]) -> Path:
    """A file system with these lines for our control group, and these files."""
    for name, text in {"proc/self/cgroup": groups, **files}.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


@pytest.mark.parametrize(
    ("groups", "files", "usable"),
    [
        pytest.param("0::/\n", {}, MACHINE, id="no-bound"),
        pytest.param("0::/a/b\n", {f"{V2}/a/b/memory.max": "1048576\n"}, 1 << 20, id="v2"),
        pytest.param("0::/a/b\n", {f"{V2}/a/b/memory.max": "max\n"}, MACHINE, id="v2-none"),
        pytest.param(
            "0::/a/b\n", {f"{V2}/a/memory.max": "4096\n", f"{V2}/a/b/memory.max": "max\n"}, 4096, id="v2-outer"
        ),
        pytest.param("0::/a\n", {f"{V2}/a/memory.max": "9000\n", f"{V2}/a/memory.high": "8000\n"}, 8000, id="v2-high"),
        pytest.param("0::/host/path\n", {f"{V2}/memory.max": "7000\n"}, 7000, id="v2-container"),
        pytest.param("5:memory:/a\n0::/\n", {f"{V1}/a/memory.limit_in_bytes": "6000\n"}, 6000, id="v1"),
        pytest.param("5:cpu,memory:/a\n", {f"{V1}/memory.limit_in_bytes": "5000\n"}, 5000, id="v1-container"),
        pytest.param("5:memory:/\n", {f"{V1}/memory.limit_in_bytes": f"{(1 << 63) - 4096}\n"}, MACHINE, id="v1-none"),
        pytest.param("5:cpu:/a\n", {f"{V1}/a/memory.limit_in_bytes": "6000\n"}, MACHINE, id="another-controller"),
        pytest.param("0::/a\n", {f"{V2}/a/memory.max": "many\n"}, MACHINE, id="no-number"),
    ],
)
def test_what_may_be_taken_is_the_least_of_machine_and_control_groups(
    tmp_path: Path, groups: str, files: dict[str, str], usable: int
) -> None:
    assert usable_bytes(machine(tmp_path, groups, files)) == usable


def test_without_control_groups_it_is_the_machine(tmp_path: Path) -> None:
    assert usable_bytes(tmp_path) == MACHINE


def test_the_setting_is_what_it_says_and_its_default_a_share() -> None:
    assert limit_bytes(Limits(max_memory_mb=128)) == 128 << 20
    assert limit_bytes(Limits()) == share_of(usable_bytes())
    assert share_of(4 << 30) == 3 << 30
    assert share_of(100 << 20) == LEAST_MEMORY_MB << 20, "or it would take nobody, ever"
