"""The way into a worker: its listening socket, which is left unread for a moment while the worker's loop lags.

What comes meanwhile waits in the kernel's queue, and those who are here get the time. Must never stay shut for long,
whatever the lag: a worker that is always behind still takes in whoever has waited, once every LONGEST_S and a bit.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from actors import log, metrics
from actors.board import BoardRow

LAG_S: Final = 0.25
"""A callback that comes this much too late: a message of those who are here waits as long."""
AGAIN_S: Final = 0.05
"""A lag that is none any more."""
LONGEST_S: Final = 2.0
"""Clients give a dial five seconds and more, of which the handshake takes its part."""
SAY_EVERY_S: Final = 10.0
RETRY_S: Final = 0.25

_logger = log.get_logger("doorway")


class Lull:
    """Whether nobody is taken for the moment, decided from the lag alone."""

    __slots__ = ("_ends_s", "now")

    def __init__(self) -> None:
        self.now = False
        self._ends_s = 0.0

    def look(self, now_s: float, lag_s: float) -> bool:
        """Whether there is one from this moment on. After LONGEST_S it is over, and the next lag may begin another."""
        if self.now:
            self.now = lag_s > AGAIN_S and now_s < self._ends_s
        elif lag_s > LAG_S:
            self.now, self._ends_s = True, now_s + LONGEST_S
        return self.now


class Doorway:
    """`serve` begins to accept; its server stops when it is closed, and leaves the queue to the next one."""

    def __init__(self, serve: Callable[[], Awaitable[asyncio.Server]], loop: asyncio.AbstractEventLoop) -> None:
        self._serve = serve
        self._loop = loop
        self._lull = Lull()
        self._server: asyncio.Server | None = None
        self._number = 0  # of what was decided last: to open or to shut
        self._over = False
        self._said_s = -SAY_EVERY_S
        self._unsaid = 0

    async def open(self) -> None:
        """Accept from now on, as `serve` does it now."""
        self._shut()
        await self._open(self._number)

    def renew(self) -> None:
        """What `serve` depends on has changed."""
        if not (self._lull.now or self._over):
            self._open_soon()

    def close(self) -> None:
        """Accept nobody any more."""
        self._over = True
        self._shut()

    def look(self, row: BoardRow, now_s: float, lag_s: float) -> None:
        """Told at each tick of the worker how late it comes."""
        before = self._lull.now
        if self._over or self._lull.look(now_s, lag_s) == before:
            return
        row.sheds = int(not before)
        if before:
            self._open_soon()
        else:
            self._shut()
            self._count(now_s, lag_s)

    def _open_soon(self) -> None:
        self._shut()
        self._loop.create_task(self._open_again(self._number))

    async def _open_again(self, number: int) -> None:
        """As often as it takes: a descriptor that is free comes when somebody leaves."""
        try:
            await self._open(number)
        except OSError as error:
            _logger.error("cannot accept yet", error=str(error), again_in_s=RETRY_S)
            self._loop.call_later(RETRY_S, lambda: self._loop.create_task(self._open_again(number)))

    async def _open(self, number: int) -> None:
        """Unless what was decided since then has overtaken it."""
        if number != self._number:
            return
        server = await self._serve()
        if number == self._number:
            self._server = server
        else:
            server.close()

    def _shut(self) -> None:
        self._number += 1
        if self._server is not None:
            self._server.close()
            self._server = None

    def _count(self, now_s: float, lag_s: float) -> None:
        metrics.ACCEPT_PAUSES.inc()
        self._unsaid += 1
        if now_s - self._said_s >= SAY_EVERY_S:
            _logger.warning("loop lags, newcomers wait", reason="loop_lag", lag_s=round(lag_s, 3), times=self._unsaid)
            self._said_s, self._unsaid = now_s, 0
