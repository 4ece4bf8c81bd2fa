"""The page of examples/browser as somebody uses it: loaded, read, typed into. Nothing here may reach into its code.

The page dials again by itself when it loses the race of @libp2p/webrtc 6.0.33, so a meeting may take several tries.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Page

from examples.browser.serve import page_server

MEETING_LIMIT_S = 60.0  # all tries of the page, and what comes after them
STEPS = ("relay", "reserve", "call", "direct", "leave")


class ExamplePage:
    """One of the two."""

    def __init__(self, page: Page) -> None:
        self.page = page

    def load(self, url: str) -> None:
        """Open the page, or a link of the other one; returns once it is connected to the relay."""
        self.unload()  # a link differs in its fragment only, which is no reason for a browser to load it again
        self.page.goto(url)
        self.wait_step("relay")

    def unload(self) -> None:
        """Leave the page, as with the back button."""
        self.page.goto("about:blank")

    def link(self) -> str:
        """The own link, once there is one."""
        self.page.locator("#invite").wait_for()
        return self.page.locator("#address").input_value()

    def call(self, link: str) -> None:
        """Paste the other one's link and call."""
        self.page.locator("#other").fill(link)
        self.page.get_by_role("button", name="Call", exact=True).click()

    def wait_step(self, name: str) -> None:
        """Wait until a step has its tick."""
        self.page.locator(f"#step-{name}[data-state=done]").wait_for(timeout=MEETING_LIMIT_S * 1000)

    def times_ms(self) -> dict[str, int]:
        """How long each step took that has its tick."""
        texts = {name: self.page.locator(f"#step-{name} .time").inner_text() for name in STEPS}
        return {name: int(found[1]) for name, text in texts.items() if (found := re.fullmatch(r"(\d+) ms", text))}

    def say(self, text: str) -> None:
        """Send a line."""
        self.page.get_by_label("What you say").fill(text)
        self.page.get_by_role("button", name="Send").click()

    def wait_heard(self, text: str) -> None:
        """Wait until the other one's line is there."""
        self.page.locator("#lines .other", has_text=text).wait_for()

    def trouble(self) -> str:
        """What the page complains of, once it does."""
        self.page.locator("#trouble").wait_for(timeout=MEETING_LIMIT_S * 1000)
        return self.page.locator("#trouble-text").inner_text()

    def try_again(self) -> None:
        """Press the button beside the complaint."""
        self.page.get_by_role("button", name="Try again").click()


@contextmanager
def served_example(folder: Path, *relays: str) -> Iterator[str]:
    """Serve the page for these relays, without a STUN server; gives its URL."""
    with page_server(folder, {"relays": relays, "iceServers": []}) as port:
        yield f"http://127.0.0.1:{port}/"
