"""Programs that a test needs and a machine may lack, and the foreign peers that are built with them.

A missing program skips the test with its name; with CI set it fails the test: a pipeline that skips proves nothing.
What is built is kept under `.cache/` in the project root (`builds.py`).
"""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

import pytest

from tests.support import builds
from tests.support.builds import LOCK_FILES, ROOT, BuildError, MissingError

CACHE = ROOT / ".cache" / "interop"
EXAMPLE = ROOT / "examples" / "browser"
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
    """The folder with the locked npm packages of the example, installed when the lock has changed."""
    with told_to_the_test():
        return builds.node_modules(EXAMPLE, CACHE)


def page_folder() -> Path:
    """The folder with index.html and page.js, which holds everything that it imports."""
    return _bundled("page", [*_sources(JAVASCRIPT), EXAMPLE / "wallet.js"], _bundle_page)


def example_folder() -> Path:
    """The example, built as `make example` does it."""
    return _bundled("example", _sources(EXAMPLE), _bundle_example)


def go_program() -> Path:
    """The go-libp2p peer, built when its sources or the compiler have changed."""
    with told_to_the_test():
        return builds.go_program(GO, CACHE)


def rust_program() -> Path:
    """The rust-libp2p peer, built when its sources or the compiler have changed."""
    with told_to_the_test():
        return builds.rust_program(RUST, CACHE)


def _sources(folder: Path) -> list[Path]:
    """What a page is made of."""
    return sorted(path for path in folder.iterdir() if path.suffix in {".js", ".css", ".html"})


def _bundled(kind: str, sources: list[Path], bundle: Callable[[Path], Path]) -> Path:
    """Bundle copies of the sources beside node_modules: that is where imports are looked up."""
    modules = node_modules()
    locked = [EXAMPLE / name for name in LOCK_FILES]
    names = [str(path.relative_to(ROOT)) for path in [*locked, *sources]]

    def build(folder: Path) -> None:
        with tempfile.TemporaryDirectory(dir=modules, prefix="bundle-") as scratch:
            for path in [*locked, *sources]:
                shutil.copy(path, scratch)
            shutil.copytree(bundle(Path(scratch)), folder, dirs_exist_ok=True)

    with told_to_the_test():
        return builds.kept(CACHE, kind, builds.digest(ROOT, *names), build)


def _bundle_page(folder: Path) -> Path:
    program = folder.parent / "node_modules" / ".bin" / "esbuild"
    switches = ["--bundle", "--format=esm", "--target=es2022", "--log-level=warning", "--outdir=dist"]
    builds.run([str(program), "page.js", "index.html", "--loader:.html=copy", *switches], folder, BUNDLE_TIMEOUT_S)
    return folder / "dist"


def _bundle_example(folder: Path) -> Path:
    builds.run([required_program("npm"), "run", "--silent", "build"], folder, BUNDLE_TIMEOUT_S)
    return folder / "dist"
