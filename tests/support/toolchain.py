"""Programs that a test needs and a machine may lack, and the JavaScript that is built with them.

A missing program skips the test with its name; with CI set it fails the test: a pipeline that skips proves nothing.
What is built is kept under `.cache/` in the project root, by the hash of what it is built from.
"""

import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import pytest

ROOT = Path(__file__).resolve().parents[2]
CACHE = ROOT / ".cache" / "interop"
JAVASCRIPT = ROOT / "tests" / "interop" / "js"
LOCK_FILES = ("package.json", "package-lock.json", ".npmrc")
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
INSTALL_TIMEOUT_S = 150
BUNDLE_TIMEOUT_S = 60


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
    return _kept("modules", _digest(*LOCK_FILES), lambda folder: _install(npm, folder))


def page_folder() -> Path:
    """The folder with index.html and page.js, which holds everything that it imports."""
    modules = node_modules()
    sources = sorted(path.name for path in JAVASCRIPT.glob("*.js"))
    key = _digest(*LOCK_FILES, "index.html", *sources)
    return _kept("page", key, lambda folder: _bundle(modules, sources, folder))


def _digest(*names: str) -> str:
    digest = hashlib.sha256()
    for name in names:
        digest.update(name.encode() + b"\0" + (JAVASCRIPT / name).read_bytes() + b"\0")
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


def _run(command: list[str], folder: Path, timeout_s: float) -> None:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=timeout_s, check=False)
    if done.returncode != 0:
        pytest.fail(f"{' '.join(command)} ended with {done.returncode}:\n{done.stderr[-4000:]}", pytrace=False)
