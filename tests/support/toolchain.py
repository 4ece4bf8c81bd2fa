"""Programs that a test needs and a machine may lack, and the foreign peers that are built with them.

A missing program skips the test with its name; with CI set it fails the test: a pipeline that skips proves nothing.
What is built is kept under `.cache/` in the project root (`builds.py`).
"""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

import pytest

from tests.support import builds
from tests.support.builds import LOCK_FILES, ROOT, BuildError, MissingError

CACHE = ROOT / ".cache" / "interop"
JAVASCRIPT = ROOT / "tests" / "interop" / "js"
GO = ROOT / "tests" / "interop" / "go"
RUST = ROOT / "tests" / "interop" / "rust"
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
BUNDLE_TIMEOUT_S = 60


def missing(what: str) -> NoReturn:
    """Skip the test because the machine lacks something; where CI is set, fail it."""
    if os.environ.get("CI", "").lower() in {"1", "true", "yes"}:
        pytest.fail(f"missing on a machine that runs CI: {what}", pytrace=False)
    pytest.skip(f"missing: {what}")


@contextmanager
def told_to_the_test() -> Iterator[None]:
    """What cannot be built skips or fails the test."""
    try:
        yield
    except MissingError as error:
        missing(str(error))
    except (BuildError, subprocess.TimeoutExpired) as error:
        pytest.fail(str(error), pytrace=False)


def required_program(*names: str) -> str:
    """The path of the first of these programs that is installed."""
    with told_to_the_test():
        return builds.required_program(*names)


def browser_path() -> str:
    """The system's Chromium."""
    return required_program(*BROWSERS)


def node_modules() -> Path:
    """The folder with the locked npm packages, installed when the lock has changed."""
    with told_to_the_test():
        return builds.node_modules(JAVASCRIPT, CACHE)


def page_folder() -> Path:
    """The folder with index.html and page.js, which holds everything that it imports."""
    modules = node_modules()
    sources = sorted(path.name for path in JAVASCRIPT.glob("*.js"))
    key = builds.digest(JAVASCRIPT, *LOCK_FILES, "index.html", *sources)
    with told_to_the_test():
        return builds.kept(CACHE, "page", key, lambda folder: _bundle(modules, sources, folder))


def go_program() -> Path:
    """The go-libp2p peer, built when its sources or the compiler have changed."""
    with told_to_the_test():
        return builds.go_program(GO, CACHE)


def rust_program() -> Path:
    """The rust-libp2p peer, built when its sources or the compiler have changed."""
    with told_to_the_test():
        return builds.rust_program(RUST, CACHE)


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
        builds.run(command, modules, BUNDLE_TIMEOUT_S)
    shutil.copy(JAVASCRIPT / "index.html", folder / "index.html")
