"""Pages in headless Chromium that are js-libp2p peers (tests/interop/js/page.js).

Every page has a browser context of its own, as two people have browsers of their own. Nothing here may reach beyond
loopback: no STUN, no updates, no mDNS.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page, sync_playwright
from playwright.sync_api import Error as BrowserError

from tests.support.peers import CALL_TIMEOUT_S, Link, Peer, PeerCallError, link_of
from tests.support.toolchain import browser_path

LAUNCH_TIMEOUT_S = 60.0
RACE_TRIES = 6
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    # Candidates are loopback addresses, and named as such: nothing answers mDNS on a test machine.
    "--disable-features=WebRtcHideLocalIpsWithMdns",
    "--allow-loopback-in-peer-connection",
)


class JsPeer(Peer):
    """A js-libp2p peer in a page of its own."""

    def __init__(self, page: Page) -> None:
        self._page = page
        self.races_lost = 0

    def dial(self, address: str) -> Link:
        """Dial, and again after the known race of @libp2p/webrtc 6.0.33, which one dial in twelve loses with any relay.

        The page tells the race from a fault of the relay: it is lost only after the two browsers have connected to
        each other directly. Any other failure is raised at once. `races_lost` counts.
        """
        for _ in range(RACE_TRIES):
            dialled = self.call("dial", address=address)
            if not dialled["race"]:
                return link_of(dialled)
            self.races_lost += 1
        raise PeerCallError(f"dial: {RACE_TRIES} times lost the init channel race of @libp2p/webrtc")

    def call(self, name: str, **argument: Any) -> Any:
        """Run one call; it is waited for as a condition, because a plain evaluation has no time limit in playwright."""
        answer = self._page.wait_for_function(
            "([name, argument]) => globalThis.peer(name, argument)",
            arg=[name, argument],
            timeout=CALL_TIMEOUT_S * 1000,
        ).json_value()
        if "failure" in answer:
            raise PeerCallError(f"{name}: {answer['failure']}")
        return answer["value"]

    def identified(self, peer_id: str) -> dict[str, Any]:
        """What identify told about a peer: protocols, addresses, agent, and whether its signed record was taken."""
        found: dict[str, Any] = self.call("identified", peer=peer_id)
        return found

    def ping_ms(self, address: str) -> int:
        """The round trip of one ping."""
        elapsed: int = self.call("ping", address=address)
        return elapsed


class _QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 (the base class names it so)
        """Requests of a test page are not worth a line."""


@contextmanager
def page_server(folder: Path) -> Iterator[str]:
    """Serve a folder on loopback, which browsers take for a secure context; gives the base URL."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_QuietHandler, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever, name="page-server", daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join(timeout=10)
        server.server_close()


@contextmanager
def chromium() -> Iterator[Browser]:
    """A headless system Chromium, gone with all its processes when the block ends."""
    path = browser_path()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=path, headless=True, args=list(FLAGS), timeout=LAUNCH_TIMEOUT_S * 1000
        )
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def js_peer(browser: Browser, url: str, *, any_certificate: bool = False) -> Iterator[JsPeer]:
    """A page that has loaded the peer and not started it; what the page writes to its console is shown on failure.

    `any_certificate`: certificates are taken without a word, also those that a test has made.
    """
    context = browser.new_context(ignore_https_errors=any_certificate)
    context.set_default_timeout(CALL_TIMEOUT_S * 1000)
    page = context.new_page()
    page.on("console", lambda message: print(f"page: {message.text}"))  # noqa: T201 (pytest shows it on failure)
    page.on("pageerror", lambda error: print(f"page error: {error}"))  # noqa: T201
    try:
        page.goto(url)
        page.wait_for_function("() => globalThis.peer !== undefined")
        yield JsPeer(page)
    finally:
        try:
            context.close()
        except BrowserError as error:
            print(f"page did not close: {error}")  # noqa: T201
