"""The users that locust runs: browsers that behave, and strangers that do not.

What a user does in which order, and nothing of how: that is browser.py. A user must never count a failure twice, nor
call one that may have left.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from itertools import count
from typing import Final

import gevent
from gevent.event import Event
from gevent.queue import Empty, Queue
from locust import User, between, task

from loadtests.browsers.browser import WAIT_S, Browser, BrowserStream, LostError, OnCall, TimedOutError
from loadtests.browsers.pipes import Target
from loadtests.browsers.steps import Abandoned, Steps, retried

HOLD_S: Final = (1.0, 8.0)
ROUNDS: Final = (3, 12)
CALL_BYTES: Final = 500
# A session description of a browser with one data channel, its answer, and candidates behind each: 4 to 5 KB in all.
OFFER_BYTES: Final = (1900, 2300)
ANSWER_BYTES: Final = (1300, 1600)
CANDIDATE_BYTES: Final = 170
CANDIDATES: Final = 3
PARTY: Final = 3
_LENGTH_BYTES: Final = 2

_numbers = count(random.randrange(1 << 22))  # several processes begin at different addresses


def source_of(target: Target) -> str | None:
    """Where the next browser comes from: on loopback each has an address of its own, as out there."""
    if not target.loopback:
        return None
    number = next(_numbers) % 4_000_000
    return f"127.{64 + number // 64516}.{1 + number // 254 % 254}.{1 + number % 254}"


class RelayUser(User):
    """What all have in common: a relay, given as `--host`, and steps."""

    abstract = True

    def on_start(self) -> None:
        """Read the address; the locustfile has checked it."""
        self.target = Target.parse(self.host or "")
        self.steps = Steps(self.environment, self.target.transport)

    def enter(self, on_call: OnCall | None = None) -> Browser:
        """A browser that is connected and knows its relay."""
        browser = Browser(self.target, source_of(self.target), on_call)
        try:
            with self.steps.step("connect", browser):
                retried(browser.connect, self.steps.patience_s(), lambda: gevent.sleep(random.uniform(0.1, 0.5)))
            with self.steps.step("upgrade", browser):
                browser.upgrade()
            with self.steps.step("identify", browser):
                browser.identify()
        except BaseException:
            browser.vanish()
            raise
        return browser


class Guest:
    """A reserved browser that others may call: it leaves when nobody does."""

    def __init__(self, browser: Browser) -> None:
        self.browser = browser
        self.storm = Event()
        self._callers = 0
        self._nobody_calls = Event()
        self._nobody_calls.set()

    @contextmanager
    def called(self) -> Iterator[None]:
        """Somebody calls for as long as the block runs."""
        self._callers += 1
        self._nobody_calls.clear()
        try:
            yield
        finally:
            self._callers -= 1
            if not self._callers:
                self._nobody_calls.set()

    def wait_for_callers(self) -> None:
        """Until the last call has ended; it has a deadline in each of its steps."""
        self._nobody_calls.wait(4 * WAIT_S)


class ReservedBrowser(RelayUser):
    """A wallet that waits to be called: connects, reserves, holds, renews, answers calls and makes some, leaves."""

    weight = 10
    wait_time = between(0.1, 2.0)
    guests: Final[list[Guest]] = []

    def on_start(self) -> None:
        """Nobody is there yet who could be called."""
        super().on_start()
        self._guest: Guest | None = None

    def on_stop(self) -> None:
        """The tab is closed: in order, as a page that is left."""
        if self._guest is not None:
            self._depart(self._guest)

    @classmethod
    def renew_at_once(cls) -> None:
        """Everyone who is reserved here renews now."""
        for guest in cls.guests:
            guest.storm.set()

    @task
    def life(self) -> None:
        """From opening the page to leaving it."""
        browser = self.enter(echo)
        guest = self._guest = Guest(browser)
        try:
            with self.steps.step("reserve", browser):
                browser.reserve()
            self.guests.append(guest)
            self._stay(guest)
        except Abandoned:
            self._strike(guest)
            browser.vanish()
            raise
        self._strike(guest)
        guest.wait_for_callers()
        with self.steps.step("leave", browser):
            browser.leave()
        self._guest = None

    def _stay(self, guest: Guest) -> None:
        for _ in range(random.randint(*ROUNDS)):
            self._hold(guest)
            others = [each for each in self.guests if each is not guest and not each.browser.gone.is_set()]
            if guest.storm.is_set() or not others or random.random() < 0.5:
                guest.storm.clear()
                with self.steps.step("renew", guest.browser):
                    guest.browser.reserve()
            else:
                self._call(guest.browser, random.choice(others))

    def _hold(self, guest: Guest) -> None:
        begin = time.monotonic()
        browser = guest.browser
        gevent.wait([browser.gone, guest.storm], timeout=random.uniform(*HOLD_S), count=1)
        if browser.gone.is_set():
            self.steps.lost(browser, begin)

    def _call(self, browser: Browser, other: Guest) -> None:
        message = random.randbytes(CALL_BYTES)
        with other.called():
            with self.steps.step("circuit", browser, other.browser):
                stream = browser.call(other.browser.peer_id)
            with self.steps.step("message", browser, other.browser):
                stream.write(message)
                stream.close()
                if stream.read_to_end() != message:
                    raise LostError("another message came back")

    def _strike(self, guest: Guest) -> None:
        """From now on nobody calls it any more."""
        if guest in self.guests:
            self.guests.remove(guest)
        self._guest = None

    def _depart(self, guest: Guest) -> None:
        self._strike(guest)
        guest.wait_for_callers()
        guest.browser.leave()


def echo(_caller: bytes, stream: BrowserStream) -> None:
    """What is said comes back when all has been said."""
    stream.write(stream.read_to_end())
    stream.close()


class SigningParty(RelayUser):
    """Three wallets that sign together: each two of them make a circuit, exchange what WebRTC needs, and leave."""

    weight = 3
    wait_time = between(0.5, 3.0)

    @task
    def sign(self) -> None:
        """One signing session."""
        calls: Queue = Queue()
        party: list[Browser] = []
        try:
            while len(party) < PARTY:
                party.append(self.enter(lambda _caller, stream: calls.put(stream)))
            for browser in party[:2]:
                with self.steps.step("reserve", browser):
                    browser.reserve()
            for caller, called in ((1, 0), (2, 0), (2, 1)):
                self._pair(party[caller], party[called], calls)
            while party:
                with self.steps.step("leave", party[-1]):
                    party[-1].leave()
                party.pop()
        finally:
            for browser in party:
                browser.vanish()

    def _pair(self, caller: Browser, called: Browser, calls: Queue) -> None:
        with self.steps.step("circuit", caller, called):
            near = caller.call(called.peer_id)
            far = _taken(calls)
        with self.steps.step("message", caller, called):
            tell(near, far, random.randint(*OFFER_BYTES))
            tell(far, near, random.randint(*ANSWER_BYTES))
            for _ in range(CANDIDATES):
                tell(near, far, CANDIDATE_BYTES)
                tell(far, near, CANDIDATE_BYTES)
        near.close()
        far.close()


def _taken(calls: Queue) -> BrowserStream:
    """The end of the circuit at whom was called."""
    try:
        stream: BrowserStream = calls.get(timeout=WAIT_S)
    except Empty as error:
        raise TimedOutError(f"not called within {WAIT_S:.0f} s") from error
    return stream


def tell(speaker: BrowserStream, listener: BrowserStream, count_bytes: int) -> None:
    """One message from one end of a circuit to the other, and nothing else arrives."""
    message = random.randbytes(count_bytes)
    speaker.write(len(message).to_bytes(_LENGTH_BYTES, "big") + message)
    length = int.from_bytes(listener.read(_LENGTH_BYTES, "message"), "big")
    if sha256(listener.read(length, "message")).digest() != sha256(message).digest():
        raise LostError("another message arrived")
