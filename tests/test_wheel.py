"""The wheel, alone: built from the tree, installed into an empty environment of its own, started there."""

import os
import re
import select
import shutil
import signal
import subprocess
import sys
import time
import venv
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("config", "transports", "actors", "supervisor")
WAIT_S = 60

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy of what belongs to it, so that nothing is left behind in the tree."""
    tree = tmp_path_factory.mktemp("tree")
    for name in ("pyproject.toml", "README.md", "LICENSE-MIT", "LICENSE-APACHE"):
        shutil.copy(ROOT / name, tree)
    for name in PACKAGES:
        shutil.copytree(ROOT / name, tree / name, ignore=shutil.ignore_patterns("__pycache__"))
    out = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), str(tree)]
    built = subprocess.run(command, check=False, capture_output=True, text=True)
    assert built.returncode == 0, built.stdout + built.stderr
    (path,) = out.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bin directory of an environment with the wheel and its pinned packages, and nothing else."""
    directory = tmp_path_factory.mktemp("environment")
    venv.create(directory, with_pip=True, symlinks=True)
    python = directory / "bin" / "python"
    pip: list[str | Path] = [
        python,
        "-m",
        "pip",
        "--disable-pip-version-check",
        "--quiet",
        "install",
        "--no-build-isolation",
        "--use-pep517",
    ]
    steps: list[list[str | Path]] = [
        ["--require-hashes", "-r", ROOT / "requirements-build.lock"],
        ["--require-hashes", "-r", ROOT / "requirements.lock"],
        ["--no-deps", wheel],
    ]
    for arguments in steps:
        installed = subprocess.run([*pip, *arguments], check=False, capture_output=True, text=True)
        assert installed.returncode == 0, installed.stderr
    return directory / "bin"


@pytest.fixture
def elsewhere(tmp_path: Path) -> tuple[Path, dict[str, str]]:
    """A working directory and an environment from which the tree cannot be imported."""
    kept = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
    return tmp_path, {**kept, "HOME": str(tmp_path), "STATE_DIRECTORY": str(tmp_path / "state")}


def output(environment: Path, elsewhere: tuple[Path, dict[str, str]], *command: str) -> str:
    cwd, env = elsewhere
    program, *arguments = command
    done = subprocess.run(
        [environment / program, *arguments],
        cwd=cwd,
        env=env,
        check=False,
        capture_output=True,
        text=True,
        timeout=WAIT_S,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_wheel_holds_the_packages_their_data_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    assert {name.split("/")[0].split("-")[0] for name in names} == ({*PACKAGES, "frost_relay"})
    assert {f"{package}/py.typed" for package in PACKAGES} <= set(names)
    assert "config/default.toml" in names
    page = ROOT / "supervisor/admin/page"
    assert {each.relative_to(ROOT).as_posix() for each in page.iterdir() if each.is_file()} <= set(names)
    assert any(name.endswith("/licenses/LICENSE-MIT") for name in names)
    assert any(name.endswith("/licenses/LICENSE-APACHE") for name in names)


def test_the_wheel_holds_every_module_of_the_tree(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    modules = {path.relative_to(ROOT).as_posix() for package in PACKAGES for path in (ROOT / package).rglob("*.py")}
    assert modules - names == set()


def test_what_the_wheel_needs_is_what_the_lock_file_installs(environment: Path) -> None:
    checked = subprocess.run(
        [environment / "python", "-m", "pip", "check"], check=False, capture_output=True, text=True
    )
    assert checked.returncode == 0, checked.stdout


def test_both_commands_answer(environment: Path, elsewhere: tuple[Path, dict[str, str]]) -> None:
    assert re.search(r"\b\d+\.\d+\.\d+\b", output(environment, elsewhere, "frost-relay", "--version"))
    assert "--config" in output(environment, elsewhere, "frost-relay-server", "--help")


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "relay.toml"
    path.write_text(
        f"""
        [admin]
        listen = "127.0.0.1:0"
        control_socket = "{tmp_path}/control.sock"
        [[listeners]]
        address = "/ip4/127.0.0.1/tcp/0/ws"
        workers = 1
        [[listeners]]
        address = "/ip4/127.0.0.1/tcp/0"
        workers = 1
        """
    )
    return path


@pytest.mark.parametrize("command", [["frost-relay", "run"], ["frost-relay-server"]])
def test_the_relay_serves_and_ends_in_order(
    environment: Path, elsewhere: tuple[Path, dict[str, str]], config: Path, command: list[str]
) -> None:
    cwd, env = elsewhere
    program, *arguments = command
    with (cwd / "stderr").open("wb") as stderr:
        relay = subprocess.Popen(
            [environment / program, *arguments, "--config", config],
            cwd=cwd,
            env=env,
            stdout=subprocess.PIPE,
            stderr=stderr,
        )
    try:
        addresses = [line for _, line in zip(range(2), lines(relay), strict=False)]
        said = (cwd / "stderr").read_text()
        assert re.fullmatch(r"/ip4/127\.0\.0\.1/tcp/\d+/ws/p2p/12D3\w+", addresses[0]), said
        assert re.fullmatch(r"/ip4/127\.0\.0\.1/tcp/\d+/p2p/12D3\w+", addresses[1]), said
        relay.send_signal(signal.SIGTERM)
        assert relay.wait(WAIT_S) == 0, (cwd / "stderr").read_text()
        assert "Traceback" not in (cwd / "stderr").read_text()
    finally:
        relay.kill()
        relay.wait()
    assert (cwd / "state" / "identity.key").stat().st_mode & 0o777 == 0o600


def lines(process: subprocess.Popen[bytes]) -> Iterator[str]:
    """Lines of its standard output as they come, "" when it ends or stays silent for too long."""
    assert process.stdout
    waits_until = time.monotonic() + WAIT_S
    buffered = b""
    while b"\n" in buffered or select.select([process.stdout], [], [], max(0, waits_until - time.monotonic()))[0]:
        if b"\n" not in buffered:
            read = os.read(process.stdout.fileno(), 65536)
            if not read:
                break
            buffered += read
            continue
        line, buffered = buffered.split(b"\n", 1)
        yield line.decode()
    while True:
        yield ""
