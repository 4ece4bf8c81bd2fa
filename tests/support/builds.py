"""Builds foreign programs from the sources that the project has, with compilers that a machine may lack.

What is built is kept in a cache folder by the hash of what it is built from. Nothing here may know of tests: the load
tests build with it too. `toolchain.py` makes skips and failures of its errors.
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

ROOT = Path(__file__).resolve().parents[2]
LOCK_FILES = ("package.json", "package-lock.json", ".npmrc")
INSTALL_TIMEOUT_S = 150
COMPILE_TIMEOUT_S = 1800
VERSION_TIMEOUT_S = 60


class MissingError(Exception):
    """The machine lacks a program, or has one that is too old."""


class BuildError(Exception):
    """A compiler or package manager failed; the text is the end of what it complained."""


def required_program(*names: str) -> str:
    """The path of the first of these programs that is installed."""
    for name in names:
        if path := shutil.which(name):
            return path
    raise MissingError(" or ".join(names))


def node_modules(source: Path, cache: Path) -> Path:
    """The folder with the locked npm packages of `source`, installed when the lock has changed."""
    npm = required_program("npm")
    required_program("node")
    return kept(cache, "modules", digest(source, *LOCK_FILES), lambda folder: _install(npm, source, folder))


def go_program(source: Path, cache: Path) -> Path:
    """The Go program of `source`, built when its sources or the compiler have changed."""
    key = go_key(source)
    return kept(cache, "go", key, lambda folder: _compile_go(source, folder)) / "peer"


def go_key(source: Path) -> str:
    """What the program of `source` is kept by, with the compiler that is installed."""
    go = required_program("go")
    version = _said([go, "env", "GOVERSION"], source)
    require_version("go", _found(r"^go (\S+)$", (source / "go.mod").read_text()), version)
    return digest(source, "go.mod", "go.sum", "main.go", salt=version)


def rust_program(source: Path, cache: Path, profile: str = "dev") -> Path:
    """The Rust program of `source`, built when its sources or the compiler have changed. `profile` is cargo's."""
    key = rust_key(source)
    return kept(cache, "rust", key, lambda folder: _compile_rust(source, cache, profile, folder)) / "peer"


def rust_key(source: Path) -> str:
    """What the program of `source` is kept by, with the compiler that is installed."""
    required_program("cargo")
    version = _said([required_program("rustc"), "--version"], source)
    require_version("rust", _found(r'^rust-version = "(\S+)"$', (source / "Cargo.toml").read_text()), version)
    sources = sorted(f"src/{path.name}" for path in (source / "src").glob("*.rs"))
    return digest(source, "Cargo.toml", *sources, salt=version)


def require_version(what: str, wanted: str, said: str) -> None:
    """`said` is what the compiler says of itself; its first number of two or three parts is the version."""
    if _parts(_found(r"(\d+\.\d+(?:\.\d+)?)", said)) < _parts(wanted):
        raise MissingError(f"{what} {wanted} or newer (installed: {said})")


def digest(folder: Path, *names: str, salt: str = "") -> str:
    """A short hash over the content of these files."""
    found = hashlib.sha256(salt.encode())
    for name in names:
        found.update(name.encode() + b"\0" + (folder / name).read_bytes() + b"\0")
    return found.hexdigest()[:20]


def place(cache: Path, kind: str, key: str) -> Path:
    """Where something is kept, whether it has been built or not."""
    return cache / f"{kind}-{key}"


def kept(cache: Path, kind: str, key: str, build: Callable[[Path], None]) -> Path:
    """Build into a folder of its own and move it into place: half of a build is never taken for a whole one."""
    folder = place(cache, kind, key)
    if folder.is_dir():
        return folder
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache, prefix=f"{kind}-", ignore_cleanup_errors=True) as scratch:
        made = Path(scratch) / "made"
        made.mkdir()
        build(made)
        try:
            made.rename(folder)
        except OSError:
            if not folder.is_dir():  # else another run was faster, with the same content
                raise
    return folder


def run(command: list[str], folder: Path, timeout_s: float, environ: Mapping[str, str] | None = None) -> str:
    """Run to the end and give what it wrote. Raises BuildError; what hangs is killed, with all it has started."""
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
        raise BuildError(f"{' '.join(command)} ended with {process.returncode}:\n{complaint[-4000:]}")
    return output


def _parts(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))


def _found(pattern: str, text: str) -> str:
    """The first group of the first match; there must be one."""
    found = re.search(pattern, text, re.MULTILINE)
    assert found, f"nothing like {pattern} in {text!r}"
    return found[1]


def _install(npm: str, source: Path, folder: Path) -> None:
    for name in LOCK_FILES:
        shutil.copy(source / name, folder / name)
    run([npm, "ci", "--prefer-offline"], folder, INSTALL_TIMEOUT_S)


def _compile_go(source: Path, folder: Path) -> None:
    switches = ["-mod=readonly", "-buildvcs=false", "-trimpath", "-ldflags=-s -w"]
    run([required_program("go"), "build", *switches, "-o", str(folder / "peer"), "."], source, COMPILE_TIMEOUT_S)


def _compile_rust(source: Path, cache: Path, profile: str, folder: Path) -> None:
    """Compile a copy, because cargo writes a lock file beside what it compiles; dependencies are compiled once."""
    with tempfile.TemporaryDirectory(dir=cache, prefix="rust-source-") as scratch:
        shutil.copy(source / "Cargo.toml", scratch)
        shutil.copytree(source / "src", Path(scratch) / "src")
        target = cache / "rust-target"
        command = [required_program("cargo"), "build", "--quiet", "--profile", profile]
        run(command, Path(scratch), COMPILE_TIMEOUT_S, {"CARGO_TARGET_DIR": str(target)})
        package = _found(r'^name = "(\S+)"$', (source / "Cargo.toml").read_text())
        shutil.copy(target / {"dev": "debug"}.get(profile, profile) / package, folder / "peer")


def _said(command: list[str], folder: Path) -> str:
    return run(command, folder, VERSION_TIMEOUT_S).strip()
