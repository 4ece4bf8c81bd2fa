"""Programs that a test needs and a machine may lack, and the foreign peers that are built with them.

A missing program skips the test with its name; with CI set it fails the test: a pipeline that skips proves nothing.
What is built is kept under `.cache/` in the project root, by the hash of what it is built from.
"""

import hashlib
import os
import re
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NoReturn

import pytest

ROOT = Path(__file__).resolve().parents[2]
CACHE = ROOT / ".cache" / "interop"
JAVASCRIPT = ROOT / "tests" / "interop" / "js"
GO = ROOT / "tests" / "interop" / "go"
RUST = ROOT / "tests" / "interop" / "rust"
LOCK_FILES = ("package.json", "package-lock.json", ".npmrc")
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
INSTALL_TIMEOUT_S = 150
BUNDLE_TIMEOUT_S = 60
COMPILE_TIMEOUT_S = 900
VERSION_TIMEOUT_S = 60


def missing(what: str) -> NoReturn:
    """Skip the test because the machine lacks something; where CI is set, fail it."""
    if os.environ.get("CI", "").lower() in {"1", "true", "yes"}:
        pytest.fail(f"missing on a machine that runs CI: {what}", pytrace=False)
    pytest.skip(f"missing: {what}")


def required_program(*names: str) -> str:
    """The path of the first of these programs that is installed."""
    for name in names:
        if path := shutil.which(name):
            return path
    missing(" or ".join(names))


def browser_path() -> str:
    """The system's Chromium."""
    return required_program(*BROWSERS)


def node_modules() -> Path:
    """The folder with the locked npm packages, installed when the lock has changed."""
    npm = required_program("npm")
    required_program("node")
    return _kept("modules", _digest(JAVASCRIPT, *LOCK_FILES), lambda folder: _install(npm, folder))


def page_folder() -> Path:
    """The folder with index.html and page.js, which holds everything that it imports."""
    modules = node_modules()
    sources = sorted(path.name for path in JAVASCRIPT.glob("*.js"))
    key = _digest(JAVASCRIPT, *LOCK_FILES, "index.html", *sources)
    return _kept("page", key, lambda folder: _bundle(modules, sources, folder))


def go_program() -> Path:
    """The go-libp2p peer, built when its sources or the compiler have changed."""
    go = required_program("go")
    wanted = _found(r"^go (\S+)$", (GO / "go.mod").read_text())
    version = _said([go, "env", "GOVERSION"], GO)
    _require_version("go", wanted, version)
    key = _digest(GO, "go.mod", "go.sum", "main.go", salt=version)
    return _kept("go", key, lambda folder: _compile_go(go, folder)) / "peer"


def rust_program() -> Path:
    """The rust-libp2p peer, built when its sources or the compiler have changed."""
    cargo = required_program("cargo")
    wanted = _found(r'^rust-version = "(\S+)"$', (RUST / "Cargo.toml").read_text())
    version = _said([required_program("rustc"), "--version"], RUST)
    _require_version("rust", wanted, version)
    sources = sorted(f"src/{path.name}" for path in (RUST / "src").glob("*.rs"))
    key = _digest(RUST, "Cargo.toml", *sources, salt=version)
    return _kept("rust", key, lambda folder: _compile_rust(cargo, folder)) / "peer"


def _require_version(what: str, wanted: str, said: str) -> None:
    """`said` is what the compiler says of itself; its first number of two or three parts is the version."""
    if _parts(_found(r"(\d+\.\d+(?:\.\d+)?)", said)) < _parts(wanted):
        missing(f"{what} {wanted} or newer (installed: {said})")


def _parts(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))


def _found(pattern: str, text: str) -> str:
    """The first group of the first match; there must be one."""
    found = re.search(pattern, text, re.MULTILINE)
    assert found, f"nothing like {pattern} in {text!r}"
    return found[1]


def _digest(folder: Path, *names: str, salt: str = "") -> str:
    digest = hashlib.sha256(salt.encode())
    for name in names:
        digest.update(name.encode() + b"\0" + (folder / name).read_bytes() + b"\0")
    return digest.hexdigest()[:20]


def _kept(kind: str, key: str, build: Callable[[Path], None]) -> Path:
    """Build into a folder of its own and move it into place: half of a build is never taken for a whole one."""
    folder = CACHE / f"{kind}-{key}"
    if folder.is_dir():
        return folder
    CACHE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=CACHE, prefix=f"{kind}-", ignore_cleanup_errors=True) as scratch:
        made = Path(scratch) / "made"
        made.mkdir()
        build(made)
        try:
            made.rename(folder)
        except OSError:
            if not folder.is_dir():  # else another test run was faster, with the same content
                raise
    return folder


def _install(npm: str, folder: Path) -> None:
    for name in LOCK_FILES:
        shutil.copy(JAVASCRIPT / name, folder / name)
    _run([npm, "ci", "--prefer-offline"], folder, INSTALL_TIMEOUT_S)


def _bundle(modules: Path, sources: list[str], folder: Path) -> None:
    """The sources lie beside node_modules while they are bundled: that is where imports are looked up."""
    with tempfile.TemporaryDirectory(dir=modules, prefix="bundle-") as scratch:
        for name in sources:
            shutil.copy(JAVASCRIPT / name, Path(scratch) / name)
        command = [
            str(modules / "node_modules" / ".bin" / "esbuild"),
            str(Path(scratch) / "page.js"),
            "--bundle",
            "--format=esm",
            "--target=es2022",
            "--log-level=warning",
            f"--outfile={folder / 'page.js'}",
        ]
        _run(command, modules, BUNDLE_TIMEOUT_S)
    shutil.copy(JAVASCRIPT / "index.html", folder / "index.html")


def _compile_go(go: str, folder: Path) -> None:
    command = [
        go,
        "build",
        "-mod=readonly",
        "-buildvcs=false",
        "-trimpath",
        "-ldflags=-s -w",
        "-o",
        str(folder / "peer"),
    ]
    _run([*command, "."], GO, COMPILE_TIMEOUT_S)


def _compile_rust(cargo: str, folder: Path) -> None:
    """Compile a copy, because cargo writes a lock file beside what it compiles; dependencies are compiled once."""
    with tempfile.TemporaryDirectory(dir=CACHE, prefix="rust-source-") as scratch:
        shutil.copy(RUST / "Cargo.toml", scratch)
        shutil.copytree(RUST / "src", Path(scratch) / "src")
        target = CACHE / "rust-target"
        _run([cargo, "build", "--quiet"], Path(scratch), COMPILE_TIMEOUT_S, {"CARGO_TARGET_DIR": str(target)})
        shutil.copy(target / "debug" / "frost-relay-interop", folder / "peer")


def _said(command: list[str], folder: Path) -> str:
    return _run(command, folder, VERSION_TIMEOUT_S).strip()


def _run(command: list[str], folder: Path, timeout_s: float, environ: Mapping[str, str] | None = None) -> str:
    """Run to the end and give what it wrote; a failure and a hang fail the test with the end of what it complained."""
    with subprocess.Popen(
        command,
        cwd=folder,
        env={**os.environ, **(environ or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            output, complaint = process.communicate(timeout=timeout_s)
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)  # with the compilers and scripts that it has started
            raise
    if process.returncode != 0:
        pytest.fail(f"{' '.join(command)} ended with {process.returncode}:\n{complaint[-4000:]}", pytrace=False)
    return output
