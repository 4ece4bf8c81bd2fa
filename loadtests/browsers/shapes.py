"""How many users there are at which time. Chosen by SHAPE in the environment; without it by locust's own -u and -r.

A shape runs where locust's master runs, and must never reach for a user: what users have to do goes out as a message.
"""

from __future__ import annotations

import os
from typing import Final

from locust import LoadTestShape

from loadtests.browsers import SHAPES

RENEW: Final = "renew"
"""The message upon which every reserved browser renews at once."""
STEPS_OF_RAMP: Final = 10


class Shape(LoadTestShape):
    """USERS users at most, for SECONDS; both from the environment."""

    abstract = True

    def __init__(self) -> None:
        super().__init__()
        self.users = int(os.environ.get("USERS", "100"))
        self.seconds = float(os.environ.get("SECONDS", "120"))

    def tick(self) -> tuple[int, float] | None:
        """How many users now, and how many may come a second; None at the end."""
        now_s = self.get_run_time()
        if now_s >= self.seconds:
            return None
        return max(1, min(self.users, round(self.users * self.share(now_s / self.seconds)))), self.users / 5

    def share(self, progress: float) -> float:
        """Which part of the users is there at this part of the time."""
        raise NotImplementedError


class Ramp(Shape):
    """Step by step up to all of them at three quarters, and all of them until the end."""

    abstract = False

    def share(self, progress: float) -> float:
        """Ten steps."""
        return (1 + int(progress / 0.75 * STEPS_OF_RAMP)) / STEPS_OF_RAMP


class Soak(Shape):
    """All of them, all the time."""

    abstract = False

    def share(self, progress: float) -> float:
        """All."""
        return 1.0


class Storm(Shape):
    """All of them, and in the middle everyone renews at once; `make load` starts the relay anew at three quarters."""

    abstract = False

    def __init__(self) -> None:
        super().__init__()
        self._raised = False

    def share(self, progress: float) -> float:
        """All; the storm breaks when half the time is over."""
        if progress >= 0.5 and not self._raised and self.runner is not None:
            self._raised = True
            self.runner.send_message(RENEW)
        return 1.0


_CLASSES: Final = dict(zip(SHAPES, (Ramp, Soak, Storm), strict=True))


def chosen() -> type[Shape] | None:
    """The shape that SHAPE names; raises ValueError for one that there is not."""
    name = os.environ.get("SHAPE", "")
    if name and name not in SHAPES:
        raise ValueError(f"SHAPE = {name!r}: expected one of {', '.join(SHAPES)}, or nothing")
    return _CLASSES[name] if name else None
