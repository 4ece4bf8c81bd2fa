"""The chart of `make capacity`: memory and the cost of an arrival, by how many peers are there."""

from __future__ import annotations

from math import ceil
from typing import Final

from loadtests.capacity.results import GIB, Result

WIDTH: Final = 900
HEIGHT: Final = 340
TOP: Final = 46
BOTTOM: Final = 36
LEFT: Final = 56
PANEL: Final = 370
GAP: Final = 80
TICKS: Final = 4
MEMORY_STEP_MB: Final = 400
CPU_STEP_MS: Final = 0.4
STYLE: Final = """
  svg { font: 12px system-ui, sans-serif; background: #fff; }
  text { fill: #222; } .title { font-weight: 600; } .tick { fill: #667; } .left { text-anchor: end; }
  .middle { text-anchor: middle; } .axis { stroke: #99a; } .limit { stroke: #222; stroke-dasharray: 3 3; }
  .line { fill: none; stroke: #d9622b; stroke-width: 2; } .bar { fill: #d9622b; }
  @media (prefers-color-scheme: dark) {
    svg { background: #16181c; } text { fill: #e4e4e4; } .tick { fill: #99a; } .limit { stroke: #e4e4e4; }
  }
"""


class Panel:
    """A pair of axes, from 0 to what is shown."""

    def __init__(self, left: int, title: str, peers: int, highest: float, form: str) -> None:
        self._left = left
        self._peers = peers
        self._highest = highest
        self.parts = [f'<text class="title" x="{left}" y="22">{title}</text>']
        for tick in range(TICKS + 1):
            share = tick / TICKS
            at_x, at_y = self.x(peers * share), self.y(highest * share)
            self.parts += [
                f'<text class="tick middle" x="{at_x:.1f}" y="{HEIGHT - BOTTOM + 18}">{peers * share:,.0f}</text>',
                f'<text class="tick left" x="{left - 6}" y="{at_y + 4:.1f}">{form.format(highest * share)}</text>',
            ]
        axes = f"M{left},{TOP} V{HEIGHT - BOTTOM} H{left + PANEL}"
        self.parts.append(f'<path class="axis" fill="none" d="{axes}"/>')

    def x(self, peers: float) -> float:
        """Where so many peers are."""
        return self._left + PANEL * peers / self._peers

    def y(self, value: float) -> float:
        """Where a value is."""
        return HEIGHT - BOTTOM - (HEIGHT - BOTTOM - TOP) * value / self._highest

    def line(self, points: list[tuple[float, float]]) -> None:
        """Join the points."""
        at = " ".join(f"{self.x(peers):.1f},{self.y(value):.1f}" for peers, value in points)
        self.parts.append(f'<polyline class="line" points="{at}"/>')

    def bar(self, low: float, high: float, value: float) -> None:
        """One value from `low` to `high` peers."""
        x, width, y = self.x(low) + 1, self.x(high) - self.x(low) - 2, self.y(value)
        height = HEIGHT - BOTTOM - y
        self.parts.append(f'<rect class="bar" x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}"/>')

    def limit(self, value: float, name: str) -> None:
        """A goal, across the panel."""
        y = self.y(value)
        self.parts.append(
            f'<line class="limit" x1="{self._left}" x2="{self._left + PANEL}" y1="{y:.1f}" y2="{y:.1f}"/>'
        )
        self.parts.append(f'<text x="{self._left + 6}" y="{y - 5:.1f}">{name}</text>')


def round_up(value: float, step: float) -> float:
    """The next multiple of a step, so that the ticks are round."""
    return ceil(value / step) * step


def svg(result: Result) -> str:
    """A picture that stands for itself, readable on dark and light."""
    peers = result.sizes.peers
    points: list[tuple[float, float]] = [
        (0, result.empty_bytes / 1e6),
        *((each.peers, each.memory_bytes / 1e6) for each in result.growth),
    ]
    highest_mb = round_up(max(GIB / 1e6, *(value for _, value in points)), MEMORY_STEP_MB)
    memory = Panel(LEFT, "memory of all processes, MB", peers, highest_mb, "{:.0f}")
    memory.line(points)
    memory.limit(GIB / 1e6, "1 GiB")
    costs = [result.enter_s(each) * 1e3 for each in result.growth]
    arrival = Panel(
        LEFT + PANEL + GAP, "CPU of one connect and reserve, ms", peers, round_up(max(costs), CPU_STEP_MS), "{:.1f}"
    )
    for step, cost in zip(result.growth, costs, strict=True):
        arrival.bar(step.before, step.peers, cost)
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}">'
    return "\n".join([head, f"<style>{STYLE}</style>", *memory.parts, *arrival.parts, "</svg>", ""])
