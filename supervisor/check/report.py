"""What a check found: one result a step, and the two ways to show it. No I/O."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any, Final

STEPS: Final = (
    "resolve", "connect", "tls", "websocket", "secure", "multiplex", "identify", "announced", "reserve", "voucher",
    "expiry", "second host", "circuit", "echo", "idle", "release",
)  # fmt: skip
"""All steps, in their order. An address takes those that it has."""


@dataclass(frozen=True, slots=True)
class Extent:
    """How far a check goes."""

    timeout_s: float
    """For each step."""
    idle_s: float = 0.0
    """How long to stay silent; 0 leaves that step out."""
    refusal: bool = True
    """Whether to make the call that the relay has to refuse, by which it shows that it has given the slot back."""


class Outcome(StrEnum):
    """How a step went."""

    OK = "ok"
    NOTE = "note"
    """It works, and something about it should be known."""
    FAILED = "failed"


_MARKS: Final = {Outcome.OK: "✓", Outcome.NOTE: "!", Outcome.FAILED: "✗"}
_COLOURS: Final = {Outcome.OK: "32", Outcome.NOTE: "33", Outcome.FAILED: "31"}


class Trouble(Exception):  # noqa: N818 - not a fault of ours: it is what the check is for
    """A step has failed. Says why it probably did, and what to do next, in plain words."""

    def __init__(self, cause: str, remedy: str) -> None:
        super().__init__(cause, remedy)
        self.cause = cause
        self.remedy = remedy


@dataclass(frozen=True, slots=True)
class Finding:
    """What a step that did not fail has to say; with a remedy it is a note."""

    detail: str
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class Step:
    """One step's result."""

    name: str
    outcome: Outcome
    ms: float
    detail: str
    """What was found; for a failure its likely cause."""
    remedy: str = ""
    """What to do next; "" for a step that went well."""


@dataclass(slots=True)
class Report:
    """All results of one check, in the order in which they came."""

    address: str
    peer: str = ""
    """The relay's peer ID, once it has proved it."""
    agent: str = ""
    """What the relay calls itself."""
    at_unix_s: float = 0.0
    steps: list[Step] = field(default_factory=list)

    @property
    def failed(self) -> Step | None:
        """The step that failed, after which nothing more was tried."""
        return next((step for step in self.steps if step.outcome is Outcome.FAILED), None)

    def document(self) -> dict[str, Any]:
        """For `--json`, and for the canary."""
        return {"ok": self.failed is None, **asdict(self)}


def line(step: Step, *, colour: bool) -> str:
    """One step as people read it, with what to do about it."""
    mark = _MARKS[step.outcome]
    if colour:
        mark = f"\x1b[{_COLOURS[step.outcome]}m{mark}\x1b[0m"
    text = f"{mark} {step.name:<12}{step.ms:>8.0f} ms  {step.detail}"
    return text + (f"\n  → {step.remedy}" if step.remedy else "")


def closing(report: Report) -> Iterator[str]:
    """The last lines of what people read."""
    failed = report.failed
    if failed is not None:
        yield f"{report.address}: {failed.name} failed"
        return
    notes = sum(step.outcome is Outcome.NOTE for step in report.steps)
    says = "all well" if not notes else f"it works; {notes} thing{'s' if notes > 1 else ''} to look at"
    yield f"{report.address}: {says}"
