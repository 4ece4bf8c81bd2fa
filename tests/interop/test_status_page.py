"""The status page in Chromium, beside real relays: figures that move, refusals, a kill, the end, and who may look."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.support.browser import chromium
from tests.support.client import Client, HopRefusedError
from tests.support.relay import RelayProcess

pytestmark = pytest.mark.browser

WAIT_S = 15.0
PHONE = {"width": 360, "height": 740}
DESKTOP = {"width": 1280, "height": 900}
TOKEN = "a-token-of-the-test"

expect.set_options(timeout=WAIT_S * 1000)


class Peers:
    """Clients of ours that live in a thread of their own: playwright's has a loop already."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._loop = asyncio.new_event_loop()
        self._clients: list[Client] = []
        self._thread = threading.Thread(target=self._loop.run_forever, name="peers", daemon=True)
        self._thread.start()

    def _run(self, act: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(act, self._loop).result(WAIT_S)

    def reserve(self) -> None:
        """One more peer that holds a reservation; raises HopRefusedError."""

        async def act() -> None:
            client = await Client.dial(self._address)
            self._clients.append(client)
            await client.reserve()

        self._run(act())

    def close(self) -> None:
        """All of them leave."""

        async def act() -> None:
            await asyncio.gather(*(client.abort() for client in self._clients if not client.closed.is_set()))

        self._run(act())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


@contextmanager
def peers_of(relay: RelayProcess) -> Iterator[Peers]:
    peers = Peers(relay.address("ws"))
    try:
        yield peers
    finally:
        peers.close()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as running:
        yield running


@pytest.fixture(scope="module")
def calm() -> Iterator[RelayProcess]:
    """A relay to which nothing happens."""
    with RelayProcess(listeners=("/ip4/127.0.0.1/tcp/0/ws",)) as relay:
        yield relay


OpenStatus = Callable[..., Page]


@pytest.fixture
def open_status(browser: Browser) -> Iterator[OpenStatus]:
    """Opens the page of a relay; nothing that it does may go to another host, break its policy or raise."""
    asked: list[str] = []
    faults: list[str] = []
    contexts = []

    def open_one(relay: RelayProcess, look: str = "light", size: dict[str, int] = DESKTOP) -> Page:
        context = browser.new_context(color_scheme=look, viewport=size)  # type: ignore[arg-type]
        contexts.append((context, relay.admin_url))
        page = context.new_page()
        page.on("request", lambda request: asked.append(request.url))
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("console", lambda line: faults.append(line.text) if "Content Security" in line.text else None)
        page.goto(relay.admin_url)
        return page

    yield open_one
    origins = {origin for _, origin in contexts}
    for context, _ in contexts:
        context.close()
    assert faults == []
    assert asked
    assert [url for url in asked if not any(url.startswith(f"{origin}/") for origin in origins)] == []


def state(page: Page, name: str) -> None:
    expect(page.locator("#state")).to_have_attribute("data-state", name)


def cell(page: Page, table: str, row: str, column: str) -> Any:
    return page.locator(f"#{table} tr[data-{row}] td[data-column='{column}']")


def test_what_happens_is_on_the_page_and_at_last_that_nobody_answers(open_status: OpenStatus) -> None:
    with RelayProcess("limits.max_reservations=2", listeners=("/ip4/127.0.0.1/tcp/0/ws",)) as relay:
        page = open_status(relay)
        state(page, "serving")
        expect(page.locator("#identity")).to_contain_text(relay.address("ws"))
        expect(page.locator("#no-refusals")).to_be_visible()
        worker = relay.workers("listener")[0]["name"]

        with peers_of(relay) as peers:
            peers.reserve()
            expect(page.locator("#tile-reservations")).to_contain_text("1 of 2")
            expect(cell(page, "processes", f"process='{worker}'", "Reservations")).to_have_text("1")
            peers.reserve()
            expect(page.locator("#tile-reservations [role=meter]")).to_have_attribute("aria-valuenow", "2")
            expect(page.locator("#notices")).to_contain_text("limits.max_reservations = 2")

            with pytest.raises(HopRefusedError):
                peers.reserve()
            refused = "reason='reservations_full'"
            for column in ("Last minute", "Last hour", "In all"):
                expect(cell(page, "refusals", refused, column)).to_have_text("1")
            expect(page.locator("#refusals tbody")).to_contain_text("the relay is full: limits.max_reservations")
            expect(page.locator("#tile-refusals")).to_contain_text("1 per minute")

            relay.kill(worker)
            expect(cell(page, "processes", f"process='{worker}'", "Restarts")).to_contain_text("1: SIGKILL, ")
            expect(page.locator("#notices")).to_contain_text(f"{worker} ended")
            expect(page.locator("#tile-reservations")).to_contain_text("0 of 2")
            state(page, "serving")

        relay.stop(signal.SIGKILL)
        state(page, "silent")
        expect(page.locator("#state")).to_contain_text("The relay does not answer since ")
        expect(page.locator("#figures")).to_have_class("stale")
        expect(page).to_have_title("No answer – FROST Relay")


def test_a_page_opened_later_knows_what_was_before_also_after_the_admin_process_was_replaced(
    open_status: OpenStatus,
) -> None:
    with RelayProcess(listeners=("/ip4/127.0.0.1/tcp/0/ws",)) as relay:
        page = open_status(relay)
        state(page, "serving")
        before = next(value for value in memory_of(relay)[:-1] if value)
        relay.kill("admin")
        relay.wait_status(lambda now: all(each["state"] == "ready" for each in now["workers"]))
        assert before in memory_of(relay)[:-1]
        expect(cell(page, "processes", "process='admin'", "Restarts")).to_contain_text("1: SIGKILL, ")
        state(page, "serving")
        later = open_status(relay).locator("#tile-memory_bytes svg")
        expect(later).to_have_attribute("aria-label", re.compile(r"^Memory in the last hour: at most \d+ MiB$"))
        expect(later.locator(".line")).to_have_attribute("d", re.compile(r"^M\d"))


def memory_of(relay: RelayProcess) -> list[int | None]:
    """What was sampled of it, and at the end the present."""
    status, body = relay.get("/history.json")
    assert status == 200
    values: list[int | None] = json.loads(body)["series"]["memory_bytes"]
    return values


REFUSED = {"number": 1, "ok": False, "error": "limits.x = 1: expected less", "needs_restart": [], "late": []}
WSS = "/ip4/0.0.0.0/tcp/443/tls/ws"
CANARY = {
    "address": WSS, "ok": False, "last_run_unix_s": 1e9, "failing_since_unix_s": 1e9, "failed_step": "reserve",
    "cause": "it is full.", "remedy": "Raise it.", "runs": 3, "failures": 2,
}  # fmt: skip
RARE: tuple[tuple[dict[str, Any], tuple[str, ...]], ...] = (
    (
        {
            "certificates": [{"listener": WSS, "days_left": 9.5}, {"listener": f"{WSS}/2", "days_left": -1.0}],
            "reload": {"outcomes": [REFUSED]},
            "unannounced": [{"host": "<img src=x onerror=alert(1)>", "announce": "/dns4/a/tcp/80/ws"}],
        },
        (
            f"The certificate of {WSS} ends in 9.5 days.",
            f"The certificate of {WSS}/2 has ended.",
            "The last reload was refused, and nothing changed: limits.x = 1: expected less",
            "Peers come by <img src=x onerror=alert(1)>, which no announced address has",
        ),
    ),
    (
        {
            "reload": {"outcomes": [{**REFUSED, "ok": True, "needs_restart": ["admin.listen"], "late": ["registry"]}]},
            "reservations": 922,
            "canary": CANARY,
            "audit": {"age_s": 1.0, "differences": 0, "mended": 3},
            "denied": [{"address": "192.0.2.7", "crashes": 2, "left_s": 1800.0}],
        },
        (
            "Changed in the settings, and waiting for a restart: admin.listen.",
            "Not yet living by the new settings: registry.",
            "Few reservations are left: 922 of limits.max_reservations = 1,024.",
            "at 'reserve': it is full. Raise it.",
            "did not agree about 3 slots since the start",
            "2 processes died of what 192.0.2.7 had sent; it is kept out for 30 min more.",
        ),
    ),
)


def test_what_is_rare_is_told_too_and_never_taken_for_markup(open_status: OpenStatus, calm: RelayProcess) -> None:
    """The relay's own answer, with something in it changed."""
    page = open_status(calm)
    state(page, "serving")
    expect(page.locator("#notices li")).to_have_count(0)
    changed: dict[str, Any] = {}
    page.route("**/status.json", lambda route: route.fulfill(json={**route.fetch().json(), **changed}))
    for now, texts in RARE:
        changed.clear()
        changed.update(now)
        for text in texts:
            expect(page.locator("#notices")).to_contain_text(text)
        assert page.locator("#notices img").count() == 0

    workers = calm.status()["workers"]
    (supervisor,) = [each for each in workers if each["role"] == "supervisor"]
    supervisor["state"] = "draining"
    changed.update(ready=False, workers=workers)
    state(page, "partly")
    expect(page.locator("#state")).to_contain_text("Draining: nobody new is taken in")
    supervisor["state"] = "ready"
    workers[-1]["state"] = "failed"
    expect(page.locator("#state")).to_have_text("Not all of it serves: admin dies again and again.")

    page.unroute_all(behavior="wait")
    page.route("**/status.json", lambda route: route.fulfill(status=500, body="failed; the log says why\n"))
    expect(page.locator("#state")).to_contain_text('The relay answers "failed; the log says why" since ')
    page.unroute_all(behavior="wait")


def test_a_relay_with_a_token_shows_its_figures_to_who_knows_it(open_status: OpenStatus, tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text(TOKEN)
    file.chmod(0o600)
    settings = (f'admin.token_file="{file}"', 'admin.listen="127.0.0.1:0"')
    with RelayProcess(*settings, listeners=("/ip4/127.0.0.1/tcp/0/ws",)) as relay:
        page = open_status(relay)
        state(page, "token")
        expect(page.locator("#figures")).to_be_hidden()
        field = page.get_by_label("The token in admin.token_file")
        field.fill("not-the-token-of-it")
        field.press("Enter")
        expect(page.locator("#state")).to_contain_text("That is not the token.")
        field.fill(TOKEN)
        page.get_by_role("button", name="Show the relay").click()
        state(page, "serving")
        expect(page.locator("#ask-token")).to_be_hidden()
        page.reload()
        state(page, "serving")
        assert TOKEN not in page.content()
        assert relay.get("/history.json")[0] == relay.get("/status.json")[0] == 401


@pytest.mark.parametrize("size", [PHONE, DESKTOP], ids=["telephone", "desktop"])
def test_it_fits_the_screen_and_tables_are_tables(
    open_status: OpenStatus, calm: RelayProcess, size: dict[str, int]
) -> None:
    page = open_status(calm, size=size)
    state(page, "serving")
    assert page.evaluate("document.documentElement.scrollWidth") == size["width"]
    assert page.evaluate("document.body.scrollWidth") <= size["width"]
    table = page.get_by_role("table")
    expect(table.get_by_role("columnheader", name="Restarts")).to_have_count(1)
    row = table.get_by_role("row").filter(has=page.get_by_role("rowheader", name="registry"))
    expect(row.get_by_role("cell")).to_have_count(7)
    expect(page.get_by_role("meter", name="Reservations")).to_have_attribute("aria-valuenow", "0")


def test_it_is_light_or_dark_as_asked(open_status: OpenStatus, calm: RelayProcess) -> None:
    backs = {}
    for look in ("light", "dark"):
        page = open_status(calm, look)
        state(page, "serving")
        backs[look] = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert backs == {"light": "rgb(246, 247, 249)", "dark": "rgb(16, 20, 24)"}
