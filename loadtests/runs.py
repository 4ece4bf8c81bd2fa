"""Runs all relays in turn and keeps every single figure.

Other work on the machine makes everything dearer at once, by factors and for seconds. So all relays of a run are up at
the same time, a measure is taken in small batches that go round from relay to relay, and a ratio is that of neighbours:
the median over all batches of what one relay cost against what the other cost right before or after it.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import Final, Self

from loadtests import measures
from loadtests.doors import Door
from loadtests.meter import Meter
from loadtests.relays import RelayProgram

WARM_UP_SESSIONS: Final = 12


@dataclass(frozen=True)
class Step:
    """One measure, and how much of it is asked in one batch."""

    run: Callable[[Door, Meter, int], Awaitable[dict[str, float]]]
    count: int


@dataclass
class Outcome:
    """All that was measured of one relay, by measure; and what could not be, with the reason."""

    samples: dict[str, list[float]] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)

    def add(self, measured: Mapping[str, float]) -> None:
        """The figures of one batch."""
        for measure, value in measured.items():
            self.samples.setdefault(measure, []).append(value)

    def median(self, measure: str) -> float | None:
        """The median of all batches; None when there is none."""
        values = self.samples.get(measure)
        return statistics.median(values) if values else None

    def spread(self, measure: str) -> float:
        """How far the middle half of the batches reaches, as a share of the median."""
        values = self.samples.get(measure, [])
        if len(values) < 2:
            return 0.0
        low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
        return (high - low) / middle


def ratio(ours: Outcome, theirs: Outcome, measure: str) -> float | None:
    """The median of the ratios of neighbouring batches; None unless both have been measured."""
    pairs = zip(ours.samples.get(measure, ()), theirs.samples.get(measure, ()), strict=False)
    ratios = [one / other for one, other in pairs if other > 0]
    return statistics.median(ratios) if ratios else None


class Run:
    """Some relays, all of them up; `outcomes` has what they cost. A context manager that ends them.

    A relay that fails at one measure is not asked for it again and keeps its chance at the others.
    """

    def __init__(
        self, makers: Mapping[str, Callable[[], RelayProgram]], outcomes: dict[str, Outcome], say: Callable[[str], None]
    ) -> None:
        self._makers = makers
        self._outcomes = outcomes
        self._say = say
        self._stack = ExitStack()
        self._relays: dict[str, tuple[Door, Meter]] = {}

    async def __aenter__(self) -> Self:
        for name, make in self._makers.items():
            outcome = self._outcomes.setdefault(name, Outcome())
            try:
                relay = self._stack.enter_context(make())
                await relay.meter.quiet_cpu_s()
                outcome.add({"idle_bytes": relay.meter.memory_bytes()})
                self._relays[name] = relay.door(), relay.meter
            except Exception as error:  # noqa: BLE001 - one relay's failure is a result, and the others' figures stay
                self._failed(name, "start", error)
                continue
            await self._warm_up(name)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._stack.close()

    async def _warm_up(self, name: str) -> None:
        """What a relay does only the first time is not what it costs."""
        door, meter = self._relays[name]
        try:
            await measures.sessions(door, meter, WARM_UP_SESSIONS)
        except Exception as error:  # noqa: BLE001 - as above
            self._failed(name, measures.sessions.__name__, error)

    async def round(self, steps: Sequence[Step], turn: int = 0, fewer: Mapping[str, int] | None = None) -> None:
        """One batch of each step from each relay. `turn` says who is first, so that nobody always is.

        A relay in `fewer` is asked for that fraction of each batch.
        """
        names = list(self._relays)
        names = names[turn % len(names) :] + names[: turn % len(names)]
        for step in steps:
            for name in names:
                await self._batch(name, replace(step, count=step.count // (fewer or {}).get(name, 1)))

    async def _batch(self, name: str, step: Step) -> None:
        door, meter = self._relays[name]
        measure = step.run.__name__
        if measure in self._outcomes[name].failures:
            return
        begin = time.monotonic()
        try:
            measured = await step.run(door, meter, step.count)
        except Exception as error:  # noqa: BLE001 - as above
            self._failed(name, measure, error)
            return
        self._outcomes[name].add(measured)
        self._say(f"{name}: {measure} x {step.count} in {time.monotonic() - begin:.1f} s")

    def _failed(self, name: str, measure: str, error: BaseException) -> None:
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        reason = f"{type(error).__name__}: {error}".strip().splitlines()[0]
        self._outcomes[name].failures[measure] = reason
        self._say(f"{name}: {measure} fails: {reason}")
