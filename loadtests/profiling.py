"""`make profile WHAT=session`: where the time of a real worker goes while clients keep it busy.

py-spy looks at the worker from outside, many times a second, and sees functions in Python and in C. It stops the worker
for each look, so the times printed are dearer than without it; the shares are what counts.
"""

from __future__ import annotations

import argparse
import asyncio
import shutil
import sys
import time
from pathlib import Path
from typing import Final

import uvloop

from loadtests import flame, measures
from loadtests.machine import commit
from loadtests.meter import cpu_s
from loadtests.relays import CACHE, OurRelay
from loadtests.runs import Step

STEPS: Final = {
    "session": Step(measures.sessions, 40),
    "reserve": Step(measures.reservations, 80),
    "circuit": Step(measures.circuits, 200),
    "roundtrip": Step(measures.round_trips, 2000),
    "bulk": Step(measures.bulk, 1000),
}
SAMPLES_A_SECOND: Final = 200
ROWS: Final = 30
END_LIMIT_S: Final = 60.0
HOW_TO_INSTALL: Final = "py-spy is missing: `make profile` and `make lint` install it, where there is a wheel for it"


async def sample(step: Step, process: str, seconds: int, raw: Path) -> tuple[float, str]:
    """Write the stacks of one process to `raw`. CPU an operation while it was watched, and who took it."""
    with OurRelay() as relay:
        door, rows = relay.door(), relay.processes()
        pid = next(pid for name, pid in rows.items() if name.startswith(process))
        await step.run(door, relay.meter, step.count)
        before = {name: cpu_s([each]) for name, each in rows.items()}
        spy = await asyncio.create_subprocess_exec(*_command(pid, seconds, raw), stderr=asyncio.subprocess.PIPE)
        operations, end = 0, time.monotonic() + seconds
        while time.monotonic() < end:
            await step.run(door, relay.meter, step.count)
            operations += step.count
        taken = {name: (cpu_s([each]) - before[name]) / operations * 1e6 for name, each in rows.items()}
        async with asyncio.timeout(END_LIMIT_S):
            _, complaint = await spy.communicate()
        if spy.returncode:
            raise RuntimeError(complaint.decode())
    shares = ", ".join(f"{name} {cost:.1f} µs" for name, cost in taken.items())
    return taken[next(name for name in rows if name.startswith(process))], shares


def _command(pid: int, seconds: int, raw: Path) -> list[str]:
    beside = Path(sys.executable).with_name("py-spy")
    spy = str(beside) if beside.exists() else shutil.which("py-spy")
    if spy is None:
        raise FileNotFoundError(HOW_TO_INSTALL)
    how = ["--native", "--function", "--format", "raw", "--rate", str(SAMPLES_A_SECOND)]
    return [spy, "record", "--pid", str(pid), "--duration", str(seconds), *how, "--output", str(raw)]


def main() -> int:
    """Sample, and write both files."""
    parser = argparse.ArgumentParser(prog="make profile", description=__doc__)
    parser.add_argument("what", choices=list(STEPS))
    parser.add_argument("--seconds", type=int, default=20)
    parser.add_argument("--process", default="ws-", help='beginning of a name in /status.json, e.g. "registry"')
    arguments = parser.parse_args()
    folder = CACHE / "profile"
    folder.mkdir(parents=True, exist_ok=True)
    raw = folder / f"{arguments.what}.stacks"
    try:
        cost_us, shares = uvloop.run(sample(STEPS[arguments.what], arguments.process, arguments.seconds, raw))
    except (FileNotFoundError, RuntimeError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    stacks = flame.parse(raw.read_text())
    total = sum(stacks.values())
    title = f"{arguments.what}, process {arguments.process}*, commit {commit()}, {total} samples at work"
    lines = [title, f"CPU an operation while watched: {shares}", ""]
    lines += flame.top("At work, in any language:", flame.by_self(stacks), total, cost_us, ROWS)
    lines += flame.top("Python functions, with the C that they call:", flame.by_python(stacks), total, cost_us, ROWS)
    lines += flame.top("Ours, with all that they call:", flame.inclusive(stacks), total, cost_us, ROWS)
    (folder / f"{arguments.what}.txt").write_text("\n".join(lines))
    (folder / f"{arguments.what}.svg").write_text(flame.svg(stacks, title))
    sys.stdout.write("\n".join([*lines, f"flame graph: {folder / arguments.what}.svg", ""]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
