"""Sampled stacks as a flame graph and as lists of functions. Text in, text out; samples nothing itself.

A stack is what py-spy writes with `--format raw`: frames from the outermost on, separated by semicolons, a blank, a
count. A frame in Python names its file and line, one in C the library.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from html import escape
from typing import Final

Stacks = dict[tuple[str, ...], int]

# Where a loop waits for something to happen; the call itself takes CPU too, but a sampler cannot tell.
WAITING: Final = ("epoll_pwait ", "epoll_wait ", "epoll_pwait2 ")
_OURS: Final = re.compile(r"\((config|transports|actors|supervisor)/\S+\.py:\d+\)$")
_PYTHON: Final = re.compile(r"\.py:\d+\)$|<frozen ")
# What all stacks have in common up to here is how the process was started, and says nothing.
_TRUNK_SHARE: Final = 0.9
WIDTH: Final = 1600
ROW: Final = 17
_HEAD: Final = 34
_NARROWEST: Final = 0.4
_CHARACTER_WIDTH: Final = 6.6
STYLE: Final = """
  svg { font: 11px ui-monospace, Menlo, Consolas, monospace; background: #fff; }
  text { fill: #111; pointer-events: none; } .title { font-size: 14px; }
  rect { stroke: #fff; stroke-width: .5; }
  .ours { fill: #f6a15b; } .python { fill: #f7d77e; } .native { fill: #a9c7e8; } .root { fill: #ccc; }
  rect:hover { opacity: .7; }
  @media (prefers-color-scheme: dark) {
    svg { background: #16181c; } rect { stroke: #16181c; } .title { fill: #eee; }
    .ours { fill: #e0853a; } .python { fill: #c9a93f; } .native { fill: #6f9bcb; } .root { fill: #888; }
  }
"""


@dataclass
class Node:
    """One function called from one place."""

    samples: int = 0
    below: dict[str, Node] = field(default_factory=dict)


def parse(raw: str) -> Stacks:
    """The stacks of a process at work: what waits is left out, and so is the trunk."""
    stacks: Counter[tuple[str, ...]] = Counter()
    for line in raw.splitlines():
        frames, _, count = line.rpartition(" ")
        stack = tuple(frames.split(";"))
        if not stack[-1].startswith(WAITING):
            stacks[stack] += int(count)
    trunk = _trunk(stacks)
    return {stack[trunk:] or stack[-1:]: count for stack, count in stacks.items()}


def _trunk(stacks: Stacks) -> int:
    """How many of the outermost frames nearly all stacks share."""
    total, depth = sum(stacks.values()), 0
    prefix: tuple[str, ...] = ()
    while True:
        here: Counter[str] = Counter()
        for stack, count in stacks.items():
            if len(stack) > depth and stack[:depth] == prefix:
                here[stack[depth]] += count
        if not here or here.most_common(1)[0][1] < total * _TRUNK_SHARE:
            return depth
        prefix += (here.most_common(1)[0][0],)
        depth += 1


def kind(frame: str) -> str:
    """What a function is: "ours", "python" or "native"."""
    if _OURS.search(frame):
        return "ours"
    return "python" if _PYTHON.search(frame) else "native"


def by_self(stacks: Stacks) -> Counter[str]:
    """Samples by the function that was at work, whatever it is written in."""
    found: Counter[str] = Counter()
    for stack, count in stacks.items():
        found[stack[-1]] += count
    return found


def by_python(stacks: Stacks) -> Counter[str]:
    """Samples by the innermost function in Python: its own work, and that of the C functions it has called."""
    found: Counter[str] = Counter()
    for stack, count in stacks.items():
        found[next((frame for frame in reversed(stack) if kind(frame) != "native"), "(the loop itself)")] += count
    return found


def inclusive(stacks: Stacks) -> Counter[str]:
    """Samples by every function of ours that was on the stack: its work and all that it has called."""
    found: Counter[str] = Counter()
    for stack, count in stacks.items():
        found.update(dict.fromkeys({frame for frame in stack if kind(frame) == "ours"}, count))
    return found


def top(title: str, counts: Counter[str], total: int, cpu_us: float, rows: int) -> Iterator[str]:
    """The lines of one list; `cpu_us` is the CPU of one operation, over which the samples are spread."""
    yield title
    for frame, count in counts.most_common(rows):
        yield f"  {count / total:6.1%} {count / total * cpu_us:9.1f} µs  {frame}"
    yield ""


def svg(stacks: Stacks, title: str) -> str:
    """The flame graph: outermost at the top, widths are samples, functions in alphabetical order."""
    root = Node()
    for stack, count in stacks.items():
        root.samples += count
        node = root
        for frame in stack:
            node = node.below.setdefault(frame, Node())
            node.samples += count
    boxes = list(_boxes("all", root, 0.0, WIDTH / max(root.samples, 1), 0, root.samples))
    height = _HEAD + ROW * (1 + max((depth for depth, _ in boxes), default=0))
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}">'
    name = f'<text class="title" x="6" y="20">{escape(title)}</text>'
    return "\n".join([head, f"<style>{STYLE}</style>", name, *(text for _, text in boxes), "</svg>", ""])


def _boxes(frame: str, node: Node, x: float, scale: float, depth: int, total: int) -> Iterable[tuple[int, str]]:
    width = node.samples * scale
    if width < _NARROWEST:
        return
    y = _HEAD + depth * ROW
    colour = kind(frame) if depth else "root"
    tip = f"{escape(frame)}: {node.samples} samples, {node.samples / total:.1%}"
    box = (
        f'<rect class="{colour}" x="{x:.1f}" y="{y}" width="{width:.1f}" height="{ROW - 1}"><title>{tip}</title></rect>'
    )
    letters = int((width - 4) / _CHARACTER_WIDTH)
    label = f'<text x="{x + 2:.1f}" y="{y + 12}">{escape(frame[:letters])}</text>' if letters > 2 else ""
    yield depth, box + label
    for name in sorted(node.below):
        below = node.below[name]
        yield from _boxes(name, below, x, scale, depth + 1, total)
        x += below.samples * scale
