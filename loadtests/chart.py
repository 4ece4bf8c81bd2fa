"""The chart of `make bench`: bars of what each relay costs as a multiple of a reference, one group a measure."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Final

from loadtests.runs import Outcome, ratio

MEASURES: Final = (
    ("session_s", "signalling session"),
    ("reserve_s", "connect + identify + reserve"),
    ("circuit_s", "circuit"),
    ("round_trip_s", "round trip of 600 bytes"),
    ("bulk_s_per_gb", "bulk"),
    ("peer_bytes", "memory a reserved peer"),
)
WIDTH: Final = 900
LEFT: Final = 250
BAR: Final = 13
GROUP_GAP: Final = 30
LONGEST: Final = 3.0  # longer bars are cut; their figure stands beside them
SCALE: Final = (WIDTH - LEFT - 60) / LONGEST
STYLE: Final = """
  svg { font: 12px system-ui, sans-serif; background: #fff; }
  text { fill: #222; } .group { font-weight: 600; } .name { text-anchor: end; }
  .ours { fill: #d9622b; } .other { fill: #8a97a8; } .one { stroke: #222; stroke-dasharray: 3 3; }
  @media (prefers-color-scheme: dark) {
    svg { background: #16181c; } text { fill: #e4e4e4; } .one { stroke: #e4e4e4; } .other { fill: #6b788a; }
  }
"""


def svg(outcomes: Mapping[str, Outcome], reference: str) -> str:
    """A picture that stands for itself, readable on dark and light."""
    parts, y = [], 30
    for measure, title in MEASURES:
        parts.append(f'<text class="group" x="10" y="{y}">{escape(title)}</text>')
        y += 8
        for name, outcome in outcomes.items():
            value = ratio(outcome, outcomes[reference], measure)
            parts.append(_bar(name, value, y))
            y += BAR + 3
        y += GROUP_GAP
    line = f'<line class="one" x1="{LEFT + SCALE:.0f}" x2="{LEFT + SCALE:.0f}" y1="12" y2="{y - GROUP_GAP}"/>'
    says = f'<text x="{LEFT + SCALE + 4:.0f}" y="14">{escape(reference)} = 1</text>'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {y}" width="{WIDTH}" height="{y}">'
    return "\n".join([head, f"<style>{STYLE}</style>", *parts, line, says, "</svg>", ""])


def _bar(name: str, value: float | None, y: int) -> str:
    said = "fails" if value is None else f"{value:.2f}"
    width = min(value or 0.0, LONGEST) * SCALE
    colour = "ours" if name.startswith("ours") else "other"
    label = f'<text class="name" x="{LEFT - 6}" y="{y + BAR - 2}">{escape(name)}</text>'
    bar = f'<rect class="{colour}" x="{LEFT}" y="{y}" width="{width:.1f}" height="{BAR}"/>'
    return f'{label}{bar}<text x="{LEFT + width + 5:.1f}" y="{y + BAR - 2}">{said}</text>'
