"""What a soak has shown, judged and written to docs/soak.md."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from statistics import linear_regression, mean
from typing import Final

from loadtests.machine import commit, describe
from loadtests.soak.conduct import Result, Sample

FLAT_SHARE: Final = 0.05
FLAT_BYTES: Final = 1 << 20
"""Growth over the second half that is still flat: a twentieth, or 1 MiB of a small process."""
LONG_S: Final = 600.0
"""From this length on a run is long enough to say that memory is flat."""
KIB: Final = 1024
MIB: Final = 1 << 20

HOW_TO_READ: Final = """\
## How to read it

- The relay has two workers for WebSocket and one for TCP. Hangs are found after 2 s; all else is the default but the
  rates, which all users of one machine would share, and the number of circuits.
- Users and strangers are those of `make load` (`loadtests/browsers/`): browsers that reserve, renew, call and are
  called, parties of three that sign, and strangers that send garbage, fall silent in the middle, flood hop and call
  nobody. Each connection has an address of its own.
- Who is killed is left to chance (the seed is fixed), except that the first WebSocket worker is spared all the time,
  and the registry and the admin process in the second half: a leak would show in a process that lives on. Main,
  Thespian's own process and the supervisor are not killed here, because the relay would end
  ([faults.md](faults.md) has those).
- Users fail when their worker was killed, or that of whom they called.
- Memory is PSS, of each process that lived through the second half; the slope is a straight line through it. At half
  time and at the end are means, of the first and the last third of that half.
"""


@dataclass(frozen=True)
class Growth:
    """A process's memory in the second half: at its beginning, at its end, and the slope between them."""

    name: str
    restarts: int
    first_bytes: float
    last_bytes: float
    bytes_per_s: float
    seconds: float

    @property
    def flat(self) -> bool:
        """Whether what it grows by in that time is next to nothing."""
        return self.bytes_per_s * self.seconds <= max(FLAT_BYTES, FLAT_SHARE * self.first_bytes)


def growths(result: Result) -> list[Growth]:
    """Of each process that has lived through the second half."""
    second_half = [each for each in result.samples if each.at_s >= result.half_s]
    return [
        _growth(name, second_half, result)
        for name, pid in result.samples[-1].pids.items()
        if all(each.pids.get(name) == pid for each in second_half)
    ]


def _growth(name: str, second_half: list[Sample], result: Result) -> Growth:
    times, sizes = zip(*((each.at_s, each.bytes[name]) for each in second_half if name in each.bytes), strict=True)
    slope = linear_regression(times, sizes).slope
    restarts = sum(kill.name == name for kill in result.kills)
    third = max(1, len(sizes) // 3)
    return Growth(name, restarts, mean(sizes[:third]), mean(sizes[-third:]), slope, times[-1] - times[0])


def judge(result: Result) -> Iterator[tuple[str, str, bool]]:
    """What has to be, what was, and whether it is so."""
    audit = result.audits
    found = f"{audit['differences']} differences, {audit['mended']} mended since the start"
    yield "the audit of the registry is clean", found, not audit["differences"] and not audit["mended"]
    empty_s = result.empty_after_s
    held = f"{result.held}" if empty_s is None else f"after {empty_s:.1f} s"
    yield "all counts are zero when all have left", held, empty_s is not None
    yield "no fault of the relay's own", f"{result.faults}", not result.faults
    yield "nothing is left behind", ", ".join(result.left) or "nothing", not result.left
    slowest_s = max((kill.after_s for kill in result.kills), default=0.0)
    replaced = f"{len(result.kills)} times, at the latest after {slowest_s:.1f} s"
    yield "who was killed is replaced", replaced, bool(result.kills)
    if result.seconds >= LONG_S:
        grown = growths(result)
        worst = max(grown, key=lambda each: each.bytes_per_s)
        said = f"the steepest is {worst.name} with {worst.bytes_per_s * 60 / KIB:+.1f} KiB a minute"
        yield "memory is flat in the second half", said, all(each.flat for each in grown)


def write(result: Result, folder: Path) -> None:
    """The page."""
    (folder / "soak.md").write_text(markdown(result), "utf-8")


def markdown(result: Result) -> str:
    """The page's text."""
    machine = describe()
    packages = ", ".join(f"{name} {metadata.version(name)}" for name in ("uvloop", "picows"))
    steps = sorted(result.steps.items())
    lines = [
        "# A long run",
        "",
        f"Written by `make soak MINUTES={result.seconds / 60:.0f}` on {datetime.now(UTC).date().isoformat()}:",
        f"FROST Relay {metadata.version('frost-relay')} at {commit()}, Python {machine['python']}, {packages};",
        f"Linux {machine['kernel'].partition('-')[0]}, {machine['cores']} cores, shared by relay and users.",
        f"{result.users['ws']} users over WebSocket, {result.users['tcp']} over TCP, one in 14 of them rude.",
        "",
        "| what has to be | what was | |",
        "|---|---|---|",
        *(f"| {what} | {was} | **{'yes' if so else 'no'}** |" for what, was, so in judge(result)),
        "",
        "## Memory",
        "",
        "| process | killed | at half time, MiB | at the end, MiB | slope of the second half, KiB a minute |",
        "|---|---|---|---|---|",
        *(_memory(each) for each in growths(result)),
        "",
        "## What went on",
        "",
        *_kills(result),
        "",
        "| over | step | times | failed |",
        "|---|---|---|---|",
        *(f"| {kind} | {name} | {times:,} | {failed:,} |" for (kind, name), (times, failed) in steps),
        "",
        *_reasons("Why users failed", result.errors),
        *_reasons("Whom the relay refused", Counter(result.refusals)),
        HOW_TO_READ,
    ]
    return "\n".join(lines)


def _memory(each: Growth) -> str:
    sizes = f"{each.first_bytes / MIB:.2f} | {each.last_bytes / MIB:.2f}"
    return f"| {each.name} | {each.restarts} | {sizes} | {each.bytes_per_s * 60 / KIB:+.1f} |"


def _kills(result: Result) -> Iterator[str]:
    names = sorted({kill.name for kill in result.kills})
    hows = sorted({kill.how for kill in result.kills})
    yield f"| killed | {' | '.join(hows)} |"
    yield "|---|" + "---|" * len(hows)
    for name in names:
        cells = []
        for how in hows:
            times = [kill.after_s for kill in result.kills if (kill.name, kill.how) == (name, how)]
            cells.append(f"{len(times)}, at most {max(times):.1f} s" if times else "")
        yield f"| {name} | {' | '.join(cells)} |"


def _reasons(title: str, counted: Counter[str]) -> Iterator[str]:
    if counted:
        yield f"{title}:"
        yield ""
        yield from (f"- {count:,} × {reason}" for reason, count in counted.most_common(20))
        yield ""
