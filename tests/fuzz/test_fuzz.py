"""Every decoder against inputs that a fuzzing engine makes up, and against the seeds where there is no engine."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.fuzz.run import CORPUS, INPUT_S, ROOT
from tests.fuzz.targets import TARGETS
from tests.support.toolchain import missing

SECONDS = 10
AT_ONCE = 2
START_LIMIT_S = 60

Outcomes = dict[str, Future[subprocess.CompletedProcess[str]]]


def test_every_target_has_seeds_and_every_seed_a_target() -> None:
    assert {folder.name for folder in CORPUS.iterdir() if any(folder.iterdir())} == set(TARGETS)


@pytest.mark.parametrize("name", TARGETS)
def test_seeds_cut_at_every_byte_and_with_every_byte_changed(name: str) -> None:
    for seed in sorted((CORPUS / name).iterdir()):
        data = seed.read_bytes()
        for at in range(len(data)):
            TARGETS[name](data[:at])
            TARGETS[name](data[:at] + bytes((data[at] ^ 0xFF,)) + data[at + 1 :])
        TARGETS[name](data)


def _need_engine() -> None:
    if importlib.util.find_spec("atheris") is None:
        missing("atheris, which has wheels for Linux on x86-64 and Python 3.11 to 3.13 only")


def _run(*arguments: str) -> subprocess.CompletedProcess[str]:
    limit_s = START_LIMIT_S + SECONDS + INPUT_S
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        timeout=limit_s,
        check=False,
    )


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Outcomes]:
    _need_engine()
    folder = tmp_path_factory.mktemp("fuzz")
    with ThreadPoolExecutor(AT_ONCE) as pool:
        yield {name: pool.submit(_run, "-m", "tests.fuzz.run", name, str(SECONDS), str(folder)) for name in TARGETS}


@pytest.mark.slow
@pytest.mark.parametrize("name", TARGETS)
def test_ten_seconds_of_each_target_find_nothing(outcomes: Outcomes, name: str) -> None:
    outcome = outcomes[name].result()
    assert outcome.returncode == 0, outcome.stdout
    assert "stat::number_of_executed_units" in outcome.stdout, outcome.stdout


@pytest.mark.slow
def test_a_target_that_raises_is_found(tmp_path: Path) -> None:
    _need_engine()
    broken = (
        "import tests.fuzz.targets as t; from pathlib import Path; from tests.fuzz.run import fuzz\n"
        "def varint(data):\n"
        "    if len(data) > 3: raise UnicodeError('not promised')\n"
        f"t.TARGETS['varint'] = varint; fuzz('varint', {SECONDS}, Path({str(tmp_path)!r}))\n"
    )
    outcome = _run("-c", broken)
    assert outcome.returncode != 0
    assert "not promised" in outcome.stdout
    assert [path.name.split("-")[0] for path in tmp_path.glob("varint.*")] == ["varint.crash"]
