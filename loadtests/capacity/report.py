"""Writes what `make capacity` found: docs/capacity.md with the goals and all figures, and the chart beside it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Final

from loadtests.capacity import chart
from loadtests.capacity.crowd import AT_ONCE, KNOCK_WITHIN_S
from loadtests.capacity.results import GIB, Result, judge
from loadtests.machine import commit, describe

HOW_TO_READ: Final = f"""\
## How to read it

- Memory is PSS, CPU user and system time, both of the relay's whole tree: a page that is shared counts once.
- A peer is connected over WebSocket, identified both ways and reserved. A client process brings {AT_ONCE} at a time.
- What an arrival costs is without the keep-alive of those who are there meanwhile, in proportion to their number.
- Whoever comes back does so as the same peer: all sockets within {KNOCK_WITHIN_S:.0f} s of the relay's being there
  again, the handshakes as fast as the clients can make them. The CPU is that from then until the last has its
  reservation. All clients share the cores that the relay does not have, so how long it takes is theirs.
- Limits are far away but computed; the log, at level info, goes to a file. TLS is left to a proxy.
- "Not at this size": the goal speaks of more peers than the run had. `make capacity` without PEERS has enough.
"""


def write(result: Result, busy: float, folder: Path) -> None:
    """Both files, new; `busy` is the machine's load average before the run."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "capacity.md").write_text(markdown(result, busy, describe(), commit()))
    (folder / "capacity.svg").write_text(chart.svg(result))


def markdown(result: Result, busy: float, machine: dict[str, str], revision: str) -> str:
    """The page."""
    packages = ", ".join(f"{name} {metadata.version(name)}" for name in ("uvloop", "picows", "cryptography", "PyNaCl"))
    lines = [
        "# What one machine holds",
        "",
        f"Written by `make capacity PEERS={result.sizes.peers}` on {datetime.now(UTC).date().isoformat()}:",
        f"FROST Relay {metadata.version('frost-relay')} at {revision}, Python {machine['python']}, {packages};",
        f"Linux {machine['kernel']}, {machine['cpu']}, {machine['cores']} cores, one of them for all processes of the",
        f"relay ({result.sizes.workers} for WebSocket), the others for the clients.",
        f"Load average before it began: {busy:.1f}. Every figure of CPU and time is as good as the machine was quiet.",
        "",
        "| goal | measured | |",
        "|---|---|---|",
        *(f"| {each.goal} | {each.measured} | **{each.verdict.value}** |" for each in judge(result)),
        "",
        "![Memory and the cost of an arrival, by the number of peers](capacity.svg)",
        "",
        *_growth(result),
        *_storms(result),
        HOW_TO_READ,
    ]
    return "\n".join(lines)


def _growth(result: Result) -> Iterator[str]:
    yield "## Growing"
    yield ""
    yield "| reserved peers | memory, MB | KiB a peer of this step | connect and reserve, ms of CPU |"
    yield "|---|---|---|---|"
    yield f"| 0 | {result.empty_bytes / 1e6:.0f} | | |"
    memory_bytes = result.empty_bytes
    for step in result.growth:
        each_kib = (step.memory_bytes - memory_bytes) / (step.peers - step.before) / 1024
        memory_bytes = step.memory_bytes
        yield f"| {step.peers:,} | {memory_bytes / 1e6:.0f} | {each_kib:.1f} | {result.enter_s(step) * 1e3:.2f} |"
    yield ""
    yield (
        f"A peer takes {result.peer_bytes() / 1024:.1f} KiB. By that, and what a renewal adds, {result.fit(GIB):,} fit "
        f"into 1 GiB, and {result.fit(GIB * 0.8):,} with a fifth of it to spare."
    )
    yield ""
    yield (
        f"With {result.sizes.idle:,} idle ones there: keep-alive takes {result.idle_share:.2%} of a core (over "
        f"{result.idle_s:.0f} s), and a signalling session {result.session_s * 1e3:.2f} ms, so "
        f"that a core serves {1 / result.session_s:,.0f} a second."
    )
    yield ""


def _storms(result: Result) -> Iterator[str]:
    renewals, returned = result.renewals, result.returned
    median_ms, late_ms, last_ms = (wait_s * 1e3 for wait_s in renewals.waits_s)
    yield "## Storms"
    yield ""
    yield "| | peers | done after | of the relay's CPU | |"
    yield "|---|---|---|---|---|"
    yield (
        f"| all renew, each at some moment of 5 s | {renewals.peers:,} | {renewals.answered_s:.1f} s | "
        f"{renewals.cpu_s:.1f} s | waits: median {median_ms:.0f} ms, 99 % {late_ms:.0f} ms, longest {last_ms:.0f} ms |"
    )
    yield (
        f"| the relay is restarted, all come back at once | {returned.peers:,} | {returned.back_s:.1f} s | "
        f"{returned.cpu_s:.1f} s | {returned.tries:,} attempts, {returned.listen_overflows} listen overflows |"
    )
    yield ""
