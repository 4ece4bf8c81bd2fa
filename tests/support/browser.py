"""Pages in headless Chromium: js-libp2p peers (tests/interop/js/page.js), and empty ones for other pages.

Every page has a browser context of its own, as two people have browsers of their own. Nothing here may reach beyond
loopback: no STUN, no updates, no mDNS.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page, Route, sync_playwright
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


@contextmanager
def chromium(program: str = "") -> Iterator[Browser]:
    """A headless system Chromium, gone with all its processes when the block ends. `program`: what starts it."""
    path = program or browser_path()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=path, headless=True, args=list(FLAGS), timeout=LAUNCH_TIMEOUT_S * 1000
        )
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def js_peer(
    browser: Browser, url: str, *, any_certificate: bool = False, files: Path | None = None
) -> Iterator[JsPeer]:
    """A page that has loaded the peer and not started it; what the page writes to its console is shown on failure.

    `any_certificate`: certificates are taken without a word, also those that a test has made. `files`: what is at the
    URL, where no server is.
    """
    with tab(browser, any_certificate=any_certificate) as page:
        if files is not None:
            _answer_from(files, page, url)
        page.goto(url)
        page.wait_for_function("() => globalThis.peer !== undefined")
        yield JsPeer(page)


def _answer_from(files: Path, page: Page, url: str) -> None:
    def answer(route: Route) -> None:
        route.fulfill(path=files / (route.request.url.removeprefix(url) or "index.html"))

    page.route(f"{url}**", answer)


@contextmanager
def tab(browser: Browser, *, any_certificate: bool = False) -> Iterator[Page]:
    """An empty page in a context of its own."""
    context = browser.new_context(ignore_https_errors=any_certificate)
    context.set_default_timeout(CALL_TIMEOUT_S * 1000)
    page = context.new_page()
    page.on("console", lambda message: print(f"page: {message.text}"))  # noqa: T201 (pytest shows it on failure)
    page.on("pageerror", lambda error: print(f"page error: {error}"))  # noqa: T201
    try:
        yield page
    finally:
        try:
            context.close()
        except BrowserError as error:
            print(f"page did not close: {error}")  # noqa: T201
