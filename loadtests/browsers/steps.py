"""A step of a user as a line in locust's table: its time, its bytes, and when it fails the reason.

A failure is told once and ends what the user was at (Abandoned). What happens while the test is being stopped is no
result, and a relay that says goodbye is no failure: it is a line of its own.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from math import inf
from typing import TYPE_CHECKING, ClassVar, Final

from locust.exception import RescheduleTask

from loadtests.browsers.browser import Browser, BrowserError, GoodbyeError
from loadtests.browsers.pipes import PipeError
from transports.errors import PeerError

if TYPE_CHECKING:
    from locust.env import Environment

FAILURES: Final = (BrowserError, PipeError, PeerError, OSError)
GOODBYE_S: Final = 1.0
"""How long after a failure a goodbye may come that explains it: each worker of the relay says it on its own."""
STOPPING_S: Final = 5.0
RESTART_S: Final = 60.0
STRANGER: Final = "stranger"
"""The type of the requests whose failures are not those of well-behaved users."""
_AT_WORK: Final = frozenset({"spawning", "running"})


class Abandoned(RescheduleTask):
    """A step has failed and was told; what would have come next makes no sense, and the user begins anew."""


class Steps:
    """The steps of one user. `kind` is the first column of the table: the transport."""

    _last_goodbye_s: ClassVar = -inf

    def __init__(self, environment: Environment, kind: str) -> None:
        self._environment = environment
        self._kind = kind

    @contextmanager
    def step(self, name: str, *browsers: Browser) -> Iterator[None]:
        """Time the block; `browsers` are those it concerns, and the bytes are those of the first."""
        begin = time.monotonic()
        before = browsers[0].socket_bytes
        try:
            yield
        except FAILURES as error:
            if self._explained(error, begin, browsers):
                self._goodbye(begin)
            else:
                self.tell(name, begin, browsers[0].socket_bytes - before, error)
            raise Abandoned from error
        self.tell(name, begin, browsers[0].socket_bytes - before, None)

    def lost(self, browser: Browser, since: float) -> None:
        """A connection that was only held is gone."""
        loss = browser.loss()
        if isinstance(loss, GoodbyeError):
            self._goodbye(since)
        else:
            self.tell("hold", since, 0, loss)
        raise Abandoned from loss

    @classmethod
    def patience_s(cls) -> float:
        """How long to dial again when nobody accepts: after a goodbye to any user, as long as a restart takes."""
        return max(0.0, cls._last_goodbye_s + RESTART_S - time.monotonic())

    def _explained(self, error: Exception, begin: float, browsers: tuple[Browser, ...]) -> bool:
        """Whether the relay is being stopped, which fails whatever is under way. Waits for the goodbye if need be."""
        if isinstance(error, GoodbyeError):
            return True
        end = time.monotonic() + GOODBYE_S
        for browser in browsers:
            browser.gone.wait(max(0.0, end - time.monotonic()))
        if all(browser.entered for browser in browsers):
            return any(browser.said_goodbye for browser in browsers)
        # Nobody says goodbye to a connection that is still being made, but to others at that time.
        return begin < self._last_goodbye_s + STOPPING_S

    def _goodbye(self, begin: float) -> None:
        Steps._last_goodbye_s = time.monotonic()
        self.tell("goodbye", begin, 0, None)

    def tell(self, name: str, begin: float, count_bytes: int, error: Exception | None) -> None:
        """A line for the table, from `begin` (monotonic) until now."""
        runner = self._environment.runner
        if runner is None or runner.state not in _AT_WORK:
            return
        self._environment.events.request.fire(
            request_type=self._kind,
            name=name,
            response_time=(time.monotonic() - begin) * 1000,
            response_length=count_bytes,
            exception=error,
            context={},
        )


def retried(attempt: Callable[[], None], limit_s: float, pause: Callable[[], None]) -> None:
    """Try again while nobody accepts, up to a limit: the relay is being started again."""
    end = time.monotonic() + limit_s
    while True:
        try:
            attempt()
        except OSError:
            if time.monotonic() > end:
                raise
            pause()
        else:
            return
