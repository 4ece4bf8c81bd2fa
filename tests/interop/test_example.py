"""What the page of examples/browser says when something goes wrong, and `make example`, which serves it with a relay.

That two of its pages meet and go on without the relay stands in test_browsers.py.
"""

import json
import os
import signal
import socket
import subprocess
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Route

from tests.support.builds import ROOT
from tests.support.example import ExamplePage, served_example
from tests.support.pages import listener_address
from tests.support.ports import free_port
from tests.support.relay import RelayProcess

pytestmark = [pytest.mark.browser, pytest.mark.interop]

OpenExample = Callable[[], ExamplePage]
STOP_LIMIT_S = 20
# Fails at once, where a network that lets nothing through would take all of the page's tries, of 6 s each.
NO_WAY = """
globalThis.RTCPeerConnection = class extends RTCPeerConnection {
  async createOffer () { throw new Error('no way out') }
}
"""


@contextmanager
def made_example() -> Iterator[tuple[subprocess.Popen[str], str]]:
    """`make example` in a group of its own, as a terminal starts it; gives the URL that it prints."""
    command = ["make", "--no-print-directory", "example", "PORT=0"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, process_group=0) as make:
        assert make.stdout is not None
        try:
            yield make, make.stdout.readline().strip()
        finally:
            if make.poll() is None:
                os.killpg(make.pid, signal.SIGTERM)


def is_served(address: str) -> bool:
    """Whether anybody listens at /ip4/…/tcp/…"""
    _, _, host, _, port, *_ = address.split("/")
    with socket.socket() as probe:
        return probe.connect_ex((host, int(port))) == 0


@pytest.mark.timeout(300)
def test_make_example_serves_page_and_relay_until_ctrl_c_ends_both(
    open_example: OpenExample, example_files: Path
) -> None:
    with made_example() as (make, url):
        (relay,) = json.load(urllib.request.urlopen(f"{url}relay.json"))["relays"]
        assert is_served(relay)

        called, caller = open_example(), open_example()
        called.load(url)
        caller.load(called.link())
        for page in (called, caller):
            page.wait_step("leave")
        caller.say("by your link")
        called.wait_heard("by your link")
        caller.unload()
        called.page.get_by_text("The other one has left").wait_for()

        os.killpg(make.pid, signal.SIGINT)
        make.wait(STOP_LIMIT_S)
        assert not is_served(relay)


def test_a_full_relay_is_named_and_asked_again_when_told(open_example: OpenExample, example_files: Path) -> None:
    with RelayProcess("limits.max_reservations=1") as relay, served_example(example_files, relay.address("ws")) as url:
        first, second = open_example(), open_example()
        first.load(url)
        first.link()
        second.load(url)
        assert "The relay is full" in second.trouble()
        first.unload()
        relay.wait_status(lambda now: now["reservations"] == 0)
        second.try_again()
        assert second.link()


def test_a_relay_that_does_not_answer_is_named_and_used_when_it_is_there(
    open_example: OpenExample, example_files: Path, tmp_path: Path
) -> None:
    listeners = [f"/ip4/127.0.0.1/tcp/{free_port()}/ws"]
    key_file = f'identity.key_file="{tmp_path}/relay.key"'
    with RelayProcess(key_file, listeners=listeners) as relay:
        address = listener_address(relay)
    with served_example(example_files, address) as url:
        page = open_example()
        page.page.goto(url)
        assert f"The relay does not answer at {listeners[0]}" in page.trouble()
        with RelayProcess(key_file, listeners=listeners):
            assert page.link()
            assert page.page.locator("#trouble").is_hidden()


def test_whom_the_page_cannot_call_it_says_why(open_example: OpenExample, example_files: Path) -> None:
    with RelayProcess() as relay, served_example(example_files, relay.address("ws")) as url:
        gone, page = open_example(), open_example()
        gone.load(url)
        link = gone.link()
        gone.unload()
        relay.wait_status(lambda now: now["reservations"] == 0)
        page.load(link)
        assert "The other one is not there now" in page.trouble()

        for wrong, said in [
            ("hello", "not an address"),
            (relay.address("ws"), "not an address"),
            (page.link(), "your own address"),
        ]:
            page.call(wrong)
            page.page.locator("#trouble-text", has_text=said).wait_for()


def test_two_who_find_no_direct_way_are_told_so(open_example: OpenExample, example_files: Path) -> None:
    with RelayProcess() as relay, served_example(example_files, relay.address("ws")) as url:
        called, caller = open_example(), open_example()
        caller.page.add_init_script(NO_WAY)
        called.load(url)
        caller.load(called.link())
        assert "WebRTC found no direct way" in caller.trouble()


def test_a_page_from_elsewhere_over_plain_http_says_what_browsers_want(
    open_example: OpenExample, example_files: Path
) -> None:
    def answer(route: Route) -> None:
        route.fulfill(path=example_files / (route.request.url.rpartition("/")[2] or "index.html"))

    page = open_example()
    page.page.route("http://192.0.2.1/**", answer)
    page.page.goto("http://192.0.2.1/")
    assert "over https" in page.trouble()
