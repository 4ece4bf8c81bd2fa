"""A user that is bad and rude, within reason: what a public relay meets every day.

Its lines in the table are of the type `stranger`, and fail when the relay does not end what it should, or takes too
long; they do not fail a run. It must never open more than one connection at a time.
"""

from __future__ import annotations

import random
import time
from typing import Final

from locust import between, task

from actors import hop
from loadtests.browsers.browser import Browser, BrowserError, LostError, RefusedError
from loadtests.browsers.pipes import Pipe, PipeError, dial
from loadtests.browsers.steps import STRANGER, Abandoned, Steps
from loadtests.browsers.users import RelayUser, source_of
from transports.identity import HostKey

ENDED_WITHIN_S: Final = 15.0
"""The relay's default is 10 s for all of the handshake."""
HALF_A_HEADER: Final = b"\x13/multistr"
GARBAGE_BYTES: Final = 2000
FLOOD: Final = 40


class Stranger(RelayUser):
    """Each task is one way to be a nuisance."""

    weight = 1
    wait_time = between(0.5, 2.0)

    def on_start(self) -> None:
        """All of it is told as a stranger's."""
        super().on_start()
        self.steps = Steps(self.environment, STRANGER)

    @task(3)
    def garbage(self) -> None:
        """Bytes that mean nothing where the transport begins."""
        self._until_ended("garbage", b"\xff" + random.randbytes(GARBAGE_BYTES), opened=False)

    @task(2)
    def half_handshake(self) -> None:
        """The transport, half a line of multistream, then nothing."""
        self._until_ended("half handshake", HALF_A_HEADER, opened=True)

    @task(1)
    def silent(self) -> None:
        """A connection that says nothing at all."""
        self._until_ended("silent", b"", opened=False)

    @task(2)
    def flood(self) -> None:
        """Hop streams as fast as they can be opened, each with nonsense; the relay answers, resets or leaves."""
        browser = Browser(self.target, source_of(self.target))
        try:
            with self.steps.step("flood", browser):
                browser.connect()
                browser.upgrade()
                _flooded(browser)
        finally:
            browser.vanish()

    @task(1)
    def call_of_nobody(self) -> None:
        """CONNECT to a peer that is not there."""
        browser = Browser(self.target, source_of(self.target))
        try:
            with self.steps.step("call of nobody", browser):
                browser.connect()
                browser.upgrade()
                _refused(browser)
        finally:
            browser.vanish()

    def _until_ended(self, name: str, said: bytes, *, opened: bool) -> None:
        begin = time.monotonic()
        pipe: Pipe | None = None
        error: Exception | None = None
        try:
            pipe = dial(self.target, source_of(self.target))
            pipe.wait_at_most(ENDED_WITHIN_S)
            _say(pipe, said, opened=opened)
        except TimeoutError:
            error = BrowserError(f"not ended within {ENDED_WITHIN_S:.0f} s")
        except (ConnectionResetError, BrokenPipeError, PipeError):
            error = None  # ended, and not by FIN
        except OSError as other:
            error = other
        self.steps.tell(name, begin, pipe.socket_bytes if pipe is not None else 0, error)
        if pipe is not None:
            pipe.close()
        if error is not None:
            raise Abandoned from error


def _say(pipe: Pipe, said: bytes, *, opened: bool) -> None:
    """Say it, and read until the relay has had enough."""
    if opened:
        pipe.open()
        pipe.wait_at_most(ENDED_WITHIN_S)
        pipe.send(said)
    elif said:
        pipe.send_raw(said)
    while pipe.receive_raw():
        pass


def _flooded(browser: Browser) -> None:
    for stream in [browser.open(hop.PROTOCOL, b"\xff\xff\xff\xff" * 8) for _ in range(FLOOD)]:
        try:
            stream.read_delimited("answer")
        except LostError:  # reset, or the connection ended: either is right
            continue


def _refused(browser: Browser) -> None:
    try:
        browser.call(HostKey.generate().peer_id)
    except RefusedError:
        return
    raise BrowserError("a call of nobody was granted")
