"""One thread, two worlds: Thespian's transport and a uvloop event loop take turns in it.

Thespian waits in `select()`. LoopSelector, which supervisor/system.py puts in the place of that selector, waits by
running the event loop instead, and returns when one of Thespian's sockets is ready or its time-out has passed. Before
an event loop is installed (main, system, supervisor) it is an ordinary epoll. It must never be used from a second
thread.
"""

from __future__ import annotations

import select
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Coroutine

T = TypeVar("T")

EVENT_READ, EVENT_WRITE = 1, 2  # as in the selectors module, which Thespian uses by value

_EPOLL_FAULT = select.EPOLLERR | select.EPOLLHUP


class _Key:
    """What Thespian reads of a SelectorKey."""

    __slots__ = ("fd",)

    def __init__(self, fd: int) -> None:
        self.fd = fd


def _events(ready: list[tuple[int, int]]) -> list[tuple[_Key, int]]:
    """Epoll's answer in the selectors module's form: a faulty socket is both readable and writable."""
    return [
        (
            _Key(fd),
            (EVENT_READ if mask & ~select.EPOLLOUT else 0)
            | (EVENT_WRITE if mask & (select.EPOLLOUT | _EPOLL_FAULT) else 0),
        )
        for fd, mask in ready
    ]


class LoopDriver:
    """The process's event loop, and the epoll that holds Thespian's sockets while the loop runs."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self._epoll = select.epoll()
        self._registered: set[int] = set()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run the loop until `work` is done, and hand on its result or its exception. Not from inside the loop."""
        task = self.loop.create_task(work)
        task.add_done_callback(lambda _: self.loop.stop())
        while not task.done():  # a stop() that was left over from before must not end it early
            self.loop.run_forever()
        return task.result()

    def wait(self, wanted: dict[int, int], timeout_s: float | None) -> list[tuple[int, int]]:
        """Run the loop until one of `wanted` (descriptor: epoll mask) is ready or the time is over."""
        self._register(wanted)
        ready = self._epoll.poll(0)
        if ready or (timeout_s is not None and timeout_s <= 0):
            self._turn()  # also when Thespian is busy, the loop gets one turn for each of its own
            return ready or self._epoll.poll(0)
        alarm = None if timeout_s is None else self.loop.call_later(timeout_s, self.loop.stop)
        self.loop.add_reader(self._epoll.fileno(), self.loop.stop)
        try:
            self.loop.run_forever()
        finally:
            self.loop.remove_reader(self._epoll.fileno())
            if alarm is not None:
                alarm.cancel()
        return self._epoll.poll(0)

    def _turn(self) -> None:
        self.loop.call_soon(self.loop.stop)
        self.loop.run_forever()

    def _register(self, wanted: dict[int, int]) -> None:
        for fd in self._registered - wanted.keys():
            try:
                self._epoll.unregister(fd)
            except OSError:
                continue  # closed meanwhile: epoll has forgotten it by itself
        for fd, mask in wanted.items():
            try:
                self._epoll.modify(fd, mask)
            except FileNotFoundError:  # new, or closed and opened again under the same number
                self._epoll.register(fd, mask)
        self._registered = set(wanted)


class LoopSelector:
    """Stands in for selectors.DefaultSelector in Thespian's transport, which makes a new one for each wait."""

    driver: LoopDriver | None = None
    """Set by the actor of this process once it has a loop; None in processes without one."""

    def __init__(self) -> None:
        self._wanted: dict[int, int] = {}

    def register(self, fd: int, events: int) -> None:
        """Wait for `events` of this descriptor too."""
        if fd < 0:
            raise ValueError(f"invalid file descriptor: {fd}")
        mask = (select.EPOLLIN if events & EVENT_READ else 0) | (select.EPOLLOUT if events & EVENT_WRITE else 0)
        self._wanted[fd] = self._wanted.get(fd, 0) | mask

    def select(self, timeout: float | None = None) -> list[tuple[_Key, int]]:
        """Wait at most `timeout` seconds (None: for ever). Raises OSError for a descriptor that is closed."""
        driver = LoopSelector.driver
        if driver is not None:
            return _events(driver.wait(self._wanted, timeout))
        with select.epoll() as epoll:
            for fd, mask in self._wanted.items():
                epoll.register(fd, mask)
            return _events(epoll.poll(timeout))

    def close(self) -> None:
        """Nothing is held between two waits."""
