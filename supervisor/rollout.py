"""A reload on its way through the tree: who lives by which settings already, who is told again, and when it is over.

A plain class: the clock is passed in, and it sends nothing; SupervisorActor (tree.py) does that. A process that starts
meanwhile is given the newest settings with its Boot. It must never wait for ever: a process that does not answer is
reported, and told again for as long as it lives.
"""

from __future__ import annotations

from typing import Final

from actors.messages import Outcome, Update

ROLLOUT_LIMIT_S: Final = 5.0
"""After this long a reload is over, and names who has not taken it over yet."""
KEPT_OUTCOMES: Final = 8


class Rollout:
    """The settings of the latest reload, and which children have them."""

    __slots__ = ("_due", "_taken", "outcomes", "update")

    def __init__(self) -> None:
        self.update: Update | None = None
        """The newest settings; None before the first reload."""
        self.outcomes: tuple[Outcome, ...] = ()
        """Of the latest reloads, the newest last."""
        self._due: float | None = None  # None: no reload is under way
        self._taken: dict[str, int] = {}

    @property
    def number(self) -> int:
        """Of the newest settings."""
        return 0 if self.update is None else self.update.number

    def begin(self, update: Update, now: float) -> None:
        """Newer settings came."""
        self.update = update
        self._due = now + ROLLOUT_LIMIT_S

    def spawned(self, name: str) -> None:
        """A process was started with the newest settings."""
        self._taken[name] = self.number

    def gone(self, name: str) -> None:
        """It has ended: nobody to wait for."""
        self._taken.pop(name, None)

    def taken(self, name: str, number: int) -> None:
        """A process says by which settings it lives. Late words change nothing."""
        if name in self._taken:
            self._taken[name] = max(self._taken[name], number)

    def behind(self) -> list[str]:
        """Who lives by older settings: they are to be told."""
        return [name for name, number in self._taken.items() if number < self.number]

    def over(self, now: float, unix_s: float) -> Outcome | None:
        """The outcome of the reload under way, once: when all have taken it over, or the time is up."""
        if self.update is None or self._due is None:
            return None
        late = self.behind()
        if late and now < self._due:
            return None
        self._due = None
        outcome = Outcome(self.number, "", self.update.needs_restart, tuple(late), unix_s)
        if self.update.is_reload:  # whoever waits for an outcome wants one that has read what he wrote
            self.note(outcome)
        return outcome

    def note(self, outcome: Outcome) -> None:
        """One more outcome, also that of a reload which was refused."""
        self.outcomes = (*self.outcomes, outcome)[-KEPT_OUTCOMES:]
