"""Fixtures of the interoperability tests: the foreign peers, and what has to be installed or built for them.

A browser lives for one test module and not longer: while playwright runs, asyncio cannot be started in the same thread.
"""

import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from examples.browser.serve import page_server
from tests.support.browser import JsPeer, chromium, js_peer, tab
from tests.support.example import ExamplePage
from tests.support.programs import GoPeer, RustPeer
from tests.support.pylibp2p import PyPeer
from tests.support.toolchain import browser_path, example_folder, go_program, page_folder, rust_program

BUILT = {"page_files", "example_files", "go_binary", "rust_binary"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A test that may be the first to need a build has its time limit for itself: builds have limits of their own."""
    for item in items:
        if isinstance(item, pytest.Function) and BUILT.intersection(item.fixturenames):
            item.add_marker(pytest.mark.timeout(func_only=True))


@pytest.fixture(scope="session")
def page_files() -> Path:
    browser_path()  # asked first: without a browser nothing needs to be installed
    return page_folder()


@pytest.fixture(scope="session")
def example_files() -> Path:
    browser_path()
    return example_folder()


@pytest.fixture(scope="module")
def page_url(page_files: Path) -> Iterator[str]:
    """Loopback is a secure context to browsers, which js-libp2p needs."""
    with page_server(page_files, {}) as port:
        yield f"http://127.0.0.1:{port}"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as running:
        yield running


@pytest.fixture
def open_page(browser: Browser, page_url: str) -> Iterator[Callable[[], JsPeer]]:
    """Opens js-libp2p peers, each a page of its own; dials lost to the known WebRTC race are shown as a warning."""
    pages: list[JsPeer] = []
    with ExitStack() as opened:

        def open_one() -> JsPeer:
            pages.append(opened.enter_context(js_peer(browser, page_url)))
            return pages[-1]

        yield open_one
    if races := sum(page.races_lost for page in pages):
        warnings.warn(f"dials repeated after the init channel race of @libp2p/webrtc: {races}", stacklevel=1)


@pytest.fixture
def open_example(browser: Browser) -> Iterator[Callable[[], ExamplePage]]:
    """Opens pages for the example, each in a browser context of its own, as two people have browsers of their own."""
    with ExitStack() as opened:
        yield lambda: ExamplePage(opened.enter_context(tab(browser)))


@pytest.fixture
def start_py_peer() -> Iterator[Callable[..., PyPeer]]:
    """Starts py-libp2p peers, each a process of its own; takes what is to be added to their environment."""
    with ExitStack() as started:
        yield lambda **environ: started.enter_context(PyPeer(environ))


@pytest.fixture(scope="session")
def go_binary() -> Path:
    return go_program()


@pytest.fixture(scope="session")
def rust_binary() -> Path:
    return rust_program()


@pytest.fixture
def start_go_peer(go_binary: Path) -> Iterator[Callable[..., GoPeer]]:
    """Starts go-libp2p peers; takes what is to be added to their environment."""
    with ExitStack() as started:

        def start_one(**environ: str) -> GoPeer:
            return started.enter_context(GoPeer(go_binary, environ))

        yield start_one


@pytest.fixture
def start_rust_peer(rust_binary: Path) -> Iterator[Callable[..., RustPeer]]:
    """Starts rust-libp2p peers; takes what is to be added to their environment."""
    with ExitStack() as started:
        yield lambda **environ: started.enter_context(RustPeer(rust_binary, environ))
