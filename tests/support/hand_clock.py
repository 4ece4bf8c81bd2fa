"""Thespian's simpleSystemBase with a clock turned by hand, pickled messages, and kill -9. No process, no sleep."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from thespian.actors import ActorAddress, ActorSystem, ChildActorExited
from thespian.system import simpleSystemBase as simple  # noqa: N813 - a module
from thespian.system import timing


class HandClock:
    """An actor system in this process. Time stands still until `advance`."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.system = ActorSystem("simpleSystemBase", logDefs=False, transientUnique=True)
        self._base = self.system._systemBase
        send = self._base.actor_send
        self._base.actor_send = lambda sender, to, message: send(sender, to, pickle.loads(pickle.dumps(message, 5)))

    def advance(self, seconds: float) -> None:
        """Turn the clock, and deliver every wake-up at its own moment."""
        end = self.now + seconds
        while (due := self._base._next_wakeup()) is not None and due._time_to_quit <= end:
            self.now = max(self.now, due._time_to_quit)
            self._base._realizeWakeups()
            self._base._runSends()
        self.now = end

    def actor(self, address: ActorAddress) -> Any:
        """The actor object behind an address."""
        return self._base.actorRegistry[address.actorAddressString].instance

    def tell(self, address: ActorAddress, message: object) -> None:
        """Send from outside, and let everything run that follows from it."""
        self.system.tell(address, message)
        self._base._runSends()

    def kill9(self, address: ActorAddress) -> None:
        """The actor is gone without a word; its parent gets the notice."""
        reference = self._base.actorRegistry[address.actorAddressString]
        reference.instance = simple.BadActor()
        self.notify_exit(reference.parent, address)

    def notify_exit(self, parent: ActorAddress, address: ActorAddress) -> None:
        """The notice alone, as it may come a second time."""
        self._base.actor_send(self.system.systemAddress, parent, ChildActorExited(address))
        self._base._runSends()


@contextmanager
def hand_clock() -> Iterator[HandClock]:
    """A HandClock whose time is also Thespian's, until the end of the block."""
    clocks = timing.currentTime, simple.currentTime
    made: list[HandClock] = []
    timing.currentTime = simple.currentTime = lambda: made[0].now if made else 1000.0
    try:
        made.append(HandClock())
        yield made[0]
        made[0].system.shutdown()
    finally:
        timing.currentTime, simple.currentTime = clocks
